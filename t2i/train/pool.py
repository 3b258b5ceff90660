"""Examples that are computed once, before the first step of a training; here, of scenes, their image embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.nets.clip import Clip
from t2i.train.part import WHOLE, Part

BATCH = 128  # pictures that are embedded together


def unit(z: Tensor) -> Tensor:
    """Rows (..., E) of length 1, in float32."""
    return F.normalize(z.float(), dim=-1)


class Pool(Protocol):
    """size: how many examples it is to hold. batch: how many are computed together. on_disk: whether it is kept in
    files, which one process writes."""

    size: int
    batch: int
    on_disk: bool

    def fill(self, stage: str, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> None:
        """Compute what is missing. Returns early when `stop` says so."""

    def rehearse(self) -> None:
        """For `--dry-run`: shrink to one batch and compute it. Writes nothing and needs no trained stage."""


class EmbeddingPool:
    """The examples 0 ... size - 1 of a stream, as CLIP's unit image embeddings z (P, E).

    `content` and `loose` are as in `Examples`. Captions are not kept: a new wording is drawn at every step.
    """

    on_disk = False

    def __init__(self, clip: Clip, source: Source, seed: int, size: int, device: torch.device) -> None:
        self.clip, self.source, self.seed, self.size, self.device = clip.to(device), source, seed, size, device
        self.batch = BATCH
        self.z = torch.empty(0)
        self.content, self.loose = list[Any](), list[Any]()

    @torch.no_grad()
    def fill(self, stage: str = "", report: Any = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Compute the embeddings. Returns early, with an empty pool, when `stop` says so."""
        content, loose = list[Any](), list[Any]()
        # One piece: small ones, kept between the large ones of each batch, would hold 80 KB of memory a picture.
        z = torch.empty(-(-self.size // BATCH) * BATCH, self.clip.config.embed_dim)
        for step in range(len(z) // BATCH):
            if stop():
                return
            examples = self.source.batch(self.seed, step, BATCH, self.clip.config.image_size)
            z[step * BATCH : (step + 1) * BATCH] = unit(self.clip.encode_image(examples.pixels.to(self.device)))
            content += examples.content
            loose += examples.loose
            if report and step % 50 == 0:
                report({"event": "embed", "stage": stage, "step": step * BATCH, "steps": self.size})
        self.z, self.content, self.loose = z[: self.size], content, loose

    def rehearse(self) -> None:
        """As `Pool.rehearse`."""
        self.size = self.batch
        self.fill()

    def draw(self, n: int, step: int, g: torch.Generator, part: Part = WHOLE) -> tuple[list[int], list[str], Tensor]:
        """`part` of n examples at random, with replacement: their rows, a wording of each, their embeddings (B, E)."""
        if not len(self.z):
            self.fill()
        index = part.rows(torch.randint(len(self.z), (n,), generator=g))
        rows = index.tolist()
        return rows, [self.source.captions(self.seed, i, step) for i in rows], self.z[index].to(self.device)
