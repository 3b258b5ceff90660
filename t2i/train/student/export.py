"""Puts students into a bundle: the teacher's, with their weights, defaults, notes and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from t2i.sampling import SamplingConfig
from t2i.store.bundle import Bundle
from t2i.store.bundle_writing import write_bundle
from t2i.train.card import hardware
from t2i.train.run import Run
from t2i.train.state import State
from t2i.train.student.objective import StudentObjective


def export_students(run: Run, teacher: Bundle, done: Sequence[tuple[StudentObjective, State]]) -> None:
    """Write the teacher's bundle with the students in the place of their teachers."""
    old = teacher.manifest
    defaults = {task.entry.name: _defaults(task) for task, _ in done}
    weights: dict[str, dict[str, Tensor]] = {task.entry.name: state.ema.weights for task, state in done}
    entries = tuple(replace(e, source=None, defaults=defaults[e.name]) if e.name in defaults else e for e in old.stages)
    stages = {}
    for entry in entries:
        if entry.source is None:
            config, state = teacher.load_stage(entry.name)
            stages[entry.name] = config, weights.get(entry.name, state)
    taught = {task.name: _facts(run, teacher, task, state) for task, state in done}
    training = old.notes.get("training")
    notes = {**old.notes, "training": {**(training if isinstance(training, dict) else {}), **taught}}
    manifest = replace(old, name=f"{old.name.removesuffix('-student')}-student", stages=entries, notes=notes)
    write_bundle(run.out, manifest, stages, teacher.tokenizer_json(), teacher.card() + _card(old.name, taught))
    run.report({"event": "written", "stage": " and ".join(defaults), "path": str(run.out)})


def _defaults(task: StudentObjective) -> SamplingConfig:
    """How the student is sampled. Without a text, a base that reads one is guided as its teacher was."""
    found, config = task.defaults, task.teacher.config
    if task.entry.kind == "base" and config.text_dim and config.cond_dim and found.z_guidance is None:
        return replace(found, z_guidance=found.guidance)
    return found


def _facts(run: Run, teacher: Bundle, task: StudentObjective, state: State) -> dict[str, Any]:
    """What the bundle's notes say of the training of a student."""
    s = task.schedule
    return {
        "teacher": teacher.manifest.digest(task.entry), "seconds": round(state.seconds), "samples": state.samples,
        "recipe": run.recipe.name, "seed": run.recipe.seed, "data": run.pictures.small.describe(),
        "command": run.command, "hardware": hardware(run.device),
        "parameters": sum(p.numel() for p in task.module.parameters()), "steps": s.steps, "batch": s.batch, "lr": s.lr,
        "distillation": asdict(task.table),
    }  # fmt: skip


def _card(teacher: str, taught: Mapping[str, Mapping[str, Any]]) -> str:
    """What a student's card adds to its teacher's, in Markdown."""
    head = f"Stages of {teacher} were replaced by students, which need one evaluation a step."
    lines = ["", "## Student", "", f"{head} All above is about the teacher.", ""]
    lines += ["| stage | steps | batch | peak rate | samples | hours |", "|---|---|---|---|---|---|"]
    for name, f in taught.items():
        hours = f["seconds"] / 3600
        lines.append(f"| {name} | {f['steps']:,} | {f['batch']} | {f['lr']:g} | {f['samples']:,} | {hours:.2f} |")
    first = next(iter(taught.values()))
    return "\n".join([*lines, "", f"`{first['command']}`, on {first['hardware']}.", ""])
