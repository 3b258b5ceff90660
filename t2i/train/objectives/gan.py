"""A generative adversarial network (Goodfellow 2014, arXiv 1406.2661), that reads texts (Reed 2016, arXiv 1605.05396).

A discriminator learns to tell real pictures with their captions from made ones, and from real ones with the caption of
another picture; a generator learns to be taken for real. Both take a step at once, from the same weights: the loss is
the sum of theirs, and neither's gradient reaches the other's weights. The discriminator is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from t2i.nets.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from t2i.schema import Between
from t2i.stages.gan import GanStage, text_vector
from t2i.store.manifest import StageEntry
from t2i.text.cond import TextCond
from t2i.train.adversarial import Kind, discriminator_loss, generator_loss, gradient_penalty, spread
from t2i.train.encoders import Encoders
from t2i.train.objective import Objective
from t2i.train.recipe import Recipe, Schedule, StageRecipe, Weight
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS
from t2i.train.streams import examples_seed, first_weights

COLLAPSED = 0.3
"""The spread of made pictures, as a share of the real ones', below which the generator has collapsed."""
PATIENCE = 20  # steps in a row with so small a spread before it is told
WATCHED = 8  # captions of a batch that are drawn twice, for the log
ROWS = 4  # of the sample sheet: one seed each


@dataclass(frozen=True)
class GanRecipe(StageRecipe):
    """`[gan]`. r1, r2: weights of the gradient penalties at real and at made pictures, which are computed at every
    `penalty_every`-th step, as many times as strong. mismatch: weight of real pictures with another's caption. clip:
    weight of the distance, 1 - cosine, of made pictures to their captions by the frozen CLIP (StyleGAN-T: Sauer 2023,
    arXiv 2301.09515, section 3.3)."""

    net: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0))
    loss: Kind = "nonsaturating"
    r1: Weight = 1.0
    r2: Weight = 0.0
    penalty_every: Annotated[int, Between(1, 1000)] = 4
    mismatch: Weight = 0.5
    clip: Weight = 0.0

    @property
    def trained_by(self) -> str:
        return "gan"


