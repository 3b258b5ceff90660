"""Sources of training examples: the built-in world, or the user's pictures (`folder.py`).

The batch of a step is a pure function of (seed, step), on any machine. Resuming a training therefore needs no state of
a data loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from t2i.world import Scene, World


@dataclass(frozen=True)
class Examples:
    """B examples: pixels (B, 3, S, S) in [-1, 1] and captions.

    content: hashable, equal for captions with the same meaning.
    loose: hashable, equal for captions that may be true of each other's pictures.
    masks: (B, K, S, S) in [0, 1], the share of each pixel that each thing owns; None if not asked for or unknown.
    """

    pixels: Tensor
    captions: list[str]
    content: list[Any]
    loose: list[Any]
    masks: Tensor | None = None


class Source(Protocol):
    """What a training needs of its data."""

    def batch(self, seed: int, step: int, n: int, size: int, masks: bool = False) -> Examples:
        """The n examples of a step, `size` pixels a side, with masks if asked for and available."""

    def captions(self, seed: int, index: int, take: int) -> str:
        """A caption of example `index`. Other values of `take` give other wordings, if there are any."""

    def describe(self) -> str:
        """One line for the model card."""


@dataclass(frozen=True)
class WorldSource:
    """The built-in world as a source."""

    world: World

    def batch(self, seed: int, step: int, n: int, size: int, masks: bool = False) -> Examples:
        batch = self.world.batch(seed, range(step * n, (step + 1) * n), size, masks)
        content = [_content(scene) for scene in batch.scenes]
        loose = [_loose(scene) for scene in batch.scenes]
        return Examples(batch.pixels, batch.captions, content, loose, batch.masks)

    def captions(self, seed: int, index: int, take: int) -> str:
        return self.world.caption(self.world.scene(seed, index), take=take)

    def describe(self) -> str:
        things, places = len(self.world.keys), len(set(self.world.places))
        styles = ", ".join(self.world.config.styles)
        return f"the built-in world: {things} objects, {places} places, styles {styles}"


def _content(scene: Scene) -> Any:
    return (scene.groups, scene.place, scene.shade, scene.relation, scene.position, scene.style)


def _loose(scene: Scene) -> Any:
    # Empty walls differ by their colour alone.
    where = scene.place if scene.groups else (scene.place, scene.shade)
    return tuple(sorted({group.thing for group in scene.groups})), where
