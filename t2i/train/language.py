"""What the text-only language model minimises: hidden tokens of captions, guessed from the others.

BERT's objective (Devlin 2018, arXiv 1810.04805, section 3.1): of the tokens chosen 80% are hidden, 10% replaced by
another and 10% left as they are, so that the states of what is there are trained too: these are what a base reads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.nets.clip import read_mask
from t2i.nets.language import HIDDEN, LanguageModel
from t2i.rng import generator
from t2i.text.tokenizer import Tokenizer
from t2i.train.recipe import Recipe


class LanguageObjective:
    """The language model on captions alone; no picture is drawn for it."""

    name = "text"

    def __init__(
        self, recipe: Recipe, net: LanguageModel, tokenizer: Tokenizer, source: Source, device: torch.device
    ) -> None:
        self.recipe, self.config, self.net, self.tokenizer = recipe, recipe.text, net, tokenizer
        self.source, self.device = source, device
        self.module = net

    def captions(self, step: int) -> list[str]:
        """The captions of a step."""
        n, seed = self.config.schedule.batch, self.recipe.seed + 5
        return [self.source.captions(seed, step * n + i, 0) for i in range(n)]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        g = generator(self.recipe.seed, "text", step)
        ids, _ = self.tokenizer.encode(self.captions(step), self.net.config.context)
        ids = ids[:, : int(ids.argmax(1).max()) + 1]
        seen, chosen = hide(ids, self.config.hidden, self.tokenizer.sot, g)
        seen, chosen, ids = seen.to(self.device), chosen.to(self.device), ids.to(self.device)
        logits = self.net.guess(self.net(seen, read_mask(ids))[chosen]).float()
        loss = F.cross_entropy(logits, ids[chosen])
        right = (logits.detach().argmax(-1) == ids[chosen]).float().mean()
        return loss, {"right": float(right)}

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """None: a language model makes no pictures; how often it is right is in the log."""
        return None


def hide(ids: Tensor, share: float, words: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """ids (B, L) -> the same with a share of them hidden, replaced or left, and which ones (B, L) bool, at least one a
    row. Ids from `words` on are start and end, which are never chosen, nor put in another's place."""
    inside = read_mask(ids) & (ids < words)
    draw = torch.rand(ids.shape, generator=g).masked_fill(~inside, 2.0)
    chosen = (draw < share) | ((draw == draw.min(1, keepdim=True).values) & inside)
    fate = torch.rand(ids.shape, generator=g)
    other = torch.randint(1, words, ids.shape, generator=g)
    seen = torch.where(chosen & (fate < 0.8), HIDDEN, ids)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), other, seen), chosen
