"""Training in tests."""

from __future__ import annotations

from typing import Any

from t2i.store.bundle import Bundle
from t2i.train.trainer import train


def trained_by(*args: Any, **kwargs: Any) -> Bundle:
    """The bundle that `train` writes; a dry run writes none."""
    bundle = train(*args, **kwargs)
    assert isinstance(bundle, Bundle)
    return bundle
