"""A base's text reader, taught by another base before it draws: distillation of what conditions the U-Net.

To learn reading from the denoising loss alone is slow: little of that loss depends on the text, and every step costs a
pass of the whole U-Net. A base that is conditioned on CLIP's image embedding already has a conditioner that turns the
embedding of a picture into a vector, tokens and a map. Here the reader of a new base learns, by regression, to make the
same of the picture's caption. A step costs no pass of a U-Net. The optimum is the mean over all pictures that the text
allows. (REPA, Yu 2024, arXiv 2410.06940, aligns hidden states in this way; here it is the condition.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from t2i.nets.clip import Clip
from t2i.nets.conditioner import Conditioner, UNetCond
from t2i.nets.reader import CondFeatures, QueryReader
from t2i.nets.unet_config import UNetConfig
from t2i.schema import Between
from t2i.text.encoder import TextEncoder
from t2i.train import streams
from t2i.train.objective import Trainable
from t2i.train.pool import EmbeddingPool
from t2i.train.recipe import Pictures, Schedule
from t2i.train.run import Run
from t2i.train.team import SOLO, Team

READING = "reading"
"""The name of this part of a base's training, in the log, in `.train/` and in the recipe (`base.reading`)."""


@dataclass(frozen=True)
class DistillSchedule(Schedule):
    """`[base.reading]`: how long the reader is taught. 0 steps: not at all."""

    steps: Annotated[int, Between(0, 1_000_000_000)] = 0
    batch: Annotated[int, Between(1, 65_536)] = 256
    pool: Pictures = 50_000  # pictures whose embeddings are computed once; their captions are drawn anew


def why_not(teacher: UNetConfig | None, pupil: UNetConfig) -> str:
    """Why a base of the config `teacher` cannot teach the reader of `pupil`; "" if it can. None: there is no base.

    It can if it is conditioned on an image embedding and its conditioner's outputs have the sizes of the reader's.
    """
    if teacher is None:
        return "--start names no base to learn from"
    if not teacher.cond_dim:
        return "the base of --start reads no embedding"
    sizes = ("emb_dim", "context_dim", "z_tokens", "z_grid", "z_channels")
    other = [name for name in sizes if getattr(teacher, name) != getattr(pupil, name)]
    said = ", ".join(f"base.net.{name} is {getattr(pupil, name)}, not {getattr(teacher, name)}" for name in other)
    return f"beside the base of --start, {said}" if said else ""


class ReaderDistillation(Trainable):
    """Trains the reader (`module`) of a new base. clip, teacher: CLIP and conditioner of the base that it starts from.
    drop_text: share of texts that are dropped, as in the base's own training."""

    module: QueryReader
    unsharded = "the reader becomes a part of the base"
    uncut = "what it misses is measured against the variance in a batch"

    def __init__(
        self,
        run: Run,
        schedule: DistillSchedule,
        drop_text: float,
        reader: QueryReader,
        encoder: TextEncoder,
        clip: Clip,
        teacher: Conditioner,
        facts: Mapping[str, Any],
    ) -> None:
        self.name, self.run, self.schedule, self.drop_text, self.facts = READING, run, schedule, drop_text, facts
        self.module, self.encoder, self.teacher = reader, encoder, teacher
        for net in (clip, teacher):
            net.to(run.device).eval().requires_grad_(False)
        seed = streams.examples_seed(run.recipe.seed, "distill_reader")
        self.pool: EmbeddingPool = EmbeddingPool(clip, run.pictures.small, seed, schedule.pool, run.device)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The mean of `unexplained` over vector, tokens and map."""
        n, g, device = self.schedule.batch, streams.noise(self.run.recipe.seed, READING, step), self.run.device
        _, captions, z = self.pool.draw(n, step, g, self.part)
        keep = self.part.rows(torch.rand(n, generator=g) >= self.drop_text).to(device)
        with torch.no_grad():
            text = self.encoder.encode(captions, tight=True)[0].to(device)
            truth = self.teacher.image_features(UNetCond(z=z, z_keep=keep), len(z))
        guess, _, _ = self.module(text.tokens, text.mask & keep[:, None])
        missed = unexplained(guess, truth, self.run.team)
        return torch.stack(list(missed.values())).mean(), {k: float(v.detach()) for k, v in missed.items()}


def unexplained(guess: CondFeatures, truth: CondFeatures, team: Team = SOLO) -> dict[str, Tensor]:
    """Of vector, tokens and map, where both have them, the share of the truth's variance that the guess misses:
    scalars, 1 for the best constant guess."""
    missed = {}
    for name in ("vector", "tokens", "map"):
        made, wanted = getattr(guess, name), getattr(truth, name)
        if made is not None and wanted is not None:
            error = (made.float() - wanted.float()).square().mean()
            every = team.gather(wanted.float())
            missed[name] = error / (every - every.mean(0)).square().mean()
    return missed
