"""The fields of `SamplingConfig` as options: on the command line, in a jobs file, in a sweep and in a record.

A new one is a field of `SamplingConfig`, a row of `STAGE_OPTIONS`, and its option in the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2i.errors import UsageError, check_choice
from t2i.jobs.parsing import per_stage, thresholds
from t2i.sampling import SAMPLERS
from t2i.store.compatibility import DIRECT

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest, StageEntry
    from t2i.store.models import StoredModel

Read = Callable[[str, str, "StoredModel"], Mapping[str, Any]]
"""(option as it is called in an error, its text, model) -> {stage name: value}; raises UsageError."""
Write = Callable[[Mapping[str, Any]], str | None]
"""{stage name: value}, from a record's JSON -> the text of the option, or None."""


GUIDED = ("prior", "base")
"""What a guidance without a stage's name is for: the text acts on the picture through both."""


@dataclass(frozen=True)
class StageOption:
    """How a field of `SamplingConfig` is written.

    read, write: from and to the text of the option. bare: the kinds of stage that a value without a name is for.
    staged: whether the option can hold a value for each stage.
    """

    field: str
    read: Read
    write: Write
    bare: tuple[str, ...] = ("base",)
    staged: bool = True


def number_text(value: float) -> str:
    """The shortest text that reads as the same number."""
    return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else repr(value)


def numbers_text(values: Mapping[str, Any]) -> str | None:
    """{"base": 8, "prior": 2} as base=8,prior=2; None if there is no value, or one that is no number."""
    if not values or not all(type(x) in (int, float) for x in values.values()):
        return None
    return ",".join(f"{stage}={number_text(x)}" for stage, x in values.items())


def named_stages(
    text: str, values: Mapping[str, Any], manifest: Manifest, running: Sequence[StageEntry]
) -> tuple[list[str], list[str]]:
    """The stages for which an option of this text has a value, as far as they run, and as far as they do not.

    A value without a name is for whichever of its stages runs.
    """
    runs = {entry.name for entry in running}
    used, unused = [name for name in values if name in runs], [name for name in values if name not in runs]
    named = [part.rpartition("=")[0].strip() for part in text.split(",") if "=" in part]
    if used:
        entries = [manifest.stage(name) for name in unused]
        unused = [e.name for e in entries if any(n and n in (e.name[: len(n)], e.kind[: len(n)]) for n in named)]
    return used, unused


def _numbers(low: float, high: float, *, whole: bool = False, only: tuple[str, ...] = ()) -> Read:
    """Numbers in [low, high]; only: the kinds of stage that take them, () for all that diffuse."""

    def read(option: str, text: str, model: StoredModel) -> Mapping[str, Any]:
        kinds = only or ("prior", "base", "upsampler")
        values = per_stage(option, text, model.manifest, low, high, whole=whole, kinds=kinds, bare=only or ("base",))
        return {stage: int(value) for stage, value in values.items()} if whole else values

    return read


def _read_guidance(option: str, text: str, model: StoredModel) -> Mapping[str, Any]:
    """Upsamplers take guidance only where they read text."""
    reads_text = any(model.configs[e.name]["widths"].get("text_dim") for e in model.manifest.of_kind("upsampler"))
    kinds = ("prior", "base", *(("upsampler",) if reads_text else ()))
    return per_stage(option, text, model.manifest, 0, 100, kinds=kinds, bare=GUIDED)


def _read_sampler(option: str, text: str, model: StoredModel) -> Mapping[str, Any]:
    if not model.manifest.of_kind("base"):
        raise UsageError(f"--{option}: none of this model's stages takes it.", "It is for models that have a base.")
    return {entry.name: check_choice(option, text, SAMPLERS) for entry in model.manifest.of_kind("base")}


def _write_sampler(values: Mapping[str, Any]) -> str | None:
    return values["base"] if isinstance(values.get("base"), str) else None


def _read_threshold(option: str, text: str, model: StoredModel) -> Mapping[str, Any]:
    return thresholds(text, model.manifest)


def _write_threshold(values: Mapping[str, Any]) -> str | None:
    parts = []
    for name, threshold in values.items():
        if isinstance(threshold, str):
            parts.append(f"{name}={threshold}")
        elif isinstance(threshold, list) and len(threshold) == 2:
            parts.append(f"{name}={','.join(str(x) for x in threshold if x is not None)}")
    return ",".join(parts) or None


STAGE_OPTIONS: dict[str, StageOption] = {
    "steps": StageOption("steps", _numbers(1, 1000, whole=True), numbers_text),
    "guidance": StageOption("guidance", _read_guidance, numbers_text, bare=GUIDED),
    "sampler": StageOption("sampler", _read_sampler, _write_sampler, staged=False),
    "threshold": StageOption("threshold", _read_threshold, _write_threshold),
    "sr_noise": StageOption("noise", _numbers(0, 1, only=("upsampler",)), numbers_text, bare=("upsampler",)),
    "temperature": StageOption("temperature", _numbers(0, 100, only=DIRECT), numbers_text, bare=DIRECT),
    "top_k": StageOption("top_k", _numbers(1, 4_194_304, whole=True, only=("dalle",)), numbers_text, bare=("dalle",)),
    "top_p": StageOption("top_p", _numbers(1e-6, 1, only=("dalle",)), numbers_text, bare=("dalle",)),
}
"""Option, as it is called in a jobs file and in a sweep -> how it is read and written."""
