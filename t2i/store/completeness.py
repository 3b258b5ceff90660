"""Is a bundle finished? Training adds one stage after the other; before the last of them nothing can be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.store.compatibility import ENCODERS

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest


def missing_stages(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> list[str]:
    """The kinds of stage without which no prompt can be drawn and that are not here, in the order of their training;
    ``configs`` as in :func:`t2i.store.compatibility.check_compatible`."""
    lacks = []
    if not any(manifest.of_kind(kind) for kind in ENCODERS):
        lacks.append("text" if manifest.family == "imagen" else "clip")
    bases = manifest.of_kind("base")
    if not bases:
        lacks.append("base")
    elif not manifest.of_kind("prior") and not any(configs[e.name]["widths"]["text_dim"] for e in bases):
        lacks.append("prior")  # nothing would tell the base what to draw
    return lacks


def unfinished_error(name: str, lacks: list[str]) -> InputError:
    """What is said of the model ``name`` that lacks these stages."""
    hint = "Train " + ", then ".join(f"t2i train {stage} --out …" for stage in lacks)
    return InputError(f"the model {name!r} is unfinished: it has no {' and no '.join(lacks)}.", hint, "bundle")


def check_complete(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> None:
    """Raise InputError (code ``bundle``) unless the stages that are here can draw a prompt."""
    lacks = missing_stages(manifest, configs)
    if lacks:
        raise unfinished_error(manifest.name, lacks)
