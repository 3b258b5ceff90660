"""Importing torch without looking for garbage; in processes of their own, since it happens once."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from t2i.torch_import import import_torch
runs = []
gc.callbacks.append(lambda phase, info: runs.append(phase))
if sys.argv[1] == "off":
    gc.disable()
runs.clear()
import_torch()
assert not runs, "garbage was collected meanwhile"
assert "torch" in sys.modules
frozen = gc.get_freeze_count()
import_torch()  # nothing happens any more
print(gc.isenabled(), frozen > 100_000, gc.get_freeze_count() == frozen)
"""


@pytest.mark.parametrize("collecting", ["on", "off"])
def test_torch_is_imported_without_collecting_and_then_left_alone(collecting: str) -> None:
    run = [sys.executable, "-c", PROGRAM, collecting]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(collecting == "on"), "True", "True"]
