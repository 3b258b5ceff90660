"""How well a judge reads renders, and how blurred a thing may be until it is not found any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from t2i.lab.judge_batches import renders
from t2i.lab.judge_loss import damage
from t2i.lab.smears import blur
from t2i.world import Scene, World
from t2i.world.judge import SIZE, Judge, JudgeNet, decode, to_input
from t2i.world.reading import Expectation, check, expectation_of

RADII = (0.0, 1.5, 3.0, 6.0, 10.0, 14.0)  # of blur, in pixels of 256


def measure(
    judge: Judge, world: World, *, seed: int, n: int, size: int = SIZE, rng: torch.Generator | None = None
) -> dict[str, float]:
    """Accuracy on n renders: what a perfect picture scores with this judge.

    Keys: "n"; "single" (thing right in scenes of one lone object); each task of `check` over the scenes that
    touch it; "count_many" (count where there are several objects); "exact" (kinds and numbers of all objects
    right); "centre" (median error, share of the canvas); "swapped" (share of pictures in which a thing that
    is not there is found). `rng` damages the pictures.
    """
    tallies: dict[str, list[float]] = {}
    errors: list[float] = []
    config = judge.config
    for first in range(0, n, 64):
        scenes = [world.scene(seed, first + i) for i in range(min(64, n - first))]
        pixels = world.draw(scenes, size)[0]
        if rng is not None:
            pixels = damage(to_input(pixels), rng)
        for scene, reading in zip(scenes, judge.read(pixels), strict=True):
            asked = expectation_of(scene)
            row: dict[str, float] = {name: float(ok) for name, ok in check(reading, asked).items()}
            there = sorted(scene.groups[item.group].thing for item in scene.items)
            row["exact"] = float(sorted(f.thing for f in reading.objects) == there)
            if len(scene.items) == 1:
                row["single"] = row["object"]
                errors += [
                    max(abs(f.x - scene.items[0].x), abs(f.y - scene.items[0].y))
                    for f in reading.objects if f.thing == there[0]
                ]  # fmt: skip
            if sum(group.count for group in scene.groups) > 1:
                row["count_many"] = row["count"]
            at = config.things.index(scene.groups[0].thing) if scene.groups else -1
            wrong = config.things[(at + 1 + scene.index % (len(config.things) - 1)) % len(config.things)]
            if scene.groups and wrong not in there:
                liar = Expectation((replace(asked.objects[0], thing=wrong),))
                row["swapped"] = float(check(reading, liar)["object"])
            for name, value in row.items():
                tallies.setdefault(name, []).append(value)
    out = {name: sum(values) / len(values) for name, values in sorted(tallies.items())}
    return {"n": float(n), **out, "centre": float(torch.tensor(errors).median()) if errors else float("nan")}


def tune_threshold(net: JudgeNet, world: World, *, seed: int, n: int, choices: Sequence[float]) -> float:
    """The threshold that finds exactly the right objects in most pictures."""
    best = dict.fromkeys(choices, 0)
    for first in range(0, n, 64):
        pixels, scenes = renders(world, seed, first, min(64, n - first), fine=False)
        with torch.no_grad():
            maps = net(pixels)
        for t in choices:
            for scene, reading in zip(scenes, decode(maps, replace(net.config, threshold=t)), strict=True):
                there = sorted(scene.groups[item.group].thing for item in scene.items)
                best[t] += sorted(f.thing for f in reading.objects) == there
    return max(choices, key=lambda t: (best[t], -abs(t - 0.35)))


def missed(judge: Judge, world: World, *, seed: int, n: int) -> dict[str, float]:
    """How often things are found in n renders of one thing each, blurred as a whole: blur radius in pixels of 256
    (standard deviation of a Gaussian) -> share of pictures."""
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < n:
        scene = world.scene(seed, index)
        index += 1
        if len(scene.items) == 1:
            scenes.append(scene)
    pixels = torch.cat([world.draw(scenes[i : i + 64], SIZE)[0] for i in range(0, n, 64)])
    out = {}
    for radius in RADII:
        readings = judge.read(blur(pixels, radius * SIZE / 256) if radius else pixels)
        things = [scene.groups[0].thing for scene in scenes]
        hits = [any(f.thing == key for f in r.objects) for key, r in zip(things, readings, strict=True)]
        out[f"{radius:g}"] = sum(hits) / n
    return out


def measurements(judge: Judge, world: World, sprites: Path | None, *, seed: int, n: int) -> dict[str, dict[str, float]]:
    """`measure` on both sides of the held-out split, clean and damaged; and on the things of core and on the others,
    where the judge knows both."""
    core = tuple(key for key in judge.config.things if world.things[key].core)
    other = tuple(key for key in judge.config.things if key not in core)
    sets: dict[str, dict[str, Any]] = {"train": {"side": "train"}, "held-out": {"side": "held-out"}}
    if core and other:
        sets |= {"core things": {"things": core}, "other things": {"things": other}}
    report = {}
    for name, change in sets.items():
        part = World(replace(world.config, **change), sprites)
        report[name] = measure(judge, part, seed=seed, n=n)
        if name in ("train", "held-out"):
            rng = torch.Generator().manual_seed(7)
            report[f"{name}, damaged"] = measure(judge, part, seed=seed, n=n // 2, rng=rng)
    return report
