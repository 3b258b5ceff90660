"""Inpainting on real tiny networks, and RePaint against a Gaussian whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2i.diffusion.process import Flow
from t2i.diffusion.samplers import repaint
from t2i.diffusion.schedule import uniform_t
from t2i.edit.inpaint import inpaint
from t2i.edit.masks import box, extend, grow
from t2i.edit.places import in_place, without_things
from t2i.edit.textmask import references, text_contrast, text_mask
from t2i.engine import PromptBatch
from t2i.media.contrast import otsu
from t2i.pipeline import Pipeline
from t2i.rng import SeededNoise
from t2i.sampling import SampleRequest
from t2i.store.registry import resolve


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Pipeline:
    return Pipeline.load(tiny)


def picture(height: int = 40, width: int = 50) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("size", [(16, 16), (40, 50), (50, 23), (9, 12), (150, 140)])
@pytest.mark.parametrize("feather", [0, 4, None])
def test_nothing_outside_of_the_mask_changes(pipeline: Pipeline, size: tuple[int, int], feather: int | None) -> None:
    image = picture(*size)
    mask = box(*size, 4, 3, 4, 5)
    made = inpaint(pipeline, image, mask, PromptBatch(["a cat in the snow"], [7]), feather=feather)[0]
    outside = (mask == 0).expand_as(image)
    assert torch.equal(made[outside], image[outside])
    assert float((made - image)[:, 3:8, 4:8].abs().mean()) > 0.01
    assert float(made.abs().max()) <= 1


def test_a_picture_depends_on_its_own_prompt_and_seed_alone(pipeline: Pipeline) -> None:
    image, mask = picture(), box(40, 50, 10, 10, 20, 20)
    prompts, seeds = ["a cat in the snow", "一只猫", "a cat in the snow"], [1, 2, 3]
    among = inpaint(pipeline, image, mask, PromptBatch(prompts, seeds))
    alone = inpaint(pipeline, image, mask, PromptBatch(prompts[1:2], seeds[1:2]))
    assert float((alone[0] - among[1]).abs().max()) * 127.5 <= 4
    assert float((among[0] - among[2]).abs().max()) > 0.05


def test_two_windows_fill_both_sides(pipeline: Pipeline) -> None:
    canvas, mask = extend(picture(24, 24), left=12, right=20)
    told: list[tuple[str, int, int]] = []

    def on_step(stage: str, step: int, total: int, x0_hat: Tensor) -> None:
        told.append((stage, step, total))

    made = inpaint(pipeline, canvas, mask, PromptBatch(["a cat in the snow"], [7], on_step=on_step), feather=0)[0]
    base = [(step, total) for stage, step, total in told if stage == "base"]
    assert base == sorted(base) and base[-1][0] == base[-1][1] and len({total for _, total in base}) == 1
    assert torch.equal(made[:, :, 12:36], canvas[:, :, 12:36])
    for side in (slice(0, 12), slice(36, 56)):
        assert float((made - canvas)[:, :, side].abs().mean()) > 0.01


def test_removal_starts_from_the_surroundings(pipeline: Pipeline) -> None:
    image = torch.full((3, 32, 32), 0.5)
    mask = box(32, 32, 12, 12, 8, 8)
    image[:, 12:20, 12:20] = -1.0
    one = inpaint(pipeline, image, mask, PromptBatch([""], [7]))
    again = inpaint(pipeline, torch.where(mask > 0, 1.0, image), mask, PromptBatch([""], [7]))
    assert torch.allclose(one, again, atol=1e-5)  # what is removed says nothing
    assert not torch.equal(one[0], image)


def test_the_base_is_shown_what_is_known(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    net = pipeline.base[1].net
    real = type(net).forward

    def forward(self: Any, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        seen.append(x)
        return real(self, x, t, cond)

    monkeypatch.setattr(type(net), "forward", forward)
    image, mask = picture(16, 16), box(16, 16, 4, 4, 6, 6)
    inpaint(pipeline, image, mask, PromptBatch(["a cat in the snow"] * 2, [1, 2], SampleRequest(size=16)))
    assert seen[0].shape == (4, 7, 16, 16)  # two pictures, each with and without its text
    for row in seen[0]:
        assert torch.equal(row[3:4], mask)
        assert torch.allclose(row[4:], image * (1 - mask))


def conditional_mean(resamples: int, rho: float = 0.9, known: float = 1.0, n: int = 4000) -> Tensor:
    """RePaint's x_2 given x_1 = known, of a pair of unit Gaussians with correlation rho: exact is rho * known."""
    cov = torch.tensor([[1.0, rho], [rho, 1.0]])

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        gain = cov @ torch.linalg.inv(cov + float(sigma[0]) ** 2 * torch.eye(2))
        return x @ gain.T

    x0 = torch.tensor([known, 0.0]).expand(n, 2)
    mask = torch.tensor([0.0, 1.0]).expand(n, 2)
    levels = uniform_t(Flow(), 12)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))

    def source(step: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(1000 + step))

    return repaint(denoiser, levels[0] * noise, levels, None, source, None, x0, mask, resamples)


