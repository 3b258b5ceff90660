"""Train the judge on the built-in world and measure it on scenes it has never seen.

    python -m t2i.lab.judge_train --sprites DIR --out weights/judge --steps 2400 --minutes 15

Runs on one or two CPU cores, in bf16 by default. The learning rate falls linearly to zero over the steps, or over the
minutes if they run out first. Unlike the generators, the judge is trained on all combinations, also the held-out ones:
a judge that has never seen a blue car reads it as a car of a likelier colour, and the generator would be blamed
(measured: 59% of held-out colours were read correctly, against 79% of the others). It is measured on both sides.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.judge_card import card
from t2i.lab.judge_loss import Mark, Truth, damage, loss, targets
from t2i.world import Scene, World, WorldConfig
from t2i.world.judge import SIZE, Judge, JudgeConfig, JudgeNet, decode, to_input
from t2i.world.reading import OWN, Expectation, check, expectation_of
from t2i.world.vocabulary import COLOURS

Say = Callable[[str], None]
THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def truth_of(scene: Scene, world: World) -> Truth:
    """The training target of a scene.

    An unpainted thing has the colour word of its kind if its sprite has that colour in this style, else `OWN`.
    """
    marks = []
    for item in scene.items:
        group = scene.groups[item.group]
        at = world.atlas.index[scene.style, group.thing]
        natural = world.things[group.thing].colour if world.atlas.fits[at] else ""
        colour = group.colour or natural or OWN
        w, h = (world.atlas.aspect[at] * item.scale).tolist()
        marks.append(Mark(group.thing, colour, item.x, item.y, w, h))
    return Truth(tuple(marks), scene.place, scene.shade)


def judge_config(world: World) -> JudgeConfig:
    """The classes that a judge of this world has to distinguish."""
    return JudgeConfig(tuple(world.keys), (*COLOURS, OWN), tuple(world.places), tuple(world.config.shades))


def _pictures(world: World, seed: int, first: int, n: int, fine: bool) -> tuple[Tensor, list[Scene]]:
    """n renders at 64 pixels. fine: rendered at 128 and reduced, as large generated pictures are."""
    scenes = [world.scene(seed, first + i) for i in range(n)]
    return to_input(world.draw(scenes, 2 * SIZE if fine else SIZE)[0]), scenes


def train(
    world: World, config: JudgeConfig, *, steps: int, minutes: float, batch: int = 64, rate: float = 3e-3,
    seed: int = 1, bf16: bool = True, start: JudgeNet | None = None,
    say: Say = lambda line: None,
) -> JudgeNet:  # fmt: skip
    """AdamW with warm-up and linear decay, and a running average of the weights.

    Returns the averaged net, in eval mode. The scenes are (seed, 0 ...) of the world, each used once. With
    `start`, a stored net of the same config learns on.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = JudgeNet(config)
        if start is not None:
            net = start.unfold(_pictures(world, seed + 1, 0, 256, fine=False)[0])
            net.config = config
        net = net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = torch.Generator().manual_seed(seed)
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    decayed = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(decayed, lr=rate, betas=(0.9, 0.98))
    average = copy.deepcopy(net)
    began, done, step = time.monotonic(), 0.0, 0
    sums: dict[str, float] = {}
    while done < 1.0:
        done = max((step + 1) / steps, (time.monotonic() - began) / (60 * minutes))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(done / 0.05, max(1.05 * (1 - done), 0.002))
        pixels, scenes = _pictures(world, seed, step * batch, batch, fine=step % 8 == 7)
        wanted = targets([truth_of(scene, world) for scene in scenes], config)
        pixels = damage(pixels, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            maps = net(pixels)
        total, parts = loss(maps, wanted)
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        step += 1
        keep = min(0.99, step / (step + 10))
        with torch.no_grad():
            for ours, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                if ours.is_floating_point():
                    ours.lerp_(theirs, 1 - keep)
                else:
                    ours.copy_(theirs)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value / 25
        if step % 25 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            say(f"step {step} {done:.0%} {time.monotonic() - began:.0f} s {words}")
            sums = {}
    say(f"trained on {step * batch} pictures in {time.monotonic() - began:.0f} s")
    return average.eval()


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
        pixels, scenes = _pictures(world, seed, first, min(64, n - first), fine=False)
        with torch.no_grad():
            maps = net(pixels)
        for t in choices:
            for scene, reading in zip(scenes, decode(maps, replace(net.config, threshold=t)), strict=True):
                there = sorted(scene.groups[item.group].thing for item in scene.items)
                best[t] += sorted(f.thing for f in reading.objects) == there
    return max(choices, key=lambda t: (best[t], -abs(t - 0.35)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.judge_train", description="Train the judge.")
    parser.add_argument("--sprites", type=Path, help="folder of the sprite library")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the judge to")
    parser.add_argument("--vocabulary", choices=("shapes", "core", "all"), default="core")
    parser.add_argument("--styles", default="fluent3d", help="sprite sets, separated by commas")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--start", type=Path, help="a stored judge that learns on, instead of a new one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fp32", action="store_true", help="no bf16 autocast")
    parser.add_argument("--measure", type=int, default=2048, help="pictures of each measurement")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    # More groups, equal things and paint than the generators see: those are what a judge gets wrong.
    world_config = WorldConfig(
        vocabulary=args.vocabulary, styles=tuple(args.styles.split(",")),
        groups=(0.62, 0.32, 0.04, 0.02), counts=(0.64, 0.15, 0.11, 0.10), chinese=0.0,
        colour=0.5, side="any",
    )  # fmt: skip
    world = World(world_config, args.sprites)
    config = judge_config(world)
    start = Judge.load(args.start).net if args.start else None
    if start and replace(start.config, folded=False, threshold=config.threshold) != config:
        raise UsageError("the judge to start from tells other things apart", "leave out --start")
    began = time.monotonic()
    net = train(
        world, config, steps=args.steps, minutes=args.minutes, batch=args.batch, seed=args.seed,
        rate=args.rate, bf16=not args.fp32, start=start, say=say,
    )  # fmt: skip
    minutes = (time.monotonic() - began) / 60
    tuned = tune_threshold(net, world, seed=args.seed + 1, n=min(512, args.measure), choices=THRESHOLDS)
    net.config = replace(net.config, threshold=tuned)
    Judge(net).save(args.out)
    judge = Judge.load(args.out)  # what is measured is what is stored
    report: dict[str, dict[str, float]] = {}
    for side in ("train", "held-out"):
        other = World(replace(world_config, side=side), args.sprites)
        report[side] = measure(judge, other, seed=args.seed + 2, n=args.measure)
        report[f"{side}, damaged"] = measure(
            judge, other, seed=args.seed + 2, n=args.measure // 2, rng=torch.Generator().manual_seed(7)
        )
    command = (
        f"python -m t2i.lab.judge_train --sprites DIR --out weights/judge --vocabulary {args.vocabulary} "
        f"--styles {args.styles} --steps {args.steps} --minutes {args.minutes:g} --batch {args.batch} "
        f"--rate {args.rate:g} --seed {args.seed}{' --fp32' if args.fp32 else ''}"
        f"{f' --start {args.start.name}' if args.start else ''}"
    )
    how = f"Trained in {minutes:.1f} minutes on {torch.get_num_threads()} CPU thread(s)."
    (args.out / "README.md").write_text(card(judge, report, command, how), encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
