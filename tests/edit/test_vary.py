"""Variations, blends, text diffs, image to image, reranking: on real tiny networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2i.edit.rerank import candidates, rerank
from t2i.edit.vary import blend, central_squares, image_to_image, own_noise, text_diff, text_direction, variations
from t2i.engine import PromptBatch
from t2i.errors import UsageError
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.store.registry import resolve

CAT = "a cat in the snow"
LOW = SampleRequest(size=16)


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Pipeline:
    return Pipeline.load(tiny)


def picture(seed: int = 1, height: int = 24, width: int = 24) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) * 127.5


def low(*seeds: int) -> PromptBatch:
    """No prompts, and 16 pixels."""
    return PromptBatch([""] * len(seeds), seeds, LOW)


def test_squares_are_the_middles() -> None:
    image = picture(1, 20, 32)
    assert torch.equal(central_squares([image], 20)[0], image[:, :, 6:26])
    assert central_squares([image, picture(2, 50, 40)], 8).shape == (2, 3, 8, 8)


def test_variations_are_functions_of_picture_and_seed(pipeline: Pipeline) -> None:
    made = variations(pipeline, picture(), low(1, 2, 3)).images
    assert made.shape == (3, 3, 16, 16)
    assert far(made[0], made[1]) > 8
    assert far(made[1:2], variations(pipeline, picture(), low(2)).images) <= 4
    assert far(made[:1], variations(pipeline, picture(2), low(1)).images) > 4
    assert far(made[:1], variations(pipeline, picture(), PromptBatch([CAT], [1], LOW)).images) > 1
    led_away = SampleRequest(size=16, negative="a red apple")
    assert far(made[:1], variations(pipeline, picture(), PromptBatch([""], [1], led_away)).images) > 1


def test_at_strength_nothing_the_seed_says_nothing(pipeline: Pipeline) -> None:
    still = variations(pipeline, picture(), low(1, 2), strength=0.0).images
    assert far(still[0], still[1]) <= 4
    half = variations(pipeline, picture(), low(1, 2), strength=0.5).images
    assert far(half[0], half[1]) > 4


def test_the_ends_of_a_blend_are_variations_of_its_pictures(pipeline: Pipeline) -> None:
    a, b = picture(1), picture(2)
    made = blend(pipeline, a, b, [0.0, 0.5, 1.0], low(7, 7, 7)).images
    assert far(made[:1], variations(pipeline, a, low(7), strength=0.0).images) <= 4
    assert far(made[2:], variations(pipeline, b, low(7), strength=0.0).images) <= 4
    assert far(made[1], made[0]) > 1
    seeds_own = blend(pipeline, a, b, [0.0, 1.0], low(7, 7), strength=1.0).images
    assert far(seeds_own[:1], variations(pipeline, a, low(7)).images) <= 4


def test_a_text_diff_begins_at_the_picture_and_moves_on(pipeline: Pipeline) -> None:
    made = text_diff(pipeline, picture(), "a cat", "a zebra", [0.0, 0.3, 0.6], low(7, 7, 7)).images
    start = variations(pipeline, picture(), low(7), strength=0.0).images
    assert far(made[:1], start) <= 4
    steps = [float((image - start[0]).abs().mean()) for image in made]
    assert steps[0] < steps[1] < steps[2]
    with pytest.raises(UsageError, match="the same to the model"):
        text_direction(pipeline, CAT, CAT)
    assert float(text_direction(pipeline, "a cat", "a zebra").norm()) == pytest.approx(1, abs=1e-5)


def test_redrawing_takes_as_many_steps_as_its_strength(pipeline: Pipeline) -> None:
    image = torch.linspace(-0.9, 0.9, 16).expand(3, 16, 16)
    steps = []
    for strength in (0.25, 0.5, 1.0):
        told: list[str] = []
        on_step = lambda stage, *_: told.append(stage)  # noqa: B023, E731
        image_to_image(pipeline, image, PromptBatch([CAT], [7], LOW, on_step), strength=strength)
        steps.append(told.count("base"))
    assert steps == [1, 2, 4]
    one, other = (
        image_to_image(pipeline, x, PromptBatch([CAT], [7], LOW), strength=0.5).images for x in (image, -image)
    )
    assert far(one, other) > 4
    with pytest.raises(UsageError, match="strength"):
        image_to_image(pipeline, image, PromptBatch([CAT], [7], LOW), strength=0.0)


def test_the_noise_of_a_picture_does_not_depend_on_others(pipeline: Pipeline) -> None:
    both = own_noise(pipeline, [picture(1), picture(2)])
    assert torch.equal(both[1:], own_noise(pipeline, [picture(2)]))


def test_the_best_is_kept_and_can_be_drawn_again(pipeline: Pipeline) -> None:
    ranked = rerank(pipeline, [CAT, "two penguins"], [7, 8], 4)
    assert ranked.scores.shape == (2, 4)
    for row, (prompt, seed) in enumerate(((CAT, 7), ("two penguins", 8))):
        best = int(ranked.scores[row].argmax())
        assert ranked.seeds[row] == candidates(seed, 4)[best]
        again = pipeline.sample([prompt], [ranked.seeds[row]]).images[0]
        assert far(again, ranked.samples.images[row]) <= 4
    assert candidates(7, 1) == [7]
    assert len(set(candidates(7, 50) + candidates(8, 50))) == 100


def test_without_the_prior_the_text_alone_is_read(pipeline: Pipeline) -> None:
    with_prior = pipeline.sample([CAT], [7], LOW).images
    without = pipeline.sample([CAT], [7], SampleRequest(size=16, prior="none")).images
    assert far(with_prior, without) > 1
    more = pipeline.sample([CAT], [7], SampleRequest(size=16, stages={"prior": SamplingConfig(best_of=8)})).images
    assert far(with_prior, more) > 1
    with pytest.raises(UsageError, match="no prior"):
        pipeline.sample([CAT], [7], SampleRequest(prior="magic"))


def test_a_picture_is_redrawn_in_its_own_place_unless_the_prompt_says_another() -> None:
    small = Pipeline.load(resolve("small"))
    (beach,) = small.sample(["an empty beach"], [1], SampleRequest(size=64)).images

    def drawn(prompt: str) -> Tensor:
        return image_to_image(small, beach, PromptBatch([prompt], [3], SampleRequest(size=64))).images

    assert torch.equal(drawn("a castle"), drawn("a castle at the beach"))
    assert not torch.equal(drawn("a castle"), drawn("a castle in the snow"))
