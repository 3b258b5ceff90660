"""Sample sheets: pictures drawn with the averaged weights during training, by the stages that sampling uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.denoiser import Prediction
from t2i.diffusion.process import Flow
from t2i.nets.unet import UNet
from t2i.nets.upsampler import Upsampler, enlarge
from t2i.sampling import SamplingConfig
from t2i.stages.base import guided_cond, sample_base
from t2i.stages.stage import Stage
from t2i.stages.upsampler import sample_upsampler
from t2i.text.cond import TextCond

COLUMNS = 8  # pictures in a row
WINDOW = 256  # pixels a side that are shown of a larger picture


@contextmanager
def averaged(module: nn.Module, average: dict[str, Tensor]) -> Iterator[None]:
    """The module with the averaged weights inside the block; its own come back bit for bit."""
    own = {name: t.detach().clone() for name, t in module.state_dict().items()}
    module.load_state_dict(average)
    try:
        yield
    finally:
        module.load_state_dict(own)


def draw_base(
    base: UNet, sampling: SamplingConfig, prediction: Prediction, size: int, z: Tensor | None, text: TextCond | None
) -> Tensor:
    """(B, 3, size, size) in [-1, 1] from image embeddings z (B, E), texts, or both. sampling: the base's defaults."""
    sampling = sampling if text is not None else sampling.without_text
    stage = Stage("sheet", base, Flow(), prediction)
    rows = len(z) if z is not None else len(text or ())
    return sample_base(stage, size, guided_cond(text, z), range(rows), sampling)


def upsampler_rows(net: Upsampler, prediction: Prediction, name: str, high: Tensor, steps: int | None) -> Tensor:
    """(4, C, 3, S, S): the small picture, its bicubic enlargement, ours, the truth. high: pictures (C, 3, S', S'), of
    which the middle is shown. steps: of the sampler."""
    scale = net.config.scale
    side = min(high.shape[-1], WINDOW)
    top = (high.shape[-1] - side) // 2 // scale * scale
    high = high[:, :, top : top + side, top : top + side]
    low = F.interpolate(high, scale_factor=1 / scale, mode="area")
    stage = Stage(name, net, Flow(), prediction)
    ours = sample_upsampler(stage, low, range(len(low)), SamplingConfig(steps=steps))
    blocks = F.interpolate(low, scale_factor=float(scale), mode="nearest")
    return torch.stack([blocks, enlarge(low, scale).clamp(-1, 1), ours, high])
