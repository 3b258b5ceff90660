"""Which type a training computes in: float32, or bfloat16 by autocast with float32 weights."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from t2i.train.recipe import Schedule


@dataclass(frozen=True)
class PrecisionChoice:
    """name: "fp32" or "bf16". timings: name -> milliseconds of a convolution, if the choice was made by measuring: then
    it depends on the machine and on what else it was doing, and another start may choose otherwise."""

    name: str
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, str]:
        """For checkpoint and log."""
        return {"precision": self.name, **({"precision_by": "timing"} if self.timings else {})}


def pick_precision(schedule: Schedule, device: torch.device) -> PrecisionChoice:
    """What the recipe says; for "auto" bf16 on a GPU, and on a CPU whichever convolves faster when measured."""
    if schedule.precision != "auto":
        return PrecisionChoice(schedule.precision)
    if device.type == "cuda":
        return PrecisionChoice("bf16")
    g = torch.Generator().manual_seed(0)
    x = torch.randn(16, 96, 16, 16, generator=g).contiguous(memory_format=torch.channels_last)
    w = torch.randn(96, 96, 3, 3, generator=g)
    took = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = x.to(dtype), w.to(dtype)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            torch.nn.functional.conv2d(a, b, padding=1)
            times.append(time.perf_counter() - start)
        took[name] = 1000 * min(times[2:])
    # bf16 must win clearly: it costs precision.
    return PrecisionChoice("bf16" if took["bf16"] * 1.3 < took["fp32"] else "fp32", took)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context that a loss is computed in. precision: "fp32" or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
