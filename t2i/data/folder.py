"""The user's own training pictures: a folder with captions, or WebDataset shards.

    photos/cat.jpg + photos/cat.txt          one caption a line; several lines are several captions
    photos/metadata.jsonl                    {"file_name": "cat.jpg", "text": "a cat"}; "caption" is read too
    shards/{0000..0003}.tar                  000001.jpg + 000001.txt, or 000001.json with "caption"

The headers of a shard are read once, its members by offset. A batch is then a pure function of (seed, step), and a
resumed training needs no state of a stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image, ImageOps
from torch import Tensor

from t2i.data.listing import Entry, find_entries, unusable
from t2i.data.source import Examples
from t2i.errors import InputError
from t2i.media.image_file import ImageFile
from t2i.media.images import to_tensor
from t2i.rng import digest, generator

NAMED = 8  # most broken pictures that a report names; the others are counted
VERIFY_UP_TO = 2000  # data sets up to this size are checked for broken files before training starts
CACHE = 256 << 20  # bytes of decoded pictures kept in memory

Report = Callable[[dict[str, Any]], None]


class FolderSource:
    """A Source over a folder, a metadata.jsonl in it, or shards: a .tar, a brace pattern, or a folder of them.

    Pictures are cropped to their central square and resized. A broken picture is counted, named in a report and
    replaced by the next one. Pictures without a caption are left out, or have the caption "" if `without_caption`.
    report: takes these facts as records. Raises InputError (code `data`) if no picture is left.
    """

    def __init__(self, path: Path, report: Report = lambda record: None, *, without_caption: bool = False) -> None:
        self.path, self.report = path, report
        self.broken: set[int] = set()
        self._cache: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()
        self._cached = 0
        self._orders: dict[tuple[int, int], list[int]] = {}
        found = find_entries(path)
        self.entries = [entry for entry in found if entry.captions or without_caption]
        if not found:
            raise unusable(
                f"the data folder {path} holds no PNG, JPEG or WebP picture",
                "Name a folder with pictures in it.",
            )
        if not self.entries:
            raise unusable(
                f"none of the {len(found)} pictures in {path} has a caption",
                "Write cat.txt beside cat.jpg, or a metadata.jsonl with file_name and text.",
            )
        if len(self.entries) <= VERIFY_UP_TO:
            self.broken = {i for i, entry in enumerate(self.entries) if not _is_intact(entry)}
        facts: dict[str, Any] = {"event": "data", "pictures": len(self.entries) - len(self.broken)}
        if without := len(found) - len(self.entries):
            facts["without_caption"] = without
        if self.broken:
            facts |= {"broken": len(self.broken), "broken_files": self._named()}
        report(facts)
        if len(self.broken) == len(self.entries):
            self._none_left()

    def batch(
        self, seed: int, step: int, n: int, size: int, masks: bool = False, moves: Tensor | None = None
    ) -> Examples:
        """Pictures step*n to step*n + n - 1 of an endless order. Every epoch is a new permutation.

        There are never masks: a folder has none, and nothing in it can be moved.
        """
        assert moves is None, "moves of things that have no boxes"
        positions = range(step * n, (step + 1) * n)
        rows, captions, content = [], [], []
        for position in positions:
            index, pixels = self._picture(self._index(seed, position), size)
            rows.append(pixels)
            captions.append(self._caption(index, seed, position, 0))
            content.append(self._words(index)[0].casefold())
        return Examples(torch.stack(rows), captions, content, content)

    @property
    def plain(self) -> None:
        """See `Source`."""

    def captions(self, seed: int, index: int, take: int) -> str:
        return self._caption(self._usable(self._index(seed, index)), seed, index, take)

    def describe(self) -> str:
        return f"{len(self.entries) - len(self.broken):,} captioned pictures of the folder {self.path.name}"

    # ---- Order ---------------------------------------------------------------------------------------

    def _index(self, seed: int, position: int) -> int:
        """The entry at a position of the endless order."""
        epoch, place = divmod(position, len(self.entries))
        order = self._orders.get((seed, epoch))
        if order is None:
            if len(self._orders) >= 4:  # a batch spans two epochs, or more of a very small folder
                self._orders.pop(next(iter(self._orders)))
            order = torch.randperm(len(self.entries), generator=generator("folder", seed, epoch)).tolist()
            self._orders[seed, epoch] = order
        return order[place]

    def _usable(self, index: int) -> int:
        """`index`, or the next picture that is not known to be broken."""
        for i in range(len(self.entries)):
            if (candidate := (index + i) % len(self.entries)) not in self.broken:
                return candidate
        self._none_left()

    def _caption(self, index: int, seed: int, position: int, take: int) -> str:
        captions = self._words(index)
        return captions[(digest("caption", seed, position) + take) % len(captions)]

    def _words(self, index: int) -> tuple[str, ...]:
        """The captions of an entry; "" where it has none."""
        return self.entries[index].captions or ("",)

    # ---- Pixels --------------------------------------------------------------------------------------

    def _picture(self, index: int, size: int) -> tuple[int, Tensor]:
        """(index, pixels (3, size, size)) of a picture, or of the next one that can be decoded."""
        while True:
            index = self._usable(index)
            image = self._cache.get((index, size))
            if image is not None:
                self._cache.move_to_end((index, size))
                return index, to_tensor(image)
            entry = self.entries[index]
            try:
                image = ImageFile.of(entry.read(), entry.name).decode(verify=False).image
            except (OSError, InputError):
                if not entry.path.parent.is_dir():  # else a few pictures in memory would be all that is trained on
                    raise unusable(
                        f"the folder {entry.path.parent} has gone", "Bring it back, and go on with --resume."
                    ) from None
                self.note_broken({index})
                continue
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            self._cache[index, size] = image
            self._cached += 3 * size * size
            while self._cached > CACHE:
                (_, old), _ = self._cache.popitem(last=False)
                self._cached -= 3 * old * old
            return index, to_tensor(image)

    def note_broken(self, found: Iterable[int]) -> None:
        """Leave these entries out from now on, and report those that were not known to be broken."""
        for index in sorted(set(found) - self.broken):
            self.broken.add(index)
            if len(self.broken) <= NAMED:
                self.report({"event": "broken", "picture": self.entries[index].name, "broken": len(self.broken)})

    def _named(self) -> str:
        names = [self.entries[i].name for i in sorted(self.broken)]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more

    def _none_left(self) -> NoReturn:
        raise unusable(
            f"none of the {len(self.entries)} captioned pictures in {self.path} can be read: {self._named()}",
            "Are they complete PNG, JPEG or WebP files?",
        )


def _is_intact(entry: Entry) -> bool:
    """Check the file type, the head and the checksums of a PNG, without decoding the picture."""
    try:
        return ImageFile.of(entry.read(), entry.name).is_intact()
    except (OSError, InputError):
        return False
