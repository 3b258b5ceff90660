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
from torch import Tensor, nn

from t2i.data.source import Source, WorldSource
from t2i.errors import InputError, UsageError, nearest
from t2i.nets.clip import Clip
from t2i.nets.critic import PatchCritic
from t2i.nets.language import LanguageModel
from t2i.nets.prior import build_prior
from t2i.nets.unet import UNet
from t2i.nets.upsampler import Upsampler
from t2i.rng import digest
from t2i.stages.loading import load_net
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.compatibility import ENCODERS
from t2i.store.manifest import MANIFEST
from t2i.text.cache import CachedEncoder
from t2i.text.tokenizer import Tokenizer, train_tokenizer
from t2i.text.words import KnownWords
from t2i.train.card import command_line
from t2i.train.entries import check, entry_of
from t2i.train.keeping import keep, new_bundle, share, take_t5
from t2i.train.language import LanguageObjective
from t2i.train.locked import LockedClipObjective
from t2i.train.loop import Objective, Report, Run, fit
from t2i.train.objectives import BaseObjective, ClipObjective, PriorObjective
from t2i.train.readers import Readers, cached, captions_of, first, of_bundle
from t2i.train.reading import READING
from t2i.train.recipe import STAGES, Recipe, load_recipe
from t2i.train.sharpening import SharpObjective
from t2i.train.starting import take_from_clip, take_weights, teach
from t2i.train.state import FACTS, TENSORS, agree
from t2i.train.upsampling import UpsamplerObjective
from t2i.world import World