def test_repaint_agrees_with_what_is_known() -> None:
    once, often = conditional_mean(1), conditional_mean(10)
    assert bool((often[:, 0] == 1.0).all())
    assert float(often[:, 1].mean()) == pytest.approx(0.9, abs=0.06)
    assert float(often[:, 1].std()) == pytest.approx(math.sqrt(1 - 0.81), abs=0.08)
    # without resampling what is painted hardly hears of what is known
    assert abs(float(once[:, 1].mean()) - 0.9) > abs(float(often[:, 1].mean()) - 0.9)


def test_repaint_draws_each_noise_once() -> None:
    asked: list[int] = []
    real = SeededNoise((1,), "x")

    def source(step: int, like: Tensor) -> Tensor:
        asked.append(step)
        return real(step, like)

    x0, mask = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    repaint(lambda x, s, c: 0.5 * x, x0, [2.0, 1.0, 0.0], None, source, None, x0, mask, resamples=3)
    assert len(set(asked)) == len(asked)


def test_a_mask_from_text_is_a_mask(pipeline: Pipeline) -> None:
    image = picture(40, 56)
    contrast = text_contrast(pipeline, image, "a cat")
    assert contrast.shape == (16, 16)
    assert float(contrast.min()) >= 0
    mask = text_mask(pipeline, image, "a cat")
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert mask.shape == (1, 40, 56)
    assert torch.equal(mask, text_mask(pipeline, image, "a cat"))
    wide = text_mask(pipeline, image, "a cat", grow_by=0.1)
    assert torch.equal(wide, grow(mask, 4))
    less = text_mask(pipeline, image, "a cat", threshold=0.9)
    assert float(less.sum()) < float(text_mask(pipeline, image, "a cat", threshold=0.1).sum())
    assert len(references(pipeline, "a cat")) == 3


def test_otsu_parts_two_groups() -> None:
    g = torch.Generator().manual_seed(6)
    values = torch.cat([0.1 + 0.02 * torch.randn(700, generator=g), 0.8 + 0.05 * torch.randn(300, generator=g)])
    assert 0.15 < otsu(values) < 0.7


def test_a_prompt_without_a_place_is_read_with_the_place_of_the_picture() -> None:
    """By CLIP, in the language of the prompt; one that says a place is read as it is."""
    small = Pipeline.load(resolve("small"))
    drawn = small.sample(["an empty beach", "an empty blue background"], [1, 2], SampleRequest(size=64)).images
    beach, blue = small.embed(drawn)
    assert in_place(small, "a cat", beach) == "a cat at the beach"
    assert in_place(small, "一只猫", beach) == "一只猫在海滩上"
    assert in_place(small, "a cat", blue) == "a cat on a blue background"
    assert in_place(small, "a cat in the snow", beach) == "a cat in the snow"
    assert in_place(small, "雪地里的一只猫", beach) == "雪地里的一只猫"
    assert (
        without_things(small, beach) == "an empty beach" and without_things(small, blue) == "an empty blue background"
    )


def test_a_model_that_was_taught_no_place_reads_prompts_as_they_are(pipeline: Pipeline) -> None:
    z = pipeline.embed(torch.zeros(1, 3, 16, 16))[0]
    assert in_place(pipeline, "a cat", z) == "a cat"
