"""What the gate of `t2i score` finds: planted damage, false alarms, and the least change that it sees.

    python -m t2i.lab.gate_power prompts --n 40 > pool/prompts.txt
    for m in small imagen-small; do
      t2i sample -f pool/prompts.txt -m $m -n 4 --seed 0 -o pool/$m/healthy
      t2i sample -f pool/prompts.txt -m $m -n 2 --seed 0 --steps 1 -o pool/$m/one-step
      t2i sample -f pool/prompts.txt -m $m -n 2 --seed 0 --guidance 1 -o pool/$m/no-guidance
    done
    for what in damage alarms power; do python -m t2i.lab.gate_power $what --pool pool; done

Pictures are drawn once. Each trial takes some of their prompts, with seeds 0 and 1 as the baseline, and compares it
with the same pictures damaged (`lab/planted_damage.py`), or with seeds dealt anew. So trials share pictures, and the
intervals, those of independent trials, are a little too narrow. What the networks find in a picture
is kept in pool/features.sqlite.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from t2i.files import read_text
from t2i.lab.gate_blanks import least_share, worst_alarm
from t2i.lab.gate_pool import PAIR, GatePool, KeptTexts, Seen, Told
from t2i.lab.planted_damage import DRAWN_ANEW, EVERY_PICTURE, MOVED, REPLACED, SHARES
from t2i.lab.program import positive, reports_errors
from t2i.score.extractors import ClipExtractor, Extractor, judge_info
from t2i.score.features import ScoringNetworks
from t2i.score.gate import ALPHA, FLIPS_SHARE, GateResult, MaxDrop, compared_columns, gate_columns, run_gate
from t2i.score.metric_table import RARE, better
from t2i.score.statistics import POWER, sign_flip_test
from t2i.score.suite import SuitePrompt, find_suite, scene_keys
from t2i.score.thumbnails import thumb_distances
from t2i.store.registry import resolve, resolve_judge
from t2i.world.judge import Judge

DROP = MaxDrop.parse("5%")
SUITE = "scenes"  # of the things that both bundles know
PROMPTS = (8, 40, 200)  # of the table of power
STEPS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # falls to try, in margins

# Planted damage ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A damage of one strength. share: of the pictures. seen: the damaged pictures; None where pictures of the baseline
    change places (shuffled prompts, one object)."""

    name: str
    strength: int
    label: str
    share: float
    seen: dict[tuple[str, int], Seen] | None


def all_damage(pool: GatePool, strengths: Sequence[int], only: Sequence[str] = ()) -> Iterator[Planted]:
    """Every damage, or those of these names, at these strengths (0 to 2). Pictures of the pool that were not drawn are
    left out."""
    for damage in (d for d in EVERY_PICTURE if not only or d.name in only):
        for i in strengths:
            strength = damage.strengths[i]
            made = pool.damaged(f"{damage.name}-{strength:g}", partial(damage.apply, strength=strength))
            yield Planted(damage.name, i, f"{strength:g}", 1.0, made)
    others: dict[str, dict[tuple[str, int], Seen] | None] = {
        name: pool.damaged(name, change) for name, change in REPLACED.items() if not only or name in only
    }
    others |= {name: None for name in MOVED if not only or name in only}
    drawn = [name for name in DRAWN_ANEW if (pool.folder / name.replace(" ", "-")).is_dir()]
    others |= {name: pool.measured(name.replace(" ", "-")) for name in drawn if not only or name in only}
    for name, seen in others.items():
        for i in strengths:
            yield Planted(name, i, f"{100 * SHARES[i]:.0f}%", SHARES[i], seen)


def plant(pool: GatePool, planted: Planted, prompts: Sequence[str], rng: np.random.Generator) -> list[Told]:
    """The pictures of these prompts, damaged."""
    whole = pool.whole(prompts)
    hit = sorted(rng.permutation(len(whole))[: round(planted.share * len(whole))])
    if planted.seen is not None:
        for i in hit:
            prompt, seed, _ = whole[i]
            whole[i] = (prompt, seed, planted.seen[prompt, seed][1])
        return whole
    before = list(whole)
    for k, i in enumerate(hit):
        # shuffled: a picture of another prompt; one object: the pictures of the first prompt again and again
        source = (
            before[hit[(k + len(PAIR)) % len(hit)]] if planted.name.startswith("shuffled") else before[k % len(PAIR)]
        )
        whole[i] = (whole[i][0], whole[i][1], source[2])
    return whole


@dataclass
class Rate:
    """How often a planted damage was found: with the weights of the baseline, and with others. says: the sentences of
    the first finding, and how often each."""

    planted: Planted
    size: int
    trials: int = 0
    same: int = 0
    other: int = 0
    says: Counter[str] = field(default_factory=Counter)
    example: dict[str, str] = field(default_factory=dict)


