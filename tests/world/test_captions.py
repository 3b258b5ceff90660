"""Captions say what the scene holds, all of it where they are dense, and nothing else."""

from __future__ import annotations

import random
import re
from functools import cache

import pytest

from t2i.world.captions import caption, phrases
from t2i.world.captions.english import article
from t2i.world.captions.phrases import PLACES
from t2i.world.captions.writer import Form
from t2i.world.graph import POSITIONS, RELATIONS, Group, Relation, Scene
from t2i.world.vocabulary import COLOURS, Lang, index, is_shape, surface_forms, things

FORMS: tuple[Form, ...] = ("dense", "short", "telegraphic")
LANGS: tuple[Lang, ...] = ("en", "zh")


def make(rng: random.Random) -> Scene:
    """A random scene without geometry."""
    table = things()
    shapes = rng.random() < 0.2
    keys = rng.sample(
        [key for key, thing in table.items() if is_shape(thing) == shapes], rng.choice((1, 1, 2, 2, 3, 4))
    )
    relation = None
    if len(keys) > 1 and rng.random() < 0.8:
        kind = rng.choice(RELATIONS)
        if kind in ("wearing", "holding"):
            keys[:2] = (
                rng.choice(["cat", "dog", "man", "penguin"]),
                rng.choice([*phrases.HEADGEAR, "rose", "scarf", "dress"]),
            )
        relation = Relation(kind)
    groups = []
    for key in keys:
        count = rng.choice((1, 1, 2, 3, 4)) if len(keys) == 1 else 1
        colours = table[key].colours
        groups.append(
            Group(
                key, count,
                rng.choice(colours) if colours and rng.random() < 0.5 else None,
                rng.choice(("large", "small")) if count == 1 and rng.random() < 0.3 else None,
            )
        )  # fmt: skip
    place = rng.choice([place for place in PLACES if place not in keys])  # no volcano near a volcano
    alone = len(keys) == 1 and groups[0].count == 1 and rng.random() < 0.3
    return Scene(
        seed=0, index=0, place=place, shade=rng.choice(list(COLOURS)) if place == "plain" else None,
        style=rng.choice(list(phrases.STYLES)), groups=tuple(groups), items=(), relation=relation,
        position=rng.choice(POSITIONS) if alone else None,
    )  # fmt: skip


