"""The U-Net, one for both papers; what it is conditioned on is config.

Shapes: B batch, C channels, H W pixels, p patch, E embedding width, T context tokens, D context width,
Z image embedding, L text tokens. Level i works on a grid of H/(p*2^i).

U-Net and AdaGN: Dhariwal & Nichol 2021 (2105.05233). Image embedding as a vector and as extra tokens:
DALL-E 2, section 2.1 (2204.06125). Efficient layout, pooled text, augmentation level: Imagen (2205.11487).
Input channels for a mask and the masked picture: GLIDE (2112.10741).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.layers import (
    NORMS,
    CrossAttention,
    NetConfig,
    ResBlock,
    SelfAttention,
    TimeMLP,
    check_choice,
    keep_or,
    make_norm,
    zero_init,
)
from t2i.nets.reader import QueryReader, Told, hide


@dataclass(frozen=True)
class UNetConfig(NetConfig):
    """in_channels: RGB, mask, masked RGB by default. patch: pixel-unshuffle of the input, shuffle of the
    output. channels, blocks: one entry a level (0 blocks: the level only passes its skip; efficient layout
    only). attention: the levels with self- and cross-attention. mid_blocks: at the lowest grid, the first
    with attention if that level has it. cond_dim: Z, or 0 for none, with z_tokens extra context tokens. z_grid: the
    embedding is also laid out as a map of z_channels on such a grid; z_cells: its last z_cells * z_grid^2 numbers are
    that of a grid already (ClipConfig.cell_dim) and go nowhere else.
    text_dim: width of the text states, or 0. pooled_dim: width of cond.pooled, or 0. text_pool: the mean
    text state joins the time embedding (Imagen). reader_layers: the text is read by so many layers of
    reader_width, and by queries in query_layers that say what an embedding would: a vector, z_tokens, the map.
    level_cond: reads cond.level. time_scale: 1000 for a flow time, about 250 for a log sigma.
    layout "standard": the stride follows a level's convolutions and upsampling comes first; "efficient": the
    stride comes first, and upsampling last. skip "concat" or "add" (efficient only); skip_scale: 1/sqrt(2) is
    Imagen's.
    """

    in_channels: int = 7
    out_channels: int = 3
    patch: int = 2
    channels: tuple[int, ...] = (32, 96, 192)
    blocks: tuple[int, ...] = (1, 1, 1)
    attention: tuple[int, ...] = (1, 2)
    mid_blocks: int = 2
    head_dim: int = 32
    emb_dim: int = 384
    context_dim: int = 256
    cond_dim: int = 256
    z_tokens: int = 4
    z_grid: int = 0
    z_channels: int = 64
    z_cells: int = 0
    text_dim: int = 256
    pooled_dim: int = 0
    text_pool: bool = False
    reader_layers: int = 0
    reader_width: int = 128
    reader_heads: int = 4
    query_layers: int = 2
    level_cond: bool = False
    time_features: int = 128
    time_scale: float = 1000.0
    layout: str = "efficient"
    skip: str = "concat"
    skip_scale: float = 1.0
    norm: str = "layer"

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, ("standard", "efficient"))
        check_choice("skip", self.skip, ("concat", "add"))
        check_choice("norm", self.norm, NORMS)
        if len(self.channels) != len(self.blocks) or not self.channels:
            raise InputError("channels and blocks differ in length", hint="Give one of each for every level.")
        if self.patch not in (1, 2, 4, 8):
            raise InputError(f"patch is {self.patch}", hint="Choose 1, 2, 4 or 8.")
        if self.z_cells and self.cond_dim <= self.z_cells * self.z_grid**2:
            raise InputError(
                f"cond_dim {self.cond_dim} is no more than z_cells times the cells of z_grid", hint="Widen cond_dim."
            )
        if self.reader_layers and (self.cond_dim or self.text_pool or not self.text_dim):
            raise InputError(
                "base.net.reader_layers stands in for cond_dim and text_pool, and reads text_dim",
                hint="Set cond_dim = 0, text_pool = false, and text_dim to the width of the text encoder.",
            )
        if self.layout == "standard" and (self.skip == "add" or 0 in self.blocks):
            raise InputError(
                "skip='add' and levels of 0 blocks need equal widths on both ends of a skip",
                hint="Set layout='efficient'.",
            )

    @property
    def multiple(self) -> int:
        """Heights and widths must be divisible by this."""
        return int(self.patch * 2 ** (len(self.channels) - 1))

    @property
    def head_z(self) -> int:
        """How many numbers of the embedding come before those of its cells."""
        return self.cond_dim - self.z_cells * self.z_grid**2

    @property
    def has_map(self) -> bool:
        """Whether the embedding, or what the queries read, is laid out as a map."""
        return bool((self.cond_dim or self.reader_layers) and self.z_grid)


@dataclass(frozen=True)
class UNetCond:
    """What a picture is conditioned on; None is the learned null (for level: 0).

    z (B, Z) near unit norm; tokens (B, L, D) with mask (B, L) bool; pooled (B, P); level (B,) in [0, 1].
    z_keep, tokens_keep (B,) bool: False takes the null instead (tokens_keep also drops pooled).
    """

    z: Tensor | None = None
    z_keep: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    tokens_keep: Tensor | None = None
    pooled: Tensor | None = None
    level: Tensor | None = None

    def without(self, *, z: bool = False, text: bool = False) -> UNetCond:
        """The same with the embedding and/or the text dropped for the whole batch."""
        cond = self
        if z:
            cond = replace(cond, z=None, z_keep=None)
        return replace(cond, tokens=None, mask=None, tokens_keep=None, pooled=None) if text else cond


class Conditioner(nn.Module):
    """t (B,) and UNetCond -> embedding (B, E), context (B, T, D) or None, its mask (B, T) or None, and the map
    (B, z_channels, z_grid, z_grid) or None."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c, emb, dim = config, config.emb_dim, config.context_dim
        self.config = config
        self.time = TimeMLP(c.time_features, emb, c.time_scale)
        if c.level_cond:
            self.level = TimeMLP(c.time_features, emb, 1000.0)
        if c.cond_dim:
            self.null_z = nn.Parameter(torch.zeros(c.cond_dim))
            self.z_emb = nn.Sequential(nn.Linear(c.head_z, emb), nn.SiLU(), nn.Linear(emb, emb))
            if c.z_tokens:
                self.z_context = nn.Linear(c.head_z, c.z_tokens * dim)
            if c.has_map:
                self.z_map = nn.Linear(c.head_z, c.z_channels * c.z_grid**2)  # its bias is a position code
                if c.z_cells:
                    self.z_cells = nn.Conv2d(c.z_cells, c.z_channels, 3, padding=1)
        if c.reader_layers:
            self.reader = QueryReader(
                c.text_dim, c.reader_width, c.reader_heads, c.reader_layers, c.query_layers,
                emb, dim, c.z_tokens, c.z_grid, c.z_channels,
            )  # fmt: skip
        elif c.text_dim:
            self.text_in = nn.Sequential(nn.LayerNorm(c.text_dim), nn.Linear(c.text_dim, dim))
            self.null_text = nn.Parameter(torch.empty(1, dim).normal_(std=0.02))
        if c.text_dim and c.text_pool:
            self.text_emb = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, emb))
        if c.pooled_dim:
            self.null_pooled = nn.Parameter(torch.zeros(c.pooled_dim))
            self.pooled_emb = nn.Sequential(nn.LayerNorm(c.pooled_dim), nn.Linear(c.pooled_dim, emb))
        if self.has_context:
            self.context_norm = nn.LayerNorm(dim)

    @property
    def has_context(self) -> bool:
        c = self.config
        return bool(c.text_dim or (c.cond_dim and c.z_tokens))

    def forward(self, t: Tensor, cond: UNetCond) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        c, batch = self.config, t.shape[0]
        emb = self.time(t)
        if c.level_cond:
            emb = emb + self.level(torch.zeros_like(t) if cond.level is None else cond.level)
        told, text, mask = self.told(cond, batch) if c.cond_dim else None, None, None
        if c.reader_layers:
            told, text, mask = self.reader(*self.given(cond, batch))
        elif c.text_dim:
            text, mask = self.text(cond, batch)
            if c.text_pool:
                weight = mask[..., None].to(text.dtype)
                emb = emb + self.text_emb((text * weight).sum(1) / weight.sum(1))
        if told is not None:
            emb = emb + told.vector
        if c.pooled_dim:
            null = self.null_pooled.expand(batch, -1)
            pooled = null if cond.pooled is None else keep_or(cond.tokens_keep, cond.pooled, null)
            emb = emb + self.pooled_emb(pooled)
        laid = None if told is None else told.map
        parts = [p for p in (None if told is None else told.tokens, text) if p is not None]
        if not parts:
            return emb, None, None, laid
        context = self.context_norm(torch.cat([p.to(parts[0].dtype) for p in parts], dim=1))
        if mask is not None:
            mask = F.pad(mask, (context.shape[1] - mask.shape[1], 0), value=True)
        return emb, context, mask, laid

    def told(self, cond: UNetCond, batch: int) -> Told:
        """What the embedding says, or its null."""
        c = self.config
        z = self.embedding(cond, batch)
        head, cells = z[:, : c.head_z], z[:, c.head_z :]
        tokens = self.z_context(head).unflatten(1, (c.z_tokens, -1)) if c.z_tokens else None
        if not c.has_map:
            return Told(self.z_emb(head), tokens)
        laid: Tensor = self.z_map(head).unflatten(1, (c.z_channels, c.z_grid, c.z_grid))
        if c.z_cells:
            laid = laid + self.z_cells(cells.unflatten(1, (c.z_cells, c.z_grid, c.z_grid)))
        return Told(self.z_emb(head), tokens, laid)

    def embedding(self, cond: UNetCond, batch: int) -> Tensor:
        """The image embedding, or the null: (B, Z), scaled to unit variance a coordinate."""
        null = self.null_z.expand(batch, -1)
        return null if cond.z is None else keep_or(cond.z_keep, cond.z * self.config.cond_dim**0.5, null)

    def given(self, cond: UNetCond, batch: int) -> tuple[Tensor, Tensor]:
        """The text's tokens (B, L, D), one of zeros where there is none, and which of them are to be read (B, L)."""
        tokens, mask = cond.tokens, cond.mask
        if tokens is None:
            tokens = next(self.parameters()).new_zeros(batch, 1, self.config.text_dim)
            mask = torch.zeros(batch, 1, dtype=torch.bool, device=tokens.device)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask if cond.tokens_keep is None else mask & cond.tokens_keep[:, None]

    def text(self, cond: UNetCond, batch: int) -> tuple[Tensor, Tensor]:
        """-> (B, 1+L, D) and its mask; the null token comes first and is read only where there is no text."""
        null = self.null_text.expand(batch, 1, -1)
        if cond.tokens is None:
            return null, torch.ones(batch, 1, dtype=torch.bool, device=null.device)
        given, mask = self.given(cond, batch)
        tokens = self.text_in(hide(given, mask))
        empty = ~mask.any(dim=1, keepdim=True)
        return torch.cat([null.to(tokens.dtype), tokens], dim=1), torch.cat([empty, mask], dim=1)


