"""CLIP's text tower alone, at the embeddings of a finished image tower (LiT: Zhai 2021, arXiv 2111.07991).

By contrast, and by regression: one minus the cosine to the picture's own embedding. A batch hardly ever holds two
scenes of the same things on other sides, so the contrast is content with knowing what is there, and says nothing once
it is. The regression goes on: the best answer to it is the mean embedding of all pictures that a text allows, and
where the embedding says what stands where, the text has to say it too. That mean is also the best place for a prior to
start from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from t2i.data.source import Examples, Source
from t2i.nets.clip import Clip
from t2i.rng import generator
from t2i.text.tokenizer import Tokenizer
from t2i.train.objectives import agreement
from t2i.train.pool import Pool, unit
from t2i.train.recipe import Recipe


class LockedClipObjective:
    """Both towers in `module`, as training both has them; the image tower gets no gradient."""

    name = "clip"

    def __init__(self, recipe: Recipe, clip: Clip, tokenizer: Tokenizer, source: Source, device: torch.device) -> None:
        self.recipe, self.clip, self.tokenizer, self.device = recipe, clip, tokenizer, device
        self.module = nn.ModuleDict({"clip": clip})
        clip.visual.requires_grad_(False)
        self.pool = Pool(clip, source, recipe.seed + 6, recipe.clip.pool, device)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, clip = self.recipe.clip, self.clip
        rows, captions, z = self.pool.draw(r.schedule.batch, step, generator(self.recipe.seed, "locked", step))
        ids, _ = self.tokenizer.encode(captions, clip.config.context)
        ids = ids[:, : int(ids.argmax(1).max()) + 1].to(self.device)
        z_text = unit(clip.encode_text(ids).pooled)
        of = Examples(z, captions, [self.pool.content[i] for i in rows], [self.pool.loose[i] for i in rows])
        contrast, cosine = agreement(clip, r, z, z_text, of)
        facts = {"contrast": float(contrast.detach()), "cosine": float(cosine.detach())}
        return r.contrast * contrast + r.regression * (1 - cosine), facts

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """None: no picture is made here; the cosine is in the log."""
        return None