class GanObjective(Objective):
    """Generator against discriminator."""

    examples = "gan"
    exported = "generator."
    unsharded = "its penalty takes the gradient of a gradient, and its discriminator is held still by other weights"
    config: GanRecipe
    net: Generator

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        assert encoders.text is not None
        self.text = encoders.text
        config = self.config.discriminator
        self.discriminator = first_weights(self.recipe.seed, "discriminator", lambda: Discriminator(config))
        self.facts = {**self.facts, "discriminator": config.to_dict()}
        self.module = nn.ModuleDict({"generator": self.net, "discriminator": self.discriminator})
        self.low = 0

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> Generator:
        return first_weights(recipe.seed, name, lambda: Generator(recipe.stage(name, GanRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder,)

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        net = recipe.stage(name, GanRecipe).net
        widths = {"embed_dim": net.embed_dim, "text_dim": net.token_dim, "size": net.size}
        return StageEntry(name, "gan", name, recipe.sample.gan), {"net": net.to_dict(), "widths": widths}

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        part = recipe.stage(name, GanRecipe)
        ours, theirs, guided = part.net, part.discriminator, name in stages and part.clip > 0
        return [
            (not guided or recipe.encoder == "clip", "gan.clip needs CLIP, and [text] takes its place"),
            (ours.text_dim == theirs.text_dim, "gan.net and gan.discriminator read texts of other widths"),
            (ours.size % theirs.factor == 0, f"gan.net draws {ours.size} pixels, no multiple of {theirs.factor}"),
        ]

    @property
    def captions_read(self) -> int:
        return self.schedule.steps * self.schedule.batch

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, critic, g = self.config, self.discriminator, self.noise(step)
        examples = self.batch(step, r.net.size)
        real = examples.pixels.to(self.device)
        read = self.read(examples.captions)
        text = text_vector(read)
        noise = self.part.rows(torch.randn(r.schedule.batch, r.net.noise, generator=g)).to(self.device)
        made = self.net(noise, text)

        seen = critic.features(real)
        scores, other = critic.score(seen, text), critic.score(seen, self._other_texts(step, text))
        of_made = critic(made.detach(), text)
        loss = discriminator_loss(r.loss, scores, of_made)
        if r.mismatch:
            loss = loss + r.mismatch * discriminator_loss(r.loss, scores, other)
        held = {name: p.detach() for name, p in critic.named_parameters()}
        judged = functional_call(critic, held, (made, text))
        facts = {"critic": float(loss.detach()), "told_apart": float((scores > of_made).float().mean())}
        ours = generator_loss(r.loss, scores.detach(), judged)
        facts |= {"generator": float(ours.detach()), "spread": spread(made.detach(), real)}
        if r.clip:
            far = self._distance(made, read.pooled)
            ours, facts["distance"] = ours + r.clip * far, float(far.detach())
        facts["seeds"] = self._between_seeds(noise, text, made.detach()) / max(1e-6, float(real.std(0).mean()))
        if step % r.penalty_every == 0:
            loss = loss + r.penalty_every * self._penalties(real, made.detach(), text)
        self._watch(step, facts["spread"])
        return loss + ours, facts

    def _other_texts(self, step: int, text: Tensor) -> Tensor:
        """The vectors of texts, each that of the row before."""
        p, n = self.part, len(text)
        if p.of == 1:
            return text.roll(1, 0)
        before = self.caption(step, (p.index * n - 1) % (p.of * n))
        return torch.cat([text_vector(self.read([before])), text[:-1]])

    def read(self, captions: list[str]) -> TextCond:
        """The captions, as the bundle's text encoder reads them."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.text.encode(captions, tight=True)[0].to(self.device)

    def _distance(self, made: Tensor, text: Tensor) -> Tensor:
        """The mean of 1 - cosine of pictures and texts, by CLIP; a scalar."""
        clip = self.encoders.clip
        assert clip is not None
        side = clip.config.image_size
        small = made if made.shape[-1] == side else F.interpolate(made, size=(side, side), mode="area")
        return 1 - F.cosine_similarity(clip.encode_image(small).float(), text.float()).mean()

    def _penalties(self, real: Tensor, made: Tensor, text: Tensor) -> Tensor:
        """The gradient penalties, a scalar."""
        total = real.new_zeros(())
        for weight, pixels in ((self.config.r1, real), (self.config.r2, made)):
            if weight:
                pixels = pixels.detach().requires_grad_()
                total = total + weight * gradient_penalty(self.discriminator(pixels, text), pixels)
        return total

    @torch.no_grad()
    def _between_seeds(self, noise: Tensor, text: Tensor, made: Tensor) -> float:
        """The standard deviation between two pictures of one text, its mean over some texts and all values."""
        n = min(len(made), WATCHED)
        again = self.net(noise.roll(1, 0)[:n], text[:n])
        return float(torch.stack([made[:n], again]).std(0).mean())

    def _watch(self, step: int, found: float) -> None:
        """Report when the generator has collapsed, and when it has recovered. Its first pictures are all alike."""
        before = self.low
        self.low = before + 1 if step > self.schedule.warmup and found < COLLAPSED else 0
        if self.low == PATIENCE or before >= PATIENCE > self.low:
            event = "collapsed" if self.low else "recovered"
            self.run.report({"event": event, "stage": self.name, "step": step, "spread": found})

    def sheet(self) -> Tensor | None:
        """A row of pictures, then of each of their captions what four seeds become."""
        examples = self.source.batch(examples_seed(self.recipe.seed, "sheets"), 0, COLUMNS, self.config.net.size)
        stage, text = GanStage(self.name, self.net), self.read(examples.captions)
        rows = [stage.draw(text_vector(text), [seed] * len(text), self.recipe.sample.gan) for seed in range(ROWS)]
        return torch.stack([examples.pixels.to(self.device), *rows])
