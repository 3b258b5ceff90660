from __future__ import annotations

import pytest

from t2i.world.graph import Group, Item, Relation, Scene
from t2i.world.reading import TASKS, Detection, Expectation, Reading, Wanted, check, expectation_of


def seen(*objects: Detection, place: str = "snow", shade: str | None = None) -> Reading:
    return Reading(objects, place, 0.9, shade)


def at(thing: str, x: float = 0.5, y: float = 0.5, colour: str = "own") -> Detection:
    return Detection(thing, x, y, 0.9, colour)


def test_presence_and_exact_count() -> None:
    two = Expectation((Wanted("cat", 2),))
    assert check(seen(at("cat"), at("cat", 0.2)), two) == {"object": True, "count": True}
    assert check(seen(at("cat")), two) == {"object": True, "count": False}
    assert check(seen(*[at("cat", 0.1 * i) for i in range(3)]), two)["count"] is False
    assert check(seen(at("dog")), two) == {"object": False, "count": False}


def test_what_is_not_asked_is_not_judged() -> None:
    assert check(seen(at("cat")), Expectation((Wanted("cat"),))) == {"object": True}
    assert check(seen(), Expectation(place="snow")) == {"background": True}


def test_colour_needs_the_coloured_thing() -> None:
    asked = Expectation((Wanted("car", colour="red"),))
    assert check(seen(at("car", colour="red")), asked)["colour"]
    assert not check(seen(at("car", colour="blue"), at("apple", colour="red")), asked)["colour"]


def test_binding_fails_when_colours_are_swapped() -> None:
    asked = Expectation((Wanted("car", colour="red"), Wanted("bird", colour="blue")))
    assert check(seen(at("car", colour="red"), at("bird", colour="blue")), asked)["binding"]
    swapped = check(seen(at("car", colour="blue"), at("bird", colour="red")), asked)
    assert swapped["object"] and not swapped["binding"]
    assert "binding" not in check(seen(at("car", colour="red")), Expectation(asked.objects[:1]))


@pytest.mark.parametrize(
    ("kind", "a", "b", "holds"),
    [
        ("left", (0.4, 0.5), (0.55, 0.5), True),
        ("left", (0.46, 0.5), (0.55, 0.5), False),  # within the margin
        ("right", (0.4, 0.5), (0.55, 0.5), False),
        ("above", (0.5, 0.2), (0.5, 0.7), True),
        ("below", (0.5, 0.2), (0.5, 0.7), False),
        ("next", (0.2, 0.5), (0.7, 0.6), True),
        ("next", (0.5, 0.2), (0.5, 0.7), False),
        ("on", (0.5, 0.3), (0.5, 0.7), True),
        ("on", (0.1, 0.3), (0.7, 0.7), False),
        ("wearing", (0.5, 0.6), (0.45, 0.3), True),
        ("wearing", (0.5, 0.3), (0.45, 0.6), False),
        ("holding", (0.46, 0.5), (0.73, 0.58), True),
        ("holding", (0.1, 0.5), (0.9, 0.58), False),
        ("behind", (0.4, 0.42), (0.64, 0.62), True),
    ],
)
def test_relations(kind: str, a: tuple[float, float], b: tuple[float, float], holds: bool) -> None:
    asked = Expectation((Wanted("cat"), Wanted("car")), relation=(kind, 0, 1))
    assert check(seen(at("cat", *a), at("car", *b)), asked)["position"] is holds
    assert check(seen(at("cat", *a)), asked)["position"] is False


@pytest.mark.parametrize(
    ("x", "y", "holding"),
    [
        (0.25, 0.55, {"left"}),
        (0.75, 0.55, {"right"}),
        (0.5, 0.25, {"top", "centre"}),
        (0.5, 0.8, {"bottom"}),
        (0.5, 0.55, {"centre"}),
        (0.25, 0.2, {"left", "top"}),
    ],
)
def test_positions(x: float, y: float, holding: set[str]) -> None:
    names = ("left", "right", "top", "bottom", "centre")
    asked = {name: Expectation((Wanted("cat"),), position=name) for name in names}
    assert {name for name in names if check(seen(at("cat", x, y)), asked[name])["position"]} == holding


def test_background_and_shade() -> None:
    asked = Expectation(place="plain", shade="blue")
    assert check(seen(place="plain", shade="blue"), asked)["background"]
    assert not check(seen(place="plain", shade="red"), asked)["background"]
    assert not check(seen(place="snow"), asked)["background"]


def test_an_expectation_from_a_scene() -> None:
    scene = Scene(
        0, 0, "plain", "blue", "fluent3d", (Group("cat", 1, "black"), Group("car", 2)),
        (Item(0, 0.2, 0.5, 0.4), Item(1, 0.5, 0.5, 0.3), Item(1, 0.8, 0.5, 0.3)), Relation("left"),
    )  # fmt: skip
    asked = expectation_of(scene)
    assert asked.objects == (Wanted("cat", 1, "black"), Wanted("car", 2))
    assert expectation_of(scene, counts=False).objects[0].count is None
    picture = seen(at("cat", 0.2, colour="black"), at("car"), at("car", 0.8), place="plain", shade="blue")
    assert check(picture, asked) == dict.fromkeys(TASKS, True)
