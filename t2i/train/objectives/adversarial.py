"""A short adversarial tune of a trained upsampler, which then draws in one step: crisper, less faithful.

Karlo ends its upsampling in such a step (6 + 1). The network goes on from the plain upsampler's weights. What it makes
of pure noise and a small picture is held near the large picture (L1), consistent with the small one, and is judged by a
patch critic that learns beside it. The bundle keeps the plain weights; the tuned ones stand in for them on request.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from t2i.diffusion.process import Flow
from t2i.nets.critic import PatchCritic, hinge
from t2i.nets.upsampler import enlarge
from t2i.schema import Between
from t2i.store.bundle import read_bundle
from t2i.store.manifest import StageEntry
from t2i.train.encoders import Encoders
from t2i.train.objectives.upsampler import UpsamplerObjective, UpsamplerRecipe
from t2i.train.recipe import Recipe, Schedule, Weight
from t2i.train.run import Run
from t2i.train.streams import first_weights
from t2i.train.warm_start import load_start


@dataclass(frozen=True)
class AdversarialSchedule(Schedule):
    """Muon is for networks that start from nothing; at a higher learning rate the critic falls behind."""

    steps: Annotated[int, Between(0, 1_000_000_000)] = 0
    batch: Annotated[int, Between(1, 65_536)] = 32
    lr: Annotated[float, Between(1e-12, 100)] = 2e-4
    muon: bool = False


@dataclass(frozen=True)
class AdversarialRecipe(UpsamplerRecipe):
    """`[sharp256]`: the tune of an upsampler, whose `net` it must have."""

    schedule: AdversarialSchedule = field(default_factory=AdversarialSchedule)
    instead_of: str = "upsampler256"
    adversarial: Weight = 0.005


class AdversarialObjective(UpsamplerObjective):
    """`module` holds the upsampler and its critic; each is moved by its own part of one sum. The bundle gets the
    upsampler, a checkpoint has both."""

    exported = "upsampler."
    sheet_steps = 1

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        self.critic = first_weights(self.recipe.seed, f"{name}/critic", PatchCritic)
        self.module = nn.ModuleDict({"upsampler": self.net, "critic": self.critic})

    @classmethod
    def stage_spec(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, UpsamplerRecipe)
        defaults = replace(recipe.sample.upsampler, steps=1)  # what it is tuned for
        return StageEntry(name, "sharp", name, defaults, instead_of=part.instead_of), cls.stage_config(recipe, name)

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        rules, part = super().rules(recipe, name, stages), recipe.stage(name, UpsamplerRecipe)
        if rules and part.instead_of in stages:
            rules += [
                (not part.net.pooled_dim, f"{name} reads no text, and {name}.net.pooled_dim is not 0"),
                (part.net == recipe.stages[part.instead_of].net, f"{name}.net is not that of {part.instead_of}"),
            ]
        return rules

    def warm_start(self) -> None:
        """From a tuned upsampler in `--start`, if it has one; else from the plain one, there or in the bundle."""
        start, plain = self.run.start, self.config.instead_of
        stage = self.name if start and self.name in read_bundle(start).configs else plain
        hint = "Train without --start." if start else f"Train it first: t2i train {stage} --out …"
        load_start(start or self.run.out, stage, self.net, self.run.report, hint=hint)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g = self.config, self.noise(step)
        high, low, level = self.pairs(step, g)
        scale, process = self.net.config.scale, Flow()
        # as the sampler starts: nothing of the truth is left in it
        noise = process.t_max * torch.randn(high.shape, generator=g).to(self.device)
        t = torch.full((len(high),), process.t_max, device=self.device)
        made, large = self.net(noise, t, low, level).float(), enlarge(low, scale)
        near = F.l1_loss(made, high)
        kept = F.l1_loss(F.avg_pool2d(made, scale), F.avg_pool2d(high, scale))
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        fooled = -functional_call(self.critic, fixed, (made, large)).float().mean()
        true, false = self.critic(high, large).float(), self.critic(made.detach(), large).float()
        judged = hinge(true, false)
        # The critic has to know something before it is listened to.
        weight = c.adversarial * min(1.0, step / max(1, c.schedule.warmup))
        facts = {"near": near, "kept": kept, "critic": judged, "margin": true.mean() - false.mean()}
        return near + kept + weight * fooled + judged, {k: float(v.detach()) for k, v in facts.items()}
