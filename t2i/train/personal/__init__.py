"""`t2i train lora`: a personal model from a few pictures of one thing.

    train_personal(Path("my-photos"), "<mine>", read_bundle("weights/small"), Path("mine.safetensors"))

Checkpoints, the log and sheets are in `mine.training/`, beside the file that is written at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from t2i.data.folder import FolderSource
from t2i.errors import InputError, UsageError
from t2i.pipeline import Pipeline
from t2i.store.bundle import Bundle
from t2i.store.completeness import check_complete
from t2i.store.personal import Personal, PersonalFacts, as_read, check_token, write_personal
from t2i.text.encoder import NetEncoder
from t2i.train.card import hardware
from t2i.train.lock import locked
from t2i.train.loop import fit
from t2i.train.overrides import parse_overrides
from t2i.train.personal.objective import STAGE, PersonalObjective, trained_upsampler
from t2i.train.personal.pool import PersonalPool
from t2i.train.personal.recipe import PersonalRecipe, read_recipe
from t2i.train.plan import row
from t2i.train.recipe import Recipe
from t2i.train.run import Pictures, Report, Run, check_folder, explained
from t2i.train.sheets import averaged
from t2i.train.state import State

__all__ = ["train_personal", "work_folder"]
SUFFIX = ".safetensors"


def train_personal(
    data: Path, token: str, model: Bundle, out: Path, overrides: Sequence[str] = (), *,
    seed: int = 0, steps: int | None = None, resume: bool = False, overwrite: bool = False, dry_run: bool = False,
    device: str = "cpu", report: Report = lambda record: None, stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:  # fmt: skip
    """Train, and write `out`; with `dry_run`, return what would be done.

    data: a folder of pictures of one thing, with captions that have the token in them or without captions. stop: asked
    after every step; when it says yes, a checkpoint is written and nothing else.
    Raises UsageError for a token, a recipe or a model that will not do, InputError for bad data, for an `out` that is
    there already, or for no checkpoint to resume.
    """
    token, recipe = check_token(token), read_recipe(parse_overrides(overrides))
    if steps is not None:
        recipe = replace(recipe, schedule=replace(recipe.schedule, steps=steps))
    if out.suffix != SUFFIX:
        raise UsageError(
            f"--out {out} is not the name of a safetensors file.", f"Write -o {out.stem or 'mine'}{SUFFIX}"
        )
    check_can_learn(model)
    work = work_folder(out)
    plain = Recipe(name=STAGE, seed=seed)
    run = Run(plain, work, Pictures(plain, str(data)), torch.device(device), report, stop, resume)
    check_folder(work, str(data))
    _refuse_what_is_there(run, out, overwrite)
    source = FolderSource(data, report, without_caption=True)
    _check_captions(source, token)
    if len(source.entries) - len(source.broken) == 1:
        report({"event": "one picture", "stage": STAGE, "hint": "it will be learned with its place; give several"})
    if dry_run:
        return _plan(_objective(run, recipe, source, token, model), recipe, data, out)
    with explained(work), locked(work):
        if not resume:
            shutil.rmtree(run.folder(STAGE), ignore_errors=True)
        objective = _objective(run, recipe, source, token, model)
        if not objective.fill_pool():
            return None
        if not resume:
            objective.begin()
        state = fit(objective, resume=resume)
        if state.step >= recipe.schedule.steps:
            _write(objective, state, source, model, out)
    return None


def work_folder(out: Path) -> Path:
    """Where the checkpoint of the file `out` is, in `.train/lora/`."""
    return out.with_suffix(".training")


def check_can_learn(model: Bundle) -> None:
    """Raise UsageError unless a model draws by CLIP, a prior and a base, InputError for an unfinished one."""
    check_complete(model.manifest, model.configs)
    kinds = {entry.kind for entry in model.manifest.stages}
    if not {"clip", "prior", "base"} <= kinds:
        what = f"t2i train lora: {model.manifest.name} has no CLIP and prior, whose text a new word would be of."
        raise UsageError(what, "Personal models are for models such as small.")


def _refuse_what_is_there(run: Run, out: Path, overwrite: bool) -> None:
    begun = run.begun(STAGE)
    there = out if out.exists() else run.out if begun else None
    run.refuse(f"{there} is there" if there else "", begun, overwrite)


def _check_captions(source: FolderSource, token: str) -> None:
    """Raise InputError unless every caption names the thing."""
    for entry in source.entries:
        if any(token not in as_read(text) for text in entry.captions):
            what = f"the caption of {entry.name} does not say {token}."
            raise InputError(what, f'Write it as in "{token} on a table", or leave all captions out.', "data")


def _objective(run: Run, recipe: PersonalRecipe, source: FolderSource, token: str, model: Bundle) -> PersonalObjective:
    pipeline = Pipeline.load(model.path, device=str(run.device))
    assert isinstance(pipeline.encoder, NetEncoder)
    upsampler = trained_upsampler(pipeline)
    side = pipeline.manifest.sizes[0] * (upsampler[1].config.scale if upsampler else 1)
    pool = PersonalPool(
        pipeline, source, len(source.entries) - len(source.broken), token, recipe, run.recipe.seed, side
    )
    facts = {"net": {"rank": recipe.rank}, "seed": run.recipe.seed, "token": token, **_weights(model, pipeline)}
    return PersonalObjective(run, recipe, pipeline, pool, facts)


def _weights(model: Bundle, pipeline: Pipeline) -> dict[str, str]:
    """Stage -> sha256 of its weights, of the stages that a personal model depends on."""
    upsampler = trained_upsampler(pipeline)
    kinds = ("clip", "prior", "base")
    used = [e for e in model.manifest.stages if e.kind in kinds or (upsampler and e.name == upsampler[0])]
    return {entry.name: model.manifest.digest(entry) for entry in used}


def _write(objective: PersonalObjective, state: State, source: FolderSource, model: Bundle, out: Path) -> None:
    c = objective.recipe
    training = {
        "pictures": len(source.entries) - len(source.broken), "steps": c.schedule.steps, "batch": c.schedule.batch,
        "lr": c.schedule.lr, "seed": objective.run.recipe.seed, "seconds": round(state.seconds),
        "hardware": hardware(objective.run.device), "recipe": asdict(c),
    }  # fmt: skip
    weights = _weights(model, objective.pipeline)
    facts = PersonalFacts(objective.pool.token, model.manifest.name, weights, c.rank, training)
    with averaged(objective.module, state.ema.weights):
        write_personal(out, Personal(facts, objective.module.word.detach(), objective.changes()))
    objective.run.report({"event": "written", "stage": STAGE, "path": str(out)})


def _plan(objective: PersonalObjective, recipe: PersonalRecipe, data: Path, out: Path) -> dict[str, Any]:
    """As `t2i.train.plan.plan`."""
    planned = row(objective, shipped=sum(p.numel() for p in objective.module.parameters()))
    return {"recipe": {STAGE: asdict(recipe)}, "stages": [planned], "out": str(out), "data": str(data)}
