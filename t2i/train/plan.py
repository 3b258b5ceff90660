"""What a training would do, for `--dry-run`: sizes, samples, memory, and the time, by measuring two steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from t2i.train.objective import Trainable
from t2i.train.objectives import encoder_of, objective_of
from t2i.train.precision import autocast, pick_precision
from t2i.train.run import Run

CAPTIONS = 2000  # enough for a tokenizer that gives sentences of the usual length
STATE = 20  # bytes a parameter: weight, gradient, average and two moments in fp32; activations are not counted


def plan(run: Run, stages: Sequence[str]) -> dict[str, Any]:
    """{"recipe", "stages": a row each, "out", "data"}; nothing is written.

    A row: stage, parameters, steps, batch, samples, state_mb (memory of weights and optimiser), shipped_mb
    (in the bundle), seconds (an estimate, of this machine as busy as it is now).
    """
    recipe = run.recipe
    copied = recipe.stages[recipe.encoder].copied
    tokenizer = None if copied else run.pictures.new_tokenizer(min(CAPTIONS, recipe.tokenizer.captions))
    encoders = encoder_of(recipe).untrained(recipe, tokenizer)
    rows = []
    for name in stages:
        if name in recipe.share or recipe.stages[name].copied:
            continue  # nothing to do but to copy
        if run.stop():
            break
        objective = objective_of(recipe, name)(run, name, encoders)
        if pretraining := objective.planned_pretraining():
            rows.append(row(pretraining, shipped=0))
        rows.append(row(objective, shipped=objective.parameters))
    tables = {key: part for key, part in recipe.to_dict().items() if key not in recipe.stages or recipe.has(key)}
    return {"recipe": tables, "stages": rows, "out": str(run.out), "data": run.pictures.data}


def row(task: Trainable, shipped: int) -> dict[str, Any]:
    """The row of something to be trained, of whose parameters `shipped` go into the bundle."""
    schedule = task.schedule
    seconds, trained = _measure(task)
    return {
        "stage": task.name, "parameters": task.parameters, "steps": schedule.steps, "batch": schedule.batch,
        "samples": schedule.steps * schedule.batch, "state_mb": round(trained * STATE / 2**20),
        "shipped_mb": round(shipped * 2 / 2**20, 1), "seconds": round(seconds),
    }  # fmt: skip


def _measure(task: Trainable) -> tuple[float, int]:
    """(seconds that the training will take, parameters that it trains, of helping networks too)."""
    once, device = 0.0, task.run.device
    if task.pool is not None:
        batches = task.pool.size / task.pool.batch
        begin = time.perf_counter()
        task.pool.rehearse()
        once = (time.perf_counter() - begin) * batches
    module = task.module.to(device)
    precision = pick_precision(task.schedule, device).name
    took = []
    for step in range(2):  # the first one warms up
        begin = time.perf_counter()
        with autocast(precision, device):
            loss, _ = task.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # waits for a GPU
        took.append(time.perf_counter() - begin)
        module.zero_grad(set_to_none=True)
    return once + min(took) * task.schedule.steps, sum(p.numel() for p in module.parameters())
