"""Drawing tokens: the law they are drawn by, and that a picture is its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from t2i.edit.rerank import candidates, rerank
from t2i.errors import InputError, UsageError
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import generator, gumbel, gumbel_noise
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.stages.dalle import LOGIT_STEP, pick
from t2i.stages.stage import Start
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage

PROMPTS = ["a cat in the snow", "two penguins in the snow", "一只猫在雪地里玩耍"]
P = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])


@pytest.fixture(scope="module")
def pipeline(dalle: Path) -> Pipeline:
    return Pipeline.load(dalle)


def shares(n: int = 20_000, **settings: float) -> torch.Tensor:
    """How often each of five codes is picked from the distribution P."""
    noise = gumbel((n, 5), generator("shares"))
    picks = pick(P.log().expand(n, 5), noise, SamplingConfig(**settings))  # type: ignore[arg-type]
    return picks.bincount(minlength=5) / n


def test_gumbel_noise_is_gumbel_and_a_picture_has_its_own() -> None:
    x = gumbel((200_000,), generator("moments"))
    assert float(x.mean()) == pytest.approx(0.5772, abs=0.01) and float(x.var()) == pytest.approx(1.6449, abs=0.03)
    both, alone = gumbel_noise([3, 4], "dalle", 5, (7,)), gumbel_noise([4], "dalle", 5, (7,))
    assert torch.equal(both[1], alone[0]) and not torch.equal(both[0], both[1])
    assert not torch.equal(alone, gumbel_noise([4], "dalle", 6, (7,)))


def test_codes_are_drawn_by_their_probability() -> None:
    torch.testing.assert_close(shares(), P, atol=0.012, rtol=0)
    warm = (P.log() / 2).softmax(0)
    torch.testing.assert_close(shares(temperature=2.0), warm, atol=0.012, rtol=0)
    torch.testing.assert_close(shares(temperature=0.0), torch.tensor([1.0, 0, 0, 0, 0]))


def test_only_the_most_probable_codes_are_left() -> None:
    two = torch.tensor([2 / 3, 1 / 3, 0, 0, 0])
    torch.testing.assert_close(shares(top_k=2), two, atol=0.012, rtol=0)
    torch.testing.assert_close(shares(top_p=0.7), two, atol=0.012, rtol=0)  # .5 is too little, .5 + .25 is enough
    torch.testing.assert_close(shares(top_p=0.4), torch.tensor([1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(shares(top_k=99, top_p=1.0), shares())
    three = P[:3] / P[:3].sum()
    torch.testing.assert_close(shares(top_p=0.9)[:3], three, atol=0.012, rtol=0)


def test_the_last_bits_of_a_logit_decide_nothing() -> None:
    g = generator("bits")
    logits = (torch.randn(500, 40, generator=g) / LOGIT_STEP).round() * LOGIT_STEP
    moved = logits + (torch.rand(500, 40, generator=g) - 0.5) * 1e-4
    noise = gumbel(logits.shape, g)
    for settings in ({}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 0.7}):
        config = SamplingConfig(**settings)  # type: ignore[arg-type]
        assert torch.equal(pick(logits, noise, config), pick(moved, noise, config))


def test_a_picture_does_not_depend_on_its_batch(pipeline: Pipeline) -> None:
    prompts = [PROMPTS[i % 3] for i in range(12)]
    together = pipeline.sample(prompts, range(12), SampleRequest(size=16)).images
    for i in (0, 5, 11):
        alone = pipeline.sample([prompts[i]], [i], SampleRequest(size=16)).images
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
    assert len({row.numpy().tobytes() for row in together}) == 12


def test_the_cascade_and_what_is_told_of_it(pipeline: Pipeline) -> None:
    told: list[tuple[str, int, int, tuple[int, ...]]] = []
    made = pipeline.sample(
        PROMPTS[:2], [1, 2], SampleRequest(keep_stages=True), lambda *said: told.append((*said[:3], said[3].shape))
    )
    assert made.images.shape == (2, 3, 64, 64) and list(made.stages) == ["dalle", "upsampler64"]
    assert told[:4] == [("dalle", row, 4, (2, 3, 16, 16)) for row in (1, 2, 3, 4)]
    config = SampleRequest(stages={"dalle": SamplingConfig(temperature=0.0)})
    greedy = pipeline.sample([PROMPTS[0]] * 2, [1, 2], config.override("upsampler64", SamplingConfig(noise=0.0)))
    small = [pipeline.sample([PROMPTS[0]], [seed], SampleRequest(16, stages=config.stages)).images for seed in (1, 2)]
    assert torch.equal(*small) and greedy.images.shape[-1] == 64  # without noise the seed has no say


def test_the_best_of_several_by_clip(pipeline: Pipeline) -> None:
    ranked = rerank(pipeline, PROMPTS[:2], [1, 2], 4, SampleRequest(size=16))
    assert ranked.scores.shape == (2, 4)
    best = int(ranked.scores[1].argmax())
    assert ranked.seeds[1] == candidates(2, 4)[best]


def test_what_tokens_cannot_do(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match="does not draw by diffusion"):
        pipeline.sample([PROMPTS[0]], [1], SampleRequest(negative="snow"))
    with pytest.raises(UsageError, match="does not draw by diffusion"):
        pipeline.sample([PROMPTS[0]], [1], SampleRequest(prior="none"))
    start = Start(x0=torch.zeros(1, 3, 16, 16), strength=0.5)
    with pytest.raises(UsageError, match="does not draw by diffusion"):
        pipeline.draw(Conditioning(direct=torch.zeros(1, 16)), [1], SampleRequest(), start=start)


@pytest.mark.parametrize(
    ("stage", "widths", "words"),
    [
        ("dalle", {"codes": 21}, "the vocabulary of the image tokens is 20 in stage 'vae' and 21 in stage 'dalle'"),
        ("dalle", {"grid": 5}, "the number of image tokens a side"),
        ("dalle", {"vocab": 9}, "the vocabulary of the text"),
        ("vae", {"codes": 0}, "the latents of 'vae' are continuous"),
        ("vae", {"size": 32}, "ends at 32 pixels and the stage 'upsampler64' starts from 16"),
    ],
)
def test_stages_that_do_not_fit(dalle: Path, tmp_path: Path, stage: str, widths: dict[str, int], words: str) -> None:
    shutil.copytree(dalle, tmp_path / "m")
    bundle = read_bundle(tmp_path / "m")
    config, weights = bundle.load_stage(stage)
    changed = {**config, "widths": {**config["widths"], **widths}}
    with pytest.raises(InputError, match=words):
        update_stage(tmp_path / "m", bundle.manifest.stage(stage), (changed, weights))


@pytest.mark.parametrize(
    ("stage", "net", "words"),
    [
        ("dalle", {"codes": 7}, "widths.codes is 20, and net.codes is 7"),
        ("dalle", {"context": 9}, "widths.context is 16, and net.context is 9"),
        ("dalle", {"grid": 65}, "not from 1 to 64"),
        ("dalle", {"width": 33}, "width is no multiple of heads"),
        ("vae", {"latent": "gaussian"}, "widths.codes is 20, and net.tokens is 0"),
        ("vae", {"patch": 4}, "widths.size is 16, not 8 times widths.grid 4"),
        ("vae", {"dim": 9}, "do not belong together"),
    ],
)
def test_networks_that_are_not_what_they_say(
    dalle: Path, tmp_path: Path, stage: str, net: dict[str, object], words: str
) -> None:
    shutil.copytree(dalle, tmp_path / "m")
    bundle = read_bundle(tmp_path / "m")
    config, weights = bundle.load_stage(stage)
    update_stage(tmp_path / "m", bundle.manifest.stage(stage), ({**config, "net": {**config["net"], **net}}, weights))
    with pytest.raises(InputError, match=words):
        Pipeline.load(tmp_path / "m")
