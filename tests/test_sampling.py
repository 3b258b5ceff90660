"""Sampling settings on their way from the manifest through a request to a stage."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from t2i.diffusion import samplers
from t2i.errors import InputError, UsageError
from t2i.sampling import SAMPLERS, SampleRequest, SamplingConfig, by_stage
from t2i.store.manifest import EXTRA_FIELDS, PLAIN_FIELDS, Manifest, StageEntry, entry_table, parse_manifest

EVERY = SamplingConfig(8, 3.0, "dpmpp_2m", "uniform_t", (0.995, 10.0), (0.1, 5.0), 0.1, 2, 1.5, 0.12)


def test_what_is_given_overrides_what_is_not() -> None:
    assert SamplingConfig().override(EVERY) == EVERY
    assert EVERY.override(SamplingConfig()) == EVERY.override(None) == EVERY
    changed = EVERY.override(SamplingConfig(guidance=0.0, threshold="none"))
    assert (changed.guidance, changed.threshold, changed.steps) == (0.0, "none", 8)


def test_guidance_without_text() -> None:
    assert EVERY.without_text.guidance == 1.5
    assert SamplingConfig(guidance=3.0).without_text.guidance == 3.0


def test_a_request_by_stage() -> None:
    request = SampleRequest(stages=by_stage(steps={"base": 4, "prior": 2}, noise={"up": 0.5}))
    assert request.of("base") == SamplingConfig(steps=4)
    assert request.of("up") == SamplingConfig(noise=0.5)
    assert request.of("another") == SamplingConfig()
    more = request.override("base", SamplingConfig(guidance=2.0))
    assert more.of("base") == SamplingConfig(steps=4, guidance=2.0)
    assert request.of("base").guidance is None


@pytest.mark.parametrize(
    "request_",
    [
        SampleRequest(prior="magic"),
        SampleRequest(stages={"base": SamplingConfig(sampler="eular")}),
        SampleRequest(stages={"base": SamplingConfig(threshold="statc")}),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_exist_is_refused(request_: SampleRequest) -> None:
    with pytest.raises(UsageError, match="there is no"):
        request_.check()


def test_the_names_of_the_samplers_are_those_of_the_engine() -> None:
    assert tuple(samplers.SAMPLERS) == SAMPLERS


def manifest(entry: StageEntry) -> str:
    table = {"family": "unclip", "name": "toy", "stages": [entry_table(entry)], "sizes": [64], "schema": 1}
    return json.dumps(table)


@pytest.mark.parametrize("config", [EVERY, SamplingConfig(), SamplingConfig(1, noise=0.0)])
def test_a_stage_comes_back_from_the_manifest(config: SamplingConfig) -> None:
    entry = StageEntry("base", "base", "base", config, "small")
    read: Manifest = parse_manifest(json.loads(manifest(entry)), Path("bundle.json"))
    assert read.stages == (entry,)
    defaults = entry_table(entry)["defaults"]
    assert list(defaults) == [*PLAIN_FIELDS, "extra"]
    assert {f.name for f in fields(SamplingConfig)} == {*PLAIN_FIELDS, *EXTRA_FIELDS}


@pytest.mark.parametrize(
    ("where", "key"), [("defaults", "best_of"), ("extra", "steps"), ("extra", "best_off"), ("stage", "best_of")]
)
def test_a_field_in_the_wrong_place_is_named(where: str, key: str) -> None:
    raw = json.loads(manifest(StageEntry("base", "base", "base", EVERY)))
    stage = raw["stages"][0]
    tables = {"stage": stage, "defaults": stage["defaults"], "extra": stage["defaults"]["extra"]}
    tables[where][key] = 2
    path = {"stage": "stages[0]", "defaults": "stages[0].defaults", "extra": "stages[0].defaults.extra"}[where]
    with pytest.raises(InputError) as caught:
        parse_manifest(raw, Path("bundle.json"))
    assert f"unknown key '{path}.{key}'" in caught.value.message
    assert caught.value.code == "bundle"
