"""The part of a batch that one process computes in one pass.

A batch is cut into equal parts, one for each process and pass (`schedule.accumulate`). Examples and noise are functions
of (seed, step) for the whole batch, and a part takes its rows of them; so a training has the same loss curve however it
is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.diffusion.loss import DenoisingObjective
from t2i.diffusion.process import Process
from t2i.errors import UsageError
from t2i.rng import normal
from t2i.train.recipe import Schedule

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Rows of a batch: those that process `rank` of `ranks` computes in its pass `micro_batch` of `micro_batches`."""

    rank: int = 0
    ranks: int = 1
    micro_batch: int = 0
    micro_batches: int = 1

    @property
    def of(self) -> int:
        """The number of parts."""
        return self.ranks * self.micro_batches

    @property
    def index(self) -> int:
        """The number of this part, from 0."""
        return self.rank * self.micro_batches + self.micro_batch

    @overload
    def rows(self, whole: Tensor) -> Tensor: ...
    @overload
    def rows(self, whole: list[T]) -> list[T]: ...
    def rows(self, whole: Any) -> Any:
        """This part of what belongs to the rows (N, ...) of a batch."""
        n = len(whole) // self.of
        return whole if self.of == 1 else whole[self.index * n : (self.index + 1) * n]


WHOLE = Part()


def denoising_noise(
    objective: DenoisingObjective, process: Process, x0: Tensor, part: Part, g: torch.Generator, draws: int = 1
) -> tuple[Tensor, Tensor]:
    """The times (B,) and the noise (B, ...) of `diffusion_loss` for x0 (B, ...), on its device.

    x0 is `part` of a batch: times and noise are drawn for the whole batch, and the part takes its own. draws: how often
    x0 repeats the part, each time with other times and noise.
    """
    whole = (len(x0) * part.of, *x0.shape[1:])
    t, eps = objective.levels.draw(process, whole[0], g).to(x0.device), normal(whole, g, x0.device)
    if part.of == 1 or draws == 1:
        return part.rows(t), part.rows(eps)
    return tuple(torch.cat([part.rows(copy) for copy in x.chunk(draws)]) for x in (t, eps))  # type: ignore[return-value]


def padded(things: Tensor, most: int) -> Tensor:
    """Masks (B, K, S, S) with zeros for further things, up to `most` in all."""
    return F.pad(things, (0, 0, 0, 0, 0, most - things.shape[1]))


def check_cut(stage: str, schedule: Schedule, ranks: int, unit: int, uncut: str) -> None:
    """Raise UsageError for a batch that cannot be cut into equal parts for so many processes and the schedule's passes.
    unit, uncut: as of a `Trainable`."""
    if schedule.accumulate > 1 and uncut:
        what = f"{stage} cannot be trained with accumulate = {schedule.accumulate}: {uncut}."
        raise UsageError(what, "Leave it at 1; several processes can share the batch.", "config")
    batch, parts = schedule.batch, ranks * schedule.accumulate
    least = parts * unit
    if parts > 1 and batch % least:
        hint = f"Choose a multiple of {least}, as in --set {stage}.batch={-(-batch // least) * least}"
        raise UsageError(f"the batch of {stage}, {batch}, cannot be cut into {parts} equal parts.", hint, "config")
