"""Published architectures at their true sizes, on the meta device: their networks without their weights.

    python tests/open/true_sizes.py

writes the table of docs/open-checkpoints.md. The numbers of each architecture are those of its published configs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

Config = dict[str, Any]
#: a class, and the arguments that differ from its defaults
Net = tuple[Callable[..., torch.nn.Module], Config]

BLOCKS = 4
WIDTHS = (128, 256, 512, 512)


def vae(latent: int = 4, **more: Any) -> Net:
    """The autoencoder of Stable Diffusion and of what came after it."""
    config = {
        "block_out_channels": WIDTHS, "layers_per_block": 2, "latent_channels": latent,
        "down_block_types": ("DownEncoderBlock2D",) * BLOCKS, "up_block_types": ("UpDecoderBlock2D",) * BLOCKS,
    }  # fmt: skip
    return diffusers.AutoencoderKL, config | more


def of_transformers(cls: Any, config: Any) -> Net:
    return cls, {"config": config}


def clip_l(projected: bool = False) -> Net:
    """The text tower of CLIP ViT-L/14."""
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    return of_transformers(
        transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel, config
    )


def clip_big_g() -> Net:
    """The text tower of OpenCLIP ViT-bigG/14."""
    config = transformers.CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )
    return of_transformers(transformers.CLIPTextModelWithProjection, config)


def t5_xxl() -> Net:
    config = transformers.T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, tie_word_embeddings=False,
    )  # fmt: skip
    return of_transformers(transformers.T5EncoderModel, config)


def gemma_2b() -> Net:
    config = transformers.Gemma2Config(
        vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256,
    )  # fmt: skip
    return of_transformers(transformers.Gemma2Model, config)


def simple_cross(blocks: int, *, down: bool) -> tuple[str, ...]:
    """The blocks of GLIDE's U-Net, which unCLIP, Kandinsky and IF have too."""
    crossed = ("SimpleCrossAttnDownBlock2D" if down else "SimpleCrossAttnUpBlock2D",) * (blocks - 1)
    return ("ResnetDownsampleBlock2D", *crossed) if down else (*crossed, "ResnetUpsampleBlock2D")


def glide_unet(widths: tuple[int, ...], **more: Any) -> Net:
    config = {
        "sample_size": 64, "layers_per_block": 3, "block_out_channels": widths,
        "down_block_types": simple_cross(4, down=True), "up_block_types": simple_cross(4, down=False),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "attention_head_dim": 64,
        "resnet_time_scale_shift": "scale_shift",
    }  # fmt: skip
    return diffusers.UNet2DConditionModel, config | more


