"""The built-in world: a procedural source of illustrated scenes with exact captions, without end.

    world = World(WorldConfig(vocabulary="shapes"))
    batch = world.batch(seed=0, indices=range(64), size=64)   # pixels, captions, scene graphs

scenes          graph.py: what a scene is; layout.py draws one at random; vocabulary.py: the things and their words;
                holdout.py: the combinations that no training sees
words           captions/: a scene in English and Chinese
pictures        render.py draws scenes on a background (places/) from sprites.py, or from shapes.py with pen.py
all of it       world.py: a source of scenes with captions and pictures
reading         judge.py, judge_config.py: a detector trained on these scenes; reading.py compares what it finds with
                what a prompt asked for; fidelity.py: how close a thing comes to its sprite

Importing the package is cheap: torch arrives with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2i.world.graph import Group, Item, Relation, Scene, Thing

if TYPE_CHECKING:
    from t2i.world.layout import WorldConfig
    from t2i.world.world import Batch, World

__all__ = ["Batch", "Group", "Item", "Relation", "Scene", "Thing", "World", "WorldConfig"]

_HOMES = {"Batch": "t2i.world.world", "World": "t2i.world.world", "WorldConfig": "t2i.world.layout"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 't2i.world' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
