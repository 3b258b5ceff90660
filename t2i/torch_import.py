"""Importing quickly: a cold start is little else. What it gains: docs/decisions.md, "a lighter start"."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """Collect no garbage meanwhile: modules are none, and each full collection looks at all of them again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def import_torch() -> None:
    """Import torch, if it is not there yet. What is there by then is never looked at for garbage again."""
    if "torch" not in sys.modules:
        with collecting_later():
            import torch  # noqa: F401

            gc.freeze()
