"""Trains stages and puts them into a bundle: `train("all", "tiny", out=Path("my-model"))`.

The bundle is the folder itself; checkpoints, logs and sheets are in its `.train/<stage>/`. A stage enters the
bundle when its training is complete; until then the bundle is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from t2i.data.ahead import default_workers, silent
from t2i.errors import InputError, UnavailableError, UsageError, nearest
from t2i.sampling import given
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.bundle_writing import finish_write
from t2i.text.tokenizer import Tokenizer
from t2i.train.card import command_line
from t2i.train.compatibility import bundle_entry, check_recipe
from t2i.train.encoders import Encoders, encoders_of, train_first
from t2i.train.export import export_copied, export_shared, export_trained, is_exported, new_bundle
from t2i.train.forget import finish_forgetting, forget
from t2i.train.lock import locked
from t2i.train.loop import fit
from t2i.train.objective import Objective
from t2i.train.objectives import STAGES, objective_of
from t2i.train.overrides import parse_overrides
from t2i.train.part import check_cut
from t2i.train.plan import plan
from t2i.train.recipe import Recipe
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Report, Run, check_folder, explained
from t2i.train.sharding import check_sharding
from t2i.train.state import agree
from t2i.train.team import SOLO, Team, lost

TOKENIZER = "tokenizer.json"


def train(
    stage: str = "all", recipe: str | Recipe = "tiny", overrides: Sequence[str] = (), data: str = "scenes",
    out: Path | str = "my-model", resume: bool = False, dry_run: bool = False,
    report: Report = lambda record: None, *, sprites: Path | None = None, seed: int | None = None,
    steps: int | None = None, device: str = "cpu", start: Path | None = None, stop: Callable[[], bool] = lambda: False,
    overwrite: bool = False, team: Team = SOLO, workers: int | None = None,
) -> Bundle | dict[str, Any]:  # fmt: skip
    """Train `stage` ("all", which leaves out stages of 0 steps, or one of STAGES) and return the bundle in `out`; with
    `dry_run`, what would be done.

    overrides: "key=value" strings. data: "scenes", a folder of pictures and captions, or shards.
    start: a bundle whose weights (and tokenizer) training goes on from, with a fresh optimiser; a base may start from
    one that reads something else, and takes the weights that fit.
    stop: asked after every step; when it says yes, a checkpoint is written and the training ends early.
    overwrite: a stage that `out` holds already is trained anew only with it. team: the processes that train together,
    each of which makes this call. workers: processes that draw or read the pictures ahead; None: `default_workers`.
    Raises UsageError for a bad recipe or an `out` that holds other files, InputError for bad data, no checkpoint or one
    of another training.
    """
    if not team.leads:
        report = silent
    loaded, stages = _read_recipe(stage, recipe, overrides, seed, steps)
    command = command_line(
        stage, recipe if isinstance(recipe, str) else loaded.name, overrides, data, sprites, seed, steps, start
    )
    pictures = Pictures(loaded, data, sprites, report, given(workers, default_workers(device, team.ranks)))
    run = Run(loaded, Path(out), pictures, torch.device(device), report, stop, resume, start, command, team)
    check_folder(run.out, data)
    _check_stages(run, stages)
    if dry_run:
        return plan(run, stages)
    try:
        with explained(run.out):
            return _train_stages(run, stages, stage, overwrite)
    except RuntimeError as error:
        if team.ranks == 1 or not lost(error):
            raise
        what = "another process of this training has ended."
        raise UnavailableError(what, "What it said tells why; go on with --resume.") from error


def _read_recipe(
    stage: str, recipe: str | Recipe, overrides: Sequence[str], seed: int | None, steps: int | None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with what the user changed, and the stages to train. Raises UsageError."""
    if stage not in ("all", *STAGES):
        near = (nearest(stage, tuple(STAGES), 1) or ["all"])[0]
        raise UsageError(f"there is no stage {stage!r}.", f"Did you mean {near}?")
    changes = parse_overrides(overrides)
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    if seed is not None:
        loaded = replace(loaded, seed=seed)
    stages = tuple(n for n in loaded.stages if n == stage or (stage == "all" and loaded.has(n)))
    if steps is not None:  # --set says it of one stage, and so wins
        for name in stages:
            if not changes.keys() & {f"{name}.steps", f"{name}.schedule.steps"}:
                loaded = loaded.with_steps(name, steps)
    if not all(loaded.has(name) for name in stages):
        what = f"the recipe {loaded.name!r} trains {stage} for 0 steps."
        raise UsageError(what, f"Write --set {stage}.steps=2000", "config")
    return loaded, stages


def _check_stages(run: Run, stages: Sequence[str]) -> None:
    """Raise UsageError or InputError for stages that do not fit together, a stage that cannot be compiled, and a batch
    or a network that cannot be cut as the processes need it."""
    recipe, team = run.recipe, run.team
    check_recipe(recipe, tuple(stages), run.bundle(), run.out)
    trained = {n: recipe.stages[n] for n in stages if n not in recipe.share and not recipe.stages[n].copied}
    for name, part in trained.items():
        objective_of(recipe, name).check_compile(name, part.schedule)
        check_cut(name, part.schedule, team.ranks, part.unit, objective_of(recipe, name).uncut)
    if team.sharded:
        check_sharding({n: (p.schedule, objective_of(recipe, n).unsharded) for n, p in trained.items()})


