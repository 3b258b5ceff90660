"""CLIP: image and text tower by contrast, the image embedding also by the denoising loss of a small base.

Shapes: B pictures, E width of the embedding. Contrast alone leaves out of the embedding what captions do not say. A
small base that sees nothing but the embedding has to draw the picture from it, so the embedding also learns where
things are and how they look. That base is where the real base starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.data.source import Examples
from t2i.nets.clip import Clip, ClipConfig
from t2i.store.manifest import StageEntry
from t2i.text.encoder import NetEncoder
from t2i.text.tokenizer import Tokenizer
from t2i.train.encoders import Encoders
from t2i.train.objective import EncoderObjective
from t2i.train.objectives.base import BaseObjective, BaseRecipe, base_loss
from t2i.train.pool import unit
from t2i.train.recipe import Pictures, Recipe, Schedule, StageRecipe, Weight
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS, draw_base
from t2i.train.streams import examples_seed, first_weights
from t2i.train.team import Team
from t2i.train.warm_start import load_start

CONTRASTS = "its contrast is between all pictures and texts of a batch"


@dataclass(frozen=True)
class ClipRecipe(StageRecipe):
    """`[clip]`: both towers, by contrast and the denoising loss of a small base that sees only the embedding."""

    net: ClipConfig = field(default_factory=ClipConfig)
    schedule: Schedule = field(default_factory=Schedule)
    denoise: Weight = 1.0  # weight of the base's denoising loss; 0: contrast alone, as in the paper
    contrast: Weight = 0.5  # weight of the contrastive loss
    loss: Literal["sigmoid", "softmax"] = "sigmoid"  # of the contrast: SigLIP's or CLIP's own
    locked: bool = False  # the text tower alone, at the image tower of --start (clip_locked.py)
    regression: Weight = 10.0  # weight of 1 - cosine of a text to its own picture, for the text tower alone
    pool: Pictures = 20_000  # pictures whose embeddings are computed once, where locked
    z_noise: Weight = 0.15  # on the embedding that the base sees, per coordinate in units of 1/sqrt(E)

    def __post_init__(self) -> None:
        if self.loss == "sigmoid" and self.net.init_logit_bias is None:
            raise ValueError("clip.loss sigmoid needs a bias, and clip.net.init_logit_bias is none")

    @property
    def trained_by(self) -> str:
        return "clip_locked" if self.locked else "clip"


class ClipStage(EncoderObjective):
    """What both ways of training CLIP have in common."""

    exported = "clip."
    compiles = True
    config: ClipRecipe
    net: Clip

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> Clip:
        return first_weights(recipe.seed, name, lambda: Clip(recipe.stage(name, ClipRecipe).net))

    @property
    def compiled(self) -> tuple[nn.Module, ...]:
        return self.net.visual, self.net.transformer

    @classmethod
    def untrained(cls, recipe: Recipe, tokenizer: Tokenizer | None) -> Encoders:
        assert tokenizer is not None
        net = cls.build(recipe, "clip")
        return Encoders(NetEncoder(net, tokenizer, net.config.text_width, net.config.embed_dim), net, tokenizer)

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        n = recipe.stage(name, ClipRecipe).net
        widths = {"embed_dim": n.embed_dim, "text_dim": n.text_width, "context": n.context, "vocab": n.vocab}
        return StageEntry(name, "clip", name), {"net": n.to_dict(), "widths": widths}

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        part, base = recipe.stage(name, ClipRecipe), recipe.stage("base", BaseRecipe)
        n, width, denoises = part.net, base.net.cond_dim, name in stages and bool(part.denoise)
        return [
            (n.image_size % n.patch == 0, "clip.net.image_size is not a multiple of clip.net.patch"),
            # the small base that trains with CLIP is the base's own network
            (not denoises or width in (0, n.embed_dim), "base.net.cond_dim differs from clip.net.embed_dim"),
            (not denoises or bool(width), "clip.denoise needs base.net.cond_dim"),
        ]


class ClipObjective(ClipStage):
    """`module` holds CLIP and, if there is a denoising loss, the small base; the bundle gets CLIP."""

    examples = "clip"
    uncut = CONTRASTS

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        self.base_recipe = self.recipe.stage("base", BaseRecipe)
        self.base = BaseObjective.build(self.recipe, "base") if self.config.denoise else None
        self.module = nn.ModuleDict({"clip": self.net} | ({} if self.base is None else {"base": self.base}))

    def warm_start(self) -> None:
        if self.run.start:
            for stage, net in (("clip", self.net), ("base", self.base)):
                if net is not None:
                    load_start(self.run.start, stage, net, self.run.report)

    @property
    def compiled(self) -> tuple[nn.Module, ...]:
        return super().compiled if self.base is None else (*super().compiled, self.base)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, examples = self.config, self.batch(step, self.net.config.image_size)
        x0 = examples.pixels.to(self.device)
        z_img = unit(self.net.encode_image(x0))
        ids = token_ids(self.tokenizer, examples.captions, self.net, self.device, self.tight)
        z_text = unit(self.net.encode_text(ids).pooled)
        whole = of_whole(self.run.team, z_img, z_text, examples)
        contrast, cosine = agreement(self.net, r, *whole)
        facts = {"contrast": float(contrast.detach()), "top1": _top1(*whole)}
        facts["cosine"] = float(cosine.detach())
        loss = r.contrast * contrast + r.regression * (1 - cosine)
        if self.base is not None:
            g = self.noise(step)
            denoise, extra = base_loss(
                self.base, self.base_recipe, x0, z_img, None, g, z_noise=r.z_noise, part=self.part
            )
            loss = loss + r.denoise * denoise
            facts |= {"denoise": float(denoise.detach()), "mse": float(extra["mse"].mean())}
        return loss, facts

    def sheet(self) -> Tensor | None:
        """Two rows: pictures, and what the small base makes of their embeddings. None without a base."""
        if self.base is None:
            return None
        size, prediction = self.net.config.image_size, self.base_recipe.objective.prediction
        x0 = self.source.batch(examples_seed(self.recipe.seed, "sheets"), 0, COLUMNS, size).pixels.to(self.device)
        z = unit(self.net.encode_image(x0))
        made = draw_base(self.base, self.recipe.sample.base, prediction, size, z, None)
        return torch.stack([x0, made])


def token_ids(tokenizer: Tokenizer, captions: Sequence[str], clip: Clip, device: torch.device, tight: bool) -> Tensor:
    """The ids (B, L) of B captions; L is that of the longest, or, if not `tight`, that of CLIP's context."""
    return tokenizer.encode(captions, clip.config.context, tight)[0].to(device)


