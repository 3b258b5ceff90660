"""A generator as a stage: noise and a text's vector -> the smallest picture, in one pass (Goodfellow 2014, arXiv
1406.2661)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine import OnStep
from t2i.nets.gan import Generator
from t2i.nets.layers import masked_mean
from t2i.rng import noise
from t2i.sampling import SamplingConfig, given
from t2i.text.cond import TextCond


def text_vector(text: TextCond) -> Tensor:
    """What a generator reads of B texts: the direction of the text encoder's vector, and that of the mean of its token
    states, (B, E) together. CLIP's vector alone says little of what its training has not yet needed to tell apart."""
    mean = masked_mean(text.tokens.float(), text.mask)
    return torch.cat([F.normalize(text.pooled.float(), dim=-1), F.normalize(mean, dim=-1)], dim=-1)


@dataclass
class GanStage:
    """A generator. name, defaults: from the manifest."""

    name: str
    net: Generator
    defaults: SamplingConfig = field(default_factory=SamplingConfig)

    def condition(self, prompts: Sequence[str], text: TextCond) -> tuple[Tensor, None]:
        """The vectors (B, E) of B texts, see `text_vector`; no context but the text encoder's cuts the prompts."""
        return text_vector(text), None

    def draw(
        self, vectors: Tensor, seeds: Sequence[int], sampling: SamplingConfig, on_step: OnStep | None = None
    ) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1], float32, of texts' vectors (B, E), one a seed.

        The noise is multiplied by `sampling.temperature`: below 1 pictures are more alike and more certain, as by
        truncation (Brock 2018, arXiv 1809.11096, section 3.1)."""
        weight = self.net.conv_out.weight
        z = noise(seeds, self.name, 0, (self.net.config.noise,)) * given(sampling.temperature, 1.0)
        made: Tensor = self.net(z.to(weight), vectors.to(weight))
        if on_step:
            on_step(self.name, 1, 1, made)
        return torch.clamp(made.float(), -1, 1)
