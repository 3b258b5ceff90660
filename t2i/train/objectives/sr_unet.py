"""The super-resolution U-Net: crops of large pictures from small ones such as the base draws, and an image embedding.

What a base draws is not a blurred picture: outlines move, faces melt. An upsampler that only ever saw pictures made
smaller does not mend that. So a share of the inputs are training pictures that were noised and drawn again by the
bundle's own base (SDEdit: Meng 2021, arXiv 2108.01073). On all inputs there may be noise of a known level (Ho 2021,
arXiv 2106.15282, section 4).

Shapes: B crops of `crop` pixels a side, s = net.scale, E width of the embedding, P pictures of the pool.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from t2i.data.source import Source
from t2i.diffusion.process import Flow
from t2i.files import write_bytes
from t2i.jsonl import strict_json
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.nets.upsampler import enlarge
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest
from t2i.schema import Between
from t2i.stages.stage import Stage, Start
from t2i.store.manifest import Manifest, StageEntry
from t2i.train.encoders import Encoders
from t2i.train.objective import Objective
from t2i.train.objectives.base import BaseObjective
from t2i.train.objectives.prior import PriorObjective
from t2i.train.pool import unit
from t2i.train.recipe import Pictures, Pixels, Recipe, Schedule, Share, StageRecipe, Weight
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS, averaged
from t2i.train.streams import examples_seed, first_weights, noise

BATCH = 16  # pictures that are drawn again together
THINGS = 4  # of each picture whose place is kept
FILLED = "filled.json"
Strength = Annotated[float, Between(1e-6, 1)]


@dataclass(frozen=True)
class SRUNetRecipe(StageRecipe):
    """`[upsampler256]` with `design = "sr_unet"`."""

    net: SRUNetConfig = field(default_factory=SRUNetConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(batch=24, lr=1.5e-3, warmup=50, decay=0.4))
    design: str = "sr_unet"
    size: Pixels = 256
    crop: Pixels = 160  # side of a crop of the large picture
    near: Share = 0.8  # share of the crops that are cut around a thing, where the source knows where things are
    pool: Pictures = 16_000  # pictures that are drawn again once, before the first step
    redrawn: Share = 0.45  # share of the inputs that are the base's
    strength: tuple[Strength, Strength] = (0.4, 0.72)  # how far into noise the base goes back for them
    same: Weight = 0.02  # mean squared difference of 8 x 8 means above which the base has drawn another picture
    blur: Share = 0.3  # share of the inputs that are blurred, by up to two passes of (1, 2, 1) / 4
    clean: Share = 0.3  # share of the inputs without noise; the others' level is uniform in [0, 1]
    prior: Share = 0.5  # share of the embeddings that are the prior's for the caption, not CLIP's of the picture
    level: Share = 0.3  # of noise on the input when pictures are sampled
    z_noise: Weight = 0.15  # on the embedding, per coordinate in units of 1/sqrt(E)
    drop_z: Share = 0.12

    @property
    def kind(self) -> str:
        return self.design


class RedrawnPool:
    """The examples 0 ... P - 1 of a stream with what the bundle makes of them, in files of a folder.

    high (P, 3, S, S), low and redrawn (P, 3, S/s, S/s): uint8. z and z_prior (P, E): float16. things (P, K, 2): where
    up to K things have their centres, (y, x) as shares of the side, -1 for none. It is a function of (bundle, stream,
    config). `filled.json` says how far it is filled and from what, so that an interrupted training goes on, and one
    from other stages begins anew.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        config: SRUNetRecipe,
        seed: int,
        facts: Mapping[str, Any],
        trained: Callable[[], Pipeline],
        untrained: Callable[[], Pipeline],
    ) -> None:
        """folder: where its files are. facts: what else it depends on. trained, untrained: load what draws; the second
        only has the sizes of the first, for `rehearse`."""
        self.folder, self.source, self.config, self.seed = folder, source, config, seed
        self.trained, self.untrained, self.size, self.batch = trained, untrained, config.pool, BATCH
        self.key = json.dumps(
            [dict(facts), seed, config.pool, config.size, config.strength, config.same], sort_keys=True
        )
        low = self.low_size = config.size // config.net.scale
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "high": ((3, config.size, config.size), "uint8"),
            "low": ((3, low, low), "uint8"),
            "redrawn": ((3, low, low), "uint8"),
            "z": ((config.net.cond_dim,), "float16"),
            "z_prior": ((config.net.cond_dim,), "float16"),
            "things": ((THINGS, 2), "float16"),
        }
        self.arrays: dict[str, NDArray[Any]] = {}

    def fill(self, stage: str, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> None:
        """Draw what is missing. Returns early when `stop` says so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        size, done = self.size, self._filled()
        for name, (shape, dtype) in self.shapes.items():
            self.arrays[name] = _array(self.folder / f"{name}.npy", (size, *shape), dtype, new=not done)
        pipeline = self.trained() if done < size else None
        for first in range(done, size, BATCH):
            assert pipeline is not None
            if stop():
                return
            rows = self._rows(pipeline, first // BATCH)
            for name, array in self.arrays.items():
                array[first : first + BATCH] = rows[name][: size - first]
                assert isinstance(array, np.memmap)
                array.flush()  # before it is said to be there
            text = json.dumps({"count": min(first + BATCH, size), "of": self.key})
            write_bytes(self.folder / FILLED, text.encode())
            if first // BATCH % 20 == 0:
                report({"event": "embed", "stage": stage, "step": first, "steps": size})

    def rehearse(self) -> None:
        """As `Pool.rehearse`; its examples are kept in memory."""
        self.size, self.arrays = BATCH, self._rows(self.untrained(), 0)

    def _filled(self) -> int:
        """How many examples of this very pool are there. What cannot be read counts as none: it is drawn again."""
        try:
            told = strict_json((self.folder / FILLED).read_bytes())
            count = int(told["count"]) if told["of"] == self.key else 0
            sizes = [(self.folder / f"{name}.npy").stat().st_size for name in self.shapes]
        except (OSError, ValueError, LookupError, TypeError):
            return 0
        needed = [self.size * math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.shapes.values()]
        return count if 0 <= count <= self.size and all(a > b for a, b in zip(sizes, needed)) else 0

    @torch.inference_mode()
    def _rows(self, pipeline: Pipeline, step: int) -> dict[str, NDArray[Any]]:
        """The examples of one batch."""
        g = noise(self.seed, "redrawn", step)
        high = self.source.batch(self.seed, step, BATCH, self.config.size)
        small = self.source.batch(self.seed, step, BATCH, self.low_size, masks=True)
        low = small.pixels
        seeds = list(range(step * BATCH, (step + 1) * BATCH))
        z = pipeline.embed(low)
        text, _ = pipeline.encode(high.captions)
        z_prior = pipeline.sample_prior(text, seeds, SampleRequest())
        assert z_prior is not None
        between = F.normalize(z + z_prior, dim=-1)  # in a share of them what a wrong guess of the prior does to it
        told = torch.where(torch.rand(BATCH, 1, generator=g) < 0.7, z, between)
        low_end, high_end = self.config.strength
        strength = low_end + (high_end - low_end) * float(torch.rand(1, generator=g))
        start = Start(x0=low, strength=strength)
        redrawn = pipeline.sample_base(Conditioning(text, told), seeds, SampleRequest(), start=start)
        moved = (F.avg_pool2d(redrawn, 8) - F.avg_pool2d(low, 8)).square().mean((1, 2, 3)) > self.config.same
        redrawn = torch.where(moved[:, None, None, None], low, redrawn)
        return {
            "high": _bytes(high.pixels), "low": _bytes(low), "redrawn": _bytes(redrawn),
            "z": z.half().numpy(), "z_prior": z_prior.half().numpy(),
            "things": centres(small.masks, BATCH).half().numpy(),
        }  # fmt: skip

    def pixels(self, name: str, rows: list[int]) -> Tensor:
        """(B, 3, S, S) in [-1, 1]."""
        return torch.from_numpy(self.arrays[name][rows]).float().div_(127.5).sub_(1)

    def embeddings(self, name: str, rows: list[int]) -> Tensor:
        """(B, E), of length 1."""
        return unit(torch.from_numpy(self.arrays[name][rows].astype(np.float32)))


def _array(path: Path, shape: tuple[int, ...], dtype: str, *, new: bool) -> NDArray[Any]:
    """An array in a file. Its whole place is taken at once: on a full disk that is an OSError, and later a write to the
    mapped file would be the program's death."""
    array: NDArray[Any] = np.lib.format.open_memmap(path, "w+" if new else "r+", dtype, shape)  # type: ignore[no-untyped-call]
    if new and hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    return array


class SRUNetObjective(Objective):
    """The mean absolute error of crops; the embedding is CLIP's or the prior's, or is left out."""

    examples = "upsampler"
    config: SRUNetRecipe
    net: SRUNet
    pool: RedrawnPool

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        self.pool = RedrawnPool(
            run.folder(name) / "pool", self.source, self.config, self.examples_seed, self.facts,
            lambda: Pipeline.load(run.out), self._untrained,
        )  # fmt: skip

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> SRUNet:
        return first_weights(recipe.seed, name, lambda: SRUNet(recipe.stage(name, SRUNetRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder, "prior", "base")

    @classmethod
    def stage_spec(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, SRUNetRecipe)
        config: dict[str, Any] = {"design": part.design, "net": part.net.to_dict()}
        config |= {"prediction": "x0", "process": {"kind": "flow"}}
        config["widths"] = {"low": part.size // part.net.scale, "size": part.size, "cond_dim": part.net.cond_dim}
        return StageEntry(name, "upsampler", name, replace(recipe.sample.upsampler, steps=1, noise=part.level)), config

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        if name not in stages or name in recipe.share:
            return []
        part = recipe.stage(name, SRUNetRecipe)
        unit = part.net.scale * part.net.multiple
        return [
            (recipe.encoder == "clip", f"{name} reads an image embedding, and [text] takes CLIP's place"),
            (part.crop <= part.size, f"{name}.crop is larger than its pictures"),
            (part.crop % unit == 0 == part.size % unit, f"{name}.crop and .size are not multiples of {unit}"),
        ]

    @property
    def source(self) -> Source:
        return self.run.pictures.large

    def _untrained(self) -> Pipeline:
        """The stages before this one with their first weights: as fast as trained ones."""
        stages: dict[str, Stage] = {}
        entries: list[StageEntry] = []
        for kind in (PriorObjective, BaseObjective):
            entry, config = kind.stage_spec(self.recipe, kind.examples)
            net = kind.build(self.recipe, entry.name).eval().requires_grad_(False)
            stages[entry.name] = Stage(entry.name, net, Flow(), config["prediction"], entry.defaults)
            entries.append(entry)
        manifest = Manifest(self.recipe.family, self.recipe.name, tuple(entries), (self.pool.low_size,))
        assert self.encoders.text is not None
        return Pipeline(manifest, self.encoders.text, stages, self.encoders.clip)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g, n = self.config, self.noise(step), self.schedule.batch
        scale = c.net.scale
        rows = torch.randint(self.pool.size, (n,), generator=g).tolist()
        small, side = c.size // scale, c.crop // scale
        u = torch.rand(n, 9, generator=g)
        corner = self._corners(rows, u, torch.rand(n, 2, generator=g), torch.randn(n, 2, generator=g))
        drawn = torch.where(_wide(u[:, 0]) < c.redrawn, self.pool.pixels("redrawn", rows), self._clean(rows, u, g))
        low, high = crop(drawn, corner, side), crop(self.pool.pixels("high", rows), corner * scale, c.crop)
        level = torch.where(u[:, 3] < c.clean, torch.zeros(()), u[:, 4])
        low = low + _wide(level) * torch.randn(low.shape, generator=g)
        z, z_prior = (self.pool.embeddings(name, rows) for name in ("z", "z_prior"))
        z = torch.where(u[:, 5, None] < c.prior, z_prior, z)
        z = z + c.z_noise / z.shape[-1] ** 0.5 * torch.randn(z.shape, generator=g)
        low, high, level, z = (x.to(self.device) for x in (low, high, level, z))
        made = self.net(low, level, z, (u[:, 6] >= c.drop_z).to(self.device), corner, (small, small)).float()
        loss = F.l1_loss(made, high)
        return loss, {"psnr": float(10 * torch.log10(4 / (made.detach() - high).square().mean()))}

    def _corners(self, rows: list[int], u: Tensor, anywhere: Tensor, shift: Tensor) -> Tensor:
        """(B, 2) Where crops begin, in small pixels: around a thing, give or take an eighth of a crop, or anywhere."""
        c = self.config
        most, side = (c.size - c.crop) / c.net.scale, c.crop / c.net.scale
        there = torch.from_numpy(self.pool.arrays["things"][rows].astype(np.float32))
        known = (there[..., 0] >= 0).sum(1)
        chosen = (u[:, 7] * known).long().clamp(max=THINGS - 1)
        centre = there[torch.arange(len(rows)), chosen] * c.size / c.net.scale + shift * side / 8
        near = ((known > 0) & (u[:, 8] < c.near))[:, None]
        corner = torch.where(near, (centre - side / 2).clamp(0, most), anywhere * most)
        return (corner / c.net.multiple).round().long() * c.net.multiple

    def _clean(self, rows: list[int], u: Tensor, g: torch.Generator) -> Tensor:
        """The pool's small pictures, a share of them blurred."""
        c, low = self.config, self.pool.pixels("low", rows)
        once = soften(low)
        passes = _wide(2 * u[:, 2])
        blurred = torch.where(passes < 1, torch.lerp(low, once, passes), torch.lerp(once, soften(once), passes - 1))
        return torch.where(_wide(u[:, 1]) < c.blur / max(1e-6, 1 - c.redrawn), blurred, low)

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """Four rows: the base's small picture, its bicubic enlargement, ours at the recipe's level of noise, the
        truth."""
        rows = list(range(min(COLUMNS // 2, self.pool.size)))
        low, high = self.pool.pixels("redrawn", rows), self.pool.pixels("high", rows)
        level = torch.full((len(rows),), self.config.level)
        seed = examples_seed(self.recipe.seed, "sheets")
        noised = low + _wide(level) * torch.randn(low.shape, generator=noise(seed, self.name, 0))
        z = self.pool.embeddings("z", rows)
        with torch.no_grad(), averaged(self.module, average):
            ours = self.net(*(x.to(self.device) for x in (noised, level, z))).float().cpu().clamp(-1, 1)
        blocks = F.interpolate(low, scale_factor=float(self.config.net.scale), mode="nearest")
        return torch.stack([blocks, enlarge(low, self.config.net.scale).clamp(-1, 1), ours, high])


def centres(masks: Tensor | None, n: int) -> Tensor:
    """(n, THINGS, 2): the centres of the things that own pixels of n pictures, first things first; -1 for none."""
    out = torch.full((n, THINGS, 2), -1.0)
    if masks is None:
        return out
    for row, owned in enumerate(masks > 0.5):
        there = [m.nonzero().float().mean(0) / m.shape[-1] for m in owned if m.any()][:THINGS]
        out[row, : len(there)] = torch.stack(there) if there else out[row, :0]
    return out


def soften(x: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) after one pass of the kernel (1, 2, 1) / 4 in both directions."""
    k = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (k[:, None] * k).expand(3, 1, 3, 3)
    with torch.autocast(x.device.type, enabled=False):  # a picture is data: bf16 would lose half of its grey levels
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def crop(x: Tensor, corner: Tensor, side: int) -> Tensor:
    """(B, 3, side, side) of pictures (B, 3, H, W), from `corner` (B, 2), (y, x), on."""
    places = zip(x, corner.tolist(), strict=True)
    return torch.stack([row[:, top : top + side, left : left + side] for row, (top, left) in places])


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = ((x + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8).numpy()
    return out


def _wide(v: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return v[:, None, None, None]
