"""Sources of training examples: the built-in world, or the user's pictures (`folder.py`).

The batch of a step is a pure function of (seed, step), on any machine. Resuming a training therefore needs no state of
a data loader.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from t2i.world import Scene, World


@dataclass(frozen=True)
class Examples:
    """B examples: pixels (B, 3, S, S) in [-1, 1] and captions.

    content: hashable, equal for captions with the same meaning.
    loose: hashable, equal for captions that may be true of each other's pictures.
    masks: (B, K, S, S) in [0, 1], the share of each pixel that each thing owns; None if not asked for or unknown.
    boxes: (B, K, 3) the centre (x, y) of each thing and its longer side, as shares of S, zeros after a picture's last
    thing; known where masks are.
    """

    pixels: Tensor
    captions: list[str]
    content: list[Any]
    loose: list[Any]
    masks: Tensor | None = None
    boxes: Tensor | None = None

    def rows(self, first: int, last: int) -> Examples:
        """The examples from `first` to before `last`."""
        mine = slice(first, last)
        masks, boxes = (None if x is None else x[mine] for x in (self.masks, self.boxes))
        return Examples(self.pixels[mine], self.captions[mine], self.content[mine], self.loose[mine], masks, boxes)


class Source(Protocol):
    """What a training needs of its data."""

    def batch(
        self, seed: int, step: int, n: int, size: int, masks: bool = False, moves: Tensor | None = None
    ) -> Examples:
        """The n examples of a step, `size` pixels a side, with masks and boxes if asked for and available.

        moves (n, K, 3), only for things that have boxes: each is drawn (x, y) shares of the side away from its place,
        and by a factor larger.
        """

    @property
    def plain(self) -> Source | None:
        """Other examples of the same things, whose place is a plain colour; None if there are none."""

    def captions(self, seed: int, index: int, take: int) -> str:
        """A caption of example `index`. Other values of `take` give other wordings, if there are any."""

    def describe(self) -> str:
        """One line for the model card."""


@dataclass(frozen=True)
class WorldSource:
    """The built-in world as a source."""

    world: World

    def batch(
        self, seed: int, step: int, n: int, size: int, masks: bool = False, moves: Tensor | None = None
    ) -> Examples:
        scenes = [self.world.scene(seed, index) for index in range(step * n, (step + 1) * n)]
        if moves is not None:
            scenes = [_moved(scene, rows) for scene, rows in zip(scenes, moves.tolist(), strict=True)]
        pixels, owned = self.world.draw(scenes, size, masks)
        captions, content = [self.world.caption(scene) for scene in scenes], [_content(scene) for scene in scenes]
        boxes = _boxes(scenes) if masks else None
        return Examples(pixels, captions, content, [_loose(scene) for scene in scenes], owned, boxes)

    @property
    def plain(self) -> WorldSource | None:
        return WorldSource(self.world.at("plain")) if "plain" in self.world.places else None

    def captions(self, seed: int, index: int, take: int) -> str:
        return self.world.caption(self.world.scene(seed, index), take=take)

    def describe(self) -> str:
        things, places = len(self.world.keys), len(set(self.world.places))
        styles = ", ".join(self.world.config.styles)
        return f"the built-in world: {things} objects, {places} places, styles {styles}"


def _content(scene: Scene) -> Any:
    return (scene.groups, scene.place, scene.shade, scene.relation, scene.position, scene.style)


def _moved(scene: Scene, moves: list[list[float]]) -> Scene:
    """The scene with its items moved, see `Source.batch`."""
    items = [
        replace(item, x=item.x + dx, y=item.y + dy, scale=item.scale * factor)
        for item, (dx, dy, factor) in zip(scene.items, moves, strict=False)  # the moves are padded
    ]
    return replace(scene, items=tuple(items))


def _boxes(scenes: list[Scene]) -> Tensor:
    """(B, K, 3), see `Examples`."""
    out = torch.zeros(len(scenes), max(len(scene.items) for scene in scenes), 3)
    for row, scene in zip(out, scenes, strict=True):
        for box, item in zip(row, scene.items, strict=False):
            box[:] = torch.tensor([item.x, item.y, item.scale])
    return out


def _loose(scene: Scene) -> Any:
    # Empty walls differ by their colour alone.
    where = scene.place if scene.groups else (scene.place, scene.shade)
    return tuple(sorted({group.thing for group in scene.groups})), where