ORDER = STAGES
"""The order of training: the prior learns the embeddings of a finished CLIP, and the base may learn from both."""

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

    `start` is a bundle whose weights (and tokenizer) training goes on from, with a fresh optimiser; a base may start
    from one that reads something else, and takes of it what fits.
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
    stages = tuple(n for n in ORDER if n == stage or (stage == "all" and loaded.trains(n)))
    if steps is not None:
        for name in stages:
            part = getattr(loaded, name)
            loaded = replace(loaded, **{name: replace(part, schedule=replace(part.schedule, steps=steps))})
    if not all(loaded.trains(name) for name in stages):
        raise UsageError(
            f"the recipe {loaded.name!r} trains {stage} for 0 steps.",
            f"Write --set {stage}.steps=2000",
            "config",
        )
    command = command_line(
        stage, recipe if isinstance(recipe, str) else loaded.name, overrides, data, sprites, seed, steps, start
    )
    trainer = Trainer(loaded, Path(out), data, sprites, torch.device(device), report, stop, command, start)
    check(loaded, stages, trainer.bundle(), Path(out))
    if dry_run:
        from t2i.train.plan import plan

        return plan(trainer, stages)
    started = [name for name in stages if trainer.begun(name) or (name == "base" and trainer.begun(READING))]
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
        trainer.run(name, resume)
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

    def begun(self, stage: str) -> bool:
        """Whether there is a checkpoint of the stage."""
        return (self.folder(stage) / TENSORS).is_file()

    def checkpoint(self, stage: str) -> dict[str, Any]:
        """What the checkpoint of the stage remembers."""
        facts: dict[str, Any] = json.loads((self.folder(stage) / FACTS).read_text("utf-8"))
        return facts

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
        return train_tokenizer(texts, getattr(self.recipe, self.recipe.encoder).net.vocab)

    def words(self) -> str:
        """The words that the captions of this training use, for the bundle's notes."""
        n = min(WORDS, self.recipe.tokenizer.captions)
        return KnownWords.collect(self.source.captions(self.recipe.seed + 4, i, 0) for i in range(n))

    def seeded(self, stage: str, build: Callable[[], nn.Module]) -> nn.Module:
        """A new network, its weights a function of the seed and the stage; the global RNG stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(digest(self.recipe.seed, "init", stage) % 2**63)
            return build()

    def build(self, stage: str) -> nn.Module:
        config = getattr(self.recipe, stage).net
        builders: dict[str, Callable[[Any], nn.Module]] = {
            "clip": Clip, "text": LanguageModel, "base": UNet, "prior": build_prior,
        }  # fmt: skip
        return self.seeded(stage, lambda: builders.get(stage, Upsampler)(config))

    def objective(self, stage: str, tokenizer: Tokenizer | None, readers: Readers | None) -> Objective:
        """What training `stage` minimises, on a new network. tokenizer: of a text encoder that is to be trained;
        readers: what reads captions for the other stages."""
        r, net, where = self.recipe, self.build(stage), self.device
        if isinstance(net, Upsampler):
            # Pictures of 256 pixels and more need the sprites at their full size, or they come out soft.
            source = self._world(256) if self.data == "scenes" else self.source
            if getattr(r, stage).instead_of:
                critic = self.seeded(f"{stage}/critic", PatchCritic)
                assert isinstance(critic, PatchCritic)
                return SharpObjective(r, getattr(r, stage), net, critic, source, where, stage)
            encoder = readers.encoder if readers else None
            return UpsamplerObjective(r, getattr(r, stage), net, source, where, stage, encoder)
        if isinstance(net, LanguageModel):
            assert tokenizer is not None
            return LanguageObjective(r, net, tokenizer, self.source, where)
        if isinstance(net, Clip):
            assert tokenizer is not None
            if r.clip.locked:
                return LockedClipObjective(r, net, tokenizer, self.source, where)
            base = self.build("base")
            assert isinstance(base, UNet)
            return ClipObjective(r, net, base, tokenizer, self.source, where)
        if isinstance(net, UNet):
            assert readers is not None
            prior = self._prior() if r.base.imagined else None
            return BaseObjective(r, readers.encoder, readers.clip, net, self.source, where, prior)
        assert readers is not None and readers.clip is not None and readers.tokenizer is not None
        return PriorObjective(r, readers.clip, net, readers.tokenizer, self.source, where)

    def _prior(self) -> nn.Module:
        """The prior of the bundle in `out`, frozen. Raises InputError."""
        bundle = self.bundle()
        entries = bundle.manifest.of_kind("prior") if bundle else []
        if bundle is None or not entries:
            raise InputError(f"{self.out} holds no prior yet, and base.imagined asks for it", first("prior"), "data")
        return load_net(bundle, entries[0]).to(self.device).eval().requires_grad_(False)

    def reads(self, stage: str) -> bool:
        """Whether a stage is trained on what the text encoder says."""
        return stage in ("base", "prior") or bool(getattr(getattr(self.recipe, stage).net, "pooled_dim", 0))

    def readers(self, stage: str) -> Readers | None:
        """What reads captions while `stage` is trained, None if it needs nobody. Raises InputError."""
        r = self.recipe
        if not self.reads(stage):
            if self.bundle() is None:
                raise InputError(f"{self.out} is not a bundle", first(r.encoder), "data")
            return None
        found = of_bundle(self.bundle(), self.out, r.encoder, self.device)
        if r.encoder == "clip" or (r.text.encoder == "language" and self.data == "scenes"):
            return found
        # A T5 is costly, and the captions of a folder come again and again: each is read once.
        part, seed = getattr(r, stage), r.seed + (1 if stage == "base" else 3)
        n = part.schedule.steps * -(-part.schedule.batch // getattr(part, "crops", 1))
        captions = captions_of(self.source, seed, n)
        cache = cached(found.encoder, self.out / ".train" / "texts", captions, n, stage, self.report, self.stop)
        return replace(found, encoder=cache)

    def facts(self, stage: str) -> dict[str, Any]:
        """What a checkpoint of `stage` remembers, and must agree with when it is resumed."""
        facts: dict[str, Any] = {"net": getattr(self.recipe, stage).net.to_dict(), "seed": self.recipe.seed}
        if self.reads(stage) and (bundle := self.bundle()):
            name = self.recipe.encoder
            read = (name, "prior") if stage == "base" and self.recipe.base.imagined else (name,)
            facts |= {name: "", **{e.name: bundle.manifest.digest(e) for e in bundle.manifest.stages if e.name in read}}
        return facts

    def finished(self, stage: str) -> bool:
        """Whether the bundle holds this very stage, trained to the recipe's last step."""
        bundle, path = self.bundle(), self.folder(stage) / FACTS
        entry = next((e for e in bundle.manifest.stages if e.name == stage), None) if bundle else None
        if bundle and entry and stage in self.recipe.share:
            return entry.source == self.recipe.share[stage]
        if bundle and entry and self.takes(stage):
            return bundle.configs[stage] == entry_of(self.recipe, stage)[1]
        if entry is None or not path.is_file():
            return False
        facts = self.checkpoint(stage)
        same = all(agree(facts.get(key, value), value) for key, value in self.facts(stage).items())
        return same and facts["step"] >= getattr(self.recipe, stage).schedule.steps

    # The stages ----------------------------------------------------------------------

    def takes(self, stage: str) -> bool:
        """Whether a stage is not trained but copied: a T5, from its folder."""
        return stage == "text" and self.recipe.text.encoder == "t5"

    def run(self, stage: str, go_on: bool) -> None:
        """Train a stage, with `go_on` from its checkpoint if there is one."""
        resume = go_on and self.begun(stage)
        if stage == "base" and go_on and not resume and not self.start and self.begun(READING):
            self.start = Path(self.checkpoint(READING)["start"])  # it learns to read still
        if stage in self.recipe.share:
            return share(self, stage)
        if self.takes(stage):
            return take_t5(self, stage)
        folder = self.folder(stage)
        run = Run(folder, self.device, self.report, resume, self.stop, self.facts(stage))
        if stage == "clip" and self.recipe.clip.locked and not self.start and not resume:
            raise UsageError(
                "clip.locked trains the text tower at a finished image tower.", "Name its bundle by --start."
            )
        tokenizer = self._start_encoder(stage, resume) if stage in ENCODERS else None
        readers = self.readers(stage) if tokenizer is None else None
        if self.stop():
            return
        objective = self.objective(stage, tokenizer, readers)
        if not resume and (self.start or isinstance(objective, SharpObjective)):
            take_weights(self, objective, self.start or self.out)
        elif isinstance(objective, BaseObjective) and not resume:
            take_from_clip(self, objective.base)
        # now: broken off while a pool is filled, what was trained before must not be taken for what follows
        if not resume and stage not in ENCODERS:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(objective, BaseObjective) and not resume and not teach(self, objective, go_on):
            return
        if isinstance(objective, (PriorObjective, LockedClipObjective)):
            objective.pool.fill(stage, self.report, self.stop)
            if self.stop():
                return
        schedule = getattr(self.recipe, stage).schedule
        state = fit(objective, schedule, run)
        if state.step < schedule.steps:
            self.report({"event": "stopped", "stage": stage, "step": state.step, "steps": schedule.steps})
            return
        # of CLIP not the small base that trained with it, of a sharp upsampler not its critic
        inner = "clip." if stage == "clip" else "upsampler." if isinstance(objective, SharpObjective) else ""
        weights = _part(state.ema.weights, inner)
        text = tokenizer.backend.to_str() if tokenizer else None
        keep(self, stage, weights, text, state.seconds, state.samples)
        if readers and isinstance(readers.encoder, CachedEncoder):
            readers.encoder.flush()

    def _start_encoder(self, stage: str, resume: bool) -> Tokenizer:
        """This training's tokenizer; it goes into the bundle with the encoder that has learned to read by it."""
        folder = self.folder(stage)
        own = folder / "tokenizer.json"
        if resume:
            return Tokenizer.load(own if own.is_file() else self.out)
        if self.start:
            tokenizer = Tokenizer.load(self.start)
        else:
            n = self.recipe.tokenizer.captions
            self.report({"event": "tokenizer", "stage": stage, "captions": n})
            tokenizer = self.new_tokenizer(n)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer.save(own)
        if self.bundle() is None:
            new_bundle(self, tokenizer.backend.to_str())
        return tokenizer


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below `prefix`, all of them for an empty one."""
    return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
