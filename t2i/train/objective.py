"""What trains a network: `Trainable` is all that the loop asks of it, `Objective` all that a stage of a model needs.

docs/training.md, "A stage of your own", lists what a new stage takes.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from t2i.data.source import Examples, Source
from t2i.errors import UsageError
from t2i.store.manifest import StageEntry
from t2i.text.tokenizer import Tokenizer
from t2i.train import streams
from t2i.train.encoders import Encoders, read_once
from t2i.train.part import WHOLE, Part
from t2i.train.pool import Pool
from t2i.train.recipe import Recipe, Schedule
from t2i.train.run import Run
from t2i.train.warm_start import load_start


class Trainable(ABC):
    """A network, its loss and its schedule: all that the training loop asks for."""

    name: str
    """In the log, and of the checkpoint's folder."""
    run: Run
    module: nn.Module
    """Everything that has gradients or is averaged, also networks that are not kept."""
    schedule: Schedule
    facts: Mapping[str, Any]
    """What a checkpoint must agree with to be resumed (JSON)."""
    pool: Pool | None = None
    """The examples that are computed before the first step, if there are such."""
    part: Part = WHOLE
    """The rows of the batch that `loss` computes; the loop sets it."""
    unit: int = 1
    """How many rows of a batch stay together where it is cut into parts."""
    uncut: ClassVar[str] = ""
    """Why a batch cannot be computed in several passes; "" where it can."""
    unsharded: ClassVar[str] = ""
    """Why `module` cannot be cut into pieces (`sharding.py`); "" where it can."""

    compiles: ClassVar[bool] = False
    """Whether `Schedule.compile` may be asked for, which was tried: torch.compile (2.14) cannot make the gradient of a
    gradient, as of a GAN's penalty."""

    @property
    def compiled(self) -> tuple[nn.Module, ...]:
        """The networks whose forward pass is compiled; one whose parts are called one by one names these."""
        return (self.module,)

    @property
    def tight(self) -> bool:
        """Whether texts are as long as the longest of their batch. Else, for compiled networks, as long as the context:
        kernels are made for one shape, and in the backward pass of varying ones torch.compile (2.14) fails."""
        return not self.schedule.compile

    @classmethod
    def check_compile(cls, name: str, schedule: Schedule) -> None:
        """Raise UsageError for a stage whose schedule asks for compiling, and that cannot be compiled."""
        if schedule.compile and not cls.compiles:
            raise UsageError(f"{name} cannot be compiled.", f"Leave out {name}.compile", "config")

    @property
    def parameters(self) -> int:
        """How many parameters that has which is trained for; networks that only help to train it are not counted."""
        return sum(p.numel() for p in self.module.parameters())

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss of `part` of the batch of `step`, and numbers for the log. A function of (weights, seed,
        step, part); the mean over all parts is the loss of the batch."""

    def sheet(self) -> Tensor | None:
        """Pictures (R, C, 3, S, S) in [-1, 1] that show what has been learned; None: there are none to show. It is
        called without gradients, with the averaged weights in `module`."""
        return None

    def fill_pool(self) -> bool:
        """Compute the examples of the pool. False if the run was told to stop meanwhile."""
        if self.pool is None:
            return True
        pool, run = self.pool, self.run

        def fill() -> None:
            pool.fill(self.name, run.report, run.stop)

        if pool.on_disk:  # written by one process, read by all
            run.team.first(fill)
        if not (pool.on_disk and run.team.leads):
            fill()
        return not run.team.any(run.stop())


class Objective(Trainable):
    """Trains one stage of a model. The methods are called in this order:

    1. `rules` and `bundle_entry`, on the class: whether its sizes are possible, what the bundle will say of the stage.
    2. `__init__`: a new network.
    3. `warm_start`, unless the training is resumed from a checkpoint.
    4. `prepare`.
    5. `loss` at every step, `sheet` now and then.
    6. `export` and `notes`: what goes into the bundle.

    config: the stage's table. net: its network; a subclass annotates both with their own types.
    """

    is_encoder: ClassVar[bool] = False
    """Whether it is an `EncoderObjective`."""
    pretraining: ClassVar[str] = ""
    """The name of what is trained before the stage itself, with a checkpoint of its own; "": nothing is."""
    can_be_first: ClassVar[bool] = False
    """Whether it can be the first stage of a model: it is trained on pictures alone."""
    examples: ClassVar[str]
    """The stream of examples that the stage is trained on (`streams.py: OFFSETS`)."""
    exported: ClassVar[str] = ""
    """Where in `module` the network of the stage is: the prefix of its weights' names."""

    config: Any
    net: nn.Module

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        self.run, self.name, self.encoders = run, name, encoders
        self.recipe, self.device = run.recipe, run.device
        self.config = run.recipe.stages[name]
        self.schedule, self.unit = self.config.schedule, self.config.unit
        self.facts = self.checkpoint_facts(run, name)
        self.net = self.module = self.build(run.recipe, name)

    # About a stage of a recipe, before anything is built -----------------------------------------------------------

    @classmethod
    @abstractmethod
    def build(cls, recipe: Recipe, name: str) -> nn.Module:
        """The stage's network, its first weights a function of (seed, name)."""

    @classmethod
    @abstractmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        """The stage's entry in the manifest and its config.json."""

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        """(whether it holds, the sentence if not) for sizes that the stage cannot have. stages: all that are to be
        trained; the stage itself need not be among them."""
        return []

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        """The finished stages that this one is trained on, the text encoder first; () if there are none."""
        return ()

    @classmethod
    def check_run(cls, run: Run, name: str) -> None:
        """Raises UsageError where the arguments of the command do not suffice for this stage."""

    @classmethod
    def checkpoint_facts(cls, run: Run, name: str) -> dict[str, Any]:
        """What a checkpoint of the stage must agree with to be resumed: network, seed, weights that it learned from."""
        facts: dict[str, Any] = {"net": run.recipe.stages[name].net.to_dict(), "seed": run.recipe.seed}
        teachers, bundle = cls.learns_from(run.recipe, name), run.bundle()
        if teachers and bundle:
            there = [entry for entry in bundle.manifest.stages if entry.name in teachers]
            facts |= {teachers[0]: "", **{entry.name: bundle.manifest.digest(entry) for entry in there}}
        return facts

    # Training ------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """See `Trainable`."""
        return sum(p.numel() for p in self.net.parameters())

    @property
    def source(self) -> Source:
        """The pictures and captions that the stage is trained on."""
        return self.run.pictures.small

    @property
    def noise_stream(self) -> str:
        """The name of the stream of noise."""
        return self.name

    def noise(self, step: int) -> torch.Generator:
        """The generator of what is random in a step beside the examples."""
        return streams.noise(self.recipe.seed, self.noise_stream, step)

    @property
    def examples_seed(self) -> int:
        """The seed that examples are drawn from."""
        return streams.examples_seed(self.recipe.seed, self.examples)

    def batch(self, step: int, size: int, masks: bool = False) -> Examples:
        """The examples of `part`, `size` pixels a side, with masks of their things if asked for and known."""
        p, n = self.part, self.schedule.batch
        return self.source.batch(self.examples_seed, step * p.of + p.index, n // p.of, size, masks)

    def caption(self, step: int, row: int) -> str:
        """The caption of a row of the whole batch, without its picture."""
        return self.source.captions(self.examples_seed, step * self.schedule.batch + row, 0)

    def warm_start(self) -> None:
        """Take first weights from elsewhere. By default those of the same stage of `--start`. Raises InputError."""
        if self.run.start:
            load_start(self.run.start, self.name, self.net, self.run.report)

    @property
    def captions_read(self) -> int:
        """How many captions of its examples the stage reads in all, from the first on; 0: none are encoded."""
        return 0

    def planned_pretraining(self) -> Trainable | None:
        """What will be trained before the stage itself, if anything will. For `--dry-run`."""
        return None

    def prepare(self) -> bool:
        """Fill caches and pools, pretrain. False if the run was told to stop meanwhile."""
        if n := self.captions_read:
            captions = (self.source.captions(self.examples_seed, i, 0) for i in range(n))
            self.encoders = read_once(self.run, self.encoders, captions, n, self.name)
            if self.encoders.cache and self.run.team.any(self.run.stop()):
                return False
        return self.fill_pool()

    @classmethod
    def export(cls, average: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights that go into the bundle, from the averaged weights of `module`."""
        k = len(cls.exported)
        return {name[k:]: t for name, t in average.items() if name.startswith(cls.exported)}

    def notes(self) -> dict[str, Any]:
        """What the bundle's notes say of the training beyond what they say of every stage."""
        return {}


class EncoderObjective(Objective):
    """Trains the text encoder, which comes with a tokenizer of its own. The first stage of every model."""

    is_encoder = True

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        assert encoders.tokenizer is not None
        self.tokenizer = encoders.tokenizer
        text = self.tokenizer.backend.to_str()
        self.facts = {**self.facts, "tokenizer": hashlib.sha256(text.encode()).hexdigest()}

    @classmethod
    @abstractmethod
    def untrained(cls, recipe: Recipe, tokenizer: Tokenizer | None) -> Encoders:
        """What other stages would read with, before it is trained. For `--dry-run`."""

    @classmethod
    def read_copy(cls, recipe: Recipe) -> tuple[dict[str, Tensor], str]:
        """Of an encoder that is copied and not trained: its weights and its tokenizer (JSON)."""
        raise AssertionError(f"{cls.__name__} is trained, never copied")
