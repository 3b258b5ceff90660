"""The one training loop. An Objective says what the loss is; everything else about training is here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.files import TEMP_PREFIX
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.train.log import Log
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.recipe import Schedule
from t2i.train.state import State

Report = Callable[[dict[str, Any]], None]
NAN_LIMIT = 20


class Objective(Protocol):
    """One stage's training: its network, its loss at a step, a sheet to look at."""

    name: str

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss of the batch of `step`, a function of the run's seed and the step; facts to log."""

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """Pictures (R, C, 3, S, S) in [-1, 1] that show what the averaged weights have learned, or None."""


@dataclass(frozen=True)
class Run:
    """Where a training writes and whom it tells. facts: what a checkpoint must agree with to be resumed."""

    folder: Path
    device: torch.device
    report: Report
    resume: bool = False
    stop: Callable[[], bool] = lambda: False
    facts: Mapping[str, Any] = field(default_factory=dict)


def rate(schedule: Schedule, step: int) -> float:
    """Learning rate at `step`: linear warm-up, constant, linear to 0 over the last share."""
    up = min(1.0, (step + 1) / max(1, schedule.warmup))
    tail = schedule.steps * schedule.decay
    down = min(1.0, (schedule.steps - step) / tail) if tail else 1.0
    return schedule.lr * up * max(0.0, down)


def pick_precision(schedule: Schedule, device: torch.device) -> str:
    """ "auto" is bf16 on a GPU; on a CPU whichever type convolves faster there, by a short measurement."""
    if schedule.precision != "auto":
        return schedule.precision
    if device.type == "cuda":
        return "bf16"
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
        took[name] = min(times[2:])
    # bf16 must win clearly: it costs precision.
    return "bf16" if took["bf16"] * 1.3 < took["fp32"] else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def fit(objective: Objective, schedule: Schedule, run: Run) -> State:
    """Train to `schedule.steps`, or until `run.stop()`; checkpoint, log and sheets are in `run.folder`.

    Raises InputError when resuming without a checkpoint or with one of another training, or when the loss
    stops being a number.
    """
    module = objective.module.to(run.device)
    optimizer = MuonAdamW(
        module.named_parameters(), lr=schedule.lr, muon=schedule.muon, weight_decay=schedule.weight_decay
    )
    state = State(module, optimizer, PowerEMA(module, schedule.ema))
    if run.resume:  # the checkpoint's precision: another one would not continue the same run
        precision = str(state.load(run.folder, {"stage": objective.name, **run.facts})["precision"])
    else:
        precision = pick_precision(schedule, run.device)
    facts = {"stage": objective.name, "precision": precision, **run.facts}
    run.folder.mkdir(parents=True, exist_ok=True)
    for stale in run.folder.glob(f"{TEMP_PREFIX}*"):  # a kill in the middle of a checkpoint leaves its half
        stale.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in module.parameters())
    head = {"event": "start", "stage": objective.name, "step": state.step, "steps": schedule.steps}
    run.report(head | {"precision": precision, "parameters": parameters})
    log = Log(run.folder, state.step)
    try:
        _steps(objective, schedule, run, state, facts, log)
    finally:
        log.close()
    return state


def _steps(objective: Objective, schedule: Schedule, run: Run, state: State, facts: dict[str, Any], log: Log) -> None:
    module, optimizer = state.module, state.optimizer
    bad, window = 0, list[dict[str, float]]()
    started = since = time.perf_counter()
    before = state.seconds
    module.train()
    for step in range(state.step, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(schedule, step)
        optimizer.zero_grad(set_to_none=True)
        with autocast(facts["precision"], run.device):
            loss, measured = objective.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(module.parameters(), schedule.clip_norm))
        value = float(loss.detach())
        state.step, state.samples = step + 1, state.samples + schedule.batch
        if math.isfinite(norm) and math.isfinite(value):
            optimizer.step()
            state.ema.update(module, state.step)
            window.append({"loss": value, "norm": norm, **measured})
            bad = 0
        else:  # one broken batch is skipped and counted; many mean that training has failed
            bad, state.skipped = bad + 1, state.skipped + 1
            if bad >= NAN_LIMIT:
                raise InputError(
                    f"at step {step} the loss of {objective.name} was no number for the {NAN_LIMIT}th time",
                    "lower the learning rate and resume from the last checkpoint",
                    "data",
                )
        state.seconds = before + time.perf_counter() - started
        stopped = run.stop()
        last = stopped or state.step == schedule.steps
        if state.step % schedule.log_every == 0 or last:
            now = time.perf_counter()
            record = _means(window) | {
                "event": "step", "stage": objective.name, "step": state.step, "steps": schedule.steps,
                "lr": rate(schedule, step), "rate": len(window) * schedule.batch / max(1e-9, now - since),
                "left": (schedule.steps - state.step) * (now - since) / max(1, len(window)),
                "skipped": state.skipped, "seconds": round(state.seconds, 1),
            }  # fmt: skip
            log.write(record)
            run.report(record)
            since, window = now, []
        if state.step % schedule.save_every == 0 or last:
            state.save(run.folder, facts)
        if (state.step % schedule.sample_every == 0 or last) and not stopped:
            began = time.perf_counter()
            try:
                _sheet(objective, state, run)
            except Exception as error:  # hours of training must not be lost for a picture of it
                run.report({"event": "no sheet", "stage": objective.name, "step": state.step, "reason": repr(error)})
            since += time.perf_counter() - began  # drawing is no training: the rate stays true
        if last:
            break


def _sheet(objective: Objective, state: State, run: Run) -> None:
    state.module.eval()
    pictures = objective.sheet(state.ema.weights)
    state.module.train()
    if pictures is None:
        return
    path = run.folder / "sheets" / f"{state.step:07d}.png"
    path.parent.mkdir(exist_ok=True)
    save_image(contact_sheet([[to_pil(picture) for picture in row] for row in pictures]), path)
    run.report({"event": "sheet", "stage": objective.name, "step": state.step, "path": str(path)})


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}
