"""Removes the checkpoints, logs and sheets of stages that are to be trained anew, all of them at one moment.

Their names are written down first, in `.train/forgotten`, which is removed last. What a kill leaves is removed at the
next start; else a new training could be resumed with some of the weights that it was to replace.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from t2i.files import write_bytes
from t2i.train.run import Run

FORGOTTEN = "forgotten"


def forget(run: Run, stages: Iterable[str]) -> None:
    """Remove what the training of these stages has left in `.train/`."""
    names = [name for name in stages if run.folder(name).exists()]
    if names:
        write_bytes(run.out / ".train" / FORGOTTEN, "\n".join(names).encode())
        finish_forgetting(run)


def finish_forgetting(run: Run) -> None:
    """Remove what a killed `forget` has left."""
    path = run.out / ".train" / FORGOTTEN
    if not path.is_file():
        return
    for name in path.read_text("utf-8", errors="replace").split("\n"):
        if name not in ("", ".", "..") and "/" not in name:
            shutil.rmtree(run.folder(name), ignore_errors=True)
    path.unlink()
