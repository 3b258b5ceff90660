"""The world as a whole: the same scene for the same numbers, pictures that hold what their captions say."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2i.data.source import WorldSource
from t2i.errors import InputError, UsageError
from t2i.lab.scenes import main
from t2i.world import Group, Relation, Scene, World, WorldConfig
from t2i.world.holdout import SHARE, combinations, held_out, scene_held_out
from t2i.world.layout import Layout
from t2i.world.places import PLACES
from t2i.world.vocabulary import COLOURS, things

CONFIG = WorldConfig(vocabulary="shapes")
#: many things a scene, so that few scenes show everything
BUSY = replace(CONFIG, groups=(0.4, 0.4, 0.1, 0.1), counts=(0.5, 0.2, 0.15, 0.15), jitter=0.0)


@pytest.fixture(scope="module")
def world() -> World:
    return World(CONFIG, resolution=64)


@pytest.fixture(scope="module")
def busy() -> World:
    return World(BUSY, resolution=64)


def _layout(**dials: object) -> Layout:
    """The scene sampler of the small sprite vocabulary: no sprite is read."""
    config = WorldConfig(vocabulary="core", **dials)  # type: ignore[arg-type]
    table = things()
    keys = tuple(key for key, thing in table.items() if thing.core and not thing.sprite.startswith("shape:"))
    return Layout(config, table, keys, tuple(PLACES))


# Determinism


def test_the_same_numbers_give_the_same_scene(world: World) -> None:
    again = World(CONFIG, resolution=64)
    for index in range(20):
        scene = world.scene(3, index)
        assert scene == again.scene(3, index)
        assert world.caption(scene) == again.caption(scene)
    assert len({world.scene(3, index) for index in range(20)}) == 20
    assert world.scene(3, 0) != world.scene(4, 0)


def test_a_picture_does_not_depend_on_its_batch(busy: World) -> None:
    together = busy.batch(0, range(24), 64)
    for index in (0, 7, 23):
        alone = busy.batch(0, [index], 64)
        assert alone.scenes[0] == together.scenes[index]
        assert alone.captions[0] == together.captions[index]
        assert (alone.pixels[0] - together.pixels[index]).abs().max() <= 2 / 255
    backwards = busy.batch(0, range(23, -1, -1), 64)
    assert (backwards.pixels.flip(0) - together.pixels).abs().max() <= 2 / 255


def test_another_wording_of_the_same_scene(world: World) -> None:
    scene = world.scene(0, 1)
    assert world.caption(scene, take=5) == world.caption(scene, take=5)
    assert len({world.caption(scene, take=take) for take in range(12)}) > 4


def test_the_style_is_said_as_often_as_its_dial_says() -> None:
    def said(share: float) -> int:
        world = World(replace(CONFIG, say_style=share), resolution=16)
        return sum("simple" in world.caption(world.scene(0, i), "en", "dense").lower() for i in range(40))

    assert said(0.0) == 0 and said(1.0) > 30


def test_the_place_is_said_as_often_as_its_dial_says() -> None:
    quiet, loud = (World(replace(CONFIG, say_place=share, chinese=0.0), resolution=32) for share in (0.0, 1.0))
    scene = quiet.layout.compose((Group("shape_cat"),), "snow")
    scenes = [replace(scene, index=i) for i in range(40)]
    assert not any("snow" in quiet.caption(s) for s in scenes)
    assert all("snow" in loud.caption(s) for s in scenes)


def test_only_the_places_of_its_dial_may_be_left_unsaid() -> None:
    world = World(replace(CONFIG, say_place=0.0, unsaid=("beach",), chinese=0.0), resolution=32)
    for place, said in (("snow", 40), ("beach", 0)):
        scene = world.layout.compose((Group("shape_cat"),), place)
        captions = [world.caption(replace(scene, index=i)) for i in range(40)]
        assert sum(place in text for text in captions) == said
    with pytest.raises(UsageError, match="no place called 'snwo'"):
        World(replace(CONFIG, unsaid=("snwo",)), resolution=32)


# Pixels


@pytest.mark.parametrize("size", [32, 65, 256, 1024])
def test_any_size(busy: World, size: int) -> None:
    batch = busy.batch(1, range(2), size)
    assert batch.pixels.shape == (2, 3, size, size) and batch.pixels.dtype == torch.float32
    assert batch.pixels.isfinite().all() and batch.pixels.min() >= -1 and batch.pixels.max() <= 1
    if size in (256, 1024):  # the same scene: the large one, averaged, is the small one but for its edges
        small = busy.batch(1, range(2), 32).pixels
        low = torch.nn.functional.adaptive_avg_pool2d(batch.pixels, 32)
        assert (low - small).abs().mean() < 0.08


def test_masks_own_each_pixel_at_most_once(busy: World) -> None:
    batch = busy.batch(2, range(32), 64, masks=True)
    assert batch.masks is not None
    assert batch.masks.shape == (32, max(len(s.items) for s in batch.scenes), 64, 64)
    assert batch.masks.min() >= 0 and batch.masks.sum(1).max() <= 1 + 1e-4
    for scene, masks in zip(batch.scenes, batch.masks, strict=True):
        assert (masks[len(scene.items) :] == 0).all()
        for item, mask in zip(scene.items, masks, strict=False):
            assert mask.sum() > 0.1 * (item.scale * 64) ** 2 * 0.3, "the thing is hidden"


def test_masks_lie_where_the_thing_is(world: World) -> None:
    scene = world.layout.compose((Group("shape_circle", colour="red"),), "plain", shade="blue")
    pixels, masks = world.draw([scene], 64, masks=True)
    assert masks is not None
    item, mask = scene.items[0], masks[0, 0]
    x, y = _centre(mask)
    assert abs(x - item.x) < 0.02 and abs(y - item.y) < 0.02
    inside = pixels[0][:, mask > 0.99].mean(1)
    outside = pixels[0][:, mask < 0.01].mean(1)
    assert inside[0] > inside[2] + 0.5 and outside[2] > outside[0] + 0.5


def _centre(mask: Tensor) -> tuple[float, float]:
    """Centre of mass in shares of the side."""
    n = mask.shape[-1]
    axis = (torch.arange(n) + 0.5) / n
    return float((mask.sum(0) * axis).sum() / mask.sum()), float((mask.sum(1) * axis).sum() / mask.sum())


@pytest.mark.parametrize("colour", [c for c in COLOURS if c not in ("black", "white", "grey")])
def test_a_colour_word_matches_the_pixels(world: World, colour: str) -> None:
    shade = "green" if colour in ("purple", "pink", "blue", "red") else "purple"
    keys = ("shape_circle", "shape_star", "shape_fish", "shape_hexagon")
    scenes = [
        world.layout.compose((Group(key, colour=colour),), "plain", shade=shade, index=i) for i, key in enumerate(keys)
    ]
    pixels, masks = world.draw(scenes, 64, masks=True)
    assert masks is not None
    wanted = colorsys.rgb_to_hsv(*(c / 255 for c in COLOURS[colour][1]))[0]
    for picture, mask in zip((pixels + 1) / 2, masks[:, 0], strict=True):
        inside = [tuple(float(c) for c in p) for p in picture[:, mask > 0.99].T]
        chromatic = [p for p in inside if max(p) - min(p) > 0.15]
        assert len(chromatic) > 0.3 * len(inside)
        mean = [sum(p[i] for p in chromatic) / len(chromatic) for i in range(3)]
        hue = colorsys.rgb_to_hsv(*mean)[0]
        assert abs((hue - wanted + 0.5) % 1 - 0.5) < 0.05, f"{colour}: hue {hue:.2f}, not {wanted:.2f}"


@pytest.mark.parametrize(("dark", "light"), [("black", "grey"), ("grey", "white")])
def test_grey_words_are_in_order_of_light(world: World, dark: str, light: str) -> None:
    def luma(colour: str) -> float:
        scene = world.layout.compose((Group("shape_heart", colour=colour),), "plain", shade="blue")
        pixels, masks = world.draw([scene], 64, masks=True)
        assert masks is not None
        return float(pixels[0][:, masks[0, 0] > 0.99].mean())

    assert luma(dark) + 0.3 < luma(light)


# Geometry


def _composed(kind: str, index: int, things: tuple[str, str] = ("shape_cat", "shape_boat")) -> tuple[Scene, Layout]:
    layout = Layout(CONFIG, _TABLE, (), tuple(PLACES))
    groups = (Group(things[0]), Group(things[1]))
    place = tuple(PLACES)[index % len(PLACES)]
    return layout.compose(groups, place, relation=Relation(kind), seed=9, index=index), layout


_TABLE = things()


@pytest.mark.parametrize("kind", ["left", "right", "above", "below", "next", "on", "behind"])
def test_a_relation_is_what_its_word_says(kind: str) -> None:
    for index in range(44):
        scene, _ = _composed(kind, index)
        at = {item.group: item for item in scene.items}
        a, b = at[0], at[1]
        dx, dy = b.x - a.x, b.y - a.y
        right = {
            "left": dx > 0.25,
            "right": dx < -0.25,
            "above": dy > 0.25,
            "below": dy < -0.25,
            "next": abs(dx) > 0.25,
            "on": dy > 0.2 and abs(dx) < 0.15,
            "behind": a.depth > b.depth,
        }
        assert right[kind], (kind, scene.items)


def test_a_hat_is_on_a_head() -> None:
    for index in range(20):
        scene, _ = _composed("wearing", index, ("cat", "top_hat"))
        wearer, hat = scene.items
        assert wearer.flip == hat.flip
        assert wearer.y - wearer.scale / 2 - hat.scale < hat.y < wearer.y
        assert abs(hat.x - wearer.x) < wearer.scale / 2


@pytest.mark.parametrize("position", ["left", "right", "top", "bottom", "centre"])
def test_a_position_is_what_its_word_says(world: World, position: str) -> None:
    place = "plain" if position in ("top", "bottom") else "snow"
    for index in range(20):
        scene = world.layout.compose((Group("shape_star"),), place, shade="grey", position=position, index=index)
        (item,) = scene.items
        right = {
            "left": item.x < 0.4,
            "right": item.x > 0.6,
            "top": item.y < 0.4,
            "bottom": item.y > 0.6,
            "centre": 0.4 < item.x < 0.6,
        }
        assert right[position], item


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_things_as_said(world: World, count: int) -> None:
    for index in range(8):
        scene = world.layout.compose((Group("shape_star", count),), "snow", index=index)
        assert len(scene.items) == count
        _, masks = world.draw([scene], 64, masks=True)
        assert masks is not None
        areas = [float(mask.sum()) for mask in masks[0]]
        assert min(areas) > 0.5 * max(areas), "each is seen as well as the others"


def test_a_large_thing_is_larger_than_a_small_one() -> None:
    layout = _layout()
    sizes = {
        size: [layout.compose((Group("cat", size=size),), "field", index=i).items[0].scale for i in range(20)]
        for size in ("small", None, "large")
    }
    assert max(sizes["small"]) < min(sizes[None])
    assert sum(sizes["large"]) > 1.15 * sum(sizes[None])


# The held-out rule


def test_no_training_scene_holds_a_held_out_combination() -> None:
    layout = _layout(side="train")
    for index in range(400):
        assert not any(held_out(*combination) for combination in combinations(layout(0, index)))


def test_every_held_out_scene_holds_one() -> None:
    layout = _layout(side="held-out")
    for index in range(100):
        assert any(held_out(*combination) for combination in combinations(layout(0, index)))


def test_about_a_tenth_of_each_kind_is_held_out() -> None:
    table = things()
    keys = [key for key, thing in table.items() if not thing.sprite.startswith("shape:")]
    kinds = {
        "place": [(key, place) for key in keys for place in PLACES],
        "colour": [(key, colour) for key in keys for colour in COLOURS],
        "count": [(key, str(n)) for key in keys for n in (2, 3, 4)],
        "pair": [tuple(sorted((a, b))) for a in keys[:60] for b in keys[:60] if a < b],
        "relation": [(a, "left", b) for a in keys[:60] for b in keys[:60] if a != b],
    }
    for kind, parts in kinds.items():
        share = sum(held_out(kind, *part) for part in parts) / len(parts)
        assert abs(share - 1 / SHARE) < 0.03, (kind, share)


def test_the_rule_never_changes() -> None:
    """Old weights were trained under it: a change would leak held-out combinations into them."""
    held = {thing: [p for p in PLACES if held_out("place", thing, p)] for thing in ("cat", "dog")}
    assert held == {"cat": ["desert"], "dog": ["forest", "rain", "mountains", "jungle", "volcano"]}
    assert not held_out("colour", "apple", "red") and not held_out("count", "penguin", "2")


def test_the_prompts_of_the_readme_lie_on_the_training_side() -> None:
    layout = _layout()
    scenes = {
        "a cat in the snow": layout.compose((Group("cat"),), "snow"),
        "a red apple on a blue background": layout.compose(
            (Group("apple", colour="red"),), "plain", shade="blue"
        ),
        "a dog next to a house at night": layout.compose(
            (Group("dog"), Group("house")), "night", relation=Relation("next")
        ),
        "two penguins in the snow": layout.compose((Group("penguin", 2),), "snow"),
        "一只棕色的大熊站在雪地里": layout.compose((Group("bear", colour="brown", size="large"),), "snow"),
    }  # fmt: skip
    assert [prompt for prompt, scene in scenes.items() if scene_held_out(scene)] == []


# Dials and faults


def test_dials_turn_their_variety_off() -> None:
    still = _layout(
        groups=(1, 0, 0, 0), counts=(1, 0, 0, 0), colour=0.0, size=0.0, position=0.0, jitter=0.0,
        flip=0.0, angle=0.0, chance=0.0, side="any",
    )  # fmt: skip
    for index in range(30):
        scene = still(0, index)
        assert scene.groups[0].colour is None and scene.groups[0].size is None and len(scene.items) == 1
        assert scene.position is None and scene.relation is None and set(scene.chance) == {0.5}
        assert not scene.items[0].flip and scene.items[0].angle == 0 and scene.items[0].x == 0.5


def test_a_place_has_as_many_looks_as_its_dial_says() -> None:
    layout = _layout(looks=3)
    scenes = [scene for scene in (layout(1, i) for i in range(600)) if scene.place in ("snow", "beach")]
    looks = {(scene.place, scene.chance) for scene in scenes}
    assert len(looks) == len({chance for _, chance in looks}) == 6
    middle = _layout(looks=3, chance=0.0)
    assert len({middle(1, i).chance for i in range(20)}) == 1


@pytest.mark.parametrize("dials", [{"places": ("moon",)}, {"things": ("shape_unicorn",)}])
def test_an_unknown_name_is_refused(dials: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError, match=r"moon|unicorn"):
        World(replace(CONFIG, **dials), resolution=16)  # type: ignore[arg-type]


def test_sprites_without_a_library_are_refused(tmp_path: Path) -> None:
    config = WorldConfig(vocabulary="core", things=("cat",))
    with pytest.raises(InputError, match=r"needs the sprite library\. .*t2i\.lab\.sprites"):
        World(config)
    with pytest.raises(InputError, match=r"1f408\.webp"):
        World(config, tmp_path)


def test_a_thing_named_twice_is_drawn_twice_as_often() -> None:
    names = ("shape_circle", "shape_star", "shape_circle", "shape_cat")
    shown = WorldConfig(vocabulary="shapes", things=names, groups=(1, 0, 0, 0), counts=(1, 0, 0, 0), side="any")
    world = World(shown, resolution=16)
    drawn = [world.scene(0, i).groups[0].thing for i in range(2000)]
    for name, share in (("shape_circle", 0.5), ("shape_star", 0.25), ("shape_cat", 0.25)):
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.04)
    assert world.draw([world.scene(0, i) for i in range(8)], 32)[0].shape == (8, 3, 32, 32)


def test_core_things_are_drawn_as_often_as_their_weight_says(tmp_path: Path) -> None:
    library = _library(tmp_path)
    (library / "one" / f"{things()['kangaroo'].sprite}.webp").write_bytes(
        (library / "one" / f"{things()['apple'].sprite}.webp").read_bytes()
    )
    config = WorldConfig("all", things=("apple", "kangaroo"), styles=("one",), core_weight=3, groups=(1, 0, 0, 0))
    world = World(config, library, resolution=16)
    assert things()["apple"].core and not things()["kangaroo"].core and world.keys == ("apple", "kangaroo")
    drawn = [world.scene(0, i).groups[0].thing for i in range(1000)]
    assert drawn.count("apple") / len(drawn) == pytest.approx(0.75, abs=0.05)


def test_a_repeated_thing_stands_beside_others_only() -> None:
    config = WorldConfig(vocabulary="shapes", things=("shape_circle",) * 5 + ("shape_star",), groups=(0, 0, 1, 0))
    world = World(config, resolution=16)
    for i in range(50):
        assert sorted(g.thing for g in world.scene(0, i).groups) == ["shape_circle", "shape_star"]
    assert WorldSource(world).describe().startswith("the built-in world: 2 objects")


def test_repeated_things_have_one_sprite_a_style(tmp_path: Path) -> None:
    library = _library(tmp_path)
    config = WorldConfig(things=("apple", "whale"), styles=("one", "two"))
    once = World(config, library, resolution=64)
    again = World(replace(config, things=("apple", "apple", "whale", "apple")), library, resolution=64)
    assert once.atlas.index == again.atlas.index and once.atlas.fits == again.atlas.fits
    assert all(torch.equal(t, again.atlas.levels[r]) for r, t in once.atlas.levels.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_draws_the_same(busy: World) -> None:
    there = World(BUSY, resolution=64, device="cuda")
    a, b = busy.batch(0, range(32), 64, masks=True), there.batch(0, range(32), 64, masks=True)
    assert b.pixels.device.type == "cuda" and b.masks is not None and a.masks is not None
    assert (a.pixels - b.pixels.cpu()).abs().mean() < 1e-3
    assert (a.masks - b.masks.cpu()).abs().mean() < 1e-3


# The contact sheet


def test_the_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["-o", str(sheet), "--rows", "1", "--columns", "3", "--size", "32", "--lang", "en"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(sheet)
    assert sheet.stat().st_size > 2000
    assert main(["-o", str(sheet), "--vocabulary", "core"]) == 2
    assert main(["-o", str(tmp_path / "none" / "sheet.png"), "--rows", "1", "--columns", "1", "--size", "32"]) == 3


# Natural colours


def _library(folder: Path) -> Path:
    """Two sets of sprites: in the first an apple is red and a whale blue, in the second the whale is grey."""
    from PIL import Image, ImageDraw

    for style, whale in (("one", (70, 140, 235)), ("two", (150, 160, 165))):
        (folder / style).mkdir(parents=True)
        for key, body in (("apple", (225, 40, 50)), ("whale", whale)):
            picture = Image.new("RGBA", (64, 64))
            pen = ImageDraw.Draw(picture)
            pen.ellipse((4, 14, 60, 62), fill=(*body, 255))
            pen.rectangle((29, 2, 35, 16), fill=(120, 78, 40, 255))  # a stem, which no paint should reach
            picture.save(folder / style / f"{things()[key].sprite}.webp", lossless=True)
    return folder


def test_what_has_the_colour_by_nature_is_not_painted(tmp_path: Path) -> None:
    config = WorldConfig(things=("apple", "whale"), styles=("one", "two"))
    world = World(config, _library(tmp_path), resolution=64)
    assert [
        world.atlas.fits[world.atlas.index[s, k]]
        for s, k in (("one", "apple"), ("two", "apple"), ("one", "whale"), ("two", "whale"))
    ] == [True, True, True, False]

    def drawn(key: str, colour: str | None, style: str) -> Tensor:
        scene = world.layout.compose((Group(key, 1, colour),), "plain", shade="white", style=style)
        return world.draw([scene], 64)[0]

    for style in ("one", "two"):
        assert torch.equal(drawn("apple", "red", style), drawn("apple", None, style))
        assert not torch.equal(drawn("apple", "green", style), drawn("apple", None, style))
    assert torch.equal(drawn("whale", "blue", "one"), drawn("whale", None, "one"))
    painted, own = (drawn("whale", colour, "two")[0, :, 36, 32] for colour in ("blue", None))
    assert painted[2] - painted[0] > 0.3 > own[2] - own[0]  # a grey whale is painted when a blue one is asked for


def test_a_natural_colour_is_among_those_a_caption_may_say() -> None:
    layout = _layout(colour=1.0, groups=(1.0, 0.0, 0.0, 0.0), side="any")
    said = {(g.thing, g.colour) for i in range(4000) for g in layout(7, i).groups}
    assert ("banana", "yellow") in said and ("whale", "blue") in said  # nothing else could be said of them
    assert {c for thing, c in said if thing == "banana"} <= {"yellow", None}
    assert all(c != s.shade for i in range(2000) for s in [layout(8, i)] for g in s.groups for c in [g.colour] if c)


# Empty places


def test_some_scenes_are_empty_and_the_others_are_as_before(world: World) -> None:
    some = World(replace(CONFIG, empty=0.25), resolution=64)
    scenes = [some.scene(3, index) for index in range(400)]
    assert 70 < sum(not scene.groups for scene in scenes) < 130
    for scene in scenes:
        assert scene == world.scene(3, scene.index) if scene.groups else not scene.items and scene.relation is None
    assert len({scene.place for scene in scenes if not scene.groups}) > 10


def test_held_out_scenes_are_never_empty() -> None:
    held = World(replace(CONFIG, empty=1.0, side="held-out"), resolution=64)
    assert all(scene_held_out(held.scene(0, index)) for index in range(5))


def test_an_empty_scene_is_its_backdrop(world: World) -> None:
    bare = World(replace(CONFIG, empty=1.0), resolution=64).scene(0, 1)
    pixels, masks = world.draw([bare, world.scene(0, 2)], 32, masks=True)
    assert masks is not None and float(masks[0].amax()) == 0 and float(masks[1].amax()) > 0.9
    alone, none = world.draw([bare], 32, masks=True)
    assert none is not None and none.shape[1] == 0
    torch.testing.assert_close(alone[0], pixels[0])
    composed = world.layout.compose((), "beach", seed=1)
    assert composed.items == () and world.caption(composed, "en")
