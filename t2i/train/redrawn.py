"""The pool of a super-resolution U-Net: large pictures, and the small ones that the base makes of them.

What a base draws is no blurred picture: outlines move, faces melt. An upsampler that has only seen pictures made
smaller does not mend that. So the base of the same bundle draws the inputs of its training, from noise alone or from a
training picture with much noise in it (SDEdit: Meng 2021, arXiv 2108.01073). From noise alone it chooses its own
details of the place, so these scenes have a plain one. Where it has moved a thing, the training picture is drawn again
with the thing moved likewise (`refit.py`).

Shapes: P pictures of S pixels a side, s the scale of the upsampler, E width of the condition, K things.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from t2i.data.source import Examples, Source
from t2i.nets.sr_unet import SRUNetConfig
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest
from t2i.schema import Between
from t2i.stages.stage import Start
from t2i.text.cond import TextCond
from t2i.train.array_files import ArrayFiles
from t2i.train.pool import unit
from t2i.train.recipe import Pictures, Share, Weight
from t2i.train.refit import fit_things
from t2i.train.streams import noise

BATCH = 16  # pictures that are drawn together
THINGS = 4  # of each picture whose place is kept
LONE_REACH, REACH = 1 / 8, 1 / 16  # how far a base draws a thing from its place: from noise alone, or beside others
GUESSED, TRUE = 0.7, 0.4  # share of told embeddings that are the prior's, from noise alone; that are CLIP's, else

Strength = Annotated[float, Between(1e-6, 1)]


@dataclass(frozen=True)
class RedrawnRecipe:
    """`[upsampler256.pool]`."""

    size: Pictures = 16_000  # pictures, drawn once before the first step; of 256 pixels they take 220 kB each
    free: Share = 0.5  # share that the base draws from noise alone, if the world has plain places
    strength: tuple[Strength, Strength] = (0.4, 0.95)  # of the others: how far into noise the base goes back
    same: Weight = 0.03  # mean squared difference of 8 x 8 means above which the base has drawn another picture


class RedrawnPool:
    """Examples 0 ... P - 1 of a stream with what the bundle makes of them; a function of (bundle, stream, config).

    high (P, 3, S, S), low and drawn (P, 3, S/s, S/s), uint8: the picture, the same small, what the base drew of it. z
    and told (P, E), float16: the picture's embedding, and what the base was told; where the upsampler reads text, both
    are the text's vector. boxes (P, K, 3), float16: as in `Examples`, up to THINGS of them.
    """

    batch = BATCH
    on_disk = True

    def __init__(
        self, folder: Path, source: Source, config: RedrawnRecipe, net: SRUNetConfig, side: int, seed: int,
        facts: Mapping[str, Any], trained: Callable[[], Pipeline], untrained: Callable[[], Pipeline],
    ) -> None:  # fmt: skip
        """folder: where its files are. side: S. facts: what else it depends on. trained, untrained: load what draws;
        the second only has the sizes of the first, for `rehearse`."""
        self.source, self.config, self.seed, self.size = source, config, seed, config.size
        self.trained, self.untrained, self.reads = trained, untrained, net.reads
        self.side, self.low_side = side, side // net.scale
        low = (3, self.low_side, self.low_side)
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "high": ((3, side, side), "uint8"), "low": (low, "uint8"), "drawn": (low, "uint8"),
            "z": ((net.cond_dim,), "float16"), "told": ((net.cond_dim,), "float16"), "boxes": ((THINGS, 3), "float16"),
        }  # fmt: skip
        key = json.dumps([dict(facts), seed, side, asdict(config)], sort_keys=True)
        self.files = ArrayFiles(folder, self.size, shapes, key)
        self.arrays: Mapping[str, NDArray[Any]] = {}

    def fill(self, stage: str, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> None:
        """Draw what is missing. Returns early when `stop` says so."""
        done, self.arrays = self.files.open(), self.files.arrays
        if done >= self.size:
            return
        pipeline = self.trained()
        for first in range(done, self.size, BATCH):
            if stop():
                return
            self.files.write(first, self._rows(pipeline, first // BATCH))
            if first // BATCH % 20 == 0:
                report({"event": "embed", "stage": stage, "step": first, "steps": self.size})

    def rehearse(self) -> None:
        """As `Pool.rehearse`; its examples are kept in memory."""
        self.size, self.arrays = BATCH, self._rows(self.untrained(), 0)

    def pixels(self, name: str, rows: list[int]) -> Tensor:
        """(B, 3, S, S) in [-1, 1]."""
        return torch.from_numpy(self.arrays[name][rows]).float().div_(127.5).sub_(1)

    def embeddings(self, name: str, rows: list[int]) -> Tensor:
        """(B, E), of length 1."""
        return unit(torch.from_numpy(self.arrays[name][rows].astype(np.float32)))

    # ---- Drawing -------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _rows(self, pipeline: Pipeline, step: int) -> dict[str, NDArray[Any]]:
        """The examples of one batch."""
        g, plain = noise(self.seed, "redrawn", step), self.source.plain
        free = plain is not None and float(torch.rand(1, generator=g)) < self.config.free
        source = plain if plain is not None and free else self.source
        first = source.batch(self.seed, step, BATCH, self.low_side, masks=True)
        text, _ = pipeline.encode(first.captions)
        drawn, told = self._draw(pipeline, first.pixels, text, step, free, g)
        moves = moves_to(drawn, first, free)
        small = source.batch(self.seed, step, BATCH, self.low_side, masks=True, moves=moves)
        large = source.batch(self.seed, step, BATCH, self.side, moves=moves)
        z = unit(text.pooled) if self.reads == "text" else pipeline.embed(small.pixels)
        told = z if told is None or self.reads == "text" else told
        means = F.adaptive_avg_pool2d(drawn - small.pixels, 8)
        other = means.square().mean((1, 2, 3)) > self.config.same
        drawn = torch.where(other[:, None, None, None], small.pixels, drawn)
        told = torch.where(other[:, None].to(z.device), z, told)
        boxes = torch.zeros(BATCH, THINGS, 3)
        if small.boxes is not None:
            known = small.boxes[:, :THINGS]
            boxes[:, : known.shape[1]] = known
        return {
            "high": _bytes(large.pixels), "low": _bytes(small.pixels), "drawn": _bytes(drawn),
            "z": _half(z), "told": _half(told), "boxes": _half(boxes),
        }  # fmt: skip

    def _draw(
        self, pipeline: Pipeline, low: Tensor, text: TextCond, step: int, free: bool, g: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """What the base draws (B, 3, S/s, S/s) of pictures `low`, or of their texts alone where it is `free`; and the
        embeddings (B, E) that it is told, None without a prior."""
        seeds = range(step * BATCH, (step + 1) * BATCH)
        z_prior, told = pipeline.sample_prior(text, seeds, SampleRequest()), None
        if z_prior is not None:
            z = pipeline.embed(low)
            between = unit(z + z_prior)  # what a wrong guess of the prior does to it
            draw = torch.rand(BATCH, 1, generator=g).to(z.device)
            told = torch.where(draw < GUESSED, z_prior, between) if free else torch.where(draw < TRUE, z, between)
        least, most = self.config.strength
        start = Start(x0=low, strength=least + (most - least) * float(torch.rand(1, generator=g)))
        drawn = pipeline.sample_base(
            Conditioning(text, told), seeds, SampleRequest(quality=not free), start=None if free else start
        )
        return drawn.float().cpu(), told


def moves_to(drawn: Tensor, examples: Examples, free: bool) -> Tensor | None:
    """The moves (B, K, 3) of the things of examples to where a base drew them (B, 3, S, S); None where no thing's place
    is known. free: whether the base began at noise alone."""
    if examples.masks is None or examples.boxes is None:
        return None
    alone = ((examples.boxes[..., 2] > 0).sum(1) == 1).tolist()
    reach = [LONE_REACH if free and one else REACH for one in alone]
    return fit_things(drawn, examples.pixels, examples.masks, examples.boxes, reach)


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = ((x + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8).cpu().numpy()
    return out


def _half(x: Tensor) -> NDArray[np.float16]:
    out: NDArray[np.float16] = x.half().cpu().numpy()
    return out
