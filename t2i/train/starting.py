"""What a training starts from: another bundle's weights, the small base that trained with CLIP, or lessons."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.clip import Clip
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.train.locked import LockedClipObjective
from t2i.train.loop import Objective, Run, fit
from t2i.train.objectives import BaseObjective, ClipObjective
from t2i.train.reading import READING, ReadingObjective, why_not
from t2i.train.sharpening import SharpObjective
from t2i.train.state import TENSORS

if TYPE_CHECKING:
    from t2i.train.run import Trainer

LIKE = 0.5  # share of a base's numbers that another must have for it to start from there


def take_weights(trainer: Trainer, objective: Objective, start: Path) -> None:
    """Take the weights of the bundle `start`, for CLIP those of its base too. Raises InputError."""
    bundle = read_bundle(start)
    nets: dict[str, nn.Module] = {objective.name: objective.module}
    if isinstance(objective, LockedClipObjective):
        nets = {"clip": objective.clip}
    if isinstance(objective, ClipObjective):
        nets = {"clip": objective.clip, "base": objective.base}
    if isinstance(objective, SharpObjective):
        mine = trainer.start is not None and objective.name in bundle.configs
        nets = {objective.name if mine else objective.config.instead_of: objective.upsampler}
    for name, net in nets.items():
        if name not in bundle.configs:
            hint = "Train without --start." if trainer.start else f"Train it first: t2i train {name} --out …"
            raise InputError(f"{start} has no stage {name!r} to start from.", hint, "data")
        state, own = bundle.load_stage(name)[1], net.state_dict()
        fits = {k: t for k, t in state.items() if k in own and t.shape == own[k].shape}
        found = _size(fits) / _size(own)
        # A base that reads something else than that one did still draws as it does: its conditioner starts anew.
        same = len(fits) == len(state) == len(own)
        if not same and not (isinstance(objective, BaseObjective) and found >= LIKE):
            raise InputError(
                f"the {name} of {start} is another network than the recipe's.", "Use its recipe.", "mismatch"
            )
        net.load_state_dict(own | fits)
        trainer.report({"event": "warm start", "stage": name, "path": str(start), "share": round(found, 4)})


def take_from_clip(trainer: Trainer, base: UNet) -> None:
    """Start from the small base that trained with CLIP, where it is the same network."""
    path = trainer.folder("clip") / TENSORS
    if not trainer.recipe.base.warm_start or not path.is_file():
        return
    average = {k.removeprefix("ema/base."): t for k, t in load_file(path).items() if k.startswith("ema/base.")}
    own = base.state_dict()
    if {k: t.shape for k, t in average.items()} == {k: t.shape for k, t in own.items()}:
        base.load_state_dict(average)
        trainer.report({"event": "warm start", "stage": "base", "path": str(path)})


def lesson(trainer: Trainer, objective: Objective) -> ReadingObjective | str:
    """How the reader of a new base learns from the base that training starts from; or why it cannot, "" where there is
    nothing to learn."""
    if not isinstance(objective, BaseObjective) or not objective.base.config.reader_layers:
        return ""
    if not trainer.recipe.base.reading.steps:
        return ""
    start = read_bundle(trainer.start) if trainer.start else None
    clips, bases = (start.manifest.of_kind(kind) if start else [] for kind in ("clip", "base"))
    found = UNetConfig.from_dict(start.configs[bases[0].name]["net"]) if start and bases else None
    if why := why_not(found, objective.base.config):
        return why
    assert start is not None and clips, "an embedding without CLIP"
    clip, teacher = load_net(start, clips[0]), load_net(start, bases[0])
    assert isinstance(clip, Clip) and isinstance(teacher, UNet)
    reader, encoder = objective.base.cond.reader, objective.encoder
    return ReadingObjective(trainer.recipe, reader, encoder, clip, teacher.cond, trainer.source, trainer.device)


def teach(trainer: Trainer, objective: BaseObjective, go_on: bool) -> bool:
    """Teach the reader of a new base, if anything does; whether the base's own training may begin."""
    stage, schedule = READING, trainer.recipe.base.reading
    resume = go_on and trainer.begun(stage)
    if not resume:
        shutil.rmtree(trainer.folder(stage), ignore_errors=True)
    found = lesson(trainer, objective)
    if isinstance(found, str):
        if found:
            trainer.report({"event": "not taught", "stage": stage, "reason": found})
        return True
    found.pool.fill(stage, trainer.report, trainer.stop)
    if trainer.stop():
        return False
    facts = {**trainer.facts("base"), "start": str(trainer.start and trainer.start.resolve())}
    run = Run(trainer.folder(stage), trainer.device, trainer.report, resume, trainer.stop, facts)
    state = fit(found, schedule, run)
    if state.step < schedule.steps:
        trainer.report({"event": "stopped", "stage": stage, "step": state.step, "steps": schedule.steps})
        return False
    found.module.load_state_dict(state.ema.weights)
    return True


def _size(weights: dict[str, Tensor]) -> int:
    return sum(t.numel() for t in weights.values())
