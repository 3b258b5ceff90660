"""The dials of a picture: everything that decides it but weights, prompt and seed. They come from options, from a
line of a jobs file, from a sweep or from another picture's record, and are read here, once."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from t2i.errors import UsageError
from t2i.jobs.parsing import check_choice, parse_thresholds, per_stage, thresholds
from t2i.prompts import check_text
from t2i.sampling import SAMPLERS, SampleRequest, SamplingConfig, Threshold, by_stage, given
from t2i.store.completeness import check_complete

if TYPE_CHECKING:
    from t2i.store.bundle import Bundle

#: the options that are dials, as they are called on the command line, in a jobs file and in a sweep
NAMES = ("size", "steps", "guidance", "sampler", "threshold", "sr_noise", "negative")


@dataclass(frozen=True, eq=False)
class Dials:
    """Resolved dials. stages: what differs from the stages' defaults. ``settings`` is how the dials enter a picture's
    key and record; pictures whose ``group`` is equal may be drawn together."""

    size: int
    negative: str
    stages: dict[str, SamplingConfig]
    settings: dict[str, Any] = field(repr=False)
    group: str = field(repr=False)

    def engine(self, keep_stages: bool) -> SampleRequest:
        """The same for the pipeline."""
        return SampleRequest(self.size, self.negative or None, keep_stages=keep_stages, stages=self.stages)

    def with_settings(self, more: dict[str, Any]) -> Dials:
        """The same with more that decides the pictures, for their keys and records."""
        settings = {**self.settings, **more}
        return replace(self, settings=settings, group=_group(settings, self.negative))


def check_words(words: dict[str, str]) -> None:
    """What can be said against ``words`` without knowing the model. Raises UsageError."""
    check_text(words.get("negative", ""), "the negative prompt")
    if "sampler" in words:
        check_choice("sampler", words["sampler"], SAMPLERS)
    parse_thresholds(words.get("threshold"))


def read_dials(bundle: Bundle, dtype: str, words: dict[str, str], worded: bool = True) -> Dials:
    """Dials from the words of a user, option -> text; what is not there stays at the bundle's default. worded: whether
    the base is given a text, not a picture's embedding alone.

    Raises UsageError for words that make no sense to this model, InputError for a model that is unfinished.
    """
    check_words(words)
    manifest = bundle.manifest
    check_complete(manifest, bundle.configs)
    size = manifest.size
    if "size" in words:
        made = ", ".join(str(s) for s in manifest.sizes)
        if words["size"] not in {str(s) for s in manifest.sizes}:
            what = f"--size {words['size']}: the model {manifest.name!r} stops at {made}."
            raise UsageError(what, "Choose one of these.")
        size = int(words["size"])
    steps = per_stage("steps", words.get("steps"), manifest, 1, 1000, whole=True)
    stages = by_stage(
        steps={stage: int(value) for stage, value in steps.items()},
        guidance=per_stage("guidance", words.get("guidance"), manifest, 0, 100, kinds=_guided(bundle)),
        sampler={e.name: words["sampler"] for e in manifest.of_kind("base") if words.get("sampler")},
        threshold=thresholds(words.get("threshold"), manifest),
        noise=per_stage("sr-noise", words.get("sr_noise"), manifest, 0, 1, kinds=("upsampler",), bare="upsampler"),
    )
    negative = words.get("negative", "").strip()
    settings = _settings(bundle, dtype, size, stages, worded or bool(negative))
    return Dials(size, negative, stages, settings, _group(settings, negative))


def _group(settings: dict[str, Any], negative: str) -> str:
    return json.dumps([settings, negative], sort_keys=True)


def _settings(bundle: Bundle, dtype: str, size: int, stages: dict[str, SamplingConfig], worded: bool) -> dict[str, Any]:
    from t2i.store.compatibility import ENCODERS

    tables: dict[str, Any] = {}
    for entry in bundle.manifest.stages:
        if entry.kind in (*ENCODERS, "sharp") or bundle.configs[entry.name]["widths"].get("size", 0) > size:
            continue
        defaults = entry.defaults if worded else entry.defaults.without_text
        sampling = defaults.override(stages.get(entry.name))
        table = {
            "steps": sampling.steps,
            "guidance": sampling.guidance,
            "sampler": sampling.sampler,
            "schedule": sampling.schedule,
            "threshold": _written(sampling.threshold) if sampling.threshold != "none" or defaults.threshold else None,
            # what the bundle does anyway is not said: equal pictures keep equal keys
            "noise": sampling.noise if sampling.noise != given(defaults.noise, 0.0) else None,
        }
        tables[entry.name] = {key: value for key, value in table.items() if value is not None}
    return {"size": size, "dtype": dtype, "stages": tables}


def _written(threshold: Threshold | None) -> Any:
    """JSON has no infinity: a threshold without a cap is written with null."""
    if threshold is None or isinstance(threshold, str):
        return threshold
    return [x if math.isfinite(x) else None for x in threshold]


def _guided(bundle: Bundle) -> tuple[str, ...]:
    """The kinds of stage that guidance means something to: upsamplers only where they read text."""
    read = any(bundle.configs[e.name]["widths"].get("text_dim") for e in bundle.manifest.of_kind("upsampler"))
    return ("prior", "base", *(("upsampler",) if read else ()))


def as_words(table: dict[str, Any]) -> dict[str, str]:
    """The dials in a line of a jobs file, as they would stand on the command line: {"steps": {"base": 8}} is
    ``--steps base=8``. Raises UsageError for a value that has no such form."""
    words = {}
    for name, value in table.items():
        text = _word(value)
        if name not in NAMES or text is None:
            raise UsageError(f"{name}: {json.dumps(value)[:60]} cannot be read.", 'Write it as in "steps": {"base": 8}')
        words[name] = text
    return words


def _word(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value)
    if isinstance(value, list) and value and all(type(x) in (int, float) for x in value):
        return ",".join(_number(x) for x in value)
    if isinstance(value, dict) and value and all(type(x) in (int, float) for x in value.values()):
        return ",".join(f"{stage}={_number(x)}" for stage, x in value.items())
    return None


def _number(value: float) -> str:
    return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else repr(value)


def from_record(settings: dict[str, Any], negative: str) -> dict[str, str]:
    """The words that give the dials of a picture back from its record. Raises ValueError for a record that
    holds no settings of ours: a file may say anything."""
    stages = settings.get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise ValueError("no stages")
    words = {"size": _word(settings.get("size")) or "", "negative": negative}
    for dial in ("steps", "guidance"):
        table = {name: stage[dial] for name, stage in stages.items() if dial in stage}
        text = _word({name: value for name, value in table.items() if value is not None})
        if text:
            words[dial] = text
    base: dict[str, Any] = next((stage for name, stage in stages.items() if name == "base"), {})
    if isinstance(base.get("sampler"), str):
        words["sampler"] = base["sampler"]
    noise = _word({name: stage["noise"] for name, stage in stages.items() if stage.get("noise") is not None})
    if noise:
        words["sr_noise"] = noise
    thresholds = []
    for name, stage in stages.items():
        said = stage.get("threshold")
        if isinstance(said, str):
            thresholds.append(f"{name}={said}")
        elif isinstance(said, list) and len(said) == 2:
            thresholds.append(f"{name}={','.join(str(x) for x in said if x is not None)}")
    if thresholds:
        words["threshold"] = ",".join(thresholds)
    return words