SD_15: dict[str, Net] = {
    "unet": (diffusers.UNet2DConditionModel, {"sample_size": 64, "cross_attention_dim": 768}),
    "text_encoder": clip_l(),
    "vae": vae(),
}
SDXL: dict[str, Net] = {
    "unet": (
        diffusers.UNet2DConditionModel,
        {
            "sample_size": 128, "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
    "text_encoder": clip_l(),
    "text_encoder_2": clip_big_g(),
    "vae": vae(),
}  # fmt: skip
SD3: dict[str, Net] = {
    "transformer": (
        diffusers.SD3Transformer2DModel,
        {
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
            "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
            "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
        },
    ),
    "text_encoder": clip_l(projected=True),
    "text_encoder_2": clip_big_g(),
    "text_encoder_3": t5_xxl(),
    "vae": vae(16, use_quant_conv=False, use_post_quant_conv=False),
}  # fmt: skip
FLUX: dict[str, Net] = {
    "transformer": (
        diffusers.FluxTransformer2DModel,
        {
            "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
            "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
            "guidance_embeds": True,
        },
    ),
    "text_encoder": clip_l(),
    "text_encoder_2": t5_xxl(),
    "vae": vae(16, use_quant_conv=False, use_post_quant_conv=False),
}  # fmt: skip
PIXART: dict[str, Net] = {
    "transformer": (
        diffusers.PixArtTransformer2DModel,
        {
            "sample_size": 128, "num_layers": 28, "patch_size": 2, "num_attention_heads": 16, "attention_head_dim": 72,
            "in_channels": 4, "out_channels": 8, "cross_attention_dim": 1152, "caption_channels": 4096,
            "norm_type": "ada_norm_single", "use_additional_conditions": False,
        },
    ),
    "text_encoder": t5_xxl(),
    "vae": vae(),
}  # fmt: skip
SANA: dict[str, Net] = {
    "transformer": (
        diffusers.SanaTransformer2DModel,
        {
            "sample_size": 32, "patch_size": 1, "in_channels": 32, "out_channels": 32, "num_layers": 20,
            "num_attention_heads": 70, "attention_head_dim": 32, "num_cross_attention_heads": 20,
            "cross_attention_head_dim": 112, "cross_attention_dim": 2240, "caption_channels": 2304, "mlp_ratio": 2.5,
        },
    ),
    "text_encoder": gemma_2b(),
    "vae": (
        diffusers.AutoencoderDC,
        {
            "latent_channels": 32, "attention_head_dim": 32,
            **{
                f"{side}_{name}": value
                for side in ("encoder", "decoder")
                for name, value in {
                    "block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
                    "block_out_channels": (128, 256, 512, 512, 1024, 1024),
                    "qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
                }.items()
            },
            "encoder_layers_per_block": (2, 2, 2, 3, 3, 3), "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
            "downsample_block_type": "conv", "upsample_block_type": "interpolate", "decoder_norm_types": "rms_norm",
            "decoder_act_fns": "silu",
        },
    ),
}  # fmt: skip


def karlo_upsampler() -> Net:
    config = {
        "sample_size": 256, "layers_per_block": 3, "block_out_channels": (320, 640, 960, 1280),
        "down_block_types": ("ResnetDownsampleBlock2D",) * BLOCKS,
        "up_block_types": ("ResnetUpsampleBlock2D",) * BLOCKS,
        "in_channels": 6, "out_channels": 3, "add_attention": False,
    }  # fmt: skip
    return diffusers.UNet2DModel, config


KARLO: dict[str, Net] = {
    "prior": (diffusers.PriorTransformer, {}),
    "decoder": glide_unet(
        (320, 640, 960, 1280), in_channels=3, out_channels=6, cross_attention_dim=1536, class_embed_type="identity"
    ),
    "text_encoder": clip_l(projected=True),
    "text_proj": (UnCLIPTextProjModel, {"time_embed_dim": 1280, "cross_attention_dim": 1536}),
    "super_res_first": karlo_upsampler(),
    "super_res_last": karlo_upsampler(),
}
KANDINSKY: dict[str, Net] = {
    "prior": (diffusers.PriorTransformer, {"embedding_dim": 1280}),
    "text_encoder": clip_big_g(),
    "image_encoder": of_transformers(
        transformers.CLIPVisionModelWithProjection,
        transformers.CLIPVisionConfig(
            hidden_size=1664, intermediate_size=8192, num_hidden_layers=48, num_attention_heads=16, image_size=224,
            patch_size=14, projection_dim=1280,
        ),
    ),
    "unet": glide_unet(
        (384, 768, 1152, 1536), in_channels=4, out_channels=8, cross_attention_dim=768, encoder_hid_dim=1280,
        encoder_hid_dim_type="image_proj", addition_embed_type="image",
    ),
    "movq": (
        diffusers.VQModel,
        {
            "latent_channels": 4, "num_vq_embeddings": 16384, "vq_embed_dim": 4, "layers_per_block": 2,
            "block_out_channels": (128, 256, 256, 512), "norm_type": "spatial",
            "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
            "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        },
    ),
}  # fmt: skip
IF_XL: dict[str, Net] = {
    "unet": glide_unet(
        (704, 1408, 2112, 2816), in_channels=3, out_channels=6, cross_attention_dim=2816, encoder_hid_dim=4096,
        addition_embed_type="text", addition_embed_type_num_heads=64, cross_attention_norm="group_norm", act_fn="gelu",
    ),
    "text_encoder": t5_xxl(),
}  # fmt: skip

#: model -> its networks by the names that they have in model_index.json
PUBLISHED: dict[str, dict[str, Net]] = {
    "Stable Diffusion 1.5": SD_15,
    "Stable Diffusion XL": SDXL,
    "Stable Diffusion 3 medium": SD3,
    "FLUX.1": FLUX,
    "PixArt-Σ": PIXART,
    "Sana 1.6B": SANA,
    "Karlo": KARLO,
    "Kandinsky 2.2": KANDINSKY,
    "DeepFloyd IF-I-XL": IF_XL,
}


@cache
def net_of(model: str, part: str) -> torch.nn.Module:
    """A network of a model, without weights."""
    cls, config = PUBLISHED[model][part]
    with torch.device("meta"):
        return cls(**config)


def parameters(model: str, part: str) -> int:
    return sum(weight.numel() for weight in net_of(model, part).parameters())


def sizes_table() -> str:
    """A row for each model, in Markdown."""
    rows = [
        ("model", "networks, parameters in millions", "together", "float32, GB", "bfloat16, GB"),
        ("---",) * 5,
    ]
    for model, parts in PUBLISHED.items():
        counts = {part: parameters(model, part) for part in parts}
        total = sum(counts.values())
        listed = ", ".join(f"`{part}` {count / 1e6:,.0f}" for part, count in counts.items())
        rows.append((model, listed, f"{total / 1e6:,.0f}", f"{4 * total / 1e9:.1f}", f"{2 * total / 1e9:.1f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(sizes_table())
