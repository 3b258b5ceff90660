"""The engine as a whole, on a bundle of real networks with random weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2i.errors import InputError, UsageError
from t2i.pipeline import Conditioning, Pipeline, Samples
from t2i.sampling import SampleRequest, by_stage

PROMPTS = [
    "a cat in the snow",
    "a red apple on a blue background",
    "一只猫",
    "two penguins",
    "a zebra at night",
]
CAT = PROMPTS[0]


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Pipeline:
    return Pipeline.load(tiny)


def far(a: Tensor, b: Tensor) -> float:
    """The largest distance of two pictures, in levels of 255."""
    return float((a - b).abs().max()) * 127.5


def request(**settings: Any) -> SampleRequest:
    """Fields of the request, and dials by stage: steps={"base": 8}."""
    whole = {name: settings.pop(name) for name in ("size", "negative", "keep_stages") if name in settings}
    return SampleRequest(**whole, stages=by_stage(**settings))


def cat(pipeline: Pipeline, **settings: Any) -> Samples:
    return pipeline.sample([CAT], [7], request(**settings))


@pytest.mark.parametrize("n", [1, 8, 32])
def test_a_picture_is_the_same_alone_and_in_a_batch(pipeline: Pipeline, n: int) -> None:
    prompts, seeds = [PROMPTS[i % 5] for i in range(n)], [100 + 3 * i for i in range(n)]
    settings = SampleRequest(keep_stages=True)
    batch = pipeline.sample(prompts, seeds, settings)
    for i in {0, n // 2, n - 1}:
        alone = pipeline.sample([prompts[i]], [seeds[i]], settings)
        assert far(alone.images[0], batch.images[i]) <= 4
        for name, made in alone.stages.items():
            assert far(made[0], batch.stages[name][i]) <= 4, name


def test_pictures_are_functions_of_prompt_and_seed(pipeline: Pipeline) -> None:
    first, again = cat(pipeline).images, cat(pipeline).images
    assert torch.equal(first, again)
    assert first.shape == (1, 3, 64, 64)
    assert first.dtype == torch.float32
    assert float(first.abs().max()) <= 1
    assert far(first, pipeline.sample([CAT], [8]).images) > 8
    assert far(first, pipeline.sample([PROMPTS[1]], [7]).images) > 8


CHANGES: dict[str, dict[str, Any]] = {
    "guidance": {"guidance": {"base": 5.0}},
    "guidance of the prior": {"guidance": {"prior": 6.0}},
    "steps": {"steps": {"base": 9}},
    "steps of the prior": {"steps": {"prior": 1}},
    "steps of the upsampler": {"steps": {"upsampler64": 3}},
    "sampler": {"sampler": {"base": "ancestral"}},
    "negative": {"negative": "a red apple"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_the_picture(pipeline: Pipeline, name: str) -> None:
    assert far(cat(pipeline).images, cat(pipeline, **CHANGES[name]).images) > 1


def test_settings_change_nothing_else(pipeline: Pipeline) -> None:
    plain = cat(pipeline)
    named = {"steps": {"base": 4, "prior": 3}, "guidance": {"base": 2.0}, "sampler": {"base": "dpmpp_2m"}}
    assert torch.equal(cat(pipeline, **named).images, plain.images)
    assert torch.equal(cat(pipeline, guidance={"upsampler64": 9.0}).images, plain.images)  # it reads no text


def test_guidance_leads_away_from_no_text_at_the_same_embedding(pipeline: Pipeline) -> None:
    text, _ = pipeline.encode([CAT])
    z = pipeline.sample_prior(text, [7], SampleRequest())
    guided = pipeline.guided_cond(Conditioning(text, z))
    cond, uncond = guided.cond, guided.uncond
    assert guided.negative is None
    assert cond.z_keep is not None and uncond.z_keep is not None
    assert bool(cond.z_keep.all()) and bool(uncond.z_keep.all())
    assert cond.tokens_keep is not None and uncond.tokens_keep is not None
    assert bool(cond.tokens_keep.all()) and not bool(uncond.tokens_keep.any())
    away = pipeline.encode(["a dog"])[0]
    guided = pipeline.guided_cond(Conditioning(text, z, away))
    same, from_dog = guided.uncond, guided.negative
    assert same.tokens_keep is not None and not bool(same.tokens_keep.any())
    assert from_dog is not None and from_dog.tokens is away.tokens and from_dog.z is z and bool(from_dog.z_keep.all())
    # without any text, guidance leads away from no embedding
    from_nothing = pipeline.guided_cond(Conditioning(None, z)).uncond
    assert from_nothing.z_keep is not None and not bool(from_nothing.z_keep.any())


def test_a_negative_prompt_acts_on_the_prior_and_on_the_base_at_any_guidance(pipeline: Pipeline) -> None:
    request = SampleRequest(stages=by_stage(guidance={"prior": 1.0, "base": 1.0}))
    plain, _ = pipeline.condition([CAT], [7], request)
    away, _ = pipeline.condition([CAT], [7], replace(request, negative="a dog"))
    assert plain.z is not None and away.z is not None and not torch.allclose(plain.z, away.z)
    assert away.z_negative is None and away.negative is not None
    both = replace(away, z=plain.z)  # the same embedding: what differs is the base's part
    images = [pipeline.sample_base(c, [7], request) for c in (plain, both)]
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    spaces = pipeline.condition([CAT], [7], replace(request, negative="  "))[0]
    assert torch.equal(spaces.z if spaces.z is not None else plain.z, plain.z)


def test_thresholding_keeps_strong_guidance_from_saturating(pipeline: Pipeline) -> None:
    strong: dict[str, Any] = {"guidance": {"base": 30.0}, "size": 16}
    plain, tamed = cat(pipeline, **strong).images, cat(pipeline, **strong, threshold={"base": (0.9, 1e6)}).images
    assert float((plain.abs() > 0.999).float().mean()) > float((tamed.abs() > 0.999).float().mean())


def test_sizes_and_kept_stages(pipeline: Pipeline) -> None:
    whole, small = cat(pipeline, keep_stages=True), cat(pipeline, size=16)
    shapes = {name: tuple(made.shape) for name, made in whole.stages.items()}
    assert shapes == {"prior": (1, 32), "base": (1, 3, 16, 16), "upsampler64": (1, 3, 64, 64)}
    assert torch.equal(whole.stages["base"], small.images)
    assert torch.equal(whole.stages["upsampler64"], whole.images)
    assert torch.allclose(whole.stages["prior"].norm(dim=1), torch.ones(1))
    assert small.stages == {}
    with pytest.raises(UsageError, match="no pictures of 63 pixels") as caught:
        cat(pipeline, size=63)
    assert "16, 64" in caught.value.hint


def test_progress_is_told(pipeline: Pipeline) -> None:
    told: list[tuple[str, int, int]] = []
    pipeline.sample([CAT], [7], on_step=lambda stage, step, n, x0_hat: told.append((stage, step, n)))
    prior = [("prior", i, 3) for i in (1, 2, 3)]  # it draws two at once and keeps one
    assert told == [*prior, *[("base", i, 4) for i in (1, 2, 3, 4)], ("upsampler64", 1, 1)]


def test_each_prompt_is_encoded_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = pipeline.clip.encode_text

    def counted(ids: Tensor) -> Any:
        rows.append(len(ids))
        return real(ids)

    monkeypatch.setattr(pipeline.clip, "encode_text", counted)
    owl, frog = "an owl in the snow", "a frog at night"  # that no other test has said
    pipeline.sample([owl, frog, owl, owl], [1, 2, 3, 4])
    assert rows == [1, 1]
    pipeline.sample([owl, owl], [1, 2], SampleRequest(negative=frog))  # what was said before is known
    assert rows == [1, 1]


def test_what_the_model_does_not_read_is_told(pipeline: Pipeline) -> None:
    long = "a cat in the snow " * 9
    samples = pipeline.sample([long.strip(), "a zebrafish in the snow", "一只狗"], [1, 2, 3])
    cut = samples.truncated[0]
    assert cut
    assert long.strip().endswith(cut)
    assert samples.truncated[1] is None
    assert samples.unknown == [[], ["zebrafish"], ["狗"]]
    assert pipeline.words.near("zebrafish") == ["zebra"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_draws_nearly_the_same(pipeline: Pipeline, tiny: Path, dtype: str) -> None:
    half = Pipeline.load(tiny, dtype=dtype)
    assert half.stages["base"].dtype == getattr(torch, dtype)
    mean = float((cat(half).images - cat(pipeline).images).abs().mean()) * 127.5
    assert 0 < mean < 16


# What cannot be used ------------------------------------------------------------------------------


def drop(*gone: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["stages"] = [s for s in manifest["stages"] if s["name"] not in gone]
        manifest["sizes"] = [] if "base" in gone else manifest["sizes"]

    return change


def default(stage: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["stages"][stage]["defaults"].update(values)


def damaged(tiny: Path, to: Path, change: Callable[[dict[str, Any]], None] | None = None, **config: Any) -> Path:
    """A copy of the bundle with another manifest, or with other values in the base's config and its hash."""
    shutil.copytree(tiny, to)
    manifest = json.loads((to / "bundle.json").read_text())
    if change:
        change(manifest)
    if config:
        where = to / "base" / "config.json"
        table = json.loads(where.read_text()) | config
        where.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))
        manifest["files"]["base/config.json"] = hashlib.sha256(where.read_bytes()).hexdigest()
    (to / "bundle.json").write_text(json.dumps(manifest))
    return to


