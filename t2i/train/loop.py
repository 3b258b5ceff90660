"""The one training loop: steps, averages, checkpoints, log and sample sheets of anything that is `Trainable`."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from t2i.errors import InputError
from t2i.files import TEMP_PREFIX
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.train.log import Log
from t2i.train.objective import Trainable
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.part import Part, check_cut
from t2i.train.precision import PrecisionChoice, autocast, pick_precision
from t2i.train.recipe import Schedule
from t2i.train.sharding import check_sharding
from t2i.train.sheets import averaged
from t2i.train.state import State

NAN_LIMIT = 20  # losses in a row that are no numbers, after which a training has failed


def learning_rate(schedule: Schedule, step: int) -> float:
    """Learning rate at `step`: linear warm-up, constant, linear to 0 over the last share of the steps."""
    up = min(1.0, (step + 1) / max(1, schedule.warmup))
    tail = schedule.steps * schedule.decay
    down = min(1.0, (schedule.steps - step) / tail) if tail else 1.0
    return schedule.lr * up * max(0.0, down)


def fit(task: Trainable, *, resume: bool) -> State:
    """Train to `task.schedule.steps`, or until `task.run.stop()` says so; then the last event is "stopped".

    Checkpoint, log and sheets are in `task.run.folder(task.name)`. resume: go on from the checkpoint there.
    Raises InputError when resuming without a checkpoint or with one of another training, or when the loss stops being
    a number, and UsageError for a batch that cannot be cut as it should, or a stage that cannot be compiled.
    """
    run, schedule, folder = task.run, task.schedule, task.run.folder(task.name)
    task.check_compile(task.name, schedule)
    check_cut(task.name, schedule, run.team.ranks, task.unit, task.uncut)
    if run.team.sharded:
        check_sharding({task.name: (schedule, task.unsharded)})
    module = task.module.to(run.device)
    wrapped = run.team.wrap(module)
    optimizer = MuonAdamW(
        module.named_parameters(), lr=schedule.lr, muon=schedule.muon, betas=schedule.betas,
        weight_decay=schedule.weight_decay,
    )  # fmt: skip
    state = State(module, optimizer, PowerEMA(module, schedule.ema))
    chosen, precision = None, dict[str, str]()
    if resume:  # the checkpoint's precision: another one would not continue the same training
        old = state.load(folder, {"stage": task.name, **task.facts})
        precision |= {key: str(old[key]) for key in ("precision", "precision_by") if key in old}
    else:
        chosen = run.team.first(lambda: pick_precision(schedule, run.device))
        precision |= chosen.facts
    facts = {"stage": task.name, **precision, **task.facts}
    if run.team.leads:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"{TEMP_PREFIX}*"):  # a kill in the middle of a checkpoint leaves its half
            stale.unlink(missing_ok=True)
    if schedule.compile:
        if run.device.type == "cpu":
            run.report(
                {"event": "compiling", "stage": task.name, "hint": "it takes minutes, and gains nothing on a CPU"}
            )
        for net in task.compiled:
            net.compile()
    head = {"event": "start", "stage": task.name, "step": state.step, "steps": schedule.steps}
    run.report(head | precision | {"parameters": task.parameters})
    log = Log(folder if run.team.leads else None, state.step)
    if chosen and chosen.timings:
        log.write(_chosen_record(task.name, state.step, chosen))
    try:
        _steps(task, wrapped, state, facts, log)
    finally:
        log.close()
    if state.step < schedule.steps:
        run.report({"event": "stopped", "stage": task.name, "step": state.step, "steps": schedule.steps})
    return state


def _chosen_record(stage: str, step: int, chosen: PrecisionChoice) -> dict[str, Any]:
    """The log's record of a precision that was chosen by a timing."""
    return {
        "event": "precision", "stage": stage, "step": step, **chosen.facts,
        **{f"{name}_ms": took for name, took in chosen.timings.items()},
    }  # fmt: skip


