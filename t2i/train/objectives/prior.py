"""The prior: from a text to CLIP's image embedding, by diffusion (DALL·E 2, section 2.2).

It is trained on a pool of scenes that are embedded once; their captions are drawn anew at every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from t2i.diffusion.guidance import unguided
from t2i.diffusion.loss import DenoisingObjective, Levels, diffusion_loss
from t2i.diffusion.process import Flow
from t2i.nets.prior import PriorCond, PriorConfig, build_prior
from t2i.schema import Between
from t2i.store.manifest import StageEntry
from t2i.train.encoders import Encoders
from t2i.train.objective import Objective
from t2i.train.objectives.clip import token_ids
from t2i.train.part import denoising_noise
from t2i.train.pool import EmbeddingPool, unit
from t2i.train.recipe import Pictures, Recipe, Schedule, Share, StageRecipe
from t2i.train.run import Run
from t2i.train.streams import first_weights
from t2i.train.warm_start import load_start


@dataclass(frozen=True)
class PriorRecipe(StageRecipe):
    """`[prior]`."""

    net: PriorConfig = field(default_factory=PriorConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=4000, batch=256))
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(judge="x0", levels=Levels(law="uniform", stratified=True))
    )
    pool: Pictures = 50_000  # pictures whose embeddings are computed once; their captions are drawn anew
    drop: Share = 0.1  # of the text, for guidance
    # noise levels that each pair is shown at: most of a step's time is spent on reading the text
    draws: Annotated[int, Between(1, 1024)] = 1
    # the weight of guidance that its estimates learn to have, which then takes one evaluation a step; 1: none
    distilled: Annotated[float, Between(1, 100)] = 1.0

    @property
    def trained_by(self) -> str:
        return "prior"


class PriorObjective(Objective):
    """The denoising loss of embeddings z (B, E), scaled to unit variance a coordinate."""

    examples = "prior"
    compiles = True
    config: PriorRecipe
    pool: EmbeddingPool

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        assert encoders.clip is not None and encoders.tokenizer is not None
        self.clip, self.tokenizer = encoders.clip, encoders.tokenizer
        self.clip.eval().requires_grad_(False)
        self.pool = EmbeddingPool(self.clip, self.source, self.examples_seed, self.config.pool, self.device)

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> nn.Module:
        return first_weights(recipe.seed, name, lambda: build_prior(recipe.stage(name, PriorRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder,)

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, PriorRecipe)
        config: dict[str, Any] = {"net": part.net.to_dict()}
        config |= {"prediction": part.objective.prediction, "process": {"kind": "flow"}}
        config["widths"] = {"embed_dim": part.net.embed_dim, "text_dim": part.net.token_dim}
        sampled = recipe.sample.prior
        if part.distilled != 1:
            sampled = replace(sampled, distilled=part.distilled, guidance=part.distilled)
        return StageEntry(name, "prior", name, sampled), config

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        with_clip = recipe.encoder == "clip"
        return [(name not in stages or with_clip, "a prior needs CLIP, and [text] takes its place")]

    def warm_start(self) -> None:
        if start := self.run.start:
            distilled = self.config.distilled
            load_start(start, self.name, self.net, self.run.report, partial=True, distilled=distilled)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, g = self.config, self.noise(step)
        _, captions, z = self.pool.draw(self.schedule.batch, step, g, self.part)
        with torch.no_grad():
            out = self.clip.encode_text(token_ids(self.tokenizer, captions, self.clip, self.device, self.tight))
        z_text = unit(out.pooled)
        keep = self.part.rows(torch.rand(self.schedule.batch, generator=g) >= r.drop).to(self.device)
        cond = PriorCond(tokens=out.tokens.float(), mask=out.mask, pooled=z_text, keep=keep, draws=r.draws)
        z, z_text = z.repeat(r.draws, 1), z_text.repeat(r.draws, 1)
        scaled = z * z.shape[-1] ** 0.5
        t, eps = denoising_noise(r.objective, Flow(), scaled, self.part, g, r.draws)
        net = unguided(self.net, r.distilled, without_text)
        loss, extra = diffusion_loss(net, Flow(), r.objective, scaled, cond, generator=g, t=t, eps=eps)
        guess = unit(extra["x0_hat"].detach())
        late = extra["t"] >= min(0.8, float(extra["t"].max()))  # where it has to decide; never an empty set
        return loss.mean(), {
            "cos_true": float((guess * z).sum(-1)[late].mean()),
            "cos_text": float((guess * z_text).sum(-1)[late].mean()),
            "cos_other": float((guess * z.roll(1, 0)).sum(-1)[late].mean()),
        }


def without_text(cond: PriorCond) -> PriorCond:
    """The condition with the learned null in the place of every text."""
    return replace(cond, keep=torch.zeros_like(cond.mask[:, 0]))
