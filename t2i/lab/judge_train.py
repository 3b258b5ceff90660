"""Train the judge on the built-in world and measure it on scenes it has never seen.

    python -m t2i.lab.smudges --sprites DIR --out smudges.npz
    python -m t2i.lab.judge_train --sprites DIR --out weights/judge --smudges smudges.npz --minutes 45

Runs on one CPU core, in bf16 by default. The learning rate falls linearly to zero over the steps, or over the minutes
if they run out first. Unlike the generators, the judge is trained on all combinations, also the
held-out ones: a judge that has never seen a blue car reads it as a car of a likelier colour, and the generator would be
blamed (measured: 59% of held-out colours were read correctly, against 79% of the others). It is measured on both sides.

A judge that is trained on clear pictures alone sees through blur: it names what no person would. So a seventh of
the pictures are renders with smeared things, and half are `t2i.lab.smudges`: what a generator made of renders.
A thing that is not clear any more (`t2i.lab.smears.clarity`) is "nothing" in them.
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

from t2i.errors import UsageError
from t2i.lab.judge_batches import Batches, renders
from t2i.lab.judge_card import card
from t2i.lab.judge_loss import loss, targets
from t2i.lab.judge_measure import measurements, missed, tune_threshold
from t2i.lab.judge_world import judge_world
from t2i.lab.program import positive, reports_errors
from t2i.lab.smudges import Smudges
from t2i.world import World
from t2i.world.judge import Judge, JudgeNet
from t2i.world.judge_config import JudgeConfig
from t2i.world.reading import OWN
from t2i.world.vocabulary import COLOURS

Say = Callable[[str], None]
THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def judge_config(world: World) -> JudgeConfig:
    """The classes that a judge of this world has to distinguish."""
    shades = tuple(world.config.shades)
    return JudgeConfig(tuple(dict.fromkeys(world.keys)), (*COLOURS, OWN), tuple(world.places), shades)


def grown(net: JudgeNet, config: JudgeConfig) -> JudgeNet:
    """A copy of an unfolded net for a config of the same sizes with more things, which it has yet to learn.

    Raises UsageError if other classes or sizes differ, or a thing is missing.
    """
    same = replace(config, things=net.config.things, threshold=net.config.threshold)
    if same != net.config or not set(net.config.things) <= set(config.things):
        raise UsageError("the judge to start from has other classes or sizes.", "Leave out --start.")
    other = JudgeNet(config)
    state = {name: value for name, value in net.state_dict().items() if not name.startswith("cells.")}
    other.load_state_dict(state, strict=False)
    n_old, n_new = len(net.config.things), len(config.things)
    rows = [0, *(1 + config.things.index(thing) for thing in net.config.things)]
    rows += range(1 + n_new, sum(other.sizes))
    assert len(rows) == sum(net.sizes) == n_old + sum(other.sizes) - n_new
    with torch.no_grad():
        for ours, theirs in zip(other.cells.parameters(), net.cells.parameters(), strict=True):
            ours[rows] = theirs
    return other


def train(
    batches: Batches, config: JudgeConfig, *, steps: int, minutes: float, rate: float = 3e-3, bf16: bool = True,
    start: JudgeNet | None = None, say: Say = lambda line: None, keep: Callable[[JudgeNet], None] | None = None,
) -> JudgeNet:  # fmt: skip
    """AdamW with warm-up and linear decay, and a running average of the weights.

    Returns the averaged net, in eval mode. With `start`, a stored net learns on. keep: called with the average every
    200 steps.
    """
    seed = batches.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = JudgeNet(config)
        if start is not None:
            net = grown(start.unfold(renders(batches.world, seed + 1, 0, 256, fine=False)[0]), config)
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
        pixels, truths = batches(step, rng)
        wanted = targets(truths, config)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            maps = net(pixels)
        total, parts = loss(maps, wanted)
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        step += 1
        old = min(0.99, step / (step + 10))
        with torch.no_grad():
            for ours, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                if ours.is_floating_point():
                    ours.lerp_(theirs, 1 - old)
                else:
                    ours.copy_(theirs)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value / 25
        if step % 25 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            say(f"step {step} {done:.0%} {time.monotonic() - began:.0f} s {words}")
            sums = {}
        if keep is not None and step % 200 == 0:
            keep(average)
    say(f"trained on {step * batches.batch} pictures in {time.monotonic() - began:.0f} s")
    return average.eval()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.judge_train", description="Train the judge.")
    parser.add_argument("--sprites", type=Path, help="folder of the sprite library")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the judge to")
    parser.add_argument("--vocabulary", choices=("shapes", "core", "all"), default="all")
    parser.add_argument("--core-share", type=int, default=3, help="how much more often a core thing is drawn (3)")
    parser.add_argument("--styles", default="fluent3d", help="sprite sets, separated by commas")
    parser.add_argument("--smudges", type=Path, nargs="*", default=[], metavar="FILE", help="files of t2i.lab.smudges")
    parser.add_argument("--steps", type=positive, default=4800)
    parser.add_argument("--minutes", type=float, default=45.0, help="most minutes of training")
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--start", type=Path, help="a stored judge that learns on; it may know fewer things")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threshold", type=float, help="of the stored judge, in place of the one tuned on renders")
    parser.add_argument("--fp32", action="store_true", help="no bf16 autocast")
    parser.add_argument("--measure", type=positive, default=2048, help="pictures of each measurement")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    world = judge_world(args.vocabulary, args.styles.split(","), sprites=args.sprites, core_share=args.core_share)
    smudges = Smudges.load(args.smudges) if args.smudges else None
    batches = Batches(world, args.seed, args.batch, smudges)
    start = Judge.load(args.start).net if args.start else None
    began, busy = time.monotonic(), time.process_time()
    net = train(
        batches, judge_config(world), steps=args.steps, minutes=args.minutes, rate=args.rate, bf16=not args.fp32,
        start=start, say=say, keep=lambda average: Judge(average.fold()).save(args.out),
    )  # fmt: skip
    minutes, busy = (time.monotonic() - began) / 60, (time.process_time() - busy) / 60
    tuned = args.threshold or tune_threshold(
        net, world, seed=args.seed + 1, n=min(512, args.measure), choices=THRESHOLDS
    )
    net.config = replace(net.config, threshold=tuned)
    Judge(net).save(args.out)
    judge = Judge.load(args.out)  # what is measured is what is stored
    report = measurements(judge, world, args.sprites, seed=args.seed + 2, n=args.measure)
    blurred = missed(judge, world, seed=args.seed + 3, n=min(512, args.measure))
    command = (
        f"python -m t2i.lab.judge_train --sprites DIR --out weights/judge --vocabulary {args.vocabulary} "
        f"{f'--core-share {args.core_share} ' if args.vocabulary == 'all' else ''}"
        f"--styles {args.styles} --steps {args.steps} --minutes {args.minutes:g} --batch {args.batch} "
        f"--rate {args.rate:g} --seed {args.seed}{' --fp32' if args.fp32 else ''}"
        f"{f' --start {args.start.name}' if args.start else ''}"
        f"{f' --threshold {args.threshold:g}' if args.threshold else ''}"
        f"{' --smudges ' + ' '.join(path.name for path in args.smudges) if args.smudges else ''}"
    )
    how = f"Trained in {minutes:.1f} minutes, with {busy:.1f} minutes of one CPU core."
    (args.out / "README.md").write_text(card(judge, report, blurred, command, how), encoding="utf-8")
    sys.stdout.write(json.dumps({"renders": report, "blurred": blurred}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
