"""The config of the U-Net; in a file of its own, because the network and its conditioner both need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t2i.errors import InputError
from t2i.nets.config import Depth, Depths, Heads, NetConfig, Scale, Width, WidthOrNone, Widths
from t2i.schema import Between, Length


@dataclass(frozen=True)
class UNetConfig(NetConfig):
    """Sizes and conditions of a U-Net.

    Grid. in_channels: 3, or 7 with the mask and the masked picture. patch: factor of the pixel-unshuffle before and the
    pixel-shuffle after the network. channels, blocks: one entry a level; a level of 0 blocks only passes its skip on.
    attention: levels with self- and cross-attention. mid_blocks: at the lowest level, the first with attention if
    that level has it. skip_scale: factor of the skip connections; Imagen's is 1/sqrt(2).

    Image embedding. cond_dim: its width Z, or 0 for none; z_tokens: context tokens made of it; z_grid: side of the map
    of z_channels made of it, or 0 for no map; z_cells: its last z_cells * z_grid^2 numbers are such a map already
    (ClipConfig.cell_dim) and are used nowhere else.

    Text. text_dim: width of its token states, or 0. text_pool: their mean joins the time embedding (Imagen).
    reader_layers: a `QueryReader` of so many layers, of reader_width and query_layers, reads the text and takes the
    place of the image embedding: it makes the vector, the z_tokens and the map.

    emb_dim, context_dim: widths of the time embedding and of the context. time_scale: see `time_features`.
    out_channels, pooled_dim, level_cond, layout, skip and norm are part of the file format only.

    Raises InputError for values that do not fit together.
    """

    in_channels: Literal[3, 7] = 7
    out_channels: Literal[3] = 3
    patch: int = 2
    channels: Widths = (32, 96, 192)
    blocks: Depths = (1, 1, 1)
    attention: Annotated[tuple[Annotated[int, Between(0, 7)], ...], Length(0, 8)] = (1, 2)
    mid_blocks: Depth = 2
    head_dim: Width = 32
    emb_dim: Width = 384
    context_dim: Width = 256
    cond_dim: WidthOrNone = 256
    z_tokens: Annotated[int, Between(0, 1024)] = 4
    z_grid: Annotated[int, Between(0, 256)] = 0
    z_channels: Width = 64
    z_cells: Annotated[int, Between(0, 1024)] = 0
    text_dim: WidthOrNone = 256
    pooled_dim: Literal[0] = 0
    text_pool: bool = False
    reader_layers: Depth = 0
    reader_width: Width = 128
    reader_heads: Heads = 4
    query_layers: Depth = 2
    level_cond: Literal[False] = False
    time_features: Width = 128
    time_scale: Scale = 1000.0
    layout: Literal["efficient"] = "efficient"
    skip: Literal["concat"] = "concat"
    skip_scale: Scale = 1.0
    norm: Literal["layer"] = "layer"

    def __post_init__(self) -> None:
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

        heads = [max(1, self.channels[i] // self.head_dim) for i in self.attention if i < len(self.channels)]
        widths = [self.channels[i] for i in self.attention if i < len(self.channels)]
        self.require(
            all(width % n == 0 for width, n in zip(widths, heads)),
            f"channels {self.channels} of the levels with attention do not split into heads of {self.head_dim}",
            "Choose a head_dim that divides them.",
        )
        self.require(
            not self.reader_layers or self.reader_width % self.reader_heads == 0,
            f"reader_width {self.reader_width} is not divisible by reader_heads {self.reader_heads}",
            "Change one of them.",
        )
        self.require(self.time_features % 2 == 0, f"time_features is {self.time_features}", "It must be even.")

    @property
    def multiple(self) -> int:
        """Heights and widths must be divisible by this."""
        return int(self.patch * 2 ** (len(self.channels) - 1))

    @property
    def head_z(self) -> int:
        """How many numbers of the image embedding come before those of its cells."""
        return self.cond_dim - self.z_cells * self.z_grid**2

    @property
    def has_context(self) -> bool:
        """Whether there is anything for cross-attention to read."""
        return bool(self.text_dim or (self.cond_dim and self.z_tokens))

    @property
    def has_map(self) -> bool:
        """Whether the image embedding, or the reader, makes a map."""
        return bool((self.cond_dim or self.reader_layers) and self.z_grid)
