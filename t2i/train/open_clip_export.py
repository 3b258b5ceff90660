"""Writes the CLIP of a bundle as a folder that open_clip reads: `open_clip.create_model_and_transforms("local-dir:…")`.

open_clip_config.json       sizes of both towers, how pictures are prepared
open_clip_model.safetensors the weights, as they are in the bundle
tokenizer.json              the bundle's vocabulary, which also adds start and end here
tokenizer_config.json       read by the library transformers
README.md                   the bundle's card
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2i.errors import InputError, UnavailableError
from t2i.files import explain_os_error, write_together
from t2i.nets.clip import ClipConfig, open_clip_config
from t2i.store.bundle import Bundle
from t2i.store.tensors import encode
from t2i.text.tokenizer import EOT, PAD, SOT, Tokenizer


def export_open_clip(bundle: Bundle, folder: Path) -> list[Path]:
    """Write the folder, which must be empty or new. Returns its files.

    Raises UnavailableError for a bundle without CLIP, UsageError for one that open_clip cannot build (`cell_dim`),
    InputError for a folder that holds something or cannot be written.
    """
    entries = bundle.manifest.of_kind("clip")
    if not entries:
        raise UnavailableError(f"the model {bundle.manifest.name!r} has no CLIP.", "Choose another model.", "model")
    config, state = bundle.load_stage(entries[0].name)
    net = ClipConfig.from_dict(config["net"])
    model = open_clip_config(net)
    model["text_cfg"] |= {"hf_tokenizer_name": "."}  # open_clip then reads the tokenizer of this folder
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    tokenizer = Tokenizer.parse(bundle.tokenizer_json() or "", str(bundle.path))
    files = {
        "open_clip_model.safetensors": encode(state, "clip"),
        "tokenizer.json": json.dumps(_with_ends(tokenizer), ensure_ascii=False).encode(),
        "tokenizer_config.json": _table(
            {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "model_max_length": net.context}
        ),
        "README.md": bundle.card().encode(),
        "open_clip_config.json": _table({"model_cfg": model, "preprocess_cfg": preprocess}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {explain_os_error(error)}.", "Choose another -o.", "output"
        ) from error
    if full:
        raise InputError(f"{folder} is not empty.", "Name a new folder with -o.", "output")
    paths = {folder / name: data for name, data in files.items()}
    write_together(paths, index=folder / "open_clip_config.json")
    return list(paths)


def _table(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _with_ends(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json with the rule that puts start and end around a text, which our own code does by itself."""
    state: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    start, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in (SOT, EOT))
    ids = {SOT: tokenizer.sot, EOT: tokenizer.eot}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, end],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in ids.items()},
    }
    return state
