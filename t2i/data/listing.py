"""Lists the captioned pictures of a folder, a metadata.jsonl or WebDataset shards. No picture is opened."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from t2i.errors import InputError
from t2i.files import explain_os_error, open_regular, read_bytes, visible_files
from t2i.jsonl import read_jsonl, strict_json

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture with captions: a file, or `length` bytes of a shard from `offset` on."""

    name: str
    path: Path
    captions: tuple[str, ...]
    offset: int = 0
    length: int | None = None

    def read(self) -> bytes:
        """The bytes of the picture file. Raises OSError."""
        if self.length is None:
            return read_bytes(self.path)
        with open_regular(self.path) as file:
            file.seek(self.offset)
            return file.read(self.length)


def find_entries(path: Path) -> list[Entry]:
    """All pictures, sorted by name. Those without a caption have no captions.

    path: a folder, a .tar, or a brace pattern such as shards/{0000..0003}.tar. Raises InputError (code `data`).
    """
    if "{" in str(path) or path.suffix == ".tar":
        return [entry for shard in _expand(str(path)) for entry in _shard(shard)]
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise unusable(f"the data folder {path} {what}", "Name a folder with pictures and captions, or scenes.")
    try:
        every = sorted(visible_files(path))
        tables = [f for f in every if f.name == "metadata.jsonl"]
        if tables:
            return [entry for table in tables for entry in _table(table)]
        files = [f for f in every if f.suffix.lower() in SUFFIXES]
        if files:
            return [Entry(str(f.relative_to(path)), f, _lines(f.with_suffix(".txt"))) for f in files]
        return [entry for shard in sorted(path.glob("*.tar")) for entry in _shard(shard)]
    except OSError as error:
        raise unusable(f"cannot read {error.filename or path}: {explain_os_error(error)}") from error


def _lines(path: Path) -> tuple[str, ...]:
    """The captions in a text file; none if it does not exist."""
    return _split(read_bytes(path), str(path)) if path.is_file() else ()


def _split(data: bytes, name: str) -> tuple[str, ...]:
    """One caption a line."""
    try:
        return tuple(line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError:
        raise unusable(f"the captions in {name} are not UTF-8 text", "Save them as UTF-8.") from None


def _row_captions(row: dict[str, Any]) -> tuple[str, ...]:
    """The captions in a row of a metadata.jsonl or in a shard's .json: under "text", "caption" or "captions"."""
    value = next((row[key] for key in ("text", "caption", "captions") if row.get(key)), ())
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip())


def _table(path: Path) -> Iterator[Entry]:
    """The rows of a metadata.jsonl. File names are relative to its folder."""
    hint = 'Write {"file_name": "cat.jpg", "text": "a cat"}.'
    for number, row in read_jsonl(path, hint=hint, code="data"):
        name = row.get("file_name")
        if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise unusable(f"line {number} of {path} is not a row of captions", hint)
        yield Entry(name, path.parent / name, _row_captions(row))


def _expand(pattern: str) -> list[Path]:
    """`a-{0000..0003}.tar` -> four paths; numbers keep their leading zeros."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [Path(pattern)]
    first, last = found[1], found[2]
    if int(last) < int(first) or int(last) - int(first) > 1_000_000:
        raise unusable(f"{found[0]} is not a range of shards", "Write {0000..0003}.")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    numbers = range(int(first), int(last) + 1)
    return [path for i in numbers for path in _expand(f"{head}{i:0{len(first)}d}{tail}")]


def _shard(path: Path) -> Iterator[Entry]:
    """The samples of one shard. The members of a sample share their folder and their name up to the first dot."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                if member.isfile() and key:
                    samples.setdefault(f"{folder}/{key}", {})["." + suffix.lower()] = member
            for key, parts in samples.items():
                picture = next((parts[s] for s in sorted(parts) if s in SUFFIXES), None)
                if picture is not None:
                    yield Entry(
                        f"{path.name}:{picture.name}",
                        path,
                        _member_captions(file, parts, key),
                        picture.offset_data,
                        picture.size,
                    )
    except tarfile.TarError as error:
        raise unusable(f"the shard {path} cannot be read: {error}", "Is it a complete, uncompressed .tar?") from error
    except OSError as error:
        raise unusable(f"cannot read the shard {path}: {explain_os_error(error)}") from error


def _member_captions(file: Any, parts: dict[str, tarfile.TarInfo], key: str) -> tuple[str, ...]:
    """The captions of a sample: from its .txt, else from its .json."""

    def read(member: tarfile.TarInfo) -> bytes:
        file.seek(member.offset_data)
        data: bytes = file.read(member.size)
        return data

    if ".txt" in parts:
        return _split(read(parts[".txt"]), key)
    if ".json" in parts:
        try:
            row = strict_json(read(parts[".json"]))
        except ValueError:
            return ()
        return _row_captions(row) if isinstance(row, dict) else ()
    return ()


def unusable(what: str, hint: str = "") -> InputError:
    """The error for a training set that cannot be used."""
    return InputError(f"{what}.", hint, "data")
