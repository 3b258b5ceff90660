"""Examples that other processes draw or read ahead, so that a GPU need not wait for them.

A batch is a pure function of (seed, step), so it does not matter which process computes it: a training with workers is
bit for bit the training without.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch.utils.data
from torch import Tensor

from t2i.data.folder import FolderSource
from t2i.data.source import Examples, Source
from t2i.errors import InputError, T2IError

AHEAD = 2  # batches of each worker that wait to be asked for
LINES = 2  # series of batches that are kept ahead at once
MOST = 12  # workers that are started unasked


def default_workers(device: str, ranks: int = 1) -> int:
    """How many workers a training starts if nobody says: none on a processor, whose cores compute anyway; with a GPU
    its share, as one of `ranks` processes, of the processors that this one may use, but for one."""
    if not device.startswith("cuda"):
        return 0
    return max(1, min(MOST, len(os.sched_getaffinity(0)) // ranks - 1))


@dataclass(frozen=True)
class _Series:
    """What the batches of a series have in common."""

    seed: int
    n: int
    size: int
    masks: bool


@dataclass
class _Line:
    """A series: the last step that was asked for, and the batches after it, `stride` steps apart, once two steps have
    told how far apart they are."""

    step: int
    stride: int = 0
    batches: Iterator[_Made] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Made:
    """What a worker sends: the examples, or why there are none, and the pictures that it found to be broken."""

    examples: Examples | T2IError
    broken: frozenset[int] = frozenset()


class AheadSource:
    """`source`, whose batches `workers` processes compute before they are asked for.

    Which batch will be next is guessed: as far behind the last one as that was behind the one before. A batch that was
    not foreseen, or one with moves, is computed here.
    """

    def __init__(self, source: Source, workers: int) -> None:
        assert workers > 0
        self.source, self.workers = source, workers
        self._lines: dict[_Series, _Line] = {}

    def batch(
        self, seed: int, step: int, n: int, size: int, masks: bool = False, moves: Tensor | None = None
    ) -> Examples:
        """As `Source.batch`. Raises InputError where a worker has died, which a full /dev/shm brings about."""
        if moves is not None:
            return self.source.batch(seed, step, n, size, masks, moves)
        series = _Series(seed, n, size, masks)
        line = self._lines.pop(series, None)
        if line is not None and step - line.step != line.stride:
            line = _Line(line.step, step - line.step)  # and the old workers end
        if line is None or line.stride < 1:
            self._keep(series, _Line(step))
            return self.source.batch(seed, step, n, size, masks)
        if line.batches is None:
            line.batches = self._from(series, step, line.stride)
        line.step = step
        self._keep(series, line)
        return self._take(line.batches)

    def _keep(self, series: _Series, line: _Line) -> None:
        while len(self._lines) >= LINES:
            self._lines.pop(next(iter(self._lines)))
        self._lines[series] = line

    def _from(self, series: _Series, step: int, stride: int) -> Iterator[_Made]:
        loader = torch.utils.data.DataLoader(
            _Batches(self.source, series), sampler=range(step, 2**62, stride), batch_size=None, collate_fn=_as_it_is,
            num_workers=self.workers, prefetch_factor=AHEAD, worker_init_fn=_be_a_worker,
            generator=torch.Generator(),  # else it takes a number from the global one
            multiprocessing_context="fork",
        )  # fmt: skip
        return iter(loader)

    def _take(self, batches: Iterator[_Made]) -> Examples:
        try:
            made = next(batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            what = "a process that draws training pictures ahead has died; its memory may not suffice."
            hint = "Make /dev/shm larger (docker run --shm-size 8g), or write --workers 0, and go on with --resume."
            raise InputError(what, hint, "data") from error
        if isinstance(self.source, FolderSource):
            self.source.note_broken(made.broken)
        if isinstance(made.examples, T2IError):
            raise made.examples
        return made.examples

    @property
    def plain(self) -> Source | None:
        """See `Source`."""
        return self.source.plain

    def captions(self, seed: int, index: int, take: int) -> str:
        """See `Source`."""
        return self.source.captions(seed, index, take)

    def describe(self) -> str:
        """See `Source`."""
        return self.source.describe()


class _Batches(torch.utils.data.Dataset[_Made]):
    """step -> the batch of that step, in a worker."""

    def __init__(self, source: Source, series: _Series) -> None:
        self.source, self.series = source, series

    def __getitem__(self, step: int) -> _Made:
        s = self.series
        try:
            examples: Examples | T2IError = self.source.batch(s.seed, step, s.n, s.size, s.masks)
        except T2IError as error:
            examples = error
        return _Made(examples, frozenset(self.source.broken) if isinstance(self.source, FolderSource) else frozenset())


def _as_it_is(made: Any) -> Any:
    return made


def _be_a_worker(number: int) -> None:
    """Leave it to the process that trains to answer signals, which a terminal sends to all, and to report."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with suppress(ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    info = torch.utils.data.get_worker_info()
    assert info is not None and isinstance(info.dataset, _Batches)
    if isinstance(info.dataset.source, FolderSource):
        info.dataset.source.report = silent


def silent(record: object) -> None:
    """The report of a process that leaves it to another to report."""
