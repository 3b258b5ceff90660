"""The files of a run's pictures: which is there already, and under what name a new one is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from t2i.jobs.output_index import OutputIndex
from t2i.jobs.output_paths import variants
from t2i.jobs.request import J, Request

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.media.record import Record


class PictureFiles(Generic[J]):
    """The pictures of a request on disk. warn: told of damaged ones."""

    def __init__(self, request: Request[J], warn: Callable[[str], None]) -> None:
        self.request = request
        self._index = OutputIndex(warn)
        self._written: set[str] = set()  # by this run

    def find(self, job: J, key: str) -> tuple[Path, dict[str, Any]] | None:
        """(file, its record) of the job's picture, if it is there."""
        return next(filter(None, (self._index.find(name, key) for name in self.request.names(job))), None)

    def save(self, job: J, image: Image, record: Record) -> tuple[Path, bool]:
        """Save a picture under the first name that is free; -> (file, True). Where another process has drawn the same
        picture meanwhile: (its file, False)."""
        from t2i.media.images import save_image

        names, icc = self.request.names(job), self.request.icc(job)
        if self.request.overwrite:  # but no picture of this very run, and not what the job reads
            kept = self.request.reads(job)
            every = chain(names[:-1], variants(names[-1]))
            path = next(n for n in every if str(n) not in self._written and not any(_same(n, file) for file in kept))
            save_image(image, path, record, icc=icc)
            self._written.add(str(path))
            return path, True
        while True:
            path = next((name for name in names if self._index.free(name) == name), names[-1])
            free = self._index.free(path)
            try:
                save_image(image, free, record, exclusive=True, icc=icc)
                self._index.put(path, free, record.key)
                return free, True
            except FileExistsError:
                found = self.find(job, record.key)
                if found is not None:
                    return found[0], False


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def save_stage(path: Path, stage: str, pixels: Tensor, record: Record) -> Path:
    """Save the output of one stage beside the picture at `path`."""
    from t2i.media.images import save_image, to_pil

    image = to_pil(pixels)
    beside = path.with_name(f"{path.stem}.{stage}{path.suffix}")
    # the key is the finished picture's: a stage must not be taken for it
    save_image(image, beside, replace(record, key=f"{record.key}.{stage}", size=image.size))
    return beside
