"""What a training would do, without doing it: sizes, samples, memory, and the time by measuring two steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from t2i.train.locked import LockedClipObjective
from t2i.train.loop import Objective, autocast, pick_precision
from t2i.train.objectives import PriorObjective
from t2i.train.pool import BATCH
from t2i.train.readers import untrained
from t2i.train.reading import ReadingObjective
from t2i.train.recipe import STAGES, Schedule
from t2i.train.starting import lesson

if TYPE_CHECKING:
    import torch

    from t2i.train.run import Trainer

CAPTIONS = 2000  # enough for a tokenizer that gives sentences of the usual length
STATE = 20  # bytes a parameter: weight, gradient, average and two moments in fp32; activations are not counted


def plan(trainer: Trainer, stages: Sequence[str]) -> dict[str, Any]:
    """{"recipe", "stages": a row each, "out", "data"}; nothing is written.

    A row: stage, parameters, steps, batch, samples, state_mb (memory of weights and optimiser), shipped_mb
    (in the bundle), seconds (an estimate, of this machine as busy as it is now).
    """
    t5 = trainer.takes("text")
    tokenizer = None if t5 else trainer.new_tokenizer(min(CAPTIONS, trainer.recipe.tokenizer.captions))
    readers = untrained(trainer.recipe, trainer.build, tokenizer)
    rows = []
    for name in stages:
        if name in trainer.recipe.share or trainer.takes(name):
            continue  # nothing to do but to copy
        if trainer.stop():
            break
        objective = trainer.objective(name, tokenizer, readers)
        if not isinstance(reading := lesson(trainer, objective), str):
            rows.append(_row(reading, trainer.recipe.base.reading, trainer.device, shipped=0))
        shipped = sum(p.numel() for p in trainer.build(name).parameters())
        rows.append(_row(objective, getattr(trainer.recipe, name).schedule, trainer.device, shipped))
    recipe = {
        key: part for key, part in trainer.recipe.to_dict().items() if key not in STAGES or trainer.recipe.trains(key)
    }
    return {"recipe": recipe, "stages": rows, "out": str(trainer.out), "data": trainer.data}


def _row(objective: Objective, schedule: Schedule, device: torch.device, shipped: int) -> dict[str, Any]:
    """What there is to say of a stage that has so many parameters in the bundle."""
    seconds, trained = _measure(objective, schedule, device)
    return {
        "stage": objective.name, "parameters": shipped or trained, "steps": schedule.steps, "batch": schedule.batch,
        "samples": schedule.steps * schedule.batch, "state_mb": round(trained * STATE / 2**20),
        "shipped_mb": round(shipped * 2 / 2**20, 1), "seconds": round(seconds),
    }  # fmt: skip


def _measure(objective: Objective, schedule: Schedule, device: torch.device) -> tuple[float, int]:
    """(seconds that the stage will take, parameters that it trains)."""
    once = 0.0
    if isinstance(objective, (PriorObjective, LockedClipObjective, ReadingObjective)):
        whole, objective.pool.size = objective.pool.size, BATCH
        begin = time.perf_counter()
        objective.pool.fill()
        once = (time.perf_counter() - begin) * whole / BATCH
    module = objective.module.to(device)
    precision = pick_precision(schedule, device)
    took = []
    for step in range(2):  # the first one warms up
        begin = time.perf_counter()
        with autocast(precision, device):
            loss, _ = objective.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # waits for a GPU
        took.append(time.perf_counter() - begin)
        module.zero_grad(set_to_none=True)
    return once + min(took) * schedule.steps, sum(p.numel() for p in module.parameters())
