"""Whether a bundle has all the stages that it takes to draw a prompt. Training adds one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.store.compatibility import ENCODERS

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest


def missing_stages(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> list[str]:
    """The kinds of stage that are needed to draw a prompt and missing, in the order of their training.

    configs: stage name -> its config.
    """
    if manifest.family == "gan" or manifest.of_kind("gan"):
        encoder = [] if any(manifest.of_kind(kind) for kind in ENCODERS) else ["clip"]
        return encoder + ([] if manifest.of_kind("gan") else ["gan"])
    if manifest.family == "dalle" or manifest.of_kind("dalle") or manifest.of_kind("vae"):
        return [kind for kind in ("clip", "vae", "dalle") if not manifest.of_kind(kind)]
    lacks = []
    if not any(manifest.of_kind(kind) for kind in ENCODERS):
        lacks.append("text" if manifest.family == "imagen" else "clip")
    bases = manifest.of_kind("base")
    if not bases:
        lacks.append("base")
    elif not manifest.of_kind("prior") and not any(configs[e.name]["widths"]["text_dim"] for e in bases):
        lacks.append("prior")  # nothing would tell the base what to draw
    return lacks


def takes_diffusion(name: str, what: str) -> UsageError:
    """The error for the model `name`, which has no base, and something that only a base can do."""
    message = f"{what}: the model {name!r} does not draw by diffusion, and cannot do this."
    return UsageError(message, "Use a model that draws by diffusion, such as --model small.")


def takes_images(name: str, what: str = "", hint: str = "") -> UsageError:
    """The error for the model `name`, which has no image encoder, and `what` needs one. hint: in place of the usual
    one."""
    message = f"the model {name!r} has no image encoder: its text encoder has never seen a picture."
    usual = "Start from a picture with t2i sample … --init IMAGE, or use --model small."
    return UsageError(f"{what} cannot be used, for {message}" if what else message, hint or usual)


def unfinished_error(name: str, lacks: list[str]) -> InputError:
    """The error for the model `name`, which lacks these kinds of stage."""
    hint = "Train " + ", then ".join(f"t2i train {stage} --out …" for stage in lacks)
    return InputError(f"the model {name!r} is unfinished: it has no {' and no '.join(lacks)}.", hint, "bundle")


def check_complete(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> None:
    """Raise InputError (code `bundle`) unless the stages can draw a prompt."""
    lacks = missing_stages(manifest, configs)
    if lacks:
        raise unfinished_error(manifest.name, lacks)
