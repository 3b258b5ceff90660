"""Training pictures of the user's own: a folder with captions, or WebDataset shards.

    photos/cat.jpg + photos/cat.txt          one caption a line; several lines are several captions
    photos/metadata.jsonl                    {"file_name": "cat.jpg", "text": "a cat"}; "caption" is read too
    shards/{0000..0003}.tar                  000001.jpg + 000001.txt, or 000001.json with "caption"

A shard's headers are read once and its members by their offset, so that batches are a pure function of
(seed, step), as exact resuming needs; a stream of shards would have a state of its own.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import torch
from PIL import Image, ImageOps
from torch import Tensor

from t2i import images
from t2i.data.source import Examples
from t2i.errors import InputError
from t2i.files import explain_os_error
from t2i.images import READABLE, to_tensor
from t2i.rng import digest, generator

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp"))
NAMED = 8  # broken pictures that are named; the others are counted
VERIFY_UP_TO = 2000  # pictures whose files are all looked at before training starts
CACHE = 256 << 20  # bytes of decoded pictures that are kept

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One captioned picture: a file, or a part of a shard when `length` is not None."""

    name: str
    path: Path
    captions: tuple[str, ...]
    offset: int = 0
    length: int | None = None

    def read(self) -> bytes:
        """The bytes of the picture file. Raises OSError."""
        if self.length is None:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class FolderSource:
    """The Source over a folder, a metadata.jsonl in it, or shards (one .tar, a brace pattern, a folder of them).

    Pictures are cropped to their central square and resized. A broken one is counted, named in a report and
    replaced by its neighbour; one without a caption is left out. Raises InputError (code ``data``) when
    nothing is left.
    """

    def __init__(self, path: Path, report: Report = lambda record: None) -> None:
        self.path, self.report = path, report
        self.broken: set[int] = set()
        self._cache: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()
        self._cached = 0
        self._orders: dict[tuple[int, int], list[int]] = {}
        found = _find(path)
        self.entries = [entry for entry in found if entry.captions]
        if not found:
            raise _unusable(
                f"there is no PNG, JPEG or WebP picture in {path}", "Name a folder with pictures in it."
            )
        if not self.entries:
            raise _unusable(
                f"none of the {len(found)} pictures in {path} has a caption",
                "Write cat.txt beside cat.jpg, or a metadata.jsonl with file_name and text.",
            )
        if len(self.entries) <= VERIFY_UP_TO:
            self.broken = {i for i, entry in enumerate(self.entries) if not _verifies(entry)}
        facts: dict[str, Any] = {"event": "data", "pictures": len(self.entries) - len(self.broken)}
        if without := len(found) - len(self.entries):
            facts["without_caption"] = without
        if self.broken:
            facts |= {"broken": len(self.broken), "broken_files": self._named()}
        report(facts)
        if len(self.broken) == len(self.entries):
            self._none_left()

    def batch(self, seed: int, step: int, n: int, size: int) -> Examples:
        """Pictures step*n .. step*n + n - 1 of the run's endless order: every epoch is a new permutation."""
        positions = range(step * n, (step + 1) * n)
        rows, captions, content = [], [], []
        for position in positions:
            index, pixels = self._picture(self._index(seed, position), size)
            rows.append(pixels)
            captions.append(self._caption(index, seed, position, 0))
            content.append(self.entries[index].captions[0].casefold())
        return Examples(torch.stack(rows), captions, content, content)

    def captions(self, seed: int, index: int, take: int) -> str:
        return self._caption(self._sound(self._index(seed, index)), seed, index, take)

    def describe(self) -> str:
        return f"{len(self.entries) - len(self.broken):,} captioned pictures of the folder {self.path.name}"

    # Order -----------------------------------------------------------------------------------------------------

    def _index(self, seed: int, position: int) -> int:
        epoch, place = divmod(position, len(self.entries))
        order = self._orders.get((seed, epoch))
        if order is None:
            if len(self._orders) >= 4:  # a batch spans two epochs at most, or many of a very small folder
                self._orders.pop(next(iter(self._orders)))
            order = torch.randperm(len(self.entries), generator=generator("folder", seed, epoch)).tolist()
            self._orders[seed, epoch] = order
        return order[place]

    def _sound(self, index: int) -> int:
        """`index`, or the next picture that is not known to be broken."""
        for i in range(len(self.entries)):
            if (candidate := (index + i) % len(self.entries)) not in self.broken:
                return candidate
        self._none_left()

    def _caption(self, index: int, seed: int, position: int, take: int) -> str:
        captions = self.entries[index].captions
        return captions[(digest("caption", seed, position) + take) % len(captions)]

    # Pixels ----------------------------------------------------------------------------------------------------

    def _picture(self, index: int, size: int) -> tuple[int, Tensor]:
        """(index, pixels (3, size, size)) of a picture, or of the next one that can be decoded."""
        while True:
            index = self._sound(index)
            image = self._cache.get((index, size))
            if image is not None:
                self._cache.move_to_end((index, size))
                return index, to_tensor(image)
            entry = self.entries[index]
            try:
                image = _decode(entry)
            except Exception:  # a decoder fed with rubbish raises nearly anything
                self.broken.add(index)
                if len(self.broken) <= NAMED:
                    self.report({"event": "broken", "picture": entry.name, "broken": len(self.broken)})
                continue
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            self._cache[index, size] = image
            self._cached += 3 * size * size
            while self._cached > CACHE:
                (_, old), _ = self._cache.popitem(last=False)
                self._cached -= 3 * old * old
            return index, to_tensor(image)

    def _named(self) -> str:
        names = [self.entries[i].name for i in sorted(self.broken)]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more

    def _none_left(self) -> NoReturn:
        raise _unusable(
            f"none of the {len(self.entries)} captioned pictures in {self.path} can be read: {self._named()}",
            "Are they complete PNG, JPEG or WebP files?",
        )