CONFIG = r"base/config\.json cannot be used: "
MANIFEST = r"bundle\.json cannot be used: "
STRANGE: dict[str, tuple[Callable[[dict[str, Any]], None] | None, dict[str, Any], str]] = {
    "no clip": (drop("clip"), {}, "it has no clip"),
    "no base": (drop("base", "upsampler64"), {}, "it has no base"),
    "other net": (None, {"net": {"channels": [16, 64]}}, CONFIG + "net: channels and blocks differ"),
    "no net": (None, {"net": None}, CONFIG + "net is not a table"),
    "unknown field": (None, {"net": {"chanels": [16]}}, CONFIG + r"unknown key 'net\.chanels'"),
    "no process": (None, {"process": None}, CONFIG + "the key 'process' is missing"),
    "strange process": (None, {"process": {"kind": "magic"}}, CONFIG + "There is no noise process called 'magic'"),
    "unknown sampler": (default(2, sampler="eular"), {}, MANIFEST + ".*there is no sampler 'eular'"),
    "unknown schedule": (default(2, schedule="never"), {}, MANIFEST + ".*There is no schedule called 'never'"),
    "no steps": (default(2, steps=0), {}, MANIFEST + r"stages\[2\]\.defaults\.steps is 0"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_bundles_that_cannot_draw(tiny: Path, tmp_path: Path, name: str) -> None:
    change, config, sentence = STRANGE[name]
    with pytest.raises(InputError, match=sentence) as caught:
        Pipeline.load(damaged(tiny, tmp_path / "b", change, **config))
    assert caught.value.code == "bundle"


def test_a_base_that_reads_text_draws_without_a_prior(tiny: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.load(damaged(tiny, tmp_path / "b", drop("prior")))
    images = pipeline.sample([CAT, PROMPTS[1]], [7, 7], SampleRequest(size=16)).images
    assert far(images[0], images[1]) > 1


def test_the_vocabulary_is_the_one_the_weights_know(tiny: Path, tmp_path: Path) -> None:
    place = tmp_path / "b"
    shutil.copytree(tiny, place)
    (place / "tokenizer.json").write_text((place / "tokenizer.json").read_text().replace("unused", "misused"))
    with pytest.raises(InputError, match=r"tokenizer\.json.*sha256 differs"):
        Pipeline.load(place)


def test_without_clip_a_picture_is_the_same_alone_and_in_a_batch(blind: Path) -> None:
    pipeline = Pipeline.load(blind)
    batch = pipeline.sample(PROMPTS, range(5), SampleRequest(keep_stages=True))
    assert list(batch.stages) == ["base", "upsampler64"]
    for i in (0, 4):
        alone = pipeline.sample([PROMPTS[i]], [i], SampleRequest(keep_stages=True))
        for name, made in alone.stages.items():
            assert far(made[0], batch.stages[name][i]) <= 4, name


BLIND_CHANGES: dict[str, dict[str, Any]] = {
    "no threshold": {"threshold": {"base": "none"}},
    "static": {"threshold": {"base": "static"}},
    "static in the upsampler": {"threshold": {"upsampler64": "static"}, "guidance": {"upsampler64": 9.0}},
    "noise in the upsampler's input": {"noise": {"upsampler64": 0.5}},
    "guidance of the upsampler": {"guidance": {"upsampler64": 4.0}},
    "negative": {"negative": "a red apple"},
}


@pytest.mark.parametrize("name", BLIND_CHANGES)
def test_a_setting_changes_the_picture_of_imagen(blind: Path, name: str) -> None:
    pipeline, strong = Pipeline.load(blind), {"base": 6.0}
    change = BLIND_CHANGES[name]
    settings = {**change, "guidance": {**strong, **change.get("guidance", {})}}
    plain = cat(pipeline, guidance=strong).images
    assert far(plain, cat(pipeline, **settings).images) > 1


def test_a_threshold_that_does_not_exist(blind: Path) -> None:
    with pytest.raises(UsageError, match="no threshold 'statc'"):
        cat(Pipeline.load(blind), threshold={"base": "statc"})
