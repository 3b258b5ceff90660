"""What each stage minimises. Shapes: B pictures, E embedding width, S pixels a side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.data.source import Examples, Source
from t2i.diffusion.loss import diffusion_loss
from t2i.diffusion.process import Flow
from t2i.nets.clip import Clip
from t2i.nets.conditioner import UNetCond
from t2i.nets.prior import PriorCond
from t2i.nets.unet import UNet
from t2i.rng import generator
from t2i.text.cond import TextCond
from t2i.text.encoder import TextEncoder
from t2i.text.tokenizer import Tokenizer
from t2i.train.imagining import imagined
from t2i.train.masking import random_masks
from t2i.train.pool import Pool, unit
from t2i.train.recipe import BaseRecipe, ClipRecipe, Recipe
from t2i.train.sheets import COLUMNS, SEED, averaged, draw_base


def masked_input(x_t: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
    """The base's 7 channels (GLIDE, section 3.3): noisy RGB, mask (1 = repaint), known RGB."""
    return torch.cat([x_t, mask, x0 * (1 - mask)], dim=1)


def contrastive_loss(z_img: Tensor, z_text: Tensor, scale: Tensor, bias: Tensor | None, examples: Examples) -> Tensor:
    """With a bias SigLIP's sigmoid loss (Zhai 2023, eq. 1), without one CLIP's softmax both ways (Radford 2021, figure
    3); with true multi-positives from the content of the scenes, which share the softmax's probability.

    z_img, z_text: (B, E) unit vectors. Pairs that say nearly the same (same things in the same place, another
    colour or number) are neither positive nor negative: they are left out.
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
    """What both ways of training CLIP's text tower ask of unit embeddings (B, E): the contrastive loss, and the mean
    cosine of a text to its own picture."""
    bias = clip.logit_bias if recipe.loss == "sigmoid" else None
    contrast = contrastive_loss(z_img, z_text, clip.logit_scale, bias, examples)
    # of the text alone: the pictures' embeddings must not move towards what words can say
    return contrast, (z_img.detach() * z_text).sum(-1).mean()


def _equal(keys: Sequence[Any], device: torch.device) -> Tensor:
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    ids = torch.tensor([numbers[key] for key in keys], device=device)
    return ids[:, None] == ids[None, :]


class ClipObjective:
    """CLIP by contrast, its image embedding also by the denoising loss of a small base conditioned on it."""

    name = "clip"

    def __init__(
        self,
        recipe: Recipe,
        clip: Clip,
        base: UNet,
        tokenizer: Tokenizer,
        source: Source,
        device: torch.device,
    ):
        self.recipe, self.clip_recipe, self.base_recipe = recipe, recipe.clip, recipe.base
        self.tokenizer, self.source, self.device = tokenizer, source, device
        self.module = nn.ModuleDict({"clip": clip, "base": base})
        self.clip, self.base = clip, base

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, n = self.clip_recipe, self.clip_recipe.schedule.batch
        examples = self.source.batch(self.recipe.seed, step, n, self.clip.config.image_size)
        x0 = examples.pixels.to(self.device)
        ids, _ = self.tokenizer.encode(examples.captions, self.clip.config.context)
        ids = ids[:, : int(ids.argmax(1).max()) + 1].to(self.device)  # the end-of-text token is the highest
        z_img = unit(self.clip.encode_image(x0))
        z_text = unit(self.clip.encode_text(ids).pooled)
        contrast, cosine = agreement(self.clip, r, z_img, z_text, examples)
        facts = {"contrast": float(contrast.detach()), "top1": _top1(z_img, z_text, examples)}
        facts["cosine"] = float(cosine.detach())
        loss = r.contrast * contrast + r.regression * (1 - cosine)
        if r.denoise:
            g = generator(self.recipe.seed, "clip", step)
            denoise, extra = base_loss(self.base, self.base_recipe, x0, z_img, None, g, z_noise=r.z_noise)
            loss = loss + r.denoise * denoise
            facts |= {"denoise": float(denoise.detach()), "mse": float(extra["mse"].mean())}
        return loss, facts

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """Two rows: pictures, and what the small base makes of their embeddings."""
        if not self.clip_recipe.denoise:
            return None
        size = self.clip.config.image_size
        x0 = self.source.batch(self.recipe.seed + SEED, 0, COLUMNS, size).pixels.to(self.device)
        with torch.no_grad(), averaged(self.module, average):
            made = draw_base(self.base, self.recipe, size, unit(self.clip.encode_image(x0)), None)
        return torch.stack([x0, made])


def base_loss(
    base: UNet, recipe: BaseRecipe, x0: Tensor, z: Tensor | None, text: tuple[Tensor, Tensor] | None,
    g: torch.Generator, *, z_noise: float, things: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The base's denoising loss at unit embeddings z (B, E) and text: tokens (B, L, W), mask (B, L). A share of the
    samples repaints a part only, of the outlines of `things` (B, K, S, S) among others."""
    n, size = x0.shape[0], x0.shape[-1]
    mask = random_masks(n, size, recipe.masked, g, things).to(x0.device)
    drop = torch.rand(n, 2, generator=g).to(x0.device)
    keep_z = keep_text = None
    if z is not None:
        keep_z = drop[:, 0] >= recipe.drop_z
        z = z + z_noise / z.shape[-1] ** 0.5 * torch.randn(z.shape, generator=g).to(z.device)
    tokens = token_mask = None
    if text is not None:
        tokens, token_mask = text
        # With the embedding dropped, half of the pictures lose the text too: the wholly unconditional model.
        both = drop[:, 0] < recipe.drop_z if z is not None else torch.zeros_like(drop[:, 0], dtype=torch.bool)
        keep_text = torch.where(both, drop[:, 1] >= 0.5, drop[:, 1] >= recipe.drop_text)
    cond = UNetCond(z=z, z_keep=keep_z, tokens=tokens, mask=token_mask, tokens_keep=keep_text)

    def net(x_t: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        return base(masked_input(x_t, x0, mask), t, cond)

    loss, extra = diffusion_loss(net, Flow(), recipe.objective, x0, cond, generator=g)
    return loss.mean(), extra


def _top1(z_img: Tensor, z_text: Tensor, examples: Examples) -> float:
    same = _equal(examples.content, z_img.device)
    best = (z_text @ z_img.T).argmax(1)
    return float(same[torch.arange(len(best), device=best.device), best].float().mean())


class BaseObjective:
    """The base at the states of a frozen text encoder, and at frozen CLIP embeddings where there is a CLIP."""

    name = "base"

    def __init__(
        self,
        recipe: Recipe,
        encoder: TextEncoder,
        clip: Clip | None,
        base: UNet,
        source: Source,
        device: torch.device,
        prior: nn.Module | None = None,
    ):
        self.recipe, self.base_recipe, self.encoder, self.prior = recipe, recipe.base, encoder, prior
        self.source, self.device = source, device
        self.clip, self.base, self.module = clip, base, base
        if clip is not None:
            clip.to(device).eval().requires_grad_(False)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r = self.base_recipe
        examples = self.source.batch(self.recipe.seed + 1, step, r.schedule.batch, r.size, masks=r.masked > 0)
        x0 = examples.pixels.to(self.device)
        z, text = self.conditions(x0, examples.captions)
        states = None if text is None else (text.tokens, text.mask)
        g = generator(self.recipe.seed, "base", step)
        if self.prior is not None and z is not None and text is not None:
            z = imagined(self.prior, z, text, r.imagined, g)
        loss, extra = base_loss(self.base, r, x0, z, states, g, z_noise=r.z_noise, things=examples.masks)
        return loss, {"mse": float(extra["mse"].mean())}

    @torch.no_grad()
    def conditions(self, x0: Tensor, captions: list[str]) -> tuple[Tensor | None, TextCond | None]:
        """Image embeddings (B, E) of pictures and their captions' states, as the base's config asks."""
        z, text = None, None
        if self.clip is not None and self.base.config.cond_dim:
            side = self.clip.config.image_size
            small = x0 if x0.shape[-1] == side else F.interpolate(x0, size=(side, side), mode="area")
            z = unit(self.clip.encode_image(small))
        if self.base.config.text_dim:
            text = self.encoder.encode(captions, tight=True)[0].to(self.device)
        return z, text

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """Two rows: pictures, and what the base makes of their embeddings and captions."""
        size = self.base_recipe.size
        examples = self.source.batch(self.recipe.seed + SEED, 0, COLUMNS, size)
        x0 = examples.pixels.to(self.device)
        z, text = self.conditions(x0, examples.captions)
        with torch.no_grad(), averaged(self.module, average):
            return torch.stack([x0, draw_base(self.base, self.recipe, size, z, text)])


@dataclass
class PriorObjective:
    """The prior: text -> CLIP image embedding, over a pool of scenes embedded once, captions drawn anew."""

    recipe: Recipe
    clip: Clip
    prior: nn.Module
    tokenizer: Tokenizer
    source: Source
    device: torch.device
    name: str = "prior"
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.module = self.prior
        self.clip.eval().requires_grad_(False)
        self.pool = Pool(self.clip, self.source, self.recipe.seed + 2, self.recipe.prior.pool, self.device)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r = self.recipe.prior
        g = generator(self.recipe.seed, "prior", step)
        _, captions, z = self.pool.draw(r.schedule.batch, step, g)
        ids, _ = self.tokenizer.encode(captions, self.clip.config.context)
        with torch.no_grad():
            out = self.clip.encode_text(ids[:, : int(ids.argmax(1).max()) + 1].to(self.device))
        z_text = unit(out.pooled)
        keep = (torch.rand(len(z), generator=g) >= r.drop).to(self.device)
        cond = PriorCond(tokens=out.tokens.float(), mask=out.mask, pooled=z_text, keep=keep, draws=r.draws)
        z, z_text = z.repeat(r.draws, 1), z_text.repeat(r.draws, 1)
        scaled = z * z.shape[-1] ** 0.5  # unit variance a coordinate
        loss, extra = diffusion_loss(self.prior, Flow(), r.objective, scaled, cond, generator=g)
        guess = unit(extra["x0_hat"].detach())
        late = extra["t"] >= min(0.8, float(extra["t"].max()))  # never none of them
        return loss.mean(), {
            "cos_true": float((guess * z).sum(-1)[late].mean()),
            "cos_text": float((guess * z_text).sum(-1)[late].mean()),
            "cos_other": float((guess * z.roll(1, 0)).sum(-1)[late].mean()),
        }

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """None: the prior makes no pictures; its cosines are in the log."""
        return None
