"""Training in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i.store.bundle import Bundle
from t2i.train.trainer import train

TABLE = """
[upsampler256]
design = "sr_unet"
[upsampler256.net]
channels = [8, 8]
down = [1, 1]
up = [1, 1]
emb_dim = 16
z_cells = 0
"""


def trained_by(*args: Any, **kwargs: Any) -> Bundle:
    """The bundle that `train` writes; a dry run writes none."""
    bundle = train(*args, **kwargs)
    assert isinstance(bundle, Bundle)
    return bundle


def redrawn_recipe(recipe: str, folder: Path, *more: str) -> str:
    """A recipe with the other design of its upsampler, and more lines in the table of its network."""
    path = folder / "redraw.toml"
    head, tail = Path(recipe).read_text().split("[upsampler256]")
    rest = tail[tail.index("[upsampler256.schedule]") :]
    path.write_text(head + TABLE + "\n".join(more) + "\n" + rest)
    return str(path)
