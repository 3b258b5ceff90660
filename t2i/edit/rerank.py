"""Reranking: draw several pictures, keep the one with the best CLIP score (DALL-E, arXiv 2102.12092, section 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine import OnStep, Samples
from t2i.pipeline import Pipeline
from t2i.prompts import MAX_SEED
from t2i.rng import digest
from t2i.sampling import SampleRequest


@dataclass(frozen=True)
class Ranked:
    """The winners.

    samples: the best picture per prompt and seed. seeds: those that drew them, with which `Pipeline.sample` draws the
    same pictures. scores: (B, K) cosines of all candidates.
    """

    samples: Samples
    seeds: list[int]
    scores: Tensor


def candidates(seed: int, k: int) -> list[int]:
    """The k seeds of the candidates for one picture: `seed` and others derived from it."""
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
    """The best of `k` pictures for each (prompt, seed) pair, by the cosine of CLIP's image and text embeddings.

    Candidates are drawn at the base's size; only the winners go through the upsamplers.
    """
    request = request or SampleRequest()
    low = pipeline.manifest.sizes[0]
    text, _ = pipeline.encode(prompts)
    z_text = F.normalize(text.pooled, dim=-1)
    many = [candidates(seed, k) for seed in seeds]
    scores = torch.empty(len(prompts), k)
    for i in range(k):  # one candidate of every picture at a time: batches stay as large as asked for
        small = replace(request, size=low, keep_stages=False)
        made = pipeline.sample(prompts, [row[i] for row in many], small, on_step).images
        scores[:, i] = (pipeline.embed(made) * z_text).sum(-1).cpu()
    best = [row[int(scores[b].argmax())] for b, row in enumerate(many)]
    return Ranked(pipeline.sample(prompts, best, request, on_step), best, scores)
