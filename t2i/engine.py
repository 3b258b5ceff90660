"""What a loaded model offers to the commands, whether its stages are ours or it runs in another library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.sampling import SampleRequest

OnStep = Callable[[str, int, int, Any], None]
"""on_step(stage, step 1..n, n, the estimate x0_hat (B, ...))"""


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
    """A loaded model. B pictures; a picture depends on weights, prompt, request and seed alone.

    Each method raises UsageError for a request that the model cannot meet. What it can do at all is checked before it
    is loaded.
    """

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """One picture for each pair of prompt and seed."""

    def image_to_image(
        self,
        image: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.6,
        on_step: OnStep | None = None,
    ) -> Samples:
        """`image` (3, H, W) in [-1, 1] noised and denoised (SDEdit: Meng 2021, arXiv 2108.01073). strength: in (0, 1],
        the share of the steps that are taken."""

    def inpaint(
        self,
        image: Tensor,
        mask: Tensor,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        feather: int | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """`image` (3, H, W) repainted where `mask` (1, H, W) is above 0.5. prompts: None removes what is there.
        feather: width in pixels of the rim inside the mask in which what is painted passes into the surroundings, None
        for the default. Outside the mask the result equals the picture."""

    def variations(
        self,
        image: Tensor,
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        prompts: Sequence[str] | None = None,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """Pictures of what `image` (3, H, W) shows, one for each seed, from its image embedding. prompts: texts that
        are read besides. strength: in [0, 1], how much of the noise is each seed's own, the rest is the picture's."""

    def blend(
        self,
        a: Tensor,
        b: Tensor,
        shares: Sequence[float],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """Pictures between `a` and `b`, one for each pair of share and seed, from slerped image embeddings. shares: in
        [0, 1], 0 is `a`. strength: as of `variations`."""

    def text_diff(
        self,
        image: Tensor,
        source: str,
        target: str,
        thetas: Sequence[float],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """`image` (3, H, W) moved from the text `source` towards the text `target`, one picture for each pair of theta
        and seed: its embedding is slerped by theta in [0, 1] towards the difference of the texts'. strength: as of
        `variations`."""

    def upscale(
        self,
        image: Tensor,
        size: tuple[int, int],
        seed: int = 0,
        request: SampleRequest | None = None,
        *,
        prompt: str | None = None,
        tile: int = 160,
        gate: bool = True,
        on_step: OnStep | None = None,
    ) -> Upscaled:
        """`image` (3, h, w) at `size` = (height, width). tile: side of a tile in small pixels. gate: whether the share
        of the model's detail is measured."""

    def undrawn(self, prompt: str) -> Sequence[str]:
        """Words of a prompt that the model has read, and that change nothing in its pictures."""

    def near(self, word: str) -> Sequence[str]:
        """Words that the model knows and that are like one that it does not know."""
