"""Trains stages and puts them into a bundle: `train("all", "tiny", out=Path("my-model"))`.

The bundle is the folder itself; checkpoints, logs and sheets are in its `.train/<stage>/`. A stage enters the
bundle when its training is complete; until then the bundle is as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from t2i.data.scenes import World
from t2i.data.source import Source, WorldSource
from t2i.errors import InputError, UsageError, nearest
from t2i.nets.clip import Clip
from t2i.nets.prior import build_prior
from t2i.nets.unet import UNet
from t2i.nets.upsampler import Upsampler
from t2i.rng import digest
from t2i.store.bundle import MANIFEST, Bundle, Manifest, read_bundle, update_stage, write_bundle
from t2i.store.fit import pixel_sizes
from t2i.text.tokenizer import Tokenizer, train_tokenizer
from t2i.text.words import Words
from t2i.train.card import command_line, hardware, write_card
from t2i.train.entries import check, entry_of
from t2i.train.loop import Objective, Report, Run, fit
from t2i.train.objectives import BaseObjective, ClipObjective, PriorObjective
from t2i.train.recipe import STAGES, Recipe, load_recipe
from t2i.train.state import FACTS, TENSORS, agree
from t2i.train.upsampling import UpsamplerObjective

ORDER = STAGES
"""The order of training. CLIP and the base come first: the prior learns the embeddings of a finished CLIP."""

FIRST = "train clip first: t2i train clip --out …"
WORDS = 20_000  # captions that are read for the list of known words


def train(
    stage: str = "all", recipe: str | Recipe = "tiny", overrides: Sequence[str] = (), data: str = "scenes",
    out: Path | str = "my-model", resume: bool = False, dry_run: bool = False,
    report: Report = lambda record: None, *, sprites: Path | None = None, seed: int | None = None,
    steps: int | None = None, device: str = "cpu", start: Path | None = None, stop: Callable[[], bool] = lambda: False,
    overwrite: bool = False,
) -> Bundle | dict[str, Any]:  # fmt: skip
    """Train `stage` ("all", which leaves out stages of 0 steps, or one of ORDER) and return the bundle in
    `out`; with `dry_run`, what would be done.

    `start` is a bundle whose weights (and tokenizer) training goes on from, with a fresh optimiser.
    `overrides` are "key=value" strings; `data` is "scenes", a folder of pictures and captions, or shards.
    `stop` is asked after every step: when it says yes, a checkpoint is written and the training ends early.
    A stage that `out` holds already is trained anew only with `overwrite`.
    Raises UsageError for a bad recipe, InputError for bad data, no checkpoint or one of another training.
    """
    if stage not in ("all", *ORDER):
        raise UsageError(f"there is no stage {stage!r}.", f"Did you mean {(nearest(stage, ORDER, 1) or ['all'])[0]}?")
    changes = {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in overrides)}
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    if seed is not None:
        loaded = replace(loaded, seed=seed)
    stages = tuple(n for n in ORDER if n == stage or (stage == "all" and getattr(loaded, n).schedule.steps))
    if steps is not None:
        for name in stages:
            part = getattr(loaded, name)
            loaded = replace(loaded, **{name: replace(part, schedule=replace(part.schedule, steps=steps))})
    if not all(getattr(loaded, name).schedule.steps for name in stages):
        raise UsageError(
            f"the recipe {loaded.name!r} trains {stage} for 0 steps.",
            f"Write --set {stage}.steps=2000",
            "config",
        )
    command = command_line(
        stage, recipe if isinstance(recipe, str) else loaded.name, overrides, data, sprites, seed, steps, start
    )
    trainer = Trainer(loaded, Path(out), data, sprites, torch.device(device), report, stop, command, start)
    check(loaded, stages, trainer.bundle())
    if dry_run:
        from t2i.train.plan import plan

        return plan(trainer, stages)
    started = [name for name in stages if (trainer.folder(name) / TENSORS).is_file()]
    bundle = trainer.bundle()
    trained = [e.name for e in bundle.manifest.stages] if bundle else []
    there = [name for name in stages if name in started or name in trained]
    if there and not resume and not overwrite:
        hint = "Go on with --resume, train anew with --overwrite, or choose another --out."
        raise InputError(f"{out} holds {' and '.join(there)} already.", hint, "output")
    if resume and not started:
        raise InputError(f"there is no checkpoint to resume in {out}", "start without --resume", "data")
    _ = trainer.source  # built here: a fault in the data is said before anything is made
    for name in stages:
        # "all" with --resume goes on where it was: finished stages are kept, the broken-off one continues.
        if resume and stage == "all" and trainer.finished(name):
            report({"event": "kept", "stage": name})
            continue
        # asked now: a CLIP that has trained on takes with it what had learned from the one before
        trainer.run(name, resume=resume and (trainer.folder(name) / TENSORS).is_file())
        if stop():
            break
    return read_bundle(out)


@dataclass
class Trainer:
    recipe: Recipe
    out: Path
    data: str
    sprites: Path | None
    device: torch.device
    report: Report
    stop: Callable[[], bool]
    command: str = ""
    start: Path | None = None
    _source: Source | None = None

    # The parts ----------------------------------------------------------------------

    def folder(self, stage: str) -> Path:
        return self.out / ".train" / stage

    def bundle(self) -> Bundle | None:
        return read_bundle(self.out) if (self.out / MANIFEST).is_file() else None

    @property
    def source(self) -> Source:
        if self._source is None:
            if self.data == "scenes":
                self._source = self._world(128)
            else:
                from t2i.data.folder import FolderSource

                self._source = FolderSource(Path(self.data), report=self.report)
        return self._source

    def _world(self, resolution: int) -> WorldSource:
        return WorldSource(World(self.recipe.world, self.sprites, resolution=resolution))

    def new_tokenizer(self, captions: int) -> Tokenizer:
        """One trained on captions: of the built-in world's whole vocabulary, or of the user's pictures."""
        r, seed = self.recipe.tokenizer, self.recipe.seed + 4
        if self.data == "scenes":
            styles = self.recipe.world.styles if r.vocabulary != "shapes" else ("shapes",)
            config = replace(
                self.recipe.world, vocabulary=r.vocabulary, things=(), places=(), styles=styles, side="any"
            )
            world = World(config, self.sprites, resolution=16)
            texts = [world.caption(world.scene(seed, i)) for i in range(captions)]
        else:
            texts = [self.source.captions(seed, i, 0) for i in range(captions)]
        return train_tokenizer(texts, self.recipe.clip.net.vocab)

    def words(self) -> str:
        """The words that the captions of this training use, for the bundle's notes."""
        n = min(WORDS, self.recipe.tokenizer.captions)
        return Words.collect(self.source.captions(self.recipe.seed + 4, i, 0) for i in range(n))

    def seeded(self, stage: str, build: Callable[[], nn.Module]) -> nn.Module:
        """A new network, its weights a function of the seed and the stage; the global RNG stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(digest(self.recipe.seed, "init", stage) % 2**63)
            return build()

    def build(self, stage: str) -> nn.Module:
        config = getattr(self.recipe, stage).net
        builders: dict[str, Callable[[Any], nn.Module]] = {"clip": Clip, "base": UNet, "prior": build_prior}
        return self.seeded(stage, lambda: builders.get(stage, Upsampler)(config))

    def objective(self, stage: str, clip: Clip | None, tokenizer: Tokenizer | None) -> Objective:
        """What training `stage` minimises, on a new network; clip and tokenizer: those of the bundle."""
        r, net, where = self.recipe, self.build(stage), self.device
        if isinstance(net, Upsampler):
            # Pictures of 256 pixels and more need the sprites at their full size, or they come out soft.
            source = self._world(256) if self.data == "scenes" else self.source
            return UpsamplerObjective(r, getattr(r, stage), net, source, where, stage)
        assert tokenizer is not None
        if isinstance(net, Clip):
            base = self.build("base")
            assert isinstance(base, UNet)
            return ClipObjective(r, net, base, tokenizer, self.source, where)
        if isinstance(net, UNet):
            return BaseObjective(r, clip, net, tokenizer, self.source, where)
        assert clip is not None
        return PriorObjective(r, clip, net, tokenizer, self.source, where)

    def trained_clip(self) -> tuple[Clip, Tokenizer]:
        bundle = self.bundle()
        if bundle is None or not bundle.manifest.of_kind("clip"):
            raise InputError(f"{self.out} holds no CLIP yet", FIRST, "data")
        config, state = bundle.load_stage("clip")
        clip = Clip(type(self.recipe.clip.net).from_dict(config["net"]))
        clip.load_state_dict(state)
        return clip, Tokenizer.load(self.out)

    def facts(self, stage: str) -> dict[str, Any]:
        """What a checkpoint of `stage` remembers, and must agree with when it is resumed."""
        facts: dict[str, Any] = {"net": getattr(self.recipe, stage).net.to_dict(), "seed": self.recipe.seed}
        if stage in ("base", "prior") and (bundle := self.bundle()):
            facts["clip"] = bundle.manifest.files.get("clip/model.safetensors", "")
        return facts

    def finished(self, stage: str) -> bool:
        """Whether the bundle holds this very stage, trained to the recipe's last step."""
        bundle, path = self.bundle(), self.folder(stage) / FACTS
        if bundle is None or not path.is_file() or stage not in [e.name for e in bundle.manifest.stages]:
            return False
        facts = json.loads(path.read_text("utf-8"))
        same = all(agree(facts.get(key, value), value) for key, value in self.facts(stage).items())
        return same and facts["step"] >= getattr(self.recipe, stage).schedule.steps

    # The stages ----------------------------------------------------------------------

    def run(self, stage: str, resume: bool) -> None:
        folder = self.folder(stage)
        run = Run(folder, self.device, self.report, resume, self.stop, self.facts(stage))
        clip: Clip | None = None
        tokenizer: Tokenizer | None = None
        if stage == "clip":
            tokenizer = self._start_clip(resume)
        elif stage in ("base", "prior"):
            clip, tokenizer = self.trained_clip()
        elif self.bundle() is None:
            raise InputError(f"{self.out} is not a bundle", FIRST, "data")
        objective = self.objective(stage, clip, tokenizer)
        if self.start and not resume:
            self._go_on(objective)
        elif isinstance(objective, BaseObjective) and not resume:
            self._warm(objective.base)
        if isinstance(objective, PriorObjective):
            objective.embed(self.report, self.stop)
            if self.stop():
                return
        if not resume and stage != "clip":
            shutil.rmtree(folder, ignore_errors=True)
        schedule = getattr(self.recipe, stage).schedule
        state = fit(objective, schedule, run)
        if state.step < schedule.steps:
            self.report({"event": "stopped", "stage": stage, "step": state.step, "steps": schedule.steps})
            return
        weights = _part(state.ema.weights, "clip.") if stage == "clip" else state.ema.weights
        self._write(stage, weights, tokenizer if stage == "clip" else None, state.seconds, state.samples)

    def _start_clip(self, resume: bool) -> Tokenizer:
        """This training's tokenizer; it goes into the bundle with the CLIP that has learned to read by it."""
        folder = self.folder("clip")
        own = folder / "tokenizer.json"
        if resume:
            return Tokenizer.load(own if own.is_file() else self.out)
        if self.start:
            tokenizer = Tokenizer.load(self.start)
        else:
            n = self.recipe.tokenizer.captions
            self.report({"event": "tokenizer", "stage": "clip", "captions": n})
            tokenizer = self.new_tokenizer(n)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer.save(own)
        if self.bundle() is None:
            card = write_card(self.recipe, {})
            write_bundle(
                self.out,
                Manifest("unclip", self.recipe.name, (), (), stop=self.recipe.sample.size),
                {},
                tokenizer.backend.to_str(),
                card,
            )
        return tokenizer

    def _go_on(self, objective: Objective) -> None:
        """Take the weights of the bundle `start`, for CLIP those of its base too. Raises InputError."""
        assert self.start is not None
        bundle = read_bundle(self.start)
        nets: dict[str, nn.Module] = {objective.name: objective.module}
        if isinstance(objective, ClipObjective):
            nets = {"clip": objective.clip, "base": objective.base}
        for name, net in nets.items():
            if name not in bundle.configs:
                raise InputError(f"{self.start} has no stage {name!r} to start from.", "Train without --start.", "data")
            state = bundle.load_stage(name)[1]
            if {k: t.shape for k, t in state.items()} != {k: t.shape for k, t in net.state_dict().items()}:
                raise InputError(
                    f"the {name} of {self.start} is another network than the recipe's.", "Use its recipe.", "mismatch"
                )
            net.load_state_dict(state)
            self.report({"event": "warm start", "stage": name, "path": str(self.start)})

    def _warm(self, base: UNet) -> None:
        """Start from the small base that trained with CLIP, where it is the same network."""
        path = self.folder("clip") / TENSORS
        if not self.recipe.base.warm_start or not path.is_file():
            return
        average = {k.removeprefix("ema/base."): t for k, t in load_file(path).items() if k.startswith("ema/base.")}
        own = base.state_dict()
        if {k: t.shape for k, t in average.items()} == {k: t.shape for k, t in own.items()}:
            base.load_state_dict(average)
            self.report({"event": "warm start", "stage": "base", "path": str(path)})

    def _write(
        self, name: str, weights: dict[str, Tensor], tokenizer: Tokenizer | None, seconds: float, samples: int
    ) -> None:
        entry, config = entry_of(self.recipe, name)
        old = read_bundle(self.out)
        # What an earlier CLIP taught (the embeddings of its prior and base) is worth nothing to a new one.
        gone = {e.name for e in old.manifest.stages if tokenizer and e.kind in ("prior", "base")}
        done = {k: facts for k, facts in old.manifest.notes.get("training", {}).items() if k not in gone}
        part = getattr(self.recipe, name)
        done[name] = {
            "seconds": round(seconds), "samples": samples, "recipe": self.recipe.name,
            "seed": self.recipe.seed, "data": self.source.describe(),
            "command": self.command, "hardware": hardware(self.device),
            "parameters": sum(t.numel() for t in weights.values()), "steps": part.schedule.steps,
            "batch": part.schedule.batch, "lr": part.schedule.lr,
        }  # fmt: skip
        notes: dict[str, Any] = {"training": done}
        if tokenizer or not old.manifest.notes.get("words"):
            notes["words"] = self.words()
        card = write_card(self.recipe, done)
        text = tokenizer.backend.to_str() if tokenizer else None
        if gone:
            kept = tuple(e for e in old.manifest.stages if e.name not in gone and e.name != name)
            stages = {e.name: old.load_stage(e.name) for e in kept} | {name: (config, weights)}
            manifest = replace(old.manifest, stages=(entry, *kept), notes={**old.manifest.notes, **notes})
            manifest = replace(manifest, sizes=pixel_sizes(manifest, {n: c for n, (c, _) in stages.items()}))
            write_bundle(self.out, manifest, stages, text, card)
            for stage in gone:
                shutil.rmtree(self.out / stage, ignore_errors=True)
                shutil.rmtree(self.folder(stage), ignore_errors=True)
            self.report(
                {"event": "dropped", "stage": " and ".join(sorted(gone)), "why": "they learned from another CLIP"}
            )
        else:
            update_stage(self.out, entry, (config, weights), tokenizer_json=text, card=card, notes=notes)
        self.report({"event": "written", "stage": name, "path": str(self.out / name)})


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
