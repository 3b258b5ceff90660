"""The places: the same at every size and in every batch, each with a look of its own."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.world.places import CHANCE, PLACES, draw_places, foreground, weather
from t2i.world.places.over import STRIP, STRIPS

KEYS = list(PLACES)
SHADE = (0.85, 0.3, 0.3)


def _chance(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, CHANCE, generator=torch.Generator().manual_seed(seed))


def _draw(keys: list[str], chance: Tensor, size: int = 64) -> Tensor:
    return draw_places(keys, [SHADE] * len(keys), chance, size, "cpu").image


def test_the_places_are_the_agreed_ones() -> None:
    agreed = """snow beach forest desert night rain underwater space city room sunset mountains field
        river sky autumn jungle road stage volcano garden plain"""
    assert set(KEYS) == set(agreed.split())


@pytest.mark.parametrize("size", [16, 64, 65])
def test_pictures_and_facts_are_in_range(size: int) -> None:
    keys = KEYS * 3
    zeros = torch.zeros(len(keys), CHANCE)
    for chance in (_chance(len(keys)), zeros, zeros + (1 - 2**-24)):
        back = draw_places(keys, [None] * len(keys), chance, size, "cpu")
        assert back.image.shape == (len(keys), 3, size, size)
        for t in (back.image, back.horizon, back.light, back.haze, back.haze_amount, back.shadow):
            assert t.shape[0] == len(keys) and t.dtype == torch.float32
            assert t.isfinite().all() and t.min() >= 0 and t.max() <= 1
        ground = torch.tensor([PLACES[key].ground for key in keys])
        assert (back.horizon[~ground] == 1).all() and (back.horizon[ground] < 0.8).all()


def test_overlays_are_premultiplied() -> None:
    keys, chance = KEYS * 3, _chance(66)
    strip = foreground(keys, chance, torch.full((66,), 0.8), 64, "cpu")
    for over in (weather(keys, chance, 64, "cpu"), strip):
        assert over.shape == (66, 4, 64, 64) and over.isfinite().all() and over.min() >= 0
        assert (over[:, :3] <= over[:, 3:] + 1e-6).all() and over[:, 3].max() <= 1


def test_equal_numbers_give_equal_pictures() -> None:
    chance = _chance(22)
    assert torch.equal(_draw(KEYS, chance), _draw(KEYS, chance))
    assert (_draw(KEYS, chance) - _draw(KEYS, _chance(22, 1))).abs().mean((1, 2, 3)).min() > 1e-3


def test_a_scene_does_not_depend_on_its_batch() -> None:
    keys, chance = KEYS * 2, _chance(44)
    base = torch.linspace(0.7, 0.9, 44)
    many = _draw(keys, chance), weather(keys, chance, 64, "cpu"), foreground(keys, chance, base, 64, "cpu")
    for i in range(44):
        one = slice(i, i + 1)
        alone = (
            _draw(keys[one], chance[one]),
            weather(keys[one], chance[one], 64, "cpu"),
            foreground(keys[one], chance[one], base[one], 64, "cpu"),
        )
        for a, b in zip(many, alone, strict=True):
            torch.testing.assert_close(a[one], b, atol=2e-4, rtol=0)


@pytest.mark.parametrize("key", KEYS)
def test_small_is_the_downsampled_large(key: str) -> None:
    chance = _chance(3, 5)
    gap = _draw([key] * 3, chance) - F.avg_pool2d(_draw([key] * 3, chance, 512), 8)
    assert gap.abs().mean() < 0.012
    gap = weather([key] * 3, chance, 64, "cpu") - F.avg_pool2d(weather([key] * 3, chance, 512, "cpu"), 8)
    assert gap.abs().mean() < 0.02


def test_every_two_places_differ() -> None:
    mean = {key: _draw([key] * 12, _chance(12, 3), 16).mean(0) for key in KEYS}
    for a, b in combinations(KEYS, 2):
        assert (mean[a] - mean[b]).abs().mean() > 0.03, (a, b)


def test_the_strip_lies_at_the_feet() -> None:
    size, base = 128, torch.linspace(0.7, 0.93, 22)
    alpha = foreground(KEYS, _chance(22), base, size, "cpu")[:, 3]
    y = (torch.arange(size) + 0.5) / size
    away = (y - base[:, None]).abs() > STRIP + 1 / size
    assert (alpha * away[:, :, None]).abs().max() == 0
    for key, a in zip(KEYS, alpha, strict=True):
        assert (a.max() > 0.5) == (key in STRIPS), key
        assert PLACES[key].ground or key not in STRIPS


def test_a_plain_background_has_its_shade() -> None:
    image = _draw(["plain"] * 8, _chance(8))
    assert (image.mean((0, 2, 3)) - torch.tensor(SHADE)).abs().max() < 0.06