def detection(pool: GatePool, planted: Planted, size: int, trials: int) -> Rate:
    rate = Rate(planted, size)
    for trial in range(trials):
        rng = np.random.default_rng([trial, size])
        prompts = pool.some_prompts(rng, size)
        after = pool.score(plant(pool, planted, prompts, rng), ())
        compared = compared_columns(pool.baseline(tuple(prompts)), after)
        same, other = (gate_columns(compared, weights, DROP, {}, None) for weights in (True, False))
        rate.trials += 1
        rate.same += same.verdict == "regression"
        rate.other += other.verdict == "regression"
        for outcome in (other, same):
            if outcome.fell:
                rate.says[outcome.fell[0]] += 1
                rate.example.setdefault(outcome.fell[0], outcome.sentences()[0])
                break
        if len(prompts) == len(pool.prompts) and planted.share == 1:
            break  # every trial would be this one
    return rate


def differs(pool: GatePool, name: str) -> float:
    """Mean 1 - SSIM of the thumbnails of the pictures of this folder and of the healthy ones."""
    other = pool.measured(name)
    keys = [k for k in other if k in pool.healthy]
    sides = [pool.score([(p, s, side[p, s][1]) for p, s in keys], ("w",)).rows for side in (pool.healthy, other)]
    return float(np.mean(thumb_distances(list(zip(*sides, strict=True)))))


# False alarms and power -------------------------------------------------------------------------------------------


def false_alarms(pool: GatePool, size: int, trials: int) -> tuple[int, Counter[str]]:
    """How many of the trials fail a model with fresh seeds, and by what."""
    failed, by = 0, Counter[str]()
    for trial in range(trials):
        rng = np.random.default_rng([trial, size])
        outcome: GateResult = run_gate(*pool.dealt(rng, pool.some_prompts(rng, size)), DROP)
        failed += outcome.verdict == "regression"
        by.update(outcome.fell)
    return failed, by


def least_changes(
    pool: GatePool, prompts: Sequence[int], trials: int, deals: int
) -> list[tuple[str, float, list[str]]]:
    """For each metric: its mean, and for each number of prompts the least fall that four of five trials find.

    Differences between fresh seeds are drawn with replacement from those of the pool, and one metric falls in all of
    them by the same amount.
    """
    gate = run_gate(*pool.dealt(np.random.default_rng(0), pool.prompts), DROP)
    left_out = {"sharper", *RARE}  # these: see `gate_blanks.least_share`
    margin_of = {c.column: c.result.margin for c in gate.checks if ":" not in c.column and c.column not in left_out}
    base: dict[str, list[float]] = {}
    gains: dict[str, list[list[float]]] = {}
    for deal in range(deals):
        was, now, *_ = compared_columns(*pool.dealt(np.random.default_rng([7, deal]), pool.prompts))
        units = sorted(was["sharpness"])
        for name in margin_of:
            if all(u in was[name] and u in now[name] for u in units):
                base.setdefault(name, []).extend(was[name].values())
                gains.setdefault(name, []).append([better(name) * (now[name][u] - was[name][u]) for u in units])
    names = list(gains)
    x = np.array([np.concatenate(gains[name]) for name in names])  # (metrics, deals * units)
    margins = [margin_of[name] for name in names]
    rows = []
    for j, name in enumerate(names):
        mean, found = float(np.mean(base[name])), []
        steps = [k for k in STEPS if better(name) < 0 or k * margins[j] <= mean]  # nothing falls below 0
        for n in prompts:
            k = bisect_left(steps, POWER, key=partial(_found, x, margins, trials, j, n))
            found.append(f"{steps[k] * margins[j]:.3g}" if k < len(steps) else "not found")
        rows.append((name, mean, found))
    return rows


def _found(x: np.ndarray, margins: Sequence[float], trials: int, j: int, n: int, k: float) -> float:
    """The share of trials with n prompts that find metric j, fallen by k margins."""
    hits = 0
    for trial in range(trials):
        picked = x[:, np.random.default_rng([trial, n]).integers(0, x.shape[1], n)]
        picked[j] -= k * margins[j]
        hits += sign_flip_test(picked.tolist(), margins)[j] < ALPHA * FLIPS_SHARE
    return hits / trials


# The tables -------------------------------------------------------------------------------------------------------


