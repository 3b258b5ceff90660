"""The config of the U-Net; in a file of its own, because the network and its conditioner both need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t2i.errors import InputError
from t2i.nets.config import NetConfig


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

    in_channels: int = 7
    out_channels: Literal[3] = 3
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
    pooled_dim: Literal[0] = 0
    text_pool: bool = False
    reader_layers: int = 0
    reader_width: int = 128
    reader_heads: int = 4
    query_layers: int = 2
    level_cond: Literal[False] = False
    time_features: int = 128
    time_scale: float = 1000.0
    layout: Literal["efficient"] = "efficient"
    skip: Literal["concat"] = "concat"
    skip_scale: float = 1.0
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
