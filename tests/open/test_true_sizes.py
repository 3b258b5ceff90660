"""Published architectures without their weights: names, shapes, numbers of parameters, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from true_sizes import PUBLISHED, net_of, parameters, sizes_table

PAGE = Path(__file__).parents[2] / "docs" / "open-checkpoints.md"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "part", "billions"),
    [
        ("Stable Diffusion 1.5", "unet", 0.860),
        ("Stable Diffusion XL", "unet", 2.57),
        ("Stable Diffusion 3 medium", "transformer", 2.03),
        ("FLUX.1", "transformer", 11.9),
        ("PixArt-Σ", "transformer", 0.61),
        ("Sana 1.6B", "transformer", 1.60),
        ("Karlo", "prior", 1.02),
        ("Karlo", "decoder", 0.88),
        ("Karlo", "super_res_last", 0.69),
        ("Kandinsky 2.2", "unet", 1.25),
        ("Kandinsky 2.2", "image_encoder", 1.84),
        ("DeepFloyd IF-I-XL", "unet", 4.3),
        ("DeepFloyd IF-I-XL", "text_encoder", 4.76),
    ],
)
def test_a_network_is_as_large_as_it_was_published(model: str, part: str, billions: float) -> None:
    assert parameters(model, part) / 1e9 == pytest.approx(billions, rel=0.012)


@pytest.mark.parametrize(
    ("model", "part", "name", "shape"),
    [
        (
            "Stable Diffusion 1.5",
            "unet",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            (320, 768),
        ),
        ("Stable Diffusion XL", "unet", "mid_block.attentions.0.transformer_blocks.9.attn2.to_k.weight", (1280, 2048)),
        ("Stable Diffusion XL", "unet", "add_embedding.linear_1.weight", (1280, 2816)),
        ("Stable Diffusion 3 medium", "transformer", "context_embedder.weight", (1536, 4096)),
        ("FLUX.1", "transformer", "transformer_blocks.18.attn.to_q.weight", (3072, 3072)),
        ("FLUX.1", "transformer", "single_transformer_blocks.37.proj_out.weight", (3072, 15360)),
        ("PixArt-Σ", "transformer", "caption_projection.linear_1.weight", (1152, 4096)),
        ("Sana 1.6B", "transformer", "transformer_blocks.19.attn2.to_q.weight", (2240, 2240)),
        ("Karlo", "prior", "prd_embedding", (1, 1, 2048)),
        ("Karlo", "text_proj", "encoder_hidden_states_proj.weight", (1536, 768)),
        ("Kandinsky 2.2", "unet", "encoder_hid_proj.image_embeds.weight", (24576, 1280)),
        ("Kandinsky 2.2", "movq", "quantize.embedding.weight", (16384, 4)),
        ("DeepFloyd IF-I-XL", "unet", "encoder_hid_proj.weight", (2816, 4096)),
    ],
)
def test_its_weights_have_the_published_names_and_shapes(
    model: str, part: str, name: str, shape: tuple[int, ...]
) -> None:
    weight = dict(net_of(model, part).named_parameters())[name]
    assert tuple(weight.shape) == shape
    assert weight.device == torch.device("meta")


def test_the_page_has_the_table() -> None:
    assert sizes_table() in PAGE.read_text("utf-8")
    assert all(f"| {model} |" in PAGE.read_text("utf-8") for model in PUBLISHED)
