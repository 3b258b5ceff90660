"""CLIP's text tower alone, at the embeddings of a finished image tower (LiT: Zhai 2021, arXiv 2111.07991).

Two losses: contrast, and regression (one minus the cosine to the picture's own embedding). A batch seldom holds two
scenes of the same things on other sides, so contrast teaches what is in the picture, and little of where. Regression
does teach where. Its optimum is the mean embedding of all pictures that a text allows, which is also a good place for
the prior to start from.
"""

from __future__ import annotations

from torch import Tensor, nn

from t2i.data.source import Examples
from t2i.errors import UsageError
from t2i.train.encoders import Encoders
from t2i.train.objectives.clip import CONTRASTS, ClipStage, agreement, of_whole, token_ids
from t2i.train.pool import EmbeddingPool, unit
from t2i.train.run import Run


class LockedClipObjective(ClipStage):
    """`module` holds both towers; the image tower gets no gradient."""

    examples = "clip_locked"
    uncut = CONTRASTS
    pool: EmbeddingPool

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        self.module = nn.ModuleDict({"clip": self.net})
        self.net.visual.requires_grad_(False)
        self.pool = EmbeddingPool(self.net, self.source, self.examples_seed, self.config.pool, self.device)

    @classmethod
    def check_run(cls, run: Run, name: str) -> None:
        if not run.start and not run.resumes(name):
            raise UsageError(
                "clip.locked trains the text tower at a finished image tower.", "Name its bundle by --start."
            )

    @property
    def noise_stream(self) -> str:
        return "locked"

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, pool = self.config, self.pool
        rows, captions, z = pool.draw(self.schedule.batch, step, self.noise(step), self.part)
        ids = token_ids(self.tokenizer, captions, self.net, self.device, self.tight)
        z_text = unit(self.net.encode_text(ids).pooled)
        of = Examples(z, captions, [pool.content[i] for i in rows], [pool.loose[i] for i in rows])
        contrast, cosine = agreement(self.net, r, *of_whole(self.run.team, z, z_text, of))
        facts = {"contrast": float(contrast.detach()), "cosine": float(cosine.detach())}
        return r.contrast * contrast + r.regression * (1 - cosine), facts
