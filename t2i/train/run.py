"""One call of `t2i train`: what was asked for, where it writes, whom it tells. Every objective is given a `Run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from t2i.data.ahead import AheadSource
from t2i.data.folder import FolderSource
from t2i.data.source import Source, WorldSource
from t2i.errors import InputError, UsageError
from t2i.files import explain_os_error, unwritable
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.manifest import MANIFEST
from t2i.text.tokenizer import Tokenizer, train_tokenizer
from t2i.text.words import KnownWords
from t2i.train.recipe import Recipe
from t2i.train.state import TENSORS, read_facts
from t2i.train.streams import examples_seed
from t2i.train.team import SOLO, Team
from t2i.world import World

Report = Callable[[dict[str, Any]], None]
"""Told of every event of a training, as a table with the key "event"."""

KNOWN_WORDS = 20_000  # captions that are read for the list of known words


class Pictures:
    """The training pictures of a run, built when they are first asked for.

    data: "scenes" for the built-in world, else a folder or shards. sprites: the folder of the sprite library. workers:
    processes that draw or read batches ahead.
    """

    def __init__(
        self, recipe: Recipe, data: str = "scenes", sprites: Path | None = None,
        report: Report = lambda record: None, workers: int = 0,
    ) -> None:  # fmt: skip
        self.recipe, self.data, self.sprites, self.report, self.workers = recipe, data, sprites, report, workers

    @cached_property
    def small(self) -> Source:
        """For pictures of up to about 128 pixels. Raises InputError for data that cannot be used."""
        return self._world(128) if self.data == "scenes" else self._ahead(FolderSource(Path(self.data), self.report))

    @cached_property
    def large(self) -> Source:
        """For larger pictures, which need the sprites at their full size or come out soft."""
        return self._world(256) if self.data == "scenes" else self.small

    def _world(self, resolution: int) -> Source:
        return self._ahead(WorldSource(World(self.recipe.world, self.sprites, resolution=resolution)))

    def _ahead(self, source: Source) -> Source:
        return AheadSource(source, self.workers) if self.workers else source

    def new_tokenizer(self, captions: int) -> Tokenizer:
        """A tokenizer learned from so many captions, of the built-in world's whole vocabulary or of the user's data."""
        r, seed = self.recipe.tokenizer, examples_seed(self.recipe.seed, "tokenizer")
        if self.data == "scenes":
            styles = self.recipe.world.styles if r.vocabulary != "shapes" else ("shapes",)
            config = replace(
                self.recipe.world, vocabulary=r.vocabulary, things=(), places=(), styles=styles, side="any"
            )
            world = World(config, self.sprites, resolution=16)
            texts = [world.caption(world.scene(seed, i)) for i in range(captions)]
        else:
            texts = [self.small.captions(seed, i, 0) for i in range(captions)]
        return train_tokenizer(texts, self.recipe.stages[self.recipe.encoder].net.vocab)

    def words(self) -> str:
        """The words that the captions use, for the bundle's notes."""
        n, seed = min(KNOWN_WORDS, self.recipe.tokenizer.captions), examples_seed(self.recipe.seed, "tokenizer")
        return KnownWords.collect(self.small.captions(seed, i, 0) for i in range(n))


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """A block in which a log, a folder or a pool that cannot be written raises InputError (code `output`): what writes
    whole files says so itself. out: where the training works."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the reports
        raise
    except OSError as error:
        what = f"the training cannot go on: {error.filename or out}: {explain_os_error(error)}."
        raise InputError(what, "Make room there, and go on with --resume.", "output") from error


def check_folder(out: Path, data: str) -> None:
    """Raise UsageError for a folder to train in that is the one of the data, or that holds files (hidden ones do not
    count) and neither a model of ours nor the beginning of one: they would be mixed. InputError where it cannot be read
    (code `output`)."""
    if out.is_dir() and data != "scenes" and Path(data).resolve() == out.resolve():
        raise UsageError(f"{out} holds the pictures of --data, and no model goes among them.", "Choose another --out.")
    try:
        foreign = out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())
    except OSError as error:
        raise unwritable(error, out) from error
    if foreign and not (out / MANIFEST).is_file() and not (out / ".train").is_dir():
        hint = "Choose a folder for --out that is new or empty, or that a training was begun in."
        raise UsageError(f"{out} holds other files, and no model or training of ours.", hint)


@dataclass
class Run:
    """The arguments of one training and the folder it works in.

    out: the bundle's folder; checkpoints and logs are in its `.train/<stage>/`. stop: asked after every step, and
    True ends the training. resume: go on from checkpoints where there are any. start: a bundle whose weights to begin
    from. command: the command line, for the card. team: the processes that train together.
    """

    recipe: Recipe
    out: Path
    pictures: Pictures
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Report = lambda record: None
    stop: Callable[[], bool] = lambda: False
    resume: bool = False
    start: Path | None = None
    command: str = ""
    team: Team = SOLO

    def folder(self, stage: str) -> Path:
        """Where the checkpoint, the log and the sheets of a stage are."""
        return self.out / ".train" / stage

    def begun(self, stage: str) -> bool:
        """Whether there is a checkpoint of the stage."""
        return (self.folder(stage) / TENSORS).is_file()

    def resumes(self, stage: str) -> bool:
        """Whether the training of the stage goes on from its checkpoint."""
        return self.resume and self.begun(stage)

    def checkpoint(self, stage: str) -> dict[str, Any]:
        """The facts of the stage's checkpoint, as `State.save` wrote them. Raises InputError."""
        return read_facts(self.folder(stage))

    def bundle(self) -> Bundle | None:
        """The bundle in `out` as it is now, None if there is none yet."""
        return read_bundle(self.out) if (self.out / MANIFEST).is_file() else None

    def refuse(self, there: str, begun: bool, overwrite: bool) -> None:
        """Raise InputError for what is there, in words, "" for nothing, and is neither resumed nor overwritten; or if
        nothing was begun that can be resumed."""
        if there and not self.resume and not overwrite:
            hint = "Go on with --resume, train anew with --overwrite, or choose another --out."
            raise InputError(f"{there} already.", hint, "output")
        if self.resume and not begun:
            raise InputError(f"there is no checkpoint to resume in {self.out}", "start without --resume", "data")
