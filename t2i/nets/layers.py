"""Layers that several networks use: time features, norm, residual block, attention, transformer block.

Shapes: B batch; C channels and H, W sides of a feature map; N queries, L keys or tokens, D or W their width;
E width of the embedding (time and conditions) that scales and shifts the norms.
Feature maps are (B, C, H, W) in channels_last memory, so that permuting to (B, H, W, C) costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.linear import Linear, PointwiseConv


def zero_init(module: Any) -> Any:
    """The module with all parameters set to zero: the last layer of a residual branch that starts as the identity."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def time_features(t: Tensor, dim: int, scale: float = 1000.0, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features of t (B,) -> (B, dim) fp32, dim even (Vaswani 2017, arXiv 1706.03762, section 3.5).

    scale: what t is multiplied by first; 1000 brings a flow time in [0, 1] to the range of DDPM's timesteps.
    """
    half = dim // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32) / half
    freqs = torch.exp(-math.log(max_period) * steps)
    angles = (t.float() * scale)[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeMLP(nn.Sequential):
    """Embeds one scalar per picture, a time or an augmentation level: (B,) -> (B, E)."""

    def __init__(self, features: int, dim: int, scale: float) -> None:
        super().__init__(Linear(features, dim), nn.SiLU(), Linear(dim, dim))
        self.features, self.scale = features, scale

    def forward(self, t: Tensor) -> Tensor:  # the features are computed in fp32: 1000 t loses its digits in bf16
        h = time_features(t, self.features, self.scale)
        return super().forward(h.to(self[0].weight.dtype))  # type: ignore[arg-type]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels at each position (ConvNeXt: Liu 2022, arXiv 2201.03545); (B, C, H, W) -> the same.

    In channels_last the permutes are free and torch's fused kernel reads contiguous rows. On two CPU cores, forward
    and backward of 64x96x16x16 take 2.6 ms where GroupNorm takes 4.2 (fp32), and 2.0 ms against 6.5 (bf16).
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        h = F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), self.weight, self.bias, 1e-5)
        return h.permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Twice norm, SiLU and 3x3 conv, with a skip; the embedding scales and shifts the second norm.

    AdaGN of Dhariwal & Nichol 2021 (arXiv 2105.05233), with LayerNorm in the place of GroupNorm.
    x (B, C_in, H, W), emb (B, E) -> (B, C_out, H, W). The last conv starts at zero: with C_in == C_out a new block is
    the identity.
    """

    def __init__(self, c_in: int, c_out: int, emb: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.ada = zero_init(Linear(emb, 2 * c_out))
        self.norm2 = ChannelNorm(c_out, affine=False)
        self.conv2 = zero_init(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = PointwiseConv(c_in, c_out) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.ada(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.skip(x) + self.conv2(F.silu(h))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Multi-head attention: q (B, N, D), k and v (B, L, D) -> (B, N, D).

    mask: bool, True where a key may be read; (B, L), or anything that broadcasts to (B, heads, N, L).
    """
    if mask is not None and mask.dim() == 2:
        mask = mask[:, None, None, :]
    q, k, v = (s.unflatten(-1, (heads, -1)).transpose(1, 2) for s in (q, k, v))
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        out = _attend_plain(q, k, v, mask, causal)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


def _attend_plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Attention as two matrix products, for bf16 on a CPU; q, k, v (B, heads, N or L, D / heads).

    The backward pass of torch's fused kernel is slow there: 33 ms against 13 here (16x3 heads, 256x256), and 21 ms
    against 4 (256x45), which was 40% of a training step of the small U-Net.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        rows = torch.arange(q.shape[2], device=q.device)
        below = rows[:, None] >= rows
        mask = below if mask is None else mask & below
    if mask is not None:
        logits = logits.masked_fill(~mask, -1e9)
    return logits.softmax(-1) @ v


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C), no copy in channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _grid(rows: Tensor, like: Tensor) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W) in channels_last."""
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


class SelfAttention(nn.Module):
    """Residual self-attention over the positions of a map; (B, C, H, W) -> the same; the identity when new."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        self.norm = ChannelNorm(channels)
        self.qkv = Linear(channels, 3 * channels)
        self.out = zero_init(Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(_rows(self.norm(x))).chunk(3, dim=-1)
        return x + _grid(self.out(attend(q, k, v, self.heads)), x)


class CrossAttention(nn.Module):
    """Residual attention of a map (B, C, H, W) to a context (B, L, D) -> (B, C, H, W); the identity when new."""

    def __init__(self, channels: int, context: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        self.norm = ChannelNorm(channels)
        self.q = Linear(channels, channels)
        self.kv = Linear(context, 2 * channels)
        self.out = zero_init(Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """mask (B, L) bool, True where the context may be read; None: everywhere."""
        k, v = self.kv(context).chunk(2, dim=-1)
        return x + _grid(self.out(attend(self.q(_rows(self.norm(x))), k, v, self.heads, mask)), x)


@dataclass
class KeyValues:
    """What an attention has read so far: keys and values (B, N, W), of which the first `length` rows are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v (B, n, W); all keys and all values up to now."""
        end = self.length + k.shape[1]
        self.keys[:, self.length : end], self.values[:, self.length : end] = k, v
        self.length = end
        return self.keys[:, :end], self.values[:, :end]


class TransformerBlock(nn.Module):
    """Pre-norm attention and GELU MLP, both residual; x (B, N, W) -> the same; the identity when new.

    cross: the same attention also reads a text (B, L, W), whose keys and values follow those of x.
    """

    def __init__(self, width: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width)
        if cross:
            self.text_kv = Linear(width, 2 * width)
        self.out = zero_init(Linear(width, width))
        self.mlp = nn.Sequential(Linear(width, 4 * width), nn.GELU(), zero_init(Linear(4 * width, width)))

    def forward(self, x: Tensor, mask: Tensor, text: Tensor | None = None, past: KeyValues | None = None) -> Tensor:
        """mask as in `attend`, over the N rows of x and then the L of the text. past: of the rows before x, which are
        read too and stand before x in the mask; x is added to it."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        if past is not None:
            k, v = past.append(k, v)
        if text is not None:
            k_text, v_text = self.text_kv(text).chunk(2, dim=-1)
            k, v = torch.cat([k, k_text], dim=1), torch.cat([v, v_text], dim=1)
        x = x + self.out(attend(q, k, v, self.heads, mask))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def hide(tokens: Tensor, mask: Tensor) -> Tensor:
    """tokens (B, L, D), zero where mask (B, L) is False: an attention weight of 0 would let a NaN through."""
    return torch.where(mask[..., None], tokens, 0.0)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, D) of the tokens (B, L, D) where mask (B, L) is True; zero where it is True nowhere."""
    weight = mask[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


def keep_or(keep: Tensor | None, value: Tensor, null: Tensor) -> Tensor:
    """value (B, ...) where keep (B,) is True, the learned null elsewhere; keep None keeps all."""
    null = null.to(value.dtype)
    if keep is None:
        return value
    return torch.where(keep.view(-1, *[1] * (value.dim() - 1)), value, null)