def modulate(h: Tensor, scale_shift: Tensor) -> Tensor:
    """(B, C, H, W) scaled and shifted by (B, 2C): AdaGN's last step."""
    scale, shift = scale_shift[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


class Block(nn.Module):
    """ResBlock, then self- and cross-attention where the level has them."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attention: bool, context: bool) -> None:
        super().__init__()
        self.res = ResBlock(c_in, c_out, config.emb_dim, config.norm)
        dim, norm = config.head_dim, config.norm
        self.attn = SelfAttention(c_out, dim, norm) if attention else None
        self.cross = CrossAttention(c_out, config.context_dim, dim, norm) if attention and context else None

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        h: Tensor = self.res(x, emb)
        if self.attn is not None:
            h = self.attn(h)
        if self.cross is not None:
            h = self.cross(h, context, mask)
        return h


class Upsample(nn.Module):
    """Nearest x2 and a 3x3 conv: before the conv in the standard layout, after it in the efficient one."""

    def __init__(self, c_in: int, c_out: int, conv_first: bool) -> None:
        super().__init__()
        self.conv_first = conv_first
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv_first:
            return F.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class UNet(nn.Module):
    """forward(x, t, cond): x (B, C, H, W), t (B,), H and W divisible by config.multiple -> (B, 3, H, W).

    What the output means (x0, eps, v) is the caller's. A new network returns zeros (its last conv is zero).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c = self.config = config
        width, levels, p2 = c.channels, len(c.channels), c.patch**2
        efficient = c.layout == "efficient"
        join = 0 if c.skip == "add" else 1
        self.cond = Conditioner(c)
        context = self.cond.has_context
        self.conv_in = nn.Conv2d(c.in_channels * p2, width[0], 3, padding=1)
        # Both ends of the network must know how noisy x_t is: a level without blocks has no other way to hear it,
        # and what passes by the skip at t = 1 is nothing but noise.
        self.ada_in = zero_init(nn.Linear(c.emb_dim, 2 * width[0]))
        self.ada_out = zero_init(nn.Linear(c.emb_dim, 2 * width[0]))
        if c.has_map:
            self.map_in = nn.ModuleList(zero_init(nn.Conv2d(c.z_channels, w, 1)) for w in width[1:])
        self.down, self.up, self.mid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.downsample, self.upsample = nn.ModuleList(), nn.ModuleList()
        for i in range(levels):
            attn, w = i in c.attention, width[i]
            below = w if i == levels - 1 or efficient else width[i + 1]  # what arrives from the level below
            above = w if i == 0 or efficient else width[i - 1]
            ins = [above] + [w] * (c.blocks[i] - 1)
            outs = [below] + [w] * (c.blocks[i] - 1)
            self.down.append(nn.ModuleList(Block(a, w, c, attn, context) for a in ins[: c.blocks[i]]))
            outs = [a + join * w for a in outs[: c.blocks[i]]]
            self.up.append(nn.ModuleList(Block(a, w, c, attn, context) for a in outs))
            if i:
                self.downsample.append(nn.Conv2d(width[i - 1], w if efficient else width[i - 1], 3, 2, 1))
                self.upsample.append(Upsample(w, width[i - 1] if efficient else w, conv_first=efficient))
        for i in range(c.mid_blocks):
            attn = i == 0 and levels - 1 in c.attention
            self.mid.append(Block(width[-1], width[-1], c, attn, context))
        self.norm_out = make_norm(c.norm, width[0])
        self.conv_out = zero_init(nn.Conv2d(width[0], c.out_channels * p2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        c = self.config
        assert x.shape[2] % c.multiple == 0 == x.shape[3] % c.multiple, (tuple(x.shape), c.multiple)
        emb, context, mask, layout = self.cond(t, cond)
        x = F.pixel_unshuffle(x, c.patch).contiguous(memory_format=torch.channels_last)
        h: Tensor = modulate(self.conv_in(x), self.ada_in(emb))
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](h)
                if layout is not None:
                    here = F.interpolate(layout, size=h.shape[2:], mode="bilinear", align_corners=False)
                    h = h + self.map_in[i - 1](here)
            for block in level:  # type: ignore[attr-defined]
                h = block(h, emb, context, mask)
                skips.append(h)
            if not c.blocks[i]:
                skips.append(h)
        for block in self.mid:
            h = block(h, emb, context, mask)
        for i in reversed(range(len(self.up))):
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(self.join(h, skips.pop()), emb, context, mask)
            if not c.blocks[i]:
                h = h + skips.pop() * c.skip_scale
            if i:
                h = self.upsample[i - 1](h)
        out: Tensor = self.conv_out(F.silu(modulate(self.norm_out(h), self.ada_out(emb))))
        return F.pixel_shuffle(out, c.patch)

    def join(self, h: Tensor, skip: Tensor) -> Tensor:
        """The skip connection: (B, C1, H, W), (B, C2, H, W) -> (B, C1+C2, H, W), or their sum."""
        if self.config.skip_scale != 1.0:
            skip = skip * self.config.skip_scale
        return h + skip if self.config.skip == "add" else torch.cat([h, skip], dim=1)
