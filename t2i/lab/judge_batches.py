"""The training pictures of the judge: renders, smeared renders, and smudges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from t2i.lab.judge_loss import Truth, damage
from t2i.lab.judge_world import truth_of
from t2i.lab.smears import SMEARED, SMUDGED, clarity, smear
from t2i.lab.smudges import Smudges
from t2i.world import Scene, World
from t2i.world.judge import SIZE, to_input


def renders(world: World, seed: int, first: int, n: int, fine: bool) -> tuple[Tensor, list[Scene]]:
    """n renders at 64 pixels. fine: rendered at 128 and reduced, as large generated pictures are."""
    scenes = [world.scene(seed, first + i) for i in range(n)]
    return to_input(world.draw(scenes, 2 * SIZE if fine else SIZE)[0]), scenes


def as_seen(truth: Truth, clear: Tensor, limits: tuple[float, float]) -> Truth:
    """The truth of a picture whose things are of this clarity (K,): what is not to be recognised is not there.

    limits: as `smears.SMEARED`."""
    marks = zip(truth.marks, clear.tolist(), strict=False)
    kept = tuple(replace(mark, taught=value >= limits[1]) for mark, value in marks if value >= limits[0])
    return replace(truth, marks=kept)


def smeared(world: World, seed: int, first: int, n: int, rng: torch.Generator) -> tuple[Tensor, list[Truth]]:
    """n renders of which things are smeared (`smears.smear`), and what is left to see in them."""
    scenes = [world.scene(seed, first + i) for i in range(n)]
    renders, masks = world.draw(scenes, SIZE, masks=True)
    assert masks is not None
    pixels = smear(renders, masks, rng)
    found = clarity(pixels, renders, masks, reach=0)
    return pixels, [as_seen(truth_of(scene, world), row, SMEARED) for scene, row in zip(scenes, found, strict=True)]


@dataclass(frozen=True)
class Batches:
    """The training pictures: batch number `step` is a function of (seed, step) and of the state of `rng`.

    shares: of smeared renders, and of smudges, in a batch; the rest are renders. Without `smudges`, renders take their
    place.
    """

    world: World
    seed: int
    batch: int
    smudges: Smudges | None = None
    shares: tuple[float, float] = (0.15, 0.5)

    def __call__(self, step: int, rng: torch.Generator) -> tuple[Tensor, list[Truth]]:
        """Pixels (B, 3, 64, 64) in [-1, 1] and their truths."""
        first = step * self.batch
        n_smeared = round(self.shares[0] * self.batch)
        n_smudged = round(self.shares[1] * self.batch) if self.smudges else 0
        n = self.batch - n_smeared - n_smudged
        pixels, scenes = renders(self.world, self.seed, first, n, fine=step % 8 == 7)
        parts, truths = [damage(pixels, rng)], [truth_of(scene, self.world) for scene in scenes]
        poor, more = smeared(self.world, self.seed, first + n, n_smeared, rng)
        if self.smudges:
            pixels_of, seen = self.smudged(n_smudged, rng)
            poor, more = torch.cat([poor, pixels_of]), more + seen
        return torch.cat([*parts, damage(poor, rng, soft=0.0)]), truths + more

    def smudged(self, n: int, rng: torch.Generator) -> tuple[Tensor, list[Truth]]:
        """n smudges, half of them with a thing that is nothing, and half of them mirrored."""
        assert self.smudges is not None
        truths, clear = self.smudges.truths, self.smudges.clarity
        there = torch.tensor([[k < len(truth.marks) for k in range(clear.shape[1])] for truth in truths])
        poor = ((clear < SMUDGED[0]) & there).any(1)
        weight = torch.where(poor, 1 / poor.sum().clamp_min(1), 1 / (~poor).sum().clamp_min(1))
        rows = torch.multinomial(weight, n, replacement=True, generator=rng)
        pixels = self.smudges.pixels[rows].float() / 127.5 - 1
        seen = [as_seen(truths[row], clear[row], SMUDGED) for row in rows.tolist()]
        flip = torch.rand(n, generator=rng) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        return pixels, [mirrored(truth) if back else truth for truth, back in zip(seen, flip.tolist(), strict=True)]


def mirrored(truth: Truth) -> Truth:
    """The truth of the mirrored picture."""
    return replace(truth, marks=tuple(replace(mark, x=1 - mark.x) for mark in truth.marks))
