"""Draw more than is asked for and keep the best, by CLIP's cosine of picture and prompt (DALL-E, section 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.pipeline import Pipeline, Samples
from t2i.prompts import MAX_SEED
from t2i.rng import digest
from t2i.sampling import SampleRequest
from t2i.stages.stage import OnStep


@dataclass(frozen=True)
class Ranked:
    """samples: the best of each prompt and seed; seeds: the seed that drew it, by which `Pipeline.sample` draws it
    again; scores: its cosine, and those of all that were drawn, (B, K)."""

    samples: Samples
    seeds: list[int]
    scores: Tensor


def candidates(seed: int, k: int) -> list[int]:
    """The k seeds that compete for one picture: its own first, the rest a function of it."""
    return [seed, *(digest("rerank", seed, i) & MAX_SEED for i in range(1, k))]


@torch.inference_mode()
def rerank(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    k: int,
    request: SampleRequest | None = None,
    *,
    on_step: OnStep | None = None,
) -> Ranked:
    """The best of `k` pictures for each (prompt, seed) pair.

    All compete at the base's size; only the winners go through the upsamplers. The winner is the picture that
    `Pipeline.sample` draws for its own seed.
    """
    request = request or SampleRequest()
    low = pipeline.manifest.sizes[0]
    text, _ = pipeline.encode(prompts)
    z_text = F.normalize(text.pooled, dim=-1)
    many = [candidates(seed, k) for seed in seeds]
    scores = torch.empty(len(prompts), k)
    for i in range(k):  # batches as large as were asked for, not k times that
        small = replace(request, size=low, keep_stages=False)
        made = pipeline.sample(prompts, [row[i] for row in many], small, on_step).images
        scores[:, i] = (pipeline.embed(made) * z_text).sum(-1).cpu()
    best = [row[int(scores[b].argmax())] for b, row in enumerate(many)]
    return Ranked(pipeline.sample(prompts, best, request, on_step), best, scores)