def _train_stages(run: Run, stages: Sequence[str], stage: str, overwrite: bool) -> Bundle:
    """The part of `train` that writes. stage: what was asked for."""
    team = run.team
    with contextlib.ExitStack() as held:

        def begin() -> None:
            trained_before = (run.out / ".train").is_dir()
            if trained_before:
                held.enter_context(locked(run.out))
            finish_write(run.out)
            finish_forgetting(run)
            _refuse_what_is_there(run, stages, overwrite)
            _ = run.pictures.small  # built here: a fault in the data is said before anything is made
            if not trained_before:
                held.enter_context(locked(run.out))
            if overwrite and not run.resume and stage == "all":
                # All at once: a later stage must not be taken for finished when this run is broken off and resumed.
                forget(run, [n for name in stages for n in (name, objective_of(run.recipe, name).pretraining) if n])

        team.first(begin)
        for name in stages:
            # "all" with --resume goes on where it was: finished stages are kept, the broken-off one continues. Asked
            # now: a text encoder that has trained on takes with it what had learned from the one before.
            if run.resume and stage == "all" and team.first(partial(finished, run, name)):
                run.report({"event": "kept", "stage": name})
                continue
            train_stage(run, name)
            if team.any(run.stop()):
                break
        return read_bundle(run.out)


def _refuse_what_is_there(run: Run, stages: Sequence[str], overwrite: bool) -> None:
    """As `Run.refuse`, for stages that are trained or begun."""
    before = {name: objective_of(run.recipe, name).pretraining for name in stages}
    begun = [name for name in stages if run.begun(name) or (before[name] and run.begun(before[name]))]
    bundle = run.bundle()
    trained = [e.name for e in bundle.manifest.stages] if bundle else []
    there = [name for name in stages if name in begun or name in trained]
    run.refuse(f"{run.out} holds {', '.join(there)}" if there else "", bool(begun), overwrite)


def finished(run: Run, stage: str) -> bool:
    """Whether the bundle holds this very stage, trained to the recipe's last step."""
    recipe, bundle = run.recipe, run.bundle()
    entry = next((e for e in bundle.manifest.stages if e.name == stage), None) if bundle else None
    if bundle and entry and stage in recipe.share:
        return entry.source == recipe.share[stage]
    if bundle and entry and recipe.stages[stage].copied:
        return bundle.configs[stage] == bundle_entry(recipe, stage)[1]
    if bundle is None or entry is None or not run.begun(stage):
        return False
    facts, wanted = run.checkpoint(stage), objective_of(recipe, stage).checkpoint_facts(run, stage)
    same = all(agree(facts.get(key, value), value) for key, value in wanted.items())
    return same and facts["step"] >= recipe.stages[stage].schedule.steps and is_exported(run, bundle, stage)


def train_stage(run: Run, name: str) -> None:
    """Train a stage, or share or copy it, and put it into the bundle. Ends early when the run is told to stop."""
    team = run.team
    cls, resume = objective_of(run.recipe, name), team.first(lambda: run.resumes(name))
    if cls.pretraining and not run.start and not resume and run.resumes(cls.pretraining):
        run.start = Path(run.checkpoint(cls.pretraining)["start"])  # it was broken off in the pretraining
    if name in run.recipe.share:
        return team.first(lambda: export_shared(run, name))
    if run.recipe.stages[name].copied:
        return team.first(lambda: export_copied(run, name))
    cls.check_run(run, name)
    encoders = _encoders(run, cls, name)
    if team.any(run.stop()):
        return None
    objective = cls(run, name, encoders)
    if not resume:
        objective.warm_start()
        if not cls.is_encoder:
            # Now: if the run is broken off in `prepare`, an old checkpoint must not be taken for the new training's.
            team.first(lambda: forget(run, [name]))
    if not objective.prepare():
        return None
    state = fit(objective, resume=resume)
    if state.step < objective.schedule.steps:
        return None

    average = state.average(team.leads)

    def export() -> None:
        export_trained(objective, state, average)
        if cache := objective.encoders.cache:
            cache.flush()

    return team.first(export)


def _encoders(run: Run, cls: type[Objective], name: str) -> Encoders:
    """What an objective is given: the finished encoders of the bundle, or a tokenizer if it trains the text encoder.
    Raises InputError where there is no encoder yet."""
    if cls.is_encoder:
        run.team.first(lambda: _start_encoder(run, name))
        own = run.folder(name) / TOKENIZER
        return Encoders(tokenizer=Tokenizer.load(own if own.is_file() else run.out))
    if cls.learns_from(run.recipe, name):
        return encoders_of(run.bundle(), run.out, run.recipe.encoder, run.device)

    def begin() -> None:
        if run.bundle() is None:
            if not cls.can_be_first:
                raise InputError(f"{run.out} is not a bundle", train_first(run.recipe.encoder), "data")
            new_bundle(run, None)

    run.team.first(begin)
    return Encoders()


def _start_encoder(run: Run, stage: str) -> None:
    """Make the tokenizer of a text encoder's training, unless it is resumed. It is kept beside the checkpoint, and goes
    into the bundle together with the encoder."""
    if run.resumes(stage):
        return
    folder = run.folder(stage)
    if run.start:
        tokenizer = Tokenizer.load(run.start)
    else:
        n = run.recipe.tokenizer.captions
        run.report({"event": "tokenizer", "stage": stage, "captions": n})
        tokenizer = run.pictures.new_tokenizer(n)
    forget(run, [stage])
    folder.mkdir(parents=True)
    tokenizer.save(folder / TOKENIZER)
    if run.bundle() is None:
        new_bundle(run, tokenizer.backend.to_str())
