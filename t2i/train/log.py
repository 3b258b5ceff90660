"""The record of a training: log.jsonl, one line an event, and TensorBoard's files where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.files import write_bytes

LOG = "log.jsonl"


class Log:
    """Appends to `folder`/log.jsonl. Records later than `step`, which an interrupted run wrote after its last
    checkpoint, are removed first, so that every step is logged once. Without a folder nothing is written."""

    def __init__(self, folder: Path | None, step: int) -> None:
        self.board: Any = None
        self.path = folder and folder / LOG
        if folder is None or self.path is None:
            return
        if self.path.is_file():
            kept = [record for record in read_log(self.path) if record.get("step", 0) <= step]
            write_bytes(self.path, "".join(_line(record) for record in kept).encode())
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append a record, which has a "stage" and a "step"."""
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        if self.board is not None:
            for key, value in record.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{record['stage']}/{key}", value, record["step"])

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a log. A line that is no JSON, as one that was cut short, is left out."""
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _line(record: dict[str, Any]) -> str:
    """One line of JSON, which has no NaN: non-finite numbers become null."""
    clean: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, float):
            value = round(value, 6) if math.isfinite(value) else None
        clean[key] = value
    return json.dumps(clean) + "\n"
