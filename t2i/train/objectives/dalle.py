"""DALL·E's transformer (Ramesh 2021, arXiv 2102.12092, section 2.2): it predicts each token of a caption, and then of
its picture, from those before it.

The loss is 1/8 of the mean cross-entropy of the text tokens and 7/8 of that of the image tokens. Padding is not
predicted. Image tokens are the VAE's, without noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import InputError
from t2i.nets.dalle import PAD, DalleConfig, DalleTransformer
from t2i.nets.vae import VAE
from t2i.stages.dalle import TokenStage, sample_tokens
from t2i.stages.loading import load_net
from t2i.store.manifest import StageEntry
from t2i.train.encoders import Encoders, train_first
from t2i.train.objective import Objective
from t2i.train.objectives.vae import VAEObjective, VAERecipe
from t2i.train.recipe import Recipe, Schedule, StageRecipe, Weight
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS
from t2i.train.streams import examples_seed, first_weights


@dataclass(frozen=True)
class DalleRecipe(StageRecipe):
    """`[dalle]`."""

    net: DalleConfig = field(default_factory=DalleConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0))
    text: Weight = 1 / 8  # weight of the text tokens in the loss
    image: Weight = 7 / 8  # weight of the image tokens

    @property
    def trained_by(self) -> str:
        return "dalle"


class DalleObjective(Objective):
    """The cross-entropy of text and image tokens."""

    examples = "dalle"
    config: DalleRecipe
    net: DalleTransformer

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        assert encoders.tokenizer is not None
        self.tokenizer = encoders.tokenizer
        self.vae = (_finished_vae(run) or VAEObjective.build(run.recipe, "vae")).to(run.device)
        self.vae.eval().requires_grad_(False)

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> DalleTransformer:
        return first_weights(recipe.seed, name, lambda: DalleTransformer(recipe.stage(name, DalleRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder, "vae")

    @classmethod
    def check_run(cls, run: Run, name: str) -> None:
        """Raises InputError where there is no VAE yet."""
        if _vae_entry(run) is None:
            raise InputError(f"{run.out} holds no vae yet", train_first("vae"), "data")

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        net = recipe.stage(name, DalleRecipe).net
        widths = {"codes": net.codes, "grid": net.grid, "context": net.context, "vocab": net.vocab}
        return StageEntry(name, "dalle", name, recipe.sample.dalle), {"net": net.to_dict(), "widths": widths}

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        trained = name in stages
        return [(not trained or recipe.encoder == "clip", "dalle reads CLIP's tokens, and [text] takes its place")]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        size = self.recipe.stage("vae", VAERecipe).size
        examples, context = self.batch(step, size), self.net.config.context
        ids = self.tokenizer.encode(examples.captions, context)[0].to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            tokens = self.vae.tokens(examples.pixels.to(self.device))
        text_logits, image_logits = self.net(ids, tokens)
        said = ids[:, 1:]
        said = said[said != PAD]
        text = F.cross_entropy(text_logits.float(), said)
        image = F.cross_entropy(image_logits.float().flatten(0, 1), tokens.flatten())
        if self.part.of > 1:  # of the batch's mean over the tokens that are predicted
            every = self.tokenizer.encode([self.caption(step, row) for row in range(self.schedule.batch)], context)[0]
            text = text * len(said) * self.part.of / float((every[:, 1:] != PAD).sum())
        facts = {"text": float(text.detach()), "image": float(image.detach())}
        facts["right"] = float((image_logits.detach().argmax(-1) == tokens).float().mean())
        return self.config.text * text + self.config.image * image, facts

    def sheet(self) -> Tensor | None:
        """Three rows: pictures, what their tokens keep of them, and what is drawn from their captions."""
        size = self.recipe.stage("vae", VAERecipe).size
        examples = self.source.batch(examples_seed(self.recipe.seed, "sheets"), 0, COLUMNS, size)
        pixels = examples.pixels.to(self.device)
        stage = TokenStage("sheet", self.net, self.vae, self.tokenizer)
        drawn = sample_tokens(stage, stage.condition(examples.captions)[0], range(COLUMNS), self.recipe.sample.dalle)
        return torch.stack([pixels, self.vae.reconstruct(pixels), drawn])


def _vae_entry(run: Run) -> StageEntry | None:
    """The VAE in the bundle that is being trained, None if there is none yet."""
    bundle = run.bundle()
    return next(iter(bundle.manifest.of_kind("vae")), None) if bundle else None


def _finished_vae(run: Run) -> VAE | None:
    """The network of `_vae_entry`."""
    bundle, entry = run.bundle(), _vae_entry(run)
    if bundle is None or entry is None:
        return None
    net = load_net(bundle, entry)
    assert isinstance(net, VAE)
    return net
