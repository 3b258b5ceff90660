"""CLIP (Radford 2021, arXiv 2103.00020): a ViT and a causal text transformer, compatible with open_clip's `CLIP`.

A state_dict from here loads strictly into `open_clip.model.CLIP(**open_clip_config(config))` and back, unless
config.cell_dim is set, which open_clip does not have. logit_bias: SigLIP (Zhai 2023, arXiv 2303.15343).
Shapes: B batch, S pixels a side, N patches + 1, L tokens, W width of a tower, E width of the embedding.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError, UsageError
from t2i.nets.config import Depth, Entries, Heads, NetConfig, Side, Tokens, Width, WidthOrNone
from t2i.nets.layers import attend
from t2i.nets.linear import Linear, product
from t2i.schema import Between


@dataclass(frozen=True)
class ClipConfig(NetConfig):
    """Sizes of both towers.

    init_logit_bias: None for no bias (InfoNCE), a number for SigLIP's. cell_dim: how many numbers of the embedding come
    from each patch, by one projection for all patches; the class token gives the rest. With 0 the class token gives all
    of them, as in the paper. Raises InputError if the patches leave nothing to the class token.
    """

    embed_dim: Width = 256
    image_size: Side = 64
    patch: Side = 8
    vision_width: Width = 192
    vision_layers: Depth = 5
    vision_head_width: Width = 64
    cell_dim: WidthOrNone = 0
    text_width: Width = 256
    text_layers: Depth = 4
    text_heads: Heads = 4
    context: Tokens = 40
    vocab: Entries = 4096
    init_logit_scale: Annotated[float, Between(-100, 100)] = math.log(10.0)
    init_logit_bias: Annotated[float, Between(-1000, 1000)] | None = -10.0

    def __post_init__(self) -> None:
        self.require(
            self.patch <= self.image_size and self.image_size // self.patch <= 1024,
            f"patch {self.patch} does not cut image_size {self.image_size} into 1 to 1024 patches a side",
            "Change one of them.",
        )
        for width, parts in (("vision_width", "vision_head_width"), ("text_width", "text_heads")):
            m, n = getattr(self, width), getattr(self, parts)
            self.require(m % n == 0, f"{width} {m} is not a multiple of {parts} {n}", "Change one of them.")
        if self.embed_dim <= self.cell_dim * (self.image_size // self.patch) ** 2:
            raise InputError(
                f"embed_dim {self.embed_dim} leaves nothing to the class token",
                hint="It must be more than cell_dim times the number of patches.",
            )


@dataclass(frozen=True)
class TextOut:
    """An encoded text: pooled (B, E), not normalised; tokens (B, L, W) after the last norm; mask (B, L) bool."""

    pooled: Tensor
    tokens: Tensor
    mask: Tensor


def read_mask(ids: Tensor) -> Tensor:
    """ids (B, L) -> mask (B, L) bool, True up to the end of text, which is the highest id of each row."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(dim=-1)[:, None]


class Attention(nn.Module):
    """Self-attention (B, L, W) -> (B, L, W), with the parameter names of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        q, k, v = product(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.out_proj(attend(q, k, v, self.heads, causal=causal))


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention and GELU MLP of hidden width 4W, both residual; (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=Linear(width, 4 * width), gelu=nn.GELU(), c_proj=Linear(4 * width, width))
        )

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks (B, L, W) -> (B, L, W), initialised like CLIP's text tower."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))
        std = width**-0.5
        out_std = std * (2 * layers) ** -0.5
        stds = {"in_proj_weight": std, "out_proj.weight": out_std, "c_proj.weight": out_std}
        stds["c_fc.weight"] = (2 * width) ** -0.5
        for name, p in self.resblocks.named_parameters():
            for end, value in stds.items():
                if name.endswith(end):
                    nn.init.normal_(p, std=value)
            if name.endswith("out_proj.bias"):
                nn.init.zeros_(p)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for block in self.resblocks:
            x = block(x, causal)
        return x


class VisionTransformer(nn.Module):
    """The image tower: (B, 3, S, S) -> pooled (B, E), and the states after ln_post (B, N, W), class token first."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, grid = config.vision_width, config.image_size // config.patch
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width).normal_(std=scale))
        self.positional_embedding = nn.Parameter(torch.empty(grid * grid + 1, width).normal_(std=scale))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.vision_layers, width // config.vision_head_width)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim - config.cell_dim * grid**2).normal_(std=scale))
        # The class token reads the patches by a few weighted means, which lose what is where; these cells keep it.
        self.cells = Linear(width, config.cell_dim, bias=False) if config.cell_dim else None

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)  # (B, N-1, W)
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.ln_post(self.transformer(self.ln_pre(x)))
        pooled = x[:, 0] @ self.proj
        if self.cells is not None:  # channels first, so that a view of it is a map
            pooled = torch.cat([pooled, self.cells(x[:, 1:]).transpose(1, 2).flatten(1)], dim=1)
        return pooled, x


class Clip(nn.Module):
    """Both towers, the logit scale (as its logarithm), and the logit bias."""

    logit_bias: Tensor | None

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        width = config.text_width
        self.visual = VisionTransformer(config)
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, width).normal_(std=0.01))
        self.transformer = Transformer(width, config.text_layers, config.text_heads)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim).normal_(std=width**-0.5))
        self.logit_scale = nn.Parameter(torch.tensor(config.init_logit_scale))
        bias = config.init_logit_bias
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) in [-1, 1] -> embeddings (B, E), not normalised."""
        pooled: Tensor = self.visual(pixels)[0]
        return pooled

    def encode_text(self, ids: Tensor, table: Tensor | None = None) -> TextOut:
        """ids (B, L) int64, L <= context, the end of text the highest id of each row -> TextOut.

        table (vocab, W): in the place of the token embedding's, while a new row of it is learned.
        """
        assert ids.shape[1] <= self.config.context, "more tokens than the context holds"
        embedded = F.embedding(ids, self.token_embedding.weight if table is None else table)
        x = embedded + self.positional_embedding[: ids.shape[1]]
        tokens = self.ln_final(self.transformer(x, causal=True))
        eot = ids.argmax(dim=-1)
        rows = torch.arange(ids.shape[0], device=ids.device)
        return TextOut(tokens[rows, eot] @ self.text_projection, tokens, read_mask(ids))


def open_clip_config(config: ClipConfig) -> dict[str, Any]:
    """Keyword arguments of `open_clip.model.CLIP` for the same network.

    Raises UsageError for a config with cell_dim, which open_clip does not have.
    """
    if config.cell_dim:
        raise UsageError("open_clip cannot build an image tower with cell_dim.", "Train CLIP with cell_dim = 0.")
    return {
        "embed_dim": config.embed_dim,
        "vision_cfg": {
            "image_size": config.image_size,
            "patch_size": config.patch,
            "width": config.vision_width,
            "layers": config.vision_layers,
            "head_width": config.vision_head_width,
        },
        "text_cfg": {
            "context_length": config.context,
            "vocab_size": config.vocab,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
        },
        "init_logit_scale": config.init_logit_scale,
        "init_logit_bias": config.init_logit_bias,
    }
