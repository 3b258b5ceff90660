"""Which pictures are scored, and the prompt of each.

A prompt comes from the first of these that has one: a list given by the user, the picture's own record, a text file
beside it (a.txt for a.png), `metadata.jsonl` in its folder, the "parameters" text that other tools write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2i.errors import InputError, T2IError
from t2i.files import read_text, visible_files
from t2i.jsonl import read_jsonl
from t2i.media.image_file import FORMATS
from t2i.media.images import read_metadata

METADATA = "metadata.jsonl"
MASK = re.compile(r"(.+)\.mask(-\d+)?\.png")
"""A mask that `t2i inpaint --show-mask` saved beside PICTURE.png."""
END_OF_PROMPT = re.compile(r"^(Negative prompt: |Steps: |Seed: )", re.MULTILINE)
"""Where the prompt ends in AUTOMATIC1111's "parameters"."""


@dataclass(frozen=True)
class PictureFile:
    """A picture to score. name: its path below the folder it was found in. key and model (a digest of the weights):
    from its record, for pictures of ours."""

    path: Path
    name: str
    prompt: str | None = None
    seed: int | None = None
    key: str | None = None
    model: str | None = None


def find_pictures(
    places: Sequence[Path], listed: Mapping[str, str] | None = None
) -> tuple[list[PictureFile], list[tuple[Path, T2IError]]]:
    """The pictures in files and folders (recursively), sorted by name, and those that cannot be read.

    listed: file name -> prompt, given by the user. The intermediate pictures of `t2i sample --keep-stages` are skipped,
    and in folders the masks of `t2i inpaint --show-mask`.
    Raises InputError where a place does not exist, or no place has a picture.
    """
    listed = listed or {}
    found, broken = [], []
    metadata: dict[Path, dict[str, str]] = {}
    for path, name in sorted(_files(places), key=lambda pair: (pair[1], str(pair[0]))):
        folder = path.parent
        if folder not in metadata:
            metadata[folder] = read_prompts(folder / METADATA) if (folder / METADATA).is_file() else {}
        try:
            own = read_metadata(path)
        except T2IError as error:
            broken.append((path, error))
            continue
        record = own["t2i"] or {}
        key, seed = record.get("key"), record.get("seed")
        if isinstance(key, str) and "." in key:  # KEY.STAGE: an intermediate picture
            continue
        prompt = listed.get(name) or listed.get(path.name) or _text(record.get("prompt")) or _sidecar(path)
        prompt = prompt or metadata[folder].get(path.name) or _parameters(own["parameters"])
        found.append(
            PictureFile(
                path,
                name,
                prompt,
                seed if isinstance(seed, int) else None,
                key if isinstance(key, str) else None,
                _text(record.get("weights")),
            )
        )
    if not found and not broken:
        raise _nothing_in(places)
    return found, broken


def check_places(places: Sequence[Path]) -> None:
    """Raise InputError where a place does not exist, or no place has a file that may be a picture. Reads none."""
    if not list(_files(places)):
        raise _nothing_in(places)


def _nothing_in(places: Sequence[Path]) -> InputError:
    shown = ", ".join(map(str, places))
    return InputError(f"there is no picture in {shown}.", "Give files or folders of PNG, JPEG or WebP.")


def read_prompts(path: Path) -> dict[str, str]:
    """File name -> prompt of a JSONL file with "file_name" and "prompt" (or "text", "caption") on each line.

    Raises InputError naming the line.
    """
    out = {}
    for number, row in read_jsonl(path):
        name = _text(row.get("file_name") or row.get("path"))
        prompt = next((p for p in (_text(row.get(k)) for k in ("prompt", "text", "caption")) if p), None)
        if name is None or prompt is None:
            raise InputError(f'line {number} of {path} has no "file_name" or no "prompt".')
        out[name] = prompt
    return out


def _files(places: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """(path, name) of each picture file, once."""
    seen = set()
    for place in places:
        if place.is_dir():
            shown = [p for p in visible_files(place) if p.suffix.lower() in FORMATS and not _is_mask(p)]
            pairs = [(p, p.relative_to(place).as_posix()) for p in shown]
        elif place.exists():
            pairs = [(place, place.name)]
        else:
            raise InputError(f"there is nothing at {place}.", "Give files or folders of pictures.")
        for path, name in pairs:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, name


def _is_mask(path: Path) -> bool:
    found = MASK.fullmatch(path.name)
    return found is not None and any(path.with_name(found[1] + suffix).exists() for suffix in FORMATS)


def _sidecar(path: Path) -> str | None:
    try:
        return _text(read_text(path.with_suffix(".txt")))
    except T2IError:
        return None


def _parameters(text: str | None) -> str | None:
    if not text:
        return None
    end = END_OF_PROMPT.search(text)
    return _text(text[: end.start()] if end else text)


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
