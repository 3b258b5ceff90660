"""Upscaling: tiles that leave no seam, detail that is kept where it has earned it, any size and shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2i.edit.upscaling import choose_upsampler, earned_share, fine_detail, upscale
from t2i.lab.edit_measures import clouds, gradients, shipped_photographs, step_at
from t2i.media.images import lanczos, load_image, resize, to_tensor
from t2i.pipeline import Pipeline
from t2i.sampling import SamplingConfig
from t2i.stages.upsampler import sample_upsampler, tiles


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Pipeline:
    return Pipeline.load(tiny)


def picture(height: int, width: int) -> Tensor:
    g = torch.Generator().manual_seed(3)
    return torch.nn.functional.interpolate(
        torch.rand(1, 3, height // 4 + 1, width // 4 + 1, generator=g) * 2 - 1, size=(height, width), mode="bilinear"
    )[0]


@pytest.mark.parametrize("size", [(40, 24), (100, 96), (9, 9), (37, 64), (24, 24)])
def test_any_size(pipeline: Pipeline, size: tuple[int, int]) -> None:
    made = upscale(pipeline, picture(24, 24), size)
    assert made.image.shape == (3, *size)
    assert float(made.image.abs().max()) <= 1
    assert made.factors == (4,) * ((max(size) > 24) + (max(size) > 96))
    assert 0 <= made.share <= 1
    again = upscale(pipeline, picture(24, 24), size)
    assert torch.equal(made.image, again.image)


def test_the_network_is_used_as_often_as_it_takes(pipeline: Pipeline) -> None:
    assert upscale(pipeline, picture(8, 6), (120, 90)).factors == (4, 4)


def test_parts_fill_the_picture_once() -> None:
    count = torch.zeros(50, 77, dtype=torch.int)
    for core, halo in tiles(50, 77, 30, 5):
        count[core.slices] += 1
        assert halo.bottom - halo.top <= 30
        assert halo.right - halo.left <= 30
        assert core.top - halo.top == min(5, core.top)
        assert halo.right - core.right == min(5, 77 - core.right)
    assert bool((count == 1).all())


def test_tiles_leave_no_seam(pipeline: Pipeline) -> None:
    entry = pipeline.manifest.of_kind("upsampler")[0]
    stage, low = pipeline.stages[entry.name], picture(40, 56)[None]
    sampling = stage.defaults.override(SamplingConfig(steps=2))
    whole = sample_upsampler(stage, low, [7], sampling)
    parts = sample_upsampler(stage, low, [7], sampling, tile=2 * stage.config.reach + 6)
    assert float((whole - parts).abs().max()) < 1e-4
    # the gradient across the borders of tiles (every 6 small pixels) against that elsewhere, over the same of one piece
    assert step_at(parts, 4 * 6, 4) / step_at(whole, 4 * 6, 4) == pytest.approx(1, abs=0.05)


def test_tiling_changes_nothing(pipeline: Pipeline) -> None:
    image = picture(40, 56)
    entry = pipeline.manifest.of_kind("upsampler")[0]
    small = 2 * pipeline.stages[entry.name].config.reach + 6
    whole, parts = (upscale(pipeline, image, (160, 224), tile=tile).image for tile in (160, small))
    assert float((whole - parts).abs().max()) < 2e-3


@pytest.mark.parametrize("level", [-1.0, -0.37, 0.2, 1.0])
def test_constant_colour_stays(pipeline: Pipeline, level: float) -> None:
    made = upscale(pipeline, torch.full((3, 20, 24), level), (80, 96))
    assert float((made.image - level).abs().max()) * 127.5 <= 1


def test_a_network_that_knows_nothing_leaves_lanczos(pipeline: Pipeline) -> None:
    truth = picture(96, 96)
    low = torch.nn.functional.interpolate(truth[None], scale_factor=0.25, mode="area")[0]
    plain = lanczos(low, 96, 96).clamp(-1, 1)
    ours, trusted = (upscale(pipeline, low, (96, 96), gate=gate).image for gate in (True, False))

    def psnr(x: Tensor) -> float:
        return float(-10 * torch.log10((x - truth).square().mean() / 4))

    assert psnr(ours) > psnr(plain) - 0.5
    assert psnr(trusted) < psnr(plain)  # the weights are random


def test_the_share_is_what_least_squares_says() -> None:
    g = torch.Generator().manual_seed(8)
    guess = torch.randn(3, 40, 40, generator=g)
    assert float((earned_share(0.3 * guess, guess) - 0.3).abs().max()) < 1e-4
    assert float(earned_share(-guess, guess).max()) == 0
    assert float(earned_share(torch.randn(3, 40, 40, generator=g), guess).mean()) < 0.06
    left = torch.cat([guess[..., :20], torch.zeros(3, 40, 20)], dim=2)
    share = earned_share(left, guess, window=6)
    assert float(share[:, :8].mean()) > float(share[:, 32:].mean()) + 0.3
    assert float(earned_share(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)).max()) == 0


def test_the_upsampler_is_the_one_for_the_size(pipeline: Pipeline) -> None:
    name = pipeline.manifest.of_kind("upsampler")[0].name
    for side in (4, 16, 500):
        entry = choose_upsampler(pipeline, side)
        assert entry is not None
        assert entry.name == name


def psnr(x: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10(((x - truth).square().mean() / 4).clamp_min(1e-10)))


def materials() -> dict[str, Tensor]:
    """What an upsampler of drawn scenes has not learned: gradients, noise like photographs', and one of these."""
    out = {f"gradient {i}": g for i, g in enumerate(gradients(128))}
    out["1/f"] = clouds(128, 3)
    for path in shipped_photographs():
        photo = to_tensor(load_image(path))[:, 140:396, 130:386]
        out["photograph"] = photo
    return out


@pytest.mark.parametrize("name", ["gradient 0", "gradient 1", "gradient 2", "gradient 3", "1/f", "photograph"])
def test_never_much_worse_than_lanczos(pipeline: Pipeline, name: str) -> None:
    if name not in (pictures := materials()):
        pytest.skip("textual-image, which ships a photograph, is not installed")
    truth, height = pictures[name], pictures[name].shape[1]
    low = resize(truth[None], height // 4, height // 4)[0]
    plain = lanczos(low, height, height).clamp(-1, 1)
    made = upscale(pipeline, low, (height, height))
    assert psnr(made.image, truth) > psnr(plain, truth) - 0.5


def test_detail_is_where_halving_loses_something() -> None:
    for smooth in (*gradients(64), torch.full((3, 64, 64), 0.3)):
        assert float(fine_detail(smooth).max()) < 0.05
    stripes = torch.ones(3, 64, 64)
    stripes[..., ::2] = -1
    half = torch.cat([stripes[..., :32], torch.zeros(3, 64, 32)], dim=2)
    share = fine_detail(half)
    assert float(share[:, :20].min()) > 0.99 and float(share[:, 48:].max()) < 0.01
    for size in ((2, 2), (3, 9), (9, 5), (1, 1)):
        assert fine_detail(torch.zeros(3, *size)).shape == size
