"""What a judge knows, and its sizes. Imports no torch: what is asked of a judge is checked before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i.errors import InputError
from t2i.files import read_bytes
from t2i.jsonl import strict_json
from t2i.schema import build

CONFIG = "config.json"
SCHEMA = 1  # version of the file format


@dataclass(frozen=True)
class JudgeConfig:
    """The classes of a judge, its sizes and its threshold.

    things, colours (with `reading.OWN`), places, shades (colours of a plain background): class names, in order.
    widths: channels at 32, 16 and 8 cells a side, and of the heads. blocks: residual blocks at 16 and 8 cells a side.
    threshold: least probability of a centre that counts as an object, chosen on held-out renders.
    """

    things: tuple[str, ...]
    colours: tuple[str, ...]
    places: tuple[str, ...]
    shades: tuple[str, ...]
    widths: tuple[int, int, int, int] = (32, 72, 144, 96)
    blocks: tuple[int, int] = (1, 2)
    threshold: float = 0.35
    folded: bool = False  # whether batch norms are folded into the convolutions, as in stored judges


def read_config(folder: Path) -> tuple[JudgeConfig, str]:
    """The config of a saved judge, and the sha256 of its weights. Raises InputError if the file is missing, damaged or
    of another schema."""
    try:
        record = strict_json(read_bytes(folder / CONFIG))
        if record.pop("schema") != SCHEMA:
            raise InputError(f"the judge in {folder} has another schema", "train it again or update t2i")
        sha256 = str(record.pop("sha256"))
        return build(JudgeConfig, record), sha256
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from error


def unreadable(folder: Path, error: Exception) -> InputError:
    """What is said of a judge that cannot be read."""
    return InputError(f"no judge can be read from {folder}", f"{type(error).__name__}: {error}")
