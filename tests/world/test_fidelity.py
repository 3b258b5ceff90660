"""Fidelity: renders against themselves, in every pose that is searched; closed forms of both numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2i.world import Group, World, WorldConfig
from t2i.world.fidelity import best_render, box_ssim, edge_energy, fidelity, quadratic_background
from t2i.world.graph import Item

SIZE = 128
STYLE = "shapes"


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(vocabulary="shapes"), resolution=128)


def drawn(world: World, key: str, seed: int = 0, item: Item | None = None) -> Tensor:
    """A render of one thing on blue, in the pose of `item` where it is given."""
    scene = world.layout.compose((Group(key),), "plain", shade="blue", seed=seed)
    if item is not None:
        scene = replace(scene, items=(item,))
    return world.draw([scene], SIZE)[0][0]


def cat_and_co(world: World) -> list[str]:
    """Things without a symmetry: each has one pose that fits."""
    keys = [key for key in world.keys if world.things[key].en in ("cat", "fish", "bird", "boat", "rocket")]
    assert len(keys) == 5
    return keys


def test_a_render_is_its_own_best_render(world: World) -> None:
    for seed, key in enumerate(cat_and_co(world)):
        picture = drawn(world, key, seed)
        found = fidelity(picture, best_render(picture, world.atlas, key, STYLE))
        assert found.ssim == pytest.approx(1, abs=1e-3) and found.edges == pytest.approx(1, abs=0.02), key


@pytest.mark.parametrize(
    "item",
    [
        Item(0, 0.36, 0.61, 0.4),
        Item(0, 0.55, 0.45, 0.8, True),
        Item(0, 0.5, 0.5, 0.6, False, 0.2),
        Item(0, 0.6, 0.42, 0.47, True, -0.17),
    ],
)
def test_position_size_tilt_and_flip_are_found(world: World, item: Item) -> None:
    key = cat_and_co(world)[1]
    picture = drawn(world, key, item=item)
    best = best_render(picture, world.atlas, key, STYLE)
    assert best.pose.tolist() == pytest.approx(
        [item.x, item.y, item.scale, -1 if item.flip else 1, item.angle], abs=0.01
    )
    found = fidelity(picture, best)
    assert found.ssim > 0.99 and found.edges == pytest.approx(1, abs=0.02)


def test_blur_noise_and_another_thing_cost_fidelity(world: World) -> None:
    key, other = cat_and_co(world)[:2]
    picture = drawn(world, key)
    blurred = torch.nn.functional.avg_pool2d(picture[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    noisy = (picture + 0.1 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    soft, grainy, wrong = (
        fidelity(p, best_render(p, world.atlas, key, STYLE)) for p in (blurred, noisy, drawn(world, other))
    )
    assert soft.ssim < 0.97 and soft.edges < 0.95
    assert grainy.ssim < 0.9 and grainy.edges > 1.3
    assert wrong.ssim < 0.8


def test_the_box_holds_the_thing(world: World) -> None:
    key = cat_and_co(world)[0]
    item = Item(0, 0.5, 0.5, 0.5)
    best = best_render(drawn(world, key, item=item), world.atlas, key, STYLE)
    width, height = (world.atlas.aspect[world.atlas.index[STYLE, key]] * item.scale * SIZE).tolist()
    rows, columns = best.box
    assert rows.stop - rows.start == pytest.approx(height, abs=3)
    assert columns.stop - columns.start == pytest.approx(width, abs=3)


def test_a_quadratic_background_is_found_under_a_thing() -> None:
    axis = torch.linspace(-1, 1, 64)
    truth = torch.stack([0.4 + 0.1 * axis[:, None] + 0.05 * axis * axis[:, None] - 0.08 * axis**2] * 3)
    picture, clear = truth.clone(), torch.ones(64, 64, dtype=torch.bool)
    picture[:, 20:40, 20:40] = 1
    clear[20:40, 20:40] = False
    picture[:, :2] = 0  # spoils less than a fifth of what is clear
    assert torch.allclose(quadratic_background(picture, clear)[:, 2:], truth[:, 2:], atol=2e-2)


def test_ssim_and_edge_energy_have_closed_forms() -> None:
    flat = torch.zeros(9, 9)
    assert box_ssim(flat, flat) == 1
    # without variance only the luminance term is left: C1 / (mu² + C1), C1 = (.01 · 2)²
    assert box_ssim(flat, flat + 0.02) == pytest.approx(0.5)
    ramp = torch.arange(9.0).expand(9, 9) / 10
    assert edge_energy(ramp) == pytest.approx(0.05)  # .1 along rows, 0 along columns
    assert box_ssim(ramp, ramp.flip(1)) < 0
