"""What can be done with a model, known before it is loaded."""

from __future__ import annotations

from contextlib import suppress

from t2i.errors import UsageError
from t2i.store.bundle import FROM_PICTURES, Bundle
from t2i.store.completeness import missing_stages
from t2i.store.models import StoredModel
from t2i.store.open_model import FEATURES

NEEDS = {
    "--mask-text": "clip",
    "t2i upscale": "upsampler",
    "t2i vary": "clip",
    "--from-text": "clip",
    "--rerank": "clip",
    "--prior": "prior",
    "--prior-best-of": "prior",
}
"""feature -> the kind of stage that a bundle needs for it; a finished bundle has the others."""


def abilities(model: StoredModel) -> list[str]:
    """The commands, and options of them, that a model can be used with: members of `FEATURES`; none
    of a bundle that is unfinished."""
    if isinstance(model, Bundle):
        if missing_stages(model.manifest, model.configs):
            return []
        kinds = {entry.kind for entry in model.manifest.stages}
        stages = [name for name in FEATURES if name not in NEEDS or NEEDS[name] in kinds]
        return [name for name in stages if name not in FROM_PICTURES or "base" in kinds]
    can = []
    for name in FEATURES:
        with suppress(UsageError):
            model.check_can(name)
            can.append(name)
    return can
