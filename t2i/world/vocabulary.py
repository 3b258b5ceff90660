"""The vocabulary of the built-in world: things (`things.tsv`), colours, and the lookup from a word to its thing.

A surface form is a singular, plural or synonym in English or Chinese. Among the sprites, and among the drawn shapes, it
belongs to at most one thing.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Literal

from t2i.world.graph import Thing

Lang = Literal["en", "zh"]
Among = Literal["sprites", "shapes", "all"]

TABLE = Path(__file__).with_name("things.tsv")

COLOURS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "red": ("红色", (222, 40, 48)),
    "orange": ("橙色", (247, 133, 28)),
    "yellow": ("黄色", (250, 208, 44)),
    "green": ("绿色", (58, 163, 68)),
    "blue": ("蓝色", (48, 112, 224)),
    "purple": ("紫色", (134, 72, 200)),
    "pink": ("粉色", (247, 132, 184)),
    "brown": ("棕色", (132, 84, 48)),
    "black": ("黑色", (32, 32, 36)),
    "white": ("白色", (246, 246, 246)),
    "grey": ("灰色", (142, 142, 146)),
}
"""Colour word -> (Chinese word, approximate sRGB in 0..255)."""


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word for word in cell.split("|") if word)


@cache
def things() -> dict[str, Thing]:
    """Every thing by key, in the order of the table: the core ones first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    table: dict[str, Thing] = {}
    for row in rows:
        assert row["key"] not in table, f"{row['key']} appears twice in {TABLE.name}"
        table[row["key"]] = Thing(
            key=row["key"],
            sprite=row["sprite"],
            en=row["en"],
            plural=row["plural"],
            zh=row["zh"],
            measure=row["measure"],
            synonyms_en=_words(row["synonyms_en"]),
            synonyms_zh=_words(row["synonyms_zh"]),
            category=row["category"],
            pose=row["pose"],
            size=float(row["size"]),
            colour=row["colour"],
            colours=_words(row["colours"]),
            core=row["core"] == "1",
        )
    return table


def plural_of(form: str) -> tuple[str, str]:
    """(singular, plural) of an English synonym. "mouse/mice" gives both, "kitten" takes the regular ending."""
    if "/" in form:
        singular, plural = form.split("/")
        return singular, plural
    return form, form + ("es" if form.endswith(("s", "x", "ch", "sh")) else "s")


def surface_forms(thing: Thing, lang: Lang) -> tuple[str, ...]:
    """All words for a thing in one language, its main name first.

    English names with a measure ("cup of coffee") also give the bare noun ("coffee").
    """
    if lang == "zh":
        forms = [thing.zh, *thing.synonyms_zh]
    else:
        forms = [thing.en, thing.plural]
        for synonym in thing.synonyms_en:
            forms.extend(plural_of(synonym))
        if " of " in thing.en:
            forms.append(thing.en.split(" of ", 1)[1])
    return tuple(dict.fromkeys(forms))


def is_shape(thing: Thing) -> bool:
    """Whether the thing is drawn by code (`shapes`), without a sprite."""
    return thing.sprite.startswith("shape:")


@cache
def index(lang: Lang, among: Among = "sprites") -> dict[str, str]:
    """Surface form in lower case -> key. With `among="all"` a sprite takes precedence over a shape of the same name."""
    table: dict[str, str] = {}
    for shape in (True, False):
        if among == ("sprites" if shape else "shapes"):
            continue
        for thing in things().values():
            if is_shape(thing) == shape:
                table.update({form.lower(): thing.key for form in surface_forms(thing, lang)})
    return table


def find(word: str, lang: Lang = "en", among: Among = "sprites") -> str | None:
    """The key of the thing that a word means, or None. `among` says which things to look at."""
    return index(lang, among).get(" ".join(word.lower().split()))
