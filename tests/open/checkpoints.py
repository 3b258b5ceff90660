"""Checkpoints in diffusers' layout with tiny networks of random weights, written by diffusers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

VOCAB = 514


def clip_tokenizer() -> Any:
    """One token a byte, no merges: as CLIP's, with a small vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    letters = [*map(chr, plain), *(chr(256 + i) for i in range(len(rest)))]
    names = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77)


def t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(97, 123))]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def clip_text(width: int = 16, projected: bool = False, heads: int = 2) -> Any:
    config = CLIPTextConfig(
        vocab_size=VOCAB, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=heads, projection_dim=width, bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5_text(width: int = 16) -> Any:
    config = T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=2, dropout_rate=0.0)
    with torch.random.fork_rng():  # the same in every stage of a cascade
        torch.manual_seed(1)
        return T5EncoderModel(config)


def unet(context: int = 16, channels: int = 4, out: int = 4, size: int = 8, **more: Any) -> Any:
    return UNet2DConditionModel(
        sample_size=size, in_channels=channels, out_channels=out, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=context, attention_head_dim=4,
        **{
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            **more,
        },
    )  # fmt: skip


def vae(latent: int = 4, **more: Any) -> Any:
    return vae_of(4, latent, **more)


def vae_of(blocks: int, latent: int = 4, **more: Any) -> Any:
    """Four blocks are eight pixels a latent cell, as in the large ones."""
    return AutoencoderKL(
        block_out_channels=(4,) * blocks, norm_num_groups=2, latent_channels=latent, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks, **more,
    )  # fmt: skip


def sd() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_text(), tokenizer=clip_tokenizer(), unet=unet(),
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                          clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl() -> Any:
    # the added embedding: six time ids of 8 features, and the pooled text
    net = unet(
        context=32, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16, transformer_layers_per_block=1, use_linear_projection=True,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip_text(), text_encoder_2=clip_text(projected=True), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(), unet=net,
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )  # fmt: skip


def sd3() -> Any:
    net = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=16,
        pos_embed_max_size=16,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=net, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(16, shift_factor=0.1),
        text_encoder=clip_text(projected=True), tokenizer=clip_tokenizer(), text_encoder_2=clip_text(projected=True),
        tokenizer_2=clip_tokenizer(), text_encoder_3=t5_text(32), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def flux() -> Any:
    net = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(), tokenizer=clip_tokenizer(), text_encoder_2=t5_text(), tokenizer_2=t5_tokenizer(),
        transformer=net,
    )  # fmt: skip


def pixart() -> Any:
    net = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=16,
        in_channels=4, cross_attention_dim=16, out_channels=8, norm_type="ada_norm_single",
    )  # fmt: skip
    return diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), vae=vae(), transformer=net,
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )  # fmt: skip


def sana() -> Any:
    net = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=16,
        sample_size=4,
    )  # fmt: skip
    blocks = 6  # thirty-two pixels a latent cell
    decoder = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock",) * blocks,
        decoder_block_types=("ResBlock",) * blocks, encoder_block_out_channels=(8,) * blocks,
        decoder_block_out_channels=(8,) * blocks, encoder_qkv_multiscales=((),) * blocks,
        decoder_qkv_multiscales=((),) * blocks, encoder_layers_per_block=(1,) * blocks,
        decoder_layers_per_block=(1,) * blocks, downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    config = transformers.Gemma2Config(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8,
        num_key_value_heads=1, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    return diffusers.SanaPipeline(
        tokenizer=gemma_tokenizer(), text_encoder=transformers.Gemma2Model(config), vae=decoder, transformer=net,
        scheduler=diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
    )  # fmt: skip


def gemma_tokenizer() -> Any:
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *(chr(c) for c in range(33, 127))]
    return transformers.GemmaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], padding_side="right")


def if_unet(channels: int, size: int, **more: Any) -> Any:
    return UNet2DConditionModel(
        sample_size=size, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), in_channels=channels, out_channels=6,
        cross_attention_dim=32, encoder_hid_dim=16, attention_head_dim=4, addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
        act_fn="gelu", **more,
    )  # fmt: skip


def if_scheduler() -> Any:
    return diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.0,
        variance_type="learned_range",
    )  # fmt: skip


def if1() -> Any:
    return diffusers.IFPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), unet=if_unet(3, 16), scheduler=if_scheduler(),
        safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def if2() -> Any:
    net = if_unet(6, 64, class_embed_type="timestep", mid_block_scale_factor=1.414, time_embedding_act_fn="gelu")
    return diffusers.IFSuperResolutionPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5_text(), unet=net, scheduler=if_scheduler(),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def x4() -> Any:
    return diffusers.StableDiffusionUpscalePipeline(
        vae=vae_of(3, scaling_factor=0.08333), text_encoder=clip_text(), tokenizer=clip_tokenizer(),
        unet=unet(channels=7, num_class_embeds=1000),
        low_res_scheduler=diffusers.DDPMScheduler(), scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
        max_noise_level=350,
    )  # fmt: skip


