"""The text-only language model, on captions alone: hidden tokens are guessed from the others.

BERT's objective (Devlin 2018, arXiv 1810.04805, section 3.1). Of the chosen tokens 80% are hidden, 10% replaced by
another one and 10% left as they are: so the states of visible tokens are trained too, and those are what a base reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.nets.clip import read_mask
from t2i.nets.language import HIDDEN, LanguageConfig, LanguageModel
from t2i.store.manifest import StageEntry
from t2i.text.encoder import NetEncoder
from t2i.text.t5 import T5Encoder, build_t5, fill_t5, read_t5, t5_config
from t2i.text.tokenizer import Tokenizer
from t2i.train.encoders import Encoders
from t2i.train.objective import EncoderObjective
from t2i.train.recipe import Recipe, Schedule, Share, StageRecipe
from t2i.train.streams import first_weights


@dataclass(frozen=True)
class TextRecipe(StageRecipe):
    """`[text]`: a frozen text-only encoder in CLIP's place. It is our language model, trained on captions alone, or a
    T5 copied from a local folder, of which `net.context` tokens are read. A recipe with a schedule of 0 steps and no T5
    has none."""

    encoder: Literal["language", "t5"] = "language"
    net: LanguageConfig = field(default_factory=LanguageConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0, batch=128))
    hidden: Share = 0.3  # share of the tokens that have to be guessed
    folder: str = ""  # of the T5

    @property
    def trained_by(self) -> str:
        return "text"

    @property
    def copied(self) -> bool:
        return self.encoder == "t5"


class TextObjective(EncoderObjective):
    """Cross-entropy of the chosen tokens. No picture is drawn for it."""

    examples = "text"
    config: TextRecipe
    net: LanguageModel

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> LanguageModel:
        return first_weights(recipe.seed, name, lambda: LanguageModel(recipe.stage(name, TextRecipe).net))

    @classmethod
    def untrained(cls, recipe: Recipe, tokenizer: Tokenizer | None) -> Encoders:
        part = recipe.stage("text", TextRecipe)
        if part.copied:
            parts = read_t5(Path(part.folder))
            t5 = build_t5(parts.config)
            fill_t5(t5, parts.weights)
            return Encoders(T5Encoder(t5, parts.tokenizer, part.net.context))
        assert tokenizer is not None
        return Encoders(
            NetEncoder(cls.build(recipe, "text"), tokenizer, part.net.width, part.net.width), tokenizer=tokenizer
        )

    @classmethod
    def read_copy(cls, recipe: Recipe) -> tuple[dict[str, Tensor], str]:
        parts = read_t5(Path(recipe.stage("text", TextRecipe).folder))
        return parts.weights, parts.tokenizer

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, TextRecipe)
        n, entry = part.net, StageEntry(name, "text", name)
        if part.copied:
            config = t5_config(Path(part.folder))
            widths = {"text_dim": config["d_model"], "context": n.context, "vocab": config["vocab_size"]}
            return entry, {"net": config, "encoder": "t5", "widths": widths}
        widths = {"text_dim": n.width, "context": n.context, "vocab": n.vocab}
        return entry, {"net": n.to_dict(), "encoder": "language", "widths": widths}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        g, captions = self.noise(step), [self.caption(step, row) for row in range(self.schedule.batch)]
        ids, _ = self.tokenizer.encode(captions, self.net.config.context, tight=True)
        seen, chosen = hide(ids, self.config.hidden, self.tokenizer.sot, g)
        guessed = chosen.sum()
        seen, chosen, ids = (self.part.rows(x).to(self.device) for x in (seen, chosen, ids))
        logits = self.net.guess(self.net(seen, read_mask(ids))[chosen]).float()
        loss = F.cross_entropy(logits, ids[chosen])
        right = (logits.detach().argmax(-1) == ids[chosen]).float().mean()
        share = float(chosen.sum()) * self.part.of / float(guessed)  # of the batch's mean over tokens
        return loss * share, {"right": float(right) * share}


def hide(ids: Tensor, share: float, words: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) -> the same with a share of them hidden, replaced or left, and which ones (B, L) bool.

    At least one token of each row is chosen. Ids from `words` on are start and end: they are never chosen, nor put in
    another's place.
    """
    inside = read_mask(ids) & (ids < words)
    draw = torch.rand(ids.shape, generator=g).masked_fill(~inside, 2.0)
    chosen = (draw < share) | ((draw == draw.min(1, keepdim=True).values) & inside)
    fate = torch.rand(ids.shape, generator=g)
    other = torch.randint(1, words, ids.shape, generator=g)
    seen = torch.where(chosen & (fate < 0.8), HIDDEN, ids)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), other, seen), chosen