def _steps(task: Trainable, wrapped: Any, state: State, facts: dict[str, Any], log: Log) -> None:
    run, team, schedule, module, optimizer = task.run, task.run.team, task.schedule, state.module, state.optimizer
    window = list[dict[str, float]]()
    started = since = time.perf_counter()
    before = state.seconds
    module.train()
    for step in range(state.step, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(schedule, step)
        optimizer.zero_grad(set_to_none=True)
        value, measured = _gradients(task, wrapped, step, facts["precision"])
        norm = team.clip_gradients(module, schedule.clip_norm)
        state.step, state.samples = step + 1, state.samples + schedule.batch
        if math.isfinite(norm) and math.isfinite(value):
            optimizer.step()
            state.ema.update(module, state.step)
            window.append({"loss": value, "norm": norm, **measured})
            state.skipped_last = 0
        else:
            _skip(task, state)
        state.seconds = before + time.perf_counter() - started
        stopped = team.any(run.stop())
        last = stopped or state.step == schedule.steps
        if state.step % schedule.log_every == 0 or last:
            now = time.perf_counter()
            record = _step_record(task, state, window, now - since)
            log.write(record)
            run.report(record)
            since, window = now, []
        if state.step == schedule.steps:
            _refuse_skipped_end(task, state)
        if state.step % schedule.save_every == 0 or last:
            tensors = state.tensors(team.leads)
            team.first(partial(state.save, run.folder(task.name), facts, tensors))
            del tensors
        if (state.step % schedule.sample_every == 0 or last) and not stopped and (team.leads or team.sharded):
            began = time.perf_counter()
            try:
                _sheet(task, wrapped, state)
            except Exception as error:  # hours of training must not be lost for a picture of it
                run.report({"event": "no sheet", "stage": task.name, "step": state.step, "reason": repr(error)})
            since += time.perf_counter() - began  # drawing is no training: the rate stays true
        if last:
            break


def _skip(task: Trainable, state: State) -> None:
    """Count a step whose loss or gradient is no number: one broken batch is skipped. Raises InputError when so many in
    a row mean that training has failed."""
    state.skipped_last, state.skipped = state.skipped_last + 1, state.skipped + 1
    if state.skipped_last >= NAN_LIMIT:
        raise InputError(
            f"at step {state.step - 1} the loss of {task.name} was no number for the {NAN_LIMIT}th time",
            "lower the learning rate and resume from the last checkpoint",
            "data",
        )


def _step_record(task: Trainable, state: State, window: list[dict[str, float]], took: float) -> dict[str, Any]:
    """The log's record of the steps in `window`, which took so many seconds."""
    schedule = task.schedule
    return _means(window) | {
        "event": "step", "stage": task.name, "step": state.step, "steps": schedule.steps,
        "lr": learning_rate(schedule, state.step - 1), "rate": len(window) * schedule.batch / max(1e-9, took),
        "left": (schedule.steps - state.step) * took / max(1, len(window)),
        "skipped": state.skipped, "seconds": round(state.seconds, 1),
    }  # fmt: skip


def _gradients(task: Trainable, wrapped: Any, step: int, precision: str) -> tuple[float, dict[str, float]]:
    """Compute the gradients of a step, the mean over all processes and passes. Returns the means of loss and facts."""
    team, n = task.run.team, task.schedule.accumulate
    rows = list[dict[str, float]]()
    for i in range(n):
        task.part = Part(team.rank, team.ranks, i, n)
        with team.no_sync(wrapped) if i < n - 1 else nullcontext():
            with autocast(precision, task.run.device):
                loss, measured = wrapped(partial(task.loss, step))
            (loss if n == 1 else loss / n).backward()
        rows.append({"loss": float(loss.detach()), **measured})
    means = team.mean(_means(rows))
    return means.pop("loss"), means


def _refuse_skipped_end(task: Trainable, state: State) -> None:
    """Raise InputError if a training ends with steps that were skipped: it has failed and is not saved as done. A lone
    one at the end is a broken batch."""
    if state.skipped_last >= min(2, task.schedule.steps):
        raise InputError(
            f"the loss of the last {state.skipped_last} steps of {task.name} was no number",
            "lower the learning rate and resume from the last checkpoint",
            "data",
        )


def _sheet(task: Trainable, wrapped: Any, state: State) -> None:
    """Write the task's sheet of pictures, if it has one."""
    module, team = state.module.eval(), task.run.team
    try:
        with torch.no_grad(), averaged(module, state.ema.weights):
            pictures = team.draw(wrapped, task.sheet)
    finally:
        module.train()
    if pictures is None or not team.leads:
        return
    path = task.run.folder(task.name) / "sheets" / f"{state.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    save_image(contact_sheet([[to_pil(picture) for picture in row] for row in pictures]), path)
    task.run.report({"event": "sheet", "stage": task.name, "step": state.step, "path": str(path)})


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}
