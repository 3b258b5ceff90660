"""Weights that are not ours: which files hold them, whether they are well-formed, and their sha256.

Only safetensors files are ever opened. A file is checked by its header; its values are read when the model is loaded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import atomic_file, explain_os_error, hash_file
from t2i.store.search_path import home
from t2i.store.tensors import FLOATING, MAX_HEADER, Layout, check_header

MAX_JSON = 64 << 20
STEMS = ("diffusion_pytorch_model", "model")
VARIANTS = ("", "fp16", "bf16", "fp32")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
HINT = "Fetch the model again, or export it again with save_pretrained()."


def unusable(where: Path, what: str, hint: str = HINT) -> InputError:
    """The error for a file of a checkpoint that cannot be used."""
    return InputError(f"{where} cannot be used: {what}.", hint, "bundle")


def read_table(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError (code `bundle`)."""
    try:
        if not path.is_file():
            raise unusable(path, "it is not a file" if path.exists() else "it is missing")
        if path.stat().st_size > MAX_JSON:
            raise unusable(path, "it is too long")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise unusable(path, explain_os_error(error)) from error
    except (ValueError, RecursionError) as error:
        raise unusable(path, "it is not valid JSON") from error
    if not isinstance(value, dict):
        raise unusable(path, "it is not a table")
    return value


def find_weights(folder: Path) -> tuple[list[Path], str]:
    """(the index if there is one and the safetensors files of a network, the variant in their names or "").

    Each file's header is checked. Raises InputError (code `bundle`) where there is none, for a shard that is missing,
    for an index that points out of the folder, for a pickle.
    """
    for variant in VARIANTS:
        for stem in STEMS:
            dotted = f".{variant}" if variant else ""
            index = folder / f"{stem}.safetensors.index{dotted}.json"
            single = folder / f"{stem}{dotted}.safetensors"
            if single.is_file():
                read_layouts(single)
                return [single], variant
            if index.is_file():
                shards = _shards(index)
                for shard in shards:
                    read_layouts(shard)
                return [index, *shards], variant
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES) if folder.is_dir() else []
    if pickles:
        hint = "Weights are read from safetensors files only; many models are published in that form, too."
        raise unusable(folder / pickles[0], "it is a pickle, which can run code when it is opened", hint)
    raise unusable(folder, "it holds no weights (*.safetensors)")


def _shards(index: Path) -> list[Path]:
    table = read_table(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise unusable(index, "it has no weight_map")
    names = sorted({str(name) for name in table.values()})
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.safetensors", name, re.ASCII) or name.startswith("."):
            raise unusable(index, f"it names {name[:80]!r}, which is no safetensors file in its folder")
    for name in names:
        if not (index.parent / name).is_file():
            raise unusable(index.parent / name, "it is missing")
    return [index.parent / name for name in names]


def read_header(path: Path, hint: str = HINT) -> tuple[dict[str, Layout], bytes]:
    """The type and shape of every tensor, and the JSON that says so. Raises InputError (code `bundle`) unless it is a
    safetensors file."""
    try:
        if not path.is_file():
            raise unusable(path, "it is not a file", hint)
        with open(path, "rb") as file:
            head = file.read(8)
            size = int.from_bytes(head, "little") if len(head) == 8 else 0
            data = head + file.read(min(size, MAX_HEADER))
        return check_header(data, path.stat().st_size, str(path)), data[8 : 8 + size]
    except OSError as error:
        raise unusable(path, explain_os_error(error), hint) from error


def read_layouts(path: Path) -> dict[str, Layout]:
    """The type and shape of every tensor. Raises InputError (code `bundle`) unless it is a safetensors file of
    numbers that weights can have."""
    layouts, _ = read_header(path)
    for name, (dtype, _) in layouts.items():
        if name.endswith((".weight", ".bias")) and dtype not in FLOATING:
            raise unusable(path, f"{name[:80]!r} is of the type {dtype}, which weights do not have")
    return layouts


def remembered_hash(path: Path) -> str:
    """sha256 of a file. Remembered in $T2I_HOME/hashes.json for as long as its size and time stay the same."""
    book, stat = home() / "hashes.json", path.stat()
    name, now = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    try:
        known = json.loads(book.read_bytes())
        if known[name][:3] == now and isinstance(known[name][3], str):
            return str(known[name][3])
    except (OSError, ValueError, LookupError, TypeError):
        known = {}
    digest = hash_file(path)
    if stat.st_size > 1 << 20:  # small files are read as fast as the book
        _remember(book, {**(known if isinstance(known, dict) else {}), name: [*now, digest]})
    return digest


def _remember(book: Path, known: dict[str, Any]) -> None:
    try:
        book.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(book) as file:
            file.write(json.dumps(known, indent=1).encode())
    except (OSError, InputError):  # it only saves time
        return