def prompts_of_pool(n: int) -> list[str]:
    """n prompts of the shipped suite, spread over its tasks; the languages take turns."""
    suite = find_suite(SUITE)
    scenes: dict[object, dict[str, SuitePrompt]] = {}
    for key, prompt in zip(scene_keys(suite), suite, strict=True):
        scenes.setdefault(key, {})[prompt.lang] = prompt
    tasks: dict[str, list[dict[str, SuitePrompt]]] = {}
    for by_lang in scenes.values():
        tasks.setdefault(next(iter(by_lang.values())).task, []).append(by_lang)
    each = max(1, n // len(tasks))
    picked = [group[i * len(group) // each] for group in tasks.values() for i in range(each)]
    return [by_lang[("en", "zh")[i % 2]].text for i, by_lang in enumerate(picked)]


def open_pools(folder: Path, models: Sequence[str]) -> dict[str, GatePool]:
    """Model -> its pictures."""
    extractor, judge = KeptTexts(ClipExtractor(resolve("small"))), resolve_judge()
    networks = ScoringNetworks(cast(Extractor, extractor), Judge.load(judge), judge_info(judge))
    texts = set(read_text(folder / "prompts.txt").splitlines())
    suite = [p for p in find_suite(SUITE) if p.text in texts]
    return {model: GatePool(folder / model, suite, networks, folder / "features.sqlite") for model in models}


def rate_cell(hits: int, trials: int) -> str:
    """A share with its exact 95% interval (Clopper and Pearson 1934): "1.00 (.94 to 1.00)"."""
    from scipy.special import betaincinv

    low = betaincinv(hits, trials - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 0.975) if hits < trials else 1.0
    return f"{hits / trials:.2f} ({low:.2f} to {high:.2f})"


def damage_table(
    pool: GatePool, trials: int, strengths: Sequence[int], sizes: Sequence[int], only: Sequence[str] = ()
) -> Iterator[str]:
    """A row of Markdown for each damage and strength. sizes: pictures of a trial."""
    ways = [f"{n}, {weights}" for n in sizes for weights in ("same weights", "others")]
    yield f"| damage | strength | {' | '.join(ways)} | the report says |"
    yield "|" + "---|" * (3 + len(ways))
    for planted in all_damage(pool, strengths, only):
        rates = [detection(pool, planted, size, trials) for size in sizes]
        cells = [rate_cell(hits, r.trials) for r in rates for hits in (r.same, r.other)]
        said = next((r.example[r.says.most_common(1)[0][0]] for r in reversed(rates) if r.says), "nothing")
        yield f"| {planted.name} | {planted.label} | {' | '.join(cells)} | {said} |"
    yield ""
    for name in DRAWN_ANEW:
        if (not only or name in only) and (pool.folder / name.replace(" ", "-")).is_dir():
            yield f"{name}: mean 1 - SSIM of the thumbnails to the pair {differs(pool, name.replace(' ', '-')):.3f}."


def alarm_lines(pool: GatePool, trials: int, sizes: Sequence[int]) -> Iterator[str]:
    for size in sizes:
        failed, by = false_alarms(pool, size, trials)
        yield f"{size} pictures: {failed} of {trials} trials fail, {rate_cell(failed, trials)} {dict(by)}"
    for n in PROMPTS:
        yield "{} prompts, blank pictures by chance: {:.3f} fail at most, at a share of {:.2f}".format(
            n, *worst_alarm(n)
        )


def power_table(pool: GatePool, trials: int) -> Iterator[str]:
    """A row of Markdown for each metric."""
    yield f"| metric | mean | {' | '.join(f'{n} prompts' for n in PROMPTS)} |"
    yield "|---|---|---|---|---|"
    for name, mean, found in least_changes(pool, PROMPTS, trials, 5):
        yield f"| {name} | {mean:.3g} | {' | '.join(found)} |"
    yield f"| blank | 0 | {' | '.join(f'{least_share(n):.3g}' for n in PROMPTS)} |"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prompts", "damage", "alarms", "power"))
    parser.add_argument("--n", type=positive, default=40, help="prompts of the pool")
    parser.add_argument("--pool", type=Path, default=Path("pool"))
    parser.add_argument("--models", default="small,imagen-small")
    parser.add_argument("--trials", type=positive, default=100)
    parser.add_argument("--sizes", default="16,64", help="pictures of a trial, two of each prompt")
    parser.add_argument("--only", default="", help="damage of these names, as 'blur,black frames'")
    parser.add_argument("--strengths", default="weak,middle,strong")
    args = parser.parse_args(argv)
    if args.what == "prompts":
        print("\n".join(prompts_of_pool(args.n)))
        return 0
    strengths = [("weak", "middle", "strong").index(name) for name in args.strengths.split(",")]
    sizes, only = [int(size) for size in args.sizes.split(",")], [name for name in args.only.split(",") if name]
    for model, pool in open_pools(args.pool, args.models.split(",")).items():
        print(f"\n**{model}**: {len(pool.healthy)} pictures of {len(pool.prompts)} prompts\n", flush=True)
        rows = {
            "damage": lambda pool=pool: damage_table(pool, args.trials, strengths, sizes, only),
            "alarms": lambda pool=pool: alarm_lines(pool, args.trials, sizes),
            "power": lambda pool=pool: power_table(pool, args.trials),
        }[args.what]()
        for row in rows:
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
