"""Writes the suite of the built-in world: eight tasks in English and Chinese, of held-out combinations.

    python -m t2i.lab.scenes_suite            # writes t2i/score/scenes.jsonl again, byte for byte

The tasks are those of GenEval (2310.11513), single object, two objects, counting, colours, position and attribute
binding, and also background and style. The prompts are captions of the world. Each scene is described in English and,
on the next line, in Chinese, with the same expectation. There are 22 places and one style.

The suite has two parts. The scenes of the vocabulary "core" ask for its 74 things, which every model of the sprites
knows. Those of the vocabulary "all" ask for the other 304 things, alone and with one another. `vocabulary` says which
one a model needs to know.

Held out. `t2i.world.holdout` hashes every combination. A training scene with one of the held-out tenth is drawn again,
so no training has seen it. Each prompt of the suite contains at least one held-out combination, if possible the one
that its task is about:

    single object, background, style   thing and place ("a fox in the city": no training picture shows one there)
    two objects, attribute binding     the pair of things, in any colours and any relation
    position                           subject, relation and object, in both readings (an owl left of a bus, a bus
                                       right of an owl); a lone thing's place, since no rule covers positions
    counting                           half thing and number, half thing and place; "one" always thing and place
    colours                            half thing and colour, half thing and place

Contents are chosen from one seed, greedily, so that things, colours, numbers, relations and places are used evenly. A
content whose background shows the thing by itself (a cactus in the desert) is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any, Literal

from t2i.files import atomic_file
from t2i.lab.program import reports_errors
from t2i.lab.scene_content import SEED, Content, as_row, expectation, held_out_parts
from t2i.score.suite import shipped_suite
from t2i.world.captions import caption
from t2i.world.captions.writer import Form
from t2i.world.graph import Group, Relation, Thing
from t2i.world.holdout import held_out
from t2i.world.layout import PLATFORMS, WorldConfig
from t2i.world.places import PLACES
from t2i.world.vocabulary import Lang, is_shape, things

Vocabulary = Literal["core", "all"]

COUNTS: dict[Vocabulary, dict[str, int]] = {"core": {
    "single object": 48, "two objects": 48, "counting": 48, "colours": 48, "position": 48, "attribute binding": 48,
    "background": 44, "style": 16,
}, "all": {
    "single object": 76, "two objects": 56, "counting": 48, "colours": 40, "position": 48, "attribute binding": 32,
    "background": 22,
}}  # fmt: skip
"""Scenes of each task; twice as many prompts, one in each language."""
MOST = 4000  # candidates that are looked at for a task of the vocabulary "all"

LANGS: tuple[Lang, ...] = ("en", "zh")
RELATIONS = ("left", "right", "above", "below", "next", "behind", "on")
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above", "next": "next"}
"""Relations that a scene graph can hold the other way round. (It has no "in front of" and no "under".)"""
SHOWS: dict[str, tuple[str, ...]] = {
    "moon": ("night",), "star": ("night", "space"),
    "sun": ("sunset", "beach", "snow", "field", "desert", "sky", "jungle"),
    "palm": ("beach", "jungle"), "cactus": ("desert",), "house": ("city", "road"), "boat": ("beach",),
    "tree": ("forest", "autumn", "jungle", "garden", "river", "mountains", "snow", "field", "road"),
    "pine": ("forest", "snow", "mountains"), "christmas_tree": ("forest", "snow"), "maple_leaf": ("autumn",),
    "mountain": ("mountains", "volcano", "river", "snow"), "volcano": ("volcano", "mountains"),
    "fire": ("volcano",), "rock": ("desert", "mountains", "underwater", "volcano"), "island": ("beach", "sunset"),
    "cloud": ("sky", "field", "river", "garden", "mountains", "road", "beach", "rain"),
    "drop": ("rain",), "wave": ("beach", "underwater", "river", "sunset"), "snowflake": ("snow",),
    "rainbow": ("rain", "sky"), "lightning": ("rain",), "planet": ("space",), "earth": ("space",),
    "full_moon": ("night", "space"), "coral": ("underwater",), "satellite": ("space",), "ship": ("beach",),
    "tower": ("city",), "window": ("room",), "bed": ("room",), "sofa": ("room",), "lantern": ("stage",),
    "hibiscus": ("garden",), "hyacinth": ("garden",), "seedling": ("garden", "field"),
}  # fmt: skip
"""Things that some pictures of a place show as part of the background."""


class Builder:
    """Enumerates and chooses contents. held: on the held-out side; False makes a suite of the same kind of which
    no prompt says a held-out combination, to compare with. vocabulary: the part, as in `COUNTS`."""

    def __init__(self, seed: int = SEED, held: bool = True, vocabulary: Vocabulary = "core") -> None:
        self.seed, self.held, self.vocabulary = seed, held, vocabulary
        core = vocabulary == "core"
        self.table: dict[str, Thing] = {k: t for k, t in things().items() if t.core == core and not is_shape(t)}
        self.told: Counter[str] = Counter()  # how often the earlier tasks of the vocabulary "all" ask for a thing
        self.places = tuple(PLACES)
        self.shades = WorldConfig.shades

    def rng(self, *parts: object) -> Random:
        return Random("/".join(map(str, (self.seed, *parts))))

    def fits(self, *combination: str) -> bool:
        """Whether the combination a task is about lies on the side asked for."""
        return held_out(*combination) == self.held

    def fits_relation(self, a: str, kind: str, b: str) -> bool:
        """The same for a relation, in both readings: the rule hashes them apart, and one picture shows both."""
        other = INVERSE.get(kind)
        return self.fits("relation", a, kind, b) and (other is None or self.fits("relation", b, other, a))

    def clean(self, content: Content) -> bool:
        """On the side asked for as a whole; nothing of the colour of the wall behind it or in the background."""
        if any(g.colour and g.colour == content.shade for g in content.groups):
            return False
        if any(self.table[g.thing].colour == content.shade for g in content.groups if content.shade):
            return False
        if any(content.place in SHOWS.get(g.thing, ()) for g in content.groups):
            return False
        said = held_out_parts(expectation(content))
        return bool(said) == self.held

    def colours(self, key: str) -> list[str]:
        """The colour words that a caption may give a thing; an orange is not called orange."""
        thing = self.table[key]
        both = (*thing.colours, *([thing.colour] if thing.colour else []))
        return [colour for colour in dict.fromkeys(both) if colour != key]

    def backdrops(self, rng: Random, place: str) -> tuple[str, str | None]:
        return place, rng.choice(self.shades) if place == "plain" else None

    def placed(self, content: Content, rng: Random, keep: bool) -> Content:
        """The content in a random place that keeps it clean, if it is to have one."""
        for _ in range(64 if keep else 0):
            place, shade = self.backdrops(rng, rng.choice(self.places))
            new = Content(content.groups, place, shade, content.relation, content.position)
            if self.clean(new):
                return new
        return content

    def here(self, group: Group, place: str, rng: Random, position: str | None = None) -> Content:
        return Content((group,), *self.backdrops(rng, place), None, position)

    def spots(self) -> Iterator[tuple[str, str]]:
        """(thing, place) on the side asked for."""
        for key in self.table:
            for place in self.places:
                if self.fits("place", key, place):
                    yield key, place

    def choose(self, task: str, candidates: Iterable[Content], n: int, chosen: Sequence[Content] = ()) -> list[Content]:
        """n candidates, each next one of the features that were used least; ties as the seed shuffles them.

        Of the 304 things of the vocabulary "all", those that no earlier task asks for come first, so that all are asked
        for.
        """
        pool = list(dict.fromkeys(candidates))
        rng = self.rng("choose", task, len(chosen))
        if self.vocabulary == "all" and len(pool) > MOST:
            pool = rng.sample(pool, MOST)
        pool = [c for c in pool if self.clean(c)]
        rng.shuffle(pool)
        used = Counter(feature for c in chosen for feature in c.features())
        used.update(self.told)
        out: list[Content] = []
        assert len(pool) >= n, f"the world has {len(pool)} prompts for {task!r}, and {n} are asked for"
        for _ in range(n):
            best = min(pool, key=lambda c: sum(used[f] for f in c.features()))
            pool.remove(best)
            used.update(best.features())
            out.append(best)
        if self.vocabulary == "all":
            self.told.update(feature for c in out for feature in c.features() if feature.startswith("thing"))
        return out

    def contents(self, task: str, n: int) -> list[Content]:
        rng = self.rng("contents", task)
        spots, half = list(self.spots()), n // 2
        match task:
            case "single object" | "background" | "style":
                return self.choose(task, [self.here(Group(k), p, rng) for k, p in spots], n)
            case "two objects":
                pairs = [p for p in permutations(self.table, 2) if self.fits("pair", *sorted(p))]
                bare = [Content((Group(a), Group(b))) for a, b in pairs]
            case "counting":
                chosen: list[Content] = []
                # A thing that is held out in every number has a plural that no caption says.
                known = [k for k in self.table if not all(held_out("count", k, str(i)) for i in (2, 3, 4))]
                numbers = [(k, i) for k in known for i in (2, 3, 4) if self.fits("count", k, str(i))]
                for number in (2, 3, 4):
                    lone = [Content((Group(k, i),)) for k, i in numbers if i == number]
                    there = [self.placed(c, rng, True) for c in lone for _ in range(2)]
                    chosen += self.choose(f"{task} {number}", lone, n // 16, chosen)
                    chosen += self.choose(f"{task} {number} placed", there, n // 8 - n // 16, chosen)
                for number, share in ((1, n // 4), (2, n // 8), (3, n // 8), (4, n // 8)):
                    there = [self.here(Group(k, number), p, rng) for k, p in spots if number == 1 or k in known]
                    chosen += self.choose(f"{task} {number} there", there, share, chosen)
                return chosen
            case "colours":
                hues = [Group(k, 1, c) for k in self.table for c in self.colours(k) if self.fits("colour", k, c)]
                lone = [self.placed(Content((g,)), rng, i % 2 == 0) for i, g in enumerate(hues)]
                first = self.choose(task, lone, min(half, len(lone)))
                there = [self.here(Group(k, 1, c), p, rng) for k, p in spots for c in self.colours(k)]
                return first + self.choose(f"{task} there", there, n - len(first), first)
            case "position":
                bare = []
                for a, b in permutations(self.table, 2):
                    for kind in RELATIONS:
                        if (kind != "on" or b in PLATFORMS) and self.fits_relation(a, kind, b):
                            bare.append(Content((Group(a), Group(b)), None, None, Relation(kind)))
                lone = [self.here(Group(k), p, rng, where) for k, p in spots for where in self.stands(p)]
                alone = self.choose(f"{task} alone", lone, n // 4)
                related = self.choose(task, bare, n - n // 4)
                return [self.placed(c, rng, i % 2 == 0) for i, c in enumerate(related)] + alone
            case "attribute binding":
                pairs = [p for p in permutations(self.table, 2) if self.fits("pair", *sorted(p))]
                bare = [
                    Content((Group(a, 1, c), Group(b, 1, d)))
                    for a, b in pairs for c in self.colours(a) for d in self.colours(b) if c != d
                ]  # fmt: skip
            case _:
                raise AssertionError(task)
        return [self.placed(c, rng, i % 2 == 0) for i, c in enumerate(self.choose(task, bare, n))]

    def stands(self, place: str) -> tuple[str, ...]:
        """Where the world puts a lone thing when its caption says so."""
        return ("left", "right", "centre") if PLACES[place].ground else ("left", "right", "top", "bottom", "centre")

    def words(self, task: str, number: int, content: Content, lang: Lang, taken: set[str]) -> str:
        """The content told in a language, in words that no other line has."""
        take = 0
        while True:
            rng = self.rng("words", task, number, lang, take)
            keyworded = number % 8 == 7 and task in ("single object", "colours", "background")
            form: Form = "telegraphic" if keyworded else "dense" if number % 2 or content.position else "short"
            form = "dense" if task == "style" else form
            scene = content.scene(number, "plain", "white")  # an unnamed place lends no verb: nothing is "parked"
            says = {"say_style": float(task == "style"), "say_place": float(content.place is not None)}
            text = caption(scene, rng, lang, form, **says)
            if text not in taken:
                taken.add(text)
                return text
            take += 1

    def lines(self, taken: set[str]) -> Iterator[dict[str, Any]]:
        """The rows of this part, English and Chinese in turn, task after task. taken: grows by their prompts."""
        side = "held-out" if self.held else "train"
        for task, n in COUNTS[self.vocabulary].items():
            for number, content in enumerate(self.contents(task, n)):
                expect = as_row(expectation(content, count=task == "counting"))
                for lang in LANGS:
                    prompt = self.words(task, number, content, lang, taken)
                    about = {"lang": lang, "task": task, "vocabulary": self.vocabulary, "side": side}
                    yield {"prompt": prompt, **about, "expect": expect}


def text(seed: int = SEED, held: bool = True) -> str:
    """The whole file."""
    taken: set[str] = set()
    rows = [row for part in COUNTS for row in Builder(seed, held, part).lines(taken)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.scenes_suite", description="Write the suite of scenes.")
    parser.add_argument("--out", type=Path, default=shipped_suite(), metavar="FILE", help="default: the shipped list")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--side", choices=("held-out", "train"), default="held-out", help="of the held-out rule")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with atomic_file(args.out) as file:
        file.write(text(args.seed, args.side == "held-out").encode())
    sys.stdout.write(f"{args.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
