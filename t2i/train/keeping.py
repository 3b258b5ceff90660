"""Puts what was trained, copied or shared into the bundle, with what there is to say about it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from t2i.errors import InputError
from t2i.store.bundle import read_bundle, share_stage, update_stage, write_bundle
from t2i.store.compatibility import pixel_sizes
from t2i.store.manifest import Manifest
from t2i.text.t5 import read_t5
from t2i.train.card import hardware, write_card
from t2i.train.entries import entry_of, learned_from_encoder
from t2i.train.readers import first
from t2i.train.reading import READING

if TYPE_CHECKING:
    from t2i.train.run import Trainer


def share(trainer: Trainer, stage: str) -> None:
    """Let the bundle use another model's stage."""
    if trainer.bundle() is None:
        raise InputError(f"{trainer.out} is not a bundle", first(trainer.recipe.encoder), "data")
    share_stage(trainer.out, stage, trainer.recipe.share[stage])
    shutil.rmtree(trainer.out / stage, ignore_errors=True)
    trainer.report({"event": "shared", "stage": stage, "model": trainer.recipe.share[stage]})


def take_t5(trainer: Trainer, stage: str) -> None:
    """Copy a T5's encoder and tokenizer from its folder."""
    parts = read_t5(Path(trainer.recipe.text.folder))
    if trainer.bundle() is None:
        new_bundle(trainer, parts.tokenizer)
    keep(trainer, stage, parts.weights, parts.tokenizer, 0, 0)


def new_bundle(trainer: Trainer, tokenizer: str) -> None:
    """An empty bundle with the tokenizer of the encoder to come."""
    manifest = Manifest(trainer.recipe.family, trainer.recipe.name, (), (), stop=trainer.recipe.sample.size)
    write_bundle(trainer.out, manifest, {}, tokenizer, write_card(trainer.recipe, {}))


def keep(
    trainer: Trainer, name: str, weights: dict[str, Tensor], tokenizer: str | None, seconds: float, samples: int
) -> None:
    """Put a stage into the bundle. tokenizer: of a text encoder, which takes with it what learned from the one
    before."""
    entry, config = entry_of(trainer.recipe, name)
    old = read_bundle(trainer.out)
    # What an earlier CLIP taught (the embeddings of its prior and base) is worth nothing to a new one.
    gone = {e.name for e in old.manifest.stages if tokenizer and learned_from_encoder(old, e)}
    done = {k: facts for k, facts in old.manifest.notes.get("training", {}).items() if k not in gone}
    part = getattr(trainer.recipe, name)
    done[name] = {
        "seconds": round(seconds), "samples": samples, "recipe": trainer.recipe.name,
        "seed": trainer.recipe.seed, "data": trainer.source.describe(),
        "command": trainer.command, "hardware": hardware(trainer.device),
        "parameters": sum(t.numel() for t in weights.values()), "steps": part.schedule.steps,
        "batch": part.schedule.batch, "lr": part.schedule.lr,
    }  # fmt: skip
    if name == "base" and trainer.begun(READING):
        lessons = trainer.checkpoint(READING)
        done[name]["reading"] = {key: lessons[key] for key in ("step", "samples", "seconds")}
    notes: dict[str, Any] = {"training": done}
    if tokenizer or not old.manifest.notes.get("words"):
        notes["words"] = trainer.words()
    card = write_card(trainer.recipe, done)
    if gone:
        kept = tuple(e for e in old.manifest.stages if e.name not in gone and e.name != name)
        stages = {e.name: old.load_stage(e.name) for e in kept if not e.source} | {name: (config, weights)}
        manifest = replace(old.manifest, stages=(entry, *kept), notes={**old.manifest.notes, **notes})
        manifest = replace(manifest, sizes=pixel_sizes(manifest, {**old.configs, name: config}))
        write_bundle(trainer.out, manifest, stages, tokenizer, card)
        for stage in gone:
            shutil.rmtree(trainer.out / stage, ignore_errors=True)
            shutil.rmtree(trainer.folder(stage), ignore_errors=True)
            if stage == "base":
                shutil.rmtree(trainer.folder(READING), ignore_errors=True)
        trainer.report(
            {
                "event": "dropped",
                "stage": " and ".join(sorted(gone)),
                "why": "they learned from another text encoder",
            }
        )
    else:
        update_stage(trainer.out, entry, (config, weights), tokenizer_json=tokenizer, card=card, notes=notes)
    trainer.report({"event": "written", "stage": name, "path": str(trainer.out / name)})
