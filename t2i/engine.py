"""What a loaded model offers to the commands, whether its stages are ours or it runs in another library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from t2i.sampling import SampleRequest

if TYPE_CHECKING:
    from torch import Tensor

OnStep = Callable[[str, int, int, Any], None]
"""on_step(stage, step 1..n, n, the estimate x0_hat (B, ...))"""


@dataclass(frozen=True)
class PromptBatch:
    """What one call draws: a picture for each pair of prompt, "" for none, and seed, all as `request` says."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    request: SampleRequest = field(default_factory=SampleRequest)
    on_step: OnStep | None = None

    @property
    def has_text(self) -> bool:
        """Whether a prompt says anything."""
        return any(self.prompts)


@dataclass(frozen=True)
class Samples:
    """images (B, 3, H, W) in [-1, 1]. stages: stage name -> its output, if the request keeps them. truncated: the part
    of each prompt that did not fit, or None. unknown: the words of each prompt that no training caption holds."""

    images: Tensor
    stages: dict[str, Tensor]
    truncated: list[str | None]
    unknown: list[list[str]]


def of_all(on_step: OnStep | None, run: int, runs: int) -> OnStep | None:
    """`on_step` for run 0 <= `run` < `runs`: steps are counted over all runs, so that progress never goes back."""
    if on_step is None:
        return None

    def counted(stage: str, step: int, total: int, x0_hat: Any) -> None:
        on_step(stage, run * total + step, runs * total, x0_hat)

    return counted


@dataclass(frozen=True)
class Upscaled:
    """An upscaled picture: image (3, H, W) in [-1, 1].

    factors: scale of each use of the network. share: how much of its detail was kept, from 0 (only Lanczos) to 1.
    """

    image: Tensor
    factors: tuple[int, ...]
    share: float


class Engine(Protocol):
    """A loaded model. A picture depends on weights, prompt, request and seed alone, not on its batch of B.

    Each method raises UsageError for a request that the model cannot meet. What it can do at all is checked before it
    is loaded.
    """

    def sample(self, batch: PromptBatch) -> Samples:
        """Pictures from their prompts."""

    def image_to_image(self, image: Tensor, batch: PromptBatch, *, strength: float = 0.6) -> Samples:
        """`image` (3, H, W) in [-1, 1] noised and denoised (SDEdit: Meng 2021, arXiv 2108.01073). strength: in (0, 1],
        the share of the steps that are taken."""

    def inpaint(self, image: Tensor, mask: Tensor, batch: PromptBatch, *, feather: int | None = None) -> Samples:
        """`image` (3, H, W) repainted where `mask` (1, H, W) is above 0.5. Without prompts, what is there is removed.
        feather: width in pixels of the rim inside the mask in which what is painted passes into the surroundings, None
        for the default. Outside the mask the result equals the picture."""

    def variations(self, image: Tensor, batch: PromptBatch, *, strength: float = 1.0) -> Samples:
        """Pictures of what `image` (3, H, W) shows, from its image embedding; prompts are read besides. strength: in
        [0, 1], how much of the noise is each seed's own, the rest is the picture's."""

    def blend(
        self, a: Tensor, b: Tensor, shares: Sequence[float], batch: PromptBatch, *, strength: float = 0.0
    ) -> Samples:
        """Pictures between `a` and `b`, one for each share, from slerped image embeddings; prompts are not read.
        shares: (B) in [0, 1], 0 is `a`. strength: as of `variations`."""

    def text_diff(
        self, image: Tensor, source: str, target: str, thetas: Sequence[float], batch: PromptBatch, *,
        strength: float = 0.0,
    ) -> Samples:  # fmt: skip
        """`image` (3, H, W) moved from the text `source` towards the text `target`, one picture for each theta: its
        embedding is slerped by theta in [0, 1] towards the difference of the texts'; prompts are not read. strength: as
        of `variations`."""

    def upscale(
        self, image: Tensor, size: tuple[int, int], batch: PromptBatch, *, tile: int = 160, gate: bool = True
    ) -> Upscaled:
        """`image` (3, h, w) at `size` = (height, width), by a batch of one. tile: side of a tile in small pixels. gate:
        whether the share of the model's detail is measured."""

    def undrawn(self, prompt: str) -> Sequence[str]:
        """Words of a prompt that the model has read, and that change nothing in its pictures."""

    def near(self, word: str) -> Sequence[str]:
        """Words that the model knows and that are like one that it does not know."""
