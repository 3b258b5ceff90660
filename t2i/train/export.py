"""Puts a stage that was trained, copied or shared into the bundle, with its notes and the model card."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from torch import Tensor

from t2i.errors import InputError
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.bundle_writing import share_stage, stage_hash, update_stage, write_bundle
from t2i.store.compatibility import pixel_sizes
from t2i.store.manifest import KINDS, Manifest
from t2i.train.card import hardware, write_card
from t2i.train.compatibility import bundle_entry, learned_from
from t2i.train.encoders import train_first
from t2i.train.forget import forget
from t2i.train.objective import Objective
from t2i.train.objectives import encoder_of, objective_of
from t2i.train.run import Run
from t2i.train.state import State, read_average


def export_shared(run: Run, stage: str) -> None:
    """Let the bundle use another model's stage. A text encoder can be the first stage of a model."""
    if run.bundle() is None:
        if not objective_of(run.recipe, stage).is_encoder:
            raise InputError(f"{run.out} is not a bundle", train_first(run.recipe.encoder), "data")
        new_bundle(run, None)
    share_stage(run.out, stage, run.recipe.share[stage])
    shutil.rmtree(run.out / stage, ignore_errors=True)
    run.report({"event": "shared", "stage": stage, "model": run.recipe.share[stage]})


def export_copied(run: Run, stage: str) -> None:
    """Copy a text encoder that is not trained, with its tokenizer."""
    weights, tokenizer = encoder_of(run.recipe).read_copy(run.recipe)
    if run.bundle() is None:
        new_bundle(run, tokenizer)
    _keep(run, stage, weights, tokenizer, 0, 0, {})


def new_bundle(run: Run, tokenizer: str | None) -> None:
    """Write an empty bundle with the tokenizer (JSON) of the encoder to come, None if another stage comes first."""
    manifest = Manifest(run.recipe.family, run.recipe.name, (), (), stop=run.recipe.sample.size)
    write_bundle(run.out, manifest, {}, tokenizer, write_card(run.recipe, {}))


def is_exported(run: Run, bundle: Bundle, stage: str) -> bool:
    """Whether the bundle's weights of a stage are those of its checkpoint. They are not where a training was killed
    after its last step, over the finished stage of an earlier one."""
    weights = objective_of(run.recipe, stage).export(read_average(run.folder(stage)))
    return stage_hash(weights) == bundle.manifest.digest(bundle.manifest.stage(stage))


def export_trained(objective: Objective, state: State, average: dict[str, Tensor]) -> None:
    """Put a trained stage into the bundle: the averaged weights. A text encoder brings its tokenizer."""
    tokenizer = objective.encoders.tokenizer if objective.is_encoder else None
    text = tokenizer.backend.to_str() if tokenizer else None
    weights, extra = objective.export(average), objective.notes()
    _keep(objective.run, objective.name, weights, text, state.seconds, state.samples, extra)


def _keep(
    run: Run, name: str, weights: dict[str, Tensor], tokenizer: str | None, seconds: float, samples: int,
    extra: dict[str, Any],
) -> None:  # fmt: skip
    """Put a stage into the bundle. Every stage that learned from the one in whose place it comes is dropped. tokenizer:
    of a text encoder (JSON). extra: notes beyond those that every stage has."""
    entry, config = bundle_entry(run.recipe, name)
    old, schedule = read_bundle(run.out), run.recipe.stages[name].schedule
    gone = {e.name for e in old.manifest.stages if learned_from(old, e, entry)}
    done = {k: facts for k, facts in old.manifest.notes.get("training", {}).items() if k not in gone}
    done[name] = {
        "seconds": round(seconds), "samples": samples, "recipe": run.recipe.name, "seed": run.recipe.seed,
        "data": run.pictures.small.describe(), "command": run.command, "hardware": hardware(run.device),
        "parameters": sum(t.numel() for t in weights.values()), "steps": schedule.steps, "batch": schedule.batch,
        "lr": schedule.lr, **extra,
    }  # fmt: skip
    notes: dict[str, Any] = {"training": done}
    if tokenizer or not old.manifest.notes.get("words"):
        notes["words"] = run.pictures.words()
    card = write_card(run.recipe, done)
    if gone:
        # Their checkpoints go first: after a kill they would be of a stage that is no longer there.
        forget(run, [stage for name in gone for stage in (name, *_pretraining(run, name))])
        kept = tuple(e for e in old.manifest.stages if e.name not in gone and e.name != name)
        stages = {e.name: old.load_stage(e.name) for e in kept if not e.source} | {name: (config, weights)}
        ordered = tuple(sorted((entry, *kept), key=lambda e: KINDS.index(e.kind)))
        manifest = replace(old.manifest, stages=ordered, notes={**old.manifest.notes, **notes})
        manifest = replace(manifest, sizes=pixel_sizes(manifest, {**old.configs, name: config}))
        write_bundle(run.out, manifest, stages, tokenizer or old.tokenizer_json(), card)
        for dropped in old.manifest.stages:
            if dropped.name in gone and not dropped.source:
                shutil.rmtree(run.out / dropped.folder, ignore_errors=True)
        why = f"they learned from another {'text encoder' if tokenizer else name}"
        run.report({"event": "dropped", "stage": " and ".join(sorted(gone)), "why": why})
    else:
        update_stage(run.out, entry, (config, weights), tokenizer_json=tokenizer, card=card, notes=notes)
    run.report({"event": "written", "stage": name, "path": str(run.out / name)})


def _pretraining(run: Run, stage: str) -> list[str]:
    """The name of what is trained before a stage, if anything is."""
    known = objective_of(run.recipe, stage).pretraining if stage in run.recipe.stages else ""
    return [known] if known else []
