"""LoRA files (Hu 2021, arXiv 2106.09685): low-rank changes of a network's weights, published apart from it. They are
for open checkpoints, or for a bundle of ours (`personal.py`).

A file is checked by its header, which also holds the settings of its adapter. Only safetensors are read.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import T2IError, UnavailableError, UsageError
from t2i.files import explain_os_error
from t2i.store.hub_names import parse_hub_name
from t2i.store.personal import PersonalFacts, read_facts
from t2i.store.pulled import check_lock, find_pulled
from t2i.store.tensors import FLOATING
from t2i.store.weights_files import read_header, remembered_hash, unusable

HINT = "Take a LoRA that was made for this family of models, as a safetensors file."
SETTINGS = "lora_adapter_metadata"  # key of the header under which diffusers keeps the settings of an adapter
MAX_SCALE = 10.0
KNOWN = {"peft_type", "peft_version", "task_type", "megatron_core", "qalora_group_size", "base_model_name_or_path"} | {
    "revision", "inference_mode", "lora_dropout", "bias", "r", "lora_alpha", "use_rslora", "use_dora", "lora_bias",
    "fan_in_fan_out", "ensure_weight_tying",
}  # fmt: skip
"""Settings of an adapter that are read, and what they may be; all others have to be empty."""
LISTS = ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform")
PATTERN = re.compile(r"\^?[\w.]*\$?", re.ASCII)


@dataclass(frozen=True)
class Lora:
    """One LoRA. name: what it is called in records, its file's or ORG/NAME@COMMIT. scale: how strongly it acts.

    layers: how many of a model's layers it changes. personal: what a personal model for a bundle of ours says of
    itself; None for a LoRA for open checkpoints.
    """

    path: Path
    name: str
    sha256: str
    layers: int
    scale: float = 1.0
    personal: PersonalFacts | None = None

    def facts(self) -> dict[str, Any]:
        """What a picture's key and record hold of it: no place on this machine."""
        return {"name": self.name, "sha256": self.sha256, "scale": self.scale}


def read_lora(text: str) -> Lora:
    """The LoRA that `PATH[:SCALE]` or `ORG/NAME[:SCALE]` names; of a folder, the only safetensors file in it.

    Raises UsageError for a scale that makes no sense, UnavailableError for one that is not here, InputError (code
    `bundle`) for a file that holds no LoRA.
    """
    place, scale = _split(text)
    path, name = _find(place)
    layers, personal = _check(path)
    return Lora(path, name, remembered_hash(path), layers, scale, personal)


def is_lora(folder: Path) -> bool:
    """Whether a folder holds one LoRA."""
    try:
        read_lora(str(folder))
    except T2IError:
        return False
    return True


def _split(text: str) -> tuple[str, float]:
    place, scale = text, 1.0
    if ":" in text:
        before, _, tail = text.rpartition(":")
        try:
            place, scale = before, float(tail)
        except ValueError:  # part of a file's name, or a mistake
            is_name = "/" in tail or tail.endswith(".safetensors") or os.path.exists(Path(text).expanduser())
            if not is_name:
                hint = f"Write a number up to {MAX_SCALE:g}, as in :0.8."
                raise UsageError(f"--lora {text}: the scale {tail!r} is no number.", hint) from None
    if not place:
        raise UsageError(f"--lora {text!r} names no file.", "Write --lora style.safetensors:0.8")
    if not math.isfinite(scale) or abs(scale) > MAX_SCALE or scale == 0:
        what = f"--lora {text}: a scale of {scale:g} makes no sense."
        raise UsageError(what, f"Write a number up to {MAX_SCALE:g}, as in :0.8; 0 would leave it out.")
    return place, scale


def _find(place: str) -> tuple[Path, str]:
    """(the file, what it is called)."""
    path = Path(place).expanduser()
    name, pulled = path.stem, None
    try:
        if not path.exists():
            hub_name = parse_hub_name(place)
            if hub_name is None:
                raise UnavailableError(f"there is no LoRA {place!r}.", "Name a file, or ORG/NAME of the hub.", "model")
            path = pulled = find_pulled(hub_name)
            name = f"{pulled.parent.name}/{pulled.name}"
        if path.is_dir():
            files = sorted(path.glob("*.safetensors"))
            if len(files) != 1:
                what = f"it holds {len(files)} safetensors files" if files else "it holds no safetensors file"
                raise unusable(path, what, "Name the file." if files else HINT)
            name, path = name if pulled else path.name, files[0]
    except OSError as error:
        raise unusable(path, explain_os_error(error), HINT) from error
    if path.suffix != ".safetensors":
        raise unusable(path, "its name does not end in .safetensors", HINT)
    if pulled is not None:
        check_lock(pulled, {path.relative_to(pulled).as_posix(): remembered_hash(path)})
    return path, name


def _check(path: Path) -> tuple[int, PersonalFacts | None]:
    """(the number of layers that the file changes, what it says if it is a personal model). Raises InputError unless
    it is a LoRA with harmless settings."""
    layouts, header = read_header(path, HINT)
    metadata = json.loads(header).get("__metadata__")
    if (personal := read_facts(metadata, layouts, path)) is not None:
        return len(layouts) // 2, personal
    layers = set()
    for name, (dtype, shape) in layouts.items():
        if dtype not in FLOATING:
            raise unusable(path, f"{name[:80]!r} is of the type {dtype}, which weights do not have", HINT)
        if "lora" in name and len(shape) > 1:
            layers.add(re.sub(r"\.lora.*|_lora\..*", "", name))
    if not layers:
        raise unusable(path, "it holds no LoRA", HINT)
    _check_settings(path, metadata)
    return len(layers), None


def _check_settings(path: Path, metadata: Any) -> None:
    """The library peft takes these settings as they are: some of them would start methods that read other data."""
    text = metadata.get(SETTINGS) if isinstance(metadata, dict) else None
    if text is None:
        return
    try:
        settings = json.loads(text)
        for key, value in settings.items():
            if not _is_harmless(str(key).rpartition(".")[2], value):
                raise unusable(path, f"its settings ask for {str(key)[:80]!r}, which is not done", HINT)
    except T2IError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise unusable(path, "its settings cannot be read", HINT) from error


def _is_harmless(key: str, value: Any) -> bool:
    if key in KNOWN:
        return value is None or isinstance(value, (str, bool, int, float))
    if key == "init_lora_weights":
        return isinstance(value, bool) or value == "gaussian"
    if key in ("rank_pattern", "alpha_pattern"):  # regular expressions for peft
        return isinstance(value, dict) and all(PATTERN.fullmatch(name) for name in value)
    if key in LISTS and isinstance(value, list):
        return all(isinstance(name, int) or re.fullmatch(r"[\w.]*", name, re.ASCII) for name in value)
    return not value