def scenes(n: int = 400, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [make(rng) for _ in range(n)]


def one(thing: str, **extra: object) -> Scene:
    fields: dict[str, object] = {
        "place": "snow",
        "shade": None,
        "style": "fluent3d",
        "relation": None,
        "position": None,
    }
    return Scene(seed=0, index=0, groups=(Group(thing),), items=(), **{**fields, **extra})  # type: ignore[arg-type]


def forms_of(key: str, lang: Lang) -> set[str]:
    words = {form.lower() for form in surface_forms(things()[key], lang)}
    return words | ({"hat", "hats"} if lang == "en" else {"帽子"}) if key in phrases.HATS else words


@cache
def any_form(lang: Lang, shapes: bool) -> re.Pattern[str]:
    """Matches a surface form of any thing. Colour words are left out: an orange balloon is no fruit."""
    words = sorted(set(index(lang, "shapes" if shapes else "sprites")) - set(COLOURS), key=len, reverse=True)
    either = "|".join(map(re.escape, words))
    return re.compile(rf"\b(?:{either})\b" if lang == "en" else either)


def mentioned(scene: Scene, text: str, lang: Lang) -> set[str]:
    """Surface forms of things in the caption; those of things that the scene lacks carry a "!"."""
    place = PLACES[scene.place]
    if lang == "en":
        text = text.lower()
        drop = [
            *place.en,
            *place.tag_en,
            *sum(phrases.POSITIONS_EN.values(), ()),
            "on top of",
            "on top",
            "head",
            *phrases.STYLES[scene.style][0],
        ]
    else:
        drop = [
            *place.zh,
            *place.tag_zh,
            *place.time_zh,
            *sum(phrases.POSITIONS_ZH.values(), ()),
            *phrases.STYLES[scene.style][1],
        ]
        text = re.sub(r"头上戴着|头戴|手里拿着|手拿|很大的|很小的|飞翔|飞行(?!物)", " ", text)
        for group in scene.groups:
            number = phrases.NUMBERS_ZH[group.count]
            text = re.sub(f"[{number}{group.count}]{things()[group.thing].measure}", " ", text)
    shade = (scene.shade or "plain") if lang == "en" else COLOURS[scene.shade][0] if scene.shade else "纯色"
    drop = [d.replace("a {}", article(shade)).format(shade) if "{" in d else d for d in drop]
    for phrase in sorted(drop, key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(phrase)}\b" if lang == "en" else re.escape(phrase) + "(?![人花])", " ", text)
    own = set().union(*(forms_of(group.thing, lang) for group in scene.groups))
    found: set[str] = set()
    for form in sorted(own, key=len, reverse=True):
        pattern = rf"\b{re.escape(form)}\b" if lang == "en" else re.escape(form)
        if re.search(pattern, text):
            found.add(form)
            text = re.sub(pattern, " ", text)
    shapes = scene.groups[0].thing.startswith("shape_")
    return found | {"!" + form for form in any_form(lang, shapes).findall(text)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lang", LANGS)
def test_every_object_and_no_other_is_mentioned(lang: Lang, form: Form) -> None:
    rng = random.Random(1)
    for scene in scenes():
        text = caption(scene, rng, lang, form)
        assert text and text == text.strip() and "  " not in text and "{" not in text
        found = mentioned(scene, text, lang)
        assert not [word for word in found if word.startswith("!")], (text, found)
        for group in scene.groups:
            assert found & forms_of(group.thing, lang), (text, group)


def test_articles() -> None:
    wanted = {
        "apple": "an", "cat": "a", "unicorn": "a", "UFO": "a", "hourglass": "an", "house": "a",
        "umbrella": "an",
        "orange octopus": "an", "T-Rex": "a", "ear of corn": "an", "old man": "an", "American football": "an",
    }  # fmt: skip
    for phrase, word in wanted.items():
        assert article(phrase) == f"{word} {phrase}"
    rng = random.Random(2)
    exceptions = ("unicorn", "ufo", "hourglass")
    for scene in scenes():
        text = caption(scene, rng, "en", rng.choice(("dense", "short"))).lower()
        for word, after in re.findall(r"\b(an?) ([a-z0-9'-]+)", text):
            if not after.startswith(exceptions):
                assert (word == "an") == (after[0] in "aeiou"), text


@pytest.mark.parametrize("form", FORMS)
def test_plural_exactly_when_there_are_several(form: Form) -> None:
    rng = random.Random(3)
    for count in (1, 2, 3, 4):
        for key in ("mouse", "bread", "bus", "wolf", "strawberry", "snowman", "shape_cross"):
            thing = things()[key]
            scene = one(key)
            scene = Scene(0, 0, scene.place, None, scene.style, (Group(key, count),), ())
            for _ in range(5):
                found = mentioned(scene, caption(scene, rng, "en", form), "en")
                several = re.compile(r"\b(?!bus\b|cross\b)\w+s\b|mice|snowmen")
                many = [form for form in found if several.search(form)]
                assert bool(many) == (count > 1), (key, count, found)
                text = caption(scene, rng, "en", form).lower()
                assert bool(re.search(rf"\b({phrases.NUMBERS_EN[count]}|{count})\b", text)) == (count > 1), text
                text = caption(scene, rng, "zh", form)
                numbers = (phrases.NUMBERS_ZH[count] + thing.measure, str(count) + thing.measure)
                assert count == 1 or any(number in text for number in numbers), text


def test_dense_captions_say_colour_size_count_position_and_relation() -> None:
    rng = random.Random(4)
    for scene in scenes(600, seed=5):
        en, zh = caption(scene, rng, "en", "dense").lower(), caption(scene, rng, "zh", "dense")
        for group in scene.groups:
            if group.colour:
                assert re.search(rf"\b{group.colour}\b", en) or (group.colour == "grey" and "gray" in en), en
                assert COLOURS[group.colour][0][0] in zh, zh
            if group.size:
                assert any(re.search(rf"\b{word}\b", en) for word in phrases.SIZES_EN[group.size]), en
                assert ("大" if group.size == "large" else "小") in zh, zh
            if group.count > 1:
                assert phrases.NUMBERS_EN[group.count] in en or str(group.count) in en, en
                assert phrases.NUMBERS_ZH[group.count] in zh or str(group.count) in zh, zh
        if scene.position:
            assert any(words in en for words in phrases.POSITIONS_EN[scene.position]), en
            assert any(words in zh for words in phrases.POSITIONS_ZH[scene.position]), zh
        if scene.shade:
            assert scene.shade in en and COLOURS[scene.shade][0] in zh, (en, zh)
        if scene.relation and scene.relation.kind == "behind":
            assert "behind" in en or "in front of" in en, en
            assert "后面" in zh or "前面" in zh, zh
        place = PLACES[scene.place]
        assert any(p.replace("a {}", article(scene.shade or "plain")).format(scene.shade) in en for p in place.en), en


def test_relations_keep_their_direction() -> None:
    rng = random.Random(6)
    groups = (Group("frog"), Group("palm", colour=None))
    scene = Scene(0, 0, "road", None, "noto", groups, (), Relation("left"))
    zh_frog, zh_palm = "|".join(forms_of("frog", "zh")), "|".join(forms_of("palm", "zh"))
    for _ in range(100):
        en = caption(scene, rng, "en", "dense").lower()
        assert re.search(r"frog[^,]*left.*palm|palm.*right of.*frog", en), en
        zh = caption(scene, rng, "zh", "dense")
        a, b = rf"(?:{zh_frog})", rf"(?:{zh_palm})"
        says = (
            rf"{a}在一棵{b}的?左",
            rf"{b}的?左[边侧]有一只{a}",
            rf"{b}在一只{a}的?右",
            rf"{a}的?右[边侧]有一棵{b}",
        )
        assert any(re.search(how, zh) for how in (*says, rf"左边是一只{a}，右边是一棵{b}")), zh


def test_the_same_generator_says_the_same() -> None:
    for lang in LANGS:
        for form in FORMS:
            said = {caption(one("cat"), random.Random(7), lang, form) for _ in range(3)}
            assert len(said) == 1
        rng = random.Random(8)
        assert len({caption(one("cat"), rng, lang, "dense") for _ in range(100)}) > 20


def test_style_is_said_as_often_as_asked() -> None:
    rng = random.Random(9)
    named = [word for style in phrases.STYLES["twemoji"] for word in style]
    scene = one("cat", style="twemoji")
    assert not any(w in caption(scene, rng, "en", "dense", say_style=0) for _ in range(50) for w in named)
    assert all(any(w in caption(scene, rng, "en", "dense", say_style=1).lower() for w in named) for _ in range(50))


def _place_words(place: str, lang: Lang) -> list[str]:
    words = PLACES[place]
    phrases = (*words.en, *words.tag_en) if lang == "en" else (*words.zh, *words.tag_zh, *words.time_zh, words.after_zh)
    return [phrase.replace("{}", "").replace("的", "").strip() for phrase in phrases if phrase]


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("form", FORMS)
def test_an_unsaid_place_is_not_told(lang: Lang, form: Form) -> None:
    rng = random.Random(10)
    for scene in scenes(300, seed=11):
        text = caption(scene, rng, lang, form, say_place=0.0)
        assert text and text == text.strip() and "{" not in text and not text.endswith((",", "，"))
        if scene.place == "plain":
            assert ("background" if lang == "en" else "背景") not in text, text
        elif scene.place not in ("sky", "sunset", "night", "river"):  # other phrases of theirs are single letters
            for words in _place_words(scene.place, lang):
                if not any(words in form_of for group in scene.groups for form_of in forms_of(group.thing, lang)):
                    assert words not in text, (words, text)
        found = mentioned(scene, text, lang)
        assert not [word for word in found if word.startswith("!")], (text, found)
        for group in scene.groups:
            assert found & forms_of(group.thing, lang), (text, group)


def test_an_unsaid_place_leaves_the_rest_said() -> None:
    rng = random.Random(12)
    for scene in scenes(400, seed=13):
        en = caption(scene, rng, "en", "dense", say_place=0.0).lower()
        zh = caption(scene, rng, "zh", "dense", say_place=0.0)
        for group in scene.groups:
            if group.colour:
                assert group.colour in en or (group.colour == "grey" and "gray" in en), en
                assert COLOURS[group.colour][0][0] in zh, zh
            if group.count > 1:
                assert phrases.NUMBERS_EN[group.count] in en or str(group.count) in en, en
        if scene.position:
            assert any(words in en for words in phrases.POSITIONS_EN[scene.position]), en
            assert any(words in zh for words in phrases.POSITIONS_ZH[scene.position]), zh


def test_the_place_is_said_as_often_as_asked() -> None:
    rng = random.Random(14)
    said = [any(w in caption(one("cat"), rng, "en", "short", say_place=0.3) for w in ("snow",)) for _ in range(2000)]
    assert 0.26 < sum(said) / 2000 < 0.34
    assert all("snow" in caption(one("cat"), rng, "en", form) for form in FORMS for _ in range(20))


def test_every_drawn_place_has_words() -> None:
    places = pytest.importorskip("t2i.world.places")
    assert set(places.PLACES) == set(PLACES)


@pytest.mark.parametrize("lang", LANGS)
def test_an_empty_place_is_named_and_said_to_be_empty(lang: Lang) -> None:
    rng, said = random.Random(4), set()
    for place, words in PLACES.items():
        shade = "orange" if place == "plain" else None
        scene = Scene(seed=0, index=0, place=place, shade=shade, style="fluent3d", groups=(), items=())
        names = (*phrases.EMPTY[place][LANGS.index(lang)], *(words.en if lang == "en" else words.zh))
        names = tuple(name.replace("a {}", "an {}").format("orange" if lang == "en" else "橙色") for name in names)
        for form in FORMS:
            for _ in range(40):
                text = caption(scene, rng, lang, form, say_place=0.0)
                said.add(text)
                assert any(name in text.lower() for name in names), text
                assert re.search("empty|nothing|just" if lang == "en" else "空|没有|只有", text.lower()), text
                assert not re.search(r"\ba [aeiou]|[{}]", text.lower()), text
    assert len(said) > 6 * len(PLACES)


def test_empty_has_a_noun_for_every_place() -> None:
    assert set(phrases.EMPTY) == set(PLACES)