def of_whole(team: Team, z_img: Tensor, z_text: Tensor, examples: Examples) -> tuple[Tensor, Tensor, Examples]:
    """The same of all processes' rows: a contrast is between all pictures and texts of a batch. The pixels stay."""
    content, loose = team.gather_list(examples.content), team.gather_list(examples.loose)
    return team.gather(z_img), team.gather(z_text), replace(examples, content=content, loose=loose)


def contrastive_loss(z_img: Tensor, z_text: Tensor, scale: Tensor, bias: Tensor | None, examples: Examples) -> Tensor:
    """With a bias SigLIP's sigmoid loss (Zhai 2023, eq. 1), without one CLIP's softmax both ways (Radford 2021, figure
    3).

    z_img, z_text: unit vectors (B, E). scale: log of the inverse temperature. Pairs of equal content are positives too;
    in the softmax they share the probability. Pairs of nearly the same content (the same things in the same place, in
    another colour or number) are neither positive nor negative: they are left out.
    """
    logits = (z_img @ z_text.T) * scale.exp()
    same = _equal(examples.content, logits.device)
    near = _equal(examples.loose, logits.device) & ~same
    if bias is None:
        logits = logits.masked_fill(near, -torch.inf)
        right = logits.masked_fill(~same, -torch.inf)
        return torch.stack([(logits.logsumexp(way) - right.logsumexp(way)).mean() for way in (0, 1)]).mean()
    logits = logits + bias
    signs = torch.where(same, 1.0, -1.0)
    return -(F.logsigmoid(signs * logits) * ~near).sum() / len(logits)


def agreement(
    clip: Clip, recipe: ClipRecipe, z_img: Tensor, z_text: Tensor, examples: Examples
) -> tuple[Tensor, Tensor]:
    """Of unit embeddings (B, E): the contrastive loss, and the mean cosine of a text to its own picture.

    The cosine's gradient reaches the text tower only: pictures' embeddings must not move towards what words can say.
    """
    bias = clip.logit_bias if recipe.loss == "sigmoid" else None
    contrast = contrastive_loss(z_img, z_text, clip.logit_scale, bias, examples)
    return contrast, (z_img.detach() * z_text).sum(-1).mean()


def _equal(keys: Sequence[Any], device: torch.device) -> Tensor:
    """(B, B) bool: which of the keys are equal."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    ids = torch.tensor([numbers[key] for key in keys], device=device)
    return ids[:, None] == ids[None, :]


def _top1(z_img: Tensor, z_text: Tensor, examples: Examples) -> float:
    """Share of captions whose nearest picture in the batch is of their own content."""
    same = _equal(examples.content, z_img.device)
    best = (z_text @ z_img.T).argmax(1)
    return float(same[torch.arange(len(best), device=best.device), best].float().mean())
