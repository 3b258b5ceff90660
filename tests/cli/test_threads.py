"""How the threads of torch wait for each other: set before torch is imported, unless the user has said."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from t2i.__main__ import main
os._exit = sys.exit  # which the command line ends with
try:
    main()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_threads_spin_for_a_moment_only(given: dict[str, str], found: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = [sys.executable, "-c", PROGRAM, "--version"]
    out = subprocess.run(run, env=kept | given, capture_output=True, text=True, check=True).stdout
    assert out.split()[-1] == found
