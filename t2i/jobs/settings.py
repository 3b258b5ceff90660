"""The settings of a picture: everything that decides it except weights, prompt and seed.

A user writes them as options, name -> text. They come from the command line, from a line of a jobs file, from a sweep,
or from the record of another picture, and all are read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from t2i.errors import UsageError, check_choice
from t2i.jobs.parsing import parse_thresholds
from t2i.jobs.stage_options import STAGE_OPTIONS, named_stages, number_text, numbers_text
from t2i.prompts import check_text
from t2i.sampling import SAMPLERS, SampleRequest, SamplingConfig, Size, Threshold, by_stage
from t2i.store.load_options import LoadOptions
from t2i.store.manifest import EXTRA_FIELDS, StageEntry

if TYPE_CHECKING:
    from t2i.store.models import StoredModel

NAMES = ("size", *STAGE_OPTIONS, "negative", "quality")
"""The options that are settings, as they are called in a jobs file and in a sweep."""
YES_NO = ("no", "yes")
"""The values of the option quality, which is a flag on the command line."""


@dataclass(frozen=True, eq=False)
class Settings:
    """Settings that were checked against a model.

    size: of the picture in pixels; stages: what differs from the stages' defaults; quality: as in `SampleRequest`;
    loading: how the weights are loaded; table: how all of it stands in a picture's key and record; group: pictures of
    one group may be drawn together. used, unused: (option, stage) of what was asked for, as far as the stage runs for
    the picture or does not; ("quality", "") as far as any stage takes its number of steps from it.
    """

    size: Size
    negative: str
    stages: dict[str, SamplingConfig]
    quality: bool
    loading: LoadOptions
    table: dict[str, Any] = field(repr=False)
    group: str = field(repr=False)
    used: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    unused: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)

    def request(self, keep_stages: bool) -> SampleRequest:
        """The request to the pipeline."""
        negative = self.negative or None
        return SampleRequest(self.size, negative, self.quality, keep_stages=keep_stages, stages=self.stages)

    def adding(self, more: dict[str, Any]) -> Settings:
        """The same with more in the table: other facts that decide the picture."""
        table = {**self.table, **more}
        return replace(self, table=table, group=_group(table, self.negative))


def check_options(options: dict[str, str]) -> None:
    """Raise UsageError for options that make no sense to any model."""
    check_text(options.get("negative", ""), "the negative prompt")
    if "sampler" in options:
        check_choice("sampler", options["sampler"], SAMPLERS)
    if options.get("quality", "no") not in YES_NO:
        raise UsageError(f"quality: {options['quality']!r} is neither yes nor no.", 'In a file write "quality": true')
    parse_thresholds(options.get("threshold"))


def read_settings(
    model: StoredModel,
    loading: LoadOptions,
    options: dict[str, str],
    has_text: bool = True,
    without: Sequence[str] = (),
    quality: bool = False,
) -> Settings:
    """Settings from options; what is not given stays at the model's default.

    has_text: whether the base is given a text; given an image embedding alone, it has defaults of its own, and no prior
    runs. without: other kinds of stage that do not run. quality: whether this is an edit, which takes as many steps as
    with the option. Raises UsageError for options that make no sense to this model,
    InputError for a model that is unfinished.
    """
    check_options(options)
    model.check_load(loading)
    model.check_options(options)
    size = model.read_size(options["size"]) if "size" in options else model.manifest.size
    values = {
        option.field: option.read(name.replace("_", "-"), options[name], model)
        for name, option in STAGE_OPTIONS.items()
        if name in options
    }
    stages = by_stage(**values)
    negative = options.get("negative", "").strip()
    quality = quality or options.get("quality") == "yes"
    running = _running(model, size, without if has_text else (*without, "prior"))
    table = _table(running, loading, size, stages, has_text or bool(negative), quality)
    used, unused = set(), set()
    for name in STAGE_OPTIONS.keys() & options.keys():
        heeded, idle = named_stages(options[name], values[STAGE_OPTIONS[name].field], model.manifest, running)
        used |= {(name, stage) for stage in heeded}
        unused |= {(name, stage) for stage in idle}
    if options.get("quality") == "yes":
        asked = {name for name, own in stages.items() if own.steps is not None}
        changes = any(entry.defaults.quality_steps and entry.name not in asked for entry in running)
        (used if changes else unused).add(("quality", ""))
    group = _group(table, negative)
    return Settings(size, negative, stages, quality, loading, table, group, frozenset(used), frozenset(unused))


def check_used(every: Iterable[Settings]) -> None:
    """Raise UsageError for an option that is for a stage that runs for no picture of a run, or for quality where steps
    say all."""
    distinct = {id(settings): settings for settings in every}.values()
    unused = {pair: settings for settings in distinct for pair in settings.unused}
    for pair in sorted(unused.keys() - {pair for settings in distinct for pair in settings.used}):
        option, stage = pair
        if option == "quality":
            what = (
                "--quality changes nothing: the stages that have more steps for it do not run, or --steps says theirs."
            )
            raise UsageError(what, "Leave one of the two out.")
        side = _size_text(unused[pair].table["size"])
        what = f"--{option.replace('_', '-')}: the stage {stage!r} does not run for what was asked."
        raise UsageError(what, f"Leave it out: at --size {side} there run {', '.join(unused[pair].table['stages'])}.")


def _group(table: dict[str, Any], negative: str) -> str:
    return json.dumps([table, negative], sort_keys=True)


def _running(model: StoredModel, size: Size, without: Sequence[str]) -> list[StageEntry]:
    """The stages that a picture of this size goes through, after the text encoder."""
    from t2i.store.compatibility import ENCODERS

    side = size if isinstance(size, int) else max(size)
    return [
        entry
        for entry in model.manifest.stages
        if entry.kind not in (*ENCODERS, *without) and model.configs[entry.name]["widths"].get("size", 0) <= side
    ]


def _table(
    running: Sequence[StageEntry], loading: LoadOptions, size: Size, stages: dict[str, SamplingConfig], has_text: bool,
    quality: bool,
) -> dict[str, Any]:  # fmt: skip
    """The settings of every stage that runs, for key and record."""
    tables: dict[str, Any] = {}
    for entry in running:
        defaults = entry.defaults.for_drawing(with_text=has_text, quality=quality)
        sampling = defaults.override(stages.get(entry.name))
        table = asdict(sampling)
        table["threshold"] = _written(sampling.threshold, defaults.threshold)
        for name in EXTRA_FIELDS:  # a default is left out, so that equal pictures have equal keys
            if (table[name] or None) == (getattr(defaults, name) or None):  # noise 0 is none
                table[name] = None
        tables[entry.name] = {key: value for key, value in table.items() if value is not None}
    return {"size": size if isinstance(size, int) else list(size), **loading.facts(), "stages": tables}


def _written(threshold: Threshold | None, default: Threshold | None) -> Any:
    """A threshold for JSON, which has no infinity: no cap is null. None for "none" where that is the default anyway."""
    if threshold is None or (threshold == "none" and default is None):
        return None
    return threshold if isinstance(threshold, str) else [x if math.isfinite(x) else None for x in threshold]


def as_options(table: dict[str, Any]) -> dict[str, str]:
    """The settings in a line of a jobs file as options: {"steps": {"base": 8}} is `--steps base=8`.

    Raises UsageError for a value that cannot be written as an option.
    """
    options = {}
    for name, value in table.items():
        text = YES_NO[value] if name == "quality" and isinstance(value, bool) else _text(value)
        if name not in NAMES or text is None:
            raise UsageError(f"{name}: {json.dumps(value)[:60]} cannot be read.", 'Write it as in "steps": {"base": 8}')
        options[name] = text
    return options


def _size_text(size: Any) -> str:
    """64 as 64, [96, 64] as 96x64."""
    sides = size if isinstance(size, list) else [size]
    return "x".join(_text(side) or "" for side in sides)


def _text(value: Any) -> str | None:
    """A JSON value as an option's text; None if it has no such form."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, list) and value and all(type(x) in (int, float) for x in value):
        return ",".join(number_text(x) for x in value)
    return numbers_text(value) if isinstance(value, dict) else None


def from_record(table: dict[str, Any], negative: str) -> dict[str, str]:
    """The options that give the settings in a record. Raises ValueError for a table that is none of ours: a file may
    say anything."""
    stages = table.get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise ValueError("settings.stages is no table of tables")
    options = {"size": _size_text(table.get("size")), "negative": negative}
    for name, option in STAGE_OPTIONS.items():
        key = option.field
        if text := option.write({stage: table[key] for stage, table in stages.items() if table.get(key) is not None}):
            options[name] = text
    return options