def _decode(entry: Entry) -> Image.Image:
    """Upright RGB, by the rules of `images.load_image`, which reads files only and not parts of a shard."""
    image = images._open(entry.read(), Path(entry.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
        return images._to_rgb(ImageOps.exif_transpose(image), (255, 255, 255))


def _verifies(entry: Entry) -> bool:
    """A look at the file without decoding all of it: its kind, its head, a PNG's checksums."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(entry.read()), formats=READABLE) as image:
                image.verify()
    except Exception:  # a decoder fed with rubbish raises nearly anything
        return False
    return True


# Finding -------------------------------------------------------------------------------------------------------


def _find(path: Path) -> list[Entry]:
    """All pictures, in the order of their names, with their captions (none: without one)."""
    if "{" in str(path) or path.suffix == ".tar":
        return [entry for shard in _expand(str(path)) for entry in _shard(shard)]
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise _unusable(
            f"the data folder {path} {what}", "Name a folder with pictures and captions, or scenes."
        )
    try:
        tables = sorted(path.rglob("metadata.jsonl"))
        if tables:
            return [entry for table in tables for entry in _table(table)]
        files = sorted(
            f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")
        )
        if files:
            return [Entry(str(f.relative_to(path)), f, _lines(f.with_suffix(".txt"))) for f in files]
        return [entry for shard in sorted(path.glob("*.tar")) for entry in _shard(shard)]
    except OSError as error:
        raise _unusable(f"cannot read {error.filename or path}: {explain_os_error(error)}") from error


def _lines(path: Path) -> tuple[str, ...]:
    return _split(path.read_bytes(), str(path)) if path.is_file() else ()


def _split(data: bytes, name: str) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError:
        raise _unusable(f"the captions in {name} are not UTF-8 text", "Save them as UTF-8.") from None


def _words(row: dict[str, Any]) -> tuple[str, ...]:
    """The captions of a table's row or of a shard's .json: "text" or "caption", a string or a list of them."""
    said = next((row[key] for key in ("text", "caption", "captions") if row.get(key)), ())
    rows = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return tuple(" ".join(words.split()) for words in rows if isinstance(words, str) and words.strip())


def _table(path: Path) -> Iterator[Entry]:
    """The rows of a metadata.jsonl, whose file names are relative to it."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise _unusable(f"{path} is not UTF-8 text", "Save it as UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = row["file_name"]
            if (
                not isinstance(name, str)
                or PurePosixPath(name).is_absolute()
                or ".." in PurePosixPath(name).parts
            ):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise _unusable(
                f"line {number} of {path} is not a row of captions",
                'Write {"file_name": "cat.jpg", "text": "a cat"}.',
            ) from None
        yield Entry(name, path.parent / name, _words(row))


def _expand(pattern: str) -> list[Path]:
    """`a-{0000..0003}.tar` -> four paths; the numbers keep the width they are written in."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [Path(pattern)]
    first, last = found[1], found[2]
    if int(last) < int(first) or int(last) - int(first) > 1_000_000:
        raise _unusable(f"{found[0]} is not a range of shards", "Write {0000..0003}.")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    numbers = range(int(first), int(last) + 1)
    return [path for i in numbers for path in _expand(f"{head}{i:0{len(first)}d}{tail}")]


def _shard(path: Path) -> Iterator[Entry]:
    """The samples of one shard: members that share a name up to the first dot of their last part."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as tar:
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
                        _said(file, parts, key),
                        picture.offset_data,
                        picture.size,
                    )
    except tarfile.TarError as error:
        raise _unusable(
            f"the shard {path} cannot be read: {error}", "Is it a complete, uncompressed .tar?"
        ) from error
    except OSError as error:
        raise _unusable(f"cannot read the shard {path}: {explain_os_error(error)}") from error


def _said(file: Any, parts: dict[str, tarfile.TarInfo], key: str) -> tuple[str, ...]:
    def read(member: tarfile.TarInfo) -> bytes:
        file.seek(member.offset_data)
        data: bytes = file.read(member.size)
        return data

    if ".txt" in parts:
        return _split(read(parts[".txt"]), key)
    if ".json" in parts:
        try:
            row = json.loads(read(parts[".json"]))
        except ValueError:
            return ()
        return _words(row) if isinstance(row, dict) else ()
    return ()


def _unusable(what: str, hint: str = "") -> InputError:
    return InputError(f"{what}.", hint, "data")
