"""Where training pictures come from: the built-in world, or a folder of the user's.

A Source is a pure function of (seed, step): the same step gives the same batch, on any machine, after any
interruption, so that resuming needs no state of a loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from t2i.world import Scene, World


@dataclass(frozen=True)
class Examples:
    """pixels (B, 3, S, S) in [-1, 1]; content: hashable, equal where two captions say the same; masks (B, K, S, S) in
    [0, 1], which pixels each thing owns, if they were asked for and the source knows."""

    pixels: Tensor
    captions: list[str]
    content: list[Any]
    loose: list[Any]  # equal where one caption may be true of the other's picture
    masks: Tensor | None = None


class Source(Protocol):
    def batch(self, seed: int, step: int, n: int, size: int, masks: bool = False) -> Examples: ...

    def captions(self, seed: int, index: int, take: int) -> str:
        """Words for example `index`; `take` draws another wording of the same picture where there is one."""

    def describe(self) -> str:
        """One line for the card."""


@dataclass(frozen=True)
class WorldSource:
    world: World

    def batch(self, seed: int, step: int, n: int, size: int, masks: bool = False) -> Examples:
        batch = self.world.batch(seed, range(step * n, (step + 1) * n), size, masks)
        content = [_content(scene) for scene in batch.scenes]
        loose = [_loose(scene) for scene in batch.scenes]
        return Examples(batch.pixels, batch.captions, content, loose, batch.masks)

    def captions(self, seed: int, index: int, take: int) -> str:
        return self.world.caption(self.world.scene(seed, index), take=take)

    def describe(self) -> str:
        things, places = len(set(self.world.keys)), len(set(self.world.places))
        styles = ", ".join(self.world.config.styles)
        return f"the built-in world: {things} objects, {places} places, styles {styles}"


def _content(scene: Scene) -> Any:
    return (scene.groups, scene.place, scene.shade, scene.relation, scene.position, scene.style)


def _loose(scene: Scene) -> Any:
    # Nothing but its colour tells one empty wall from another.
    where = scene.place if scene.groups else (scene.place, scene.shade)
    return tuple(sorted({group.thing for group in scene.groups})), where
