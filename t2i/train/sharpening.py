"""A short adversarial tune of an upsampler that then draws in one step: crisper, and farther from the truth.

Karlo ends its upsampling in such a step (6 + 1). The network goes on from the plain one's weights; what it makes of
pure noise and a small picture is held near the large one (L1), to the small one where it is made small again, and to
what a critic that learns beside it takes for true. The bundle keeps the plain weights: these stand in for them on
request.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from t2i.data.source import Source
from t2i.diffusion.process import Flow
from t2i.nets.critic import PatchCritic, hinge
from t2i.nets.upsampler import Upsampler, enlarge
from t2i.rng import generator
from t2i.train.recipe import Recipe, UpsamplerRecipe
from t2i.train.upsampling import UpsamplerObjective


class SharpObjective(UpsamplerObjective):
    """Both networks in one module, each moved by its own part of one sum: the checkpoint holds the critic too."""

    sheet_steps = 1

    def __init__(
        self,
        recipe: Recipe,
        config: UpsamplerRecipe,
        upsampler: Upsampler,
        critic: PatchCritic,
        source: Source,
        device: torch.device,
        name: str,
    ):
        super().__init__(recipe, config, upsampler, source, device, name)
        self.critic, self.module = critic, nn.ModuleDict({"upsampler": upsampler, "critic": critic})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g = self.config, generator(self.recipe.seed, self.name, step)
        high, low, level = self.pairs(step, g)
        scale, process = self.upsampler.config.scale, Flow()
        # as the sampler starts: nothing of the truth is left in it
        noise = process.t_max * torch.randn(high.shape, generator=g).to(self.device)
        t = torch.full((len(high),), process.t_max, device=self.device)
        made, large = self.upsampler(noise, t, low, level).float(), enlarge(low, scale)
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