def x2() -> Any:
    width = 16
    net = UNet2DConditionModel(
        sample_size=8, in_channels=8, out_channels=5, block_out_channels=(32, 32, 64, 64), layers_per_block=1,
        norm_num_groups=None, act_fn="gelu", attention_head_dim=8, cross_attention_dim=width, mid_block_type=None,
        time_cond_proj_dim=128 + width,  # two embeddings of the noise level, and the pooled text
        conv_in_kernel=1, conv_out_kernel=1, resnet_time_scale_shift="scale_shift", time_embedding_type="fourier",
        timestep_post_act="gelu", down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
    )  # fmt: skip
    return diffusers.StableDiffusionLatentUpscalePipeline(
        vae=vae_of(4), text_encoder=clip_text(width), tokenizer=clip_tokenizer(), unet=net,
        scheduler=diffusers.EulerDiscreteScheduler(prediction_type="sample"),
    )  # fmt: skip


def unclip_prior() -> Any:
    return diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=16, num_layers=1)


def unclip_scheduler(**more: Any) -> Any:
    return diffusers.UnCLIPScheduler(num_train_timesteps=1000, **more)


def clip_vision() -> Any:
    config = transformers.CLIPVisionConfig(
        hidden_size=16, image_size=32, projection_dim=16, intermediate_size=16, num_attention_heads=2,
        num_hidden_layers=1, patch_size=16,
    )  # fmt: skip
    return transformers.CLIPVisionModelWithProjection(config)


def clip_pictures() -> Any:
    return transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)


def kandinsky_prior() -> Any:
    return diffusers.KandinskyV22PriorPipeline(
        prior=unclip_prior(), image_encoder=clip_vision(),
        text_encoder=clip_text(projected=True), tokenizer=clip_tokenizer(),
        scheduler=unclip_scheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0),
        image_processor=clip_pictures(),
    )  # fmt: skip


def kandinsky_parts(channels: int) -> dict[str, Any]:
    net = UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=8, addition_embed_type="image", norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", block_out_channels=(8, 16), layers_per_block=1,
        encoder_hid_dim=16, encoder_hid_dim_type="image_proj", cross_attention_dim=16, attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    blocks = 4
    movq = diffusers.VQModel(
        block_out_channels=(32,) * blocks, down_block_types=("DownEncoderBlock2D",) * blocks, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * blocks, latent_channels=4, norm_type="spatial", num_vq_embeddings=12,
        vq_embed_dim=4,
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, variance_type="learned_range"
    )
    return {"unet": net, "movq": movq, "scheduler": scheduler}


def kandinsky() -> Any:
    return diffusers.KandinskyV22Pipeline(**kandinsky_parts(4))


def kandinsky_inpaint() -> Any:
    return diffusers.KandinskyV22InpaintPipeline(**kandinsky_parts(9))


def unclip() -> Any:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    decoder = UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=6, norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", block_out_channels=(8, 16), layers_per_block=1,
        cross_attention_dim=16, attention_head_dim=4, resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )  # fmt: skip

    def larger() -> Any:
        return diffusers.UNet2DModel(
            sample_size=64, layers_per_block=1, down_block_types=("ResnetDownsampleBlock2D",) * 2, norm_num_groups=4,
            up_block_types=("ResnetUpsampleBlock2D",) * 2, block_out_channels=(8, 16), in_channels=6, out_channels=3,
        )  # fmt: skip

    return diffusers.UnCLIPPipeline(
        prior=unclip_prior(), decoder=decoder, text_encoder=clip_text(projected=True), tokenizer=clip_tokenizer(),
        text_proj=UnCLIPTextProjModel(clip_embeddings_dim=16, time_embed_dim=32, cross_attention_dim=16),
        super_res_first=larger(), super_res_last=larger(),
        prior_scheduler=unclip_scheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        decoder_scheduler=unclip_scheduler(variance_type="learned_range", prediction_type="epsilon"),
        super_res_scheduler=unclip_scheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    )  # fmt: skip


def unclip_variation() -> Any:
    whole = unclip()
    names = ("decoder", "text_encoder", "tokenizer", "text_proj", "super_res_first", "super_res_last") + (
        "decoder_scheduler", "super_res_scheduler",
    )  # fmt: skip
    parts = {name: getattr(whole, name) for name in names}
    return diffusers.UnCLIPImageVariationPipeline(
        **parts, image_encoder=clip_vision(), feature_extractor=clip_pictures()
    )


#: in one folder each
FAMILIES: dict[str, Callable[[], Any]] = {
    "sd": sd, "sdxl": sdxl, "sd3": sd3, "flux": flux, "pixart": pixart, "sana": sana, "unclip": unclip, "if": if1,
}  # fmt: skip
#: parts of cascades
PARTS: dict[str, Callable[[], Any]] = {
    "if2": if2, "x4": x4, "x2": x2, "unclip-variation": unclip_variation, "kandinsky-prior": kandinsky_prior,
    "kandinsky": kandinsky, "kandinsky-inpaint": kandinsky_inpaint,
}  # fmt: skip


def build(family: str) -> Any:
    """The family's pipeline. Equal every time, and every weight has a say."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = {**FAMILIES, **PARTS}[family]()
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                for parameter in part.parameters():
                    if not bool(parameter.any()):  # what starts at zero
                        torch.nn.init.normal_(parameter, std=0.1)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_folder(family: str, folder: Path) -> Path:
    """The family's checkpoint in `folder`."""
    build(family).save_pretrained(folder, safe_serialization=True)
    if family.startswith("unclip"):  # as it was published; diffusers has moved the class since
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"text_proj": ["unclip", "UnCLIPTextProjModel"]}))
    return folder
