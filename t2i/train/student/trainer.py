"""`t2i train student`: a bundle that draws like its teacher in fewer evaluations.

    train_student(read_bundle("weights/small"), Path("my-student"), sprites=Path("sprites"))

The student of the base is trained first, then that of the prior. The bundle is written when both are complete, with the
teacher's other stages; until then `out` holds checkpoints, logs and sheets, in `.train/<stage>-student/`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from t2i.data.ahead import default_workers
from t2i.diffusion.process import Flow
from t2i.errors import UsageError
from t2i.sampling import given
from t2i.stages.loading import build_stage, load_net
from t2i.store.bundle import Bundle
from t2i.store.bundle_writing import finish_write
from t2i.store.compatibility import ENCODERS
from t2i.store.completeness import check_complete
from t2i.store.manifest import MANIFEST, StageEntry
from t2i.train.card import command_line
from t2i.train.encoders import encoders_of
from t2i.train.lock import locked
from t2i.train.loop import fit
from t2i.train.overrides import parse_overrides
from t2i.train.plan import row
from t2i.train.recipe import Recipe
from t2i.train.recipes import load_recipe, recipe_names
from t2i.train.run import Pictures, Report, Run, check_folder, explained
from t2i.train.state import State
from t2i.train.student.export import export_students
from t2i.train.student.objective import BaseStudent, PriorStudent, StudentObjective, is_guided, student_name
from t2i.train.student.recipe import StudentRecipe, read_recipe

HINT = "Start from a model that draws by diffusion: --start small"


def train_student(
    teacher: Bundle, out: Path, recipe: str | None = None, overrides: Sequence[str] = (), data: str = "scenes", *,
    sprites: Path | None = None, seed: int | None = None, steps: int | None = None, resume: bool = False,
    overwrite: bool = False, dry_run: bool = False, device: str = "cpu", report: Report = lambda record: None,
    stop: Callable[[], bool] = lambda: False, workers: int | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """Train the students of a model's base and prior and write the bundle `out`; with `dry_run`, return what would be
    done.

    recipe: its world is that of the examples; None: the one that the teacher was trained with. overrides: "key=value"
    strings. steps: of each stage that is trained. stop: asked after every step; when it says yes, a checkpoint is
    written and nothing else. workers: as of `train`.
    Raises UsageError for a teacher or settings that will not do and for an `out` that holds other files, InputError for
    bad data, for an `out` that is there already, or for no checkpoint to resume.
    """
    tables = read_recipe(parse_overrides(overrides))
    if steps is not None:
        tables = tables.with_steps(steps)
    entries = _to_learn(teacher, tables)
    world = load_recipe(recipe) if recipe else _world_of(teacher) if data == "scenes" else Recipe()
    command = command_line("student", recipe or world.name, overrides, data, sprites, seed, steps, teacher.path)
    world = replace(world, seed=given(seed, world.seed))
    pictures = Pictures(world, data, sprites, report, given(workers, default_workers(device)))
    run = Run(world, out, pictures, torch.device(device), report, stop, resume, teacher.path, command)
    _refuse_what_is_there(run, teacher, entries, overwrite)
    _ = pictures.small  # built here: a fault in the data is said before anything is made
    if dry_run:
        planned = []
        for entry in entries:
            task = student_objective(run, teacher, entry, tables)
            planned.append(row(task, shipped=sum(p.numel() for p in task.module.parameters())))
        return {"recipe": asdict(tables), "stages": planned, "out": str(out), "data": data}
    with explained(out), locked(out):
        finish_write(out)
        _train(run, teacher, entries, tables)
    return None


def _world_of(teacher: Bundle) -> Recipe:
    """The recipe that a model's base was trained with, whose world it knows. Raises UsageError where it is none of the
    shipped ones."""
    training = teacher.manifest.notes.get("training", {})
    said = [training.get(e.name, {}) for e in teacher.manifest.of_kind("base")] if isinstance(training, dict) else []
    name = str(said[0].get("recipe")) if said and isinstance(said[0], dict) else ""
    if name not in recipe_names():
        what = f"t2i train student: {teacher.manifest.name} was trained by none of the shipped recipes."
        raise UsageError(what, "Write --recipe FILE, whose world it knows; or --data DIR for your own pictures.")
    return load_recipe(name)


def _to_learn(teacher: Bundle, tables: StudentRecipe) -> list[StageEntry]:
    """The stages of the teacher that get a student. Raises UsageError if there are none, InputError for an unfinished
    teacher."""
    manifest, name = teacher.manifest, teacher.manifest.name
    check_complete(manifest, teacher.configs)
    if not manifest.of_kind("base"):
        raise UsageError(f"t2i train student: {name} has no base: it does not draw by diffusion.", HINT)
    found = []
    for kind, table in vars(tables).items():
        for entry in manifest.of_kind(kind) if table.schedule.steps else ():
            if is_guided(entry) or table.substeps > 1:
                found.append(entry)
    if not found:
        what = f"t2i train student: {name} has no guidance to teach: its stages take one evaluation a step."
        raise UsageError(what, "Let it learn steps: --set base.substeps=2 --set base.draw_steps=4")
    return found


def _refuse_what_is_there(run: Run, teacher: Bundle, entries: Sequence[StageEntry], overwrite: bool) -> None:
    if run.out.resolve() == teacher.path.resolve():
        raise UsageError(f"--out {run.out} is the teacher.", "Choose another folder for the student.")
    check_folder(run.out, run.pictures.data)
    begun = any(run.begun(student_name(entry)) for entry in entries)
    there = f"{run.out} holds a model, or the beginning of one," if begun or (run.out / MANIFEST).exists() else ""
    run.refuse(there, begun, overwrite)


def student_objective(run: Run, teacher: Bundle, entry: StageEntry, tables: StudentRecipe) -> StudentObjective:
    """What trains the student of a stage."""
    manifest, table = teacher.manifest, getattr(tables, entry.kind)
    stage = build_stage(teacher, entry, load_net(teacher, entry))
    encoders = encoders_of(teacher, teacher.path, "clip", run.device)
    used = [e for e in manifest.stages if e.kind in ENCODERS or e.name == entry.name]
    facts: dict[str, Any] = {"net": stage.config.to_dict(), "seed": run.recipe.seed}
    facts |= {"teacher": {e.name: manifest.digest(e) for e in used}, "guidance": entry.defaults.guidance}
    if entry.kind == "prior":
        return PriorStudent(run, entry, stage, encoders, table, facts)
    size = int(teacher.configs[entry.name]["widths"]["size"])
    prior = None
    for each in manifest.of_kind("prior") if tables.base.imagined and stage.config.cond_dim else ():
        found = build_stage(teacher, each, load_net(teacher, each))
        if (found.process, found.prediction) == (Flow(), "x0"):  # what `augment` takes
            prior = found.net
    return BaseStudent(run, entry, stage, encoders, table, facts, size=size, prior=prior)


def _train(run: Run, teacher: Bundle, entries: Sequence[StageEntry], tables: StudentRecipe) -> None:
    """Train each stage's student, and write the bundle when all are complete."""
    if not run.resume:
        for entry in entries:
            shutil.rmtree(run.folder(student_name(entry)), ignore_errors=True)
    done: list[tuple[StudentObjective, State]] = []
    for entry in entries:
        task = student_objective(run, teacher, entry, tables)
        resume = run.resumes(task.name)
        finished = resume and run.checkpoint(task.name)["step"] >= task.schedule.steps
        if not finished and not task.fill_pool():
            return
        state = fit(task, resume=resume)
        if state.step < task.schedule.steps:
            return
        done.append((task, state))
    export_students(run, teacher, done)
