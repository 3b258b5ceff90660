"""PSNR and SSIM: closed forms, the definition written out, and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from t2i.score.pixel_metrics import psnr, ssim

C1, C2 = 0.02**2, 0.06**2  # of a data range of 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_psnr_of_a_constant_error() -> None:
    x = noise(2, 3, 16, 16)
    assert psnr(x, x).tolist() == [math.inf] * 2
    assert torch.allclose(psnr(x * 0, x * 0 + 0.2), torch.full((2,), 20.0, dtype=torch.float64))  # 10 log10(4 / 0.04)


def test_ssim_of_equal_flat_and_opposite_pictures() -> None:
    x = noise(1, 3, 20, 17)
    assert ssim(x, x).item() == pytest.approx(1.0)
    a, b = torch.full((1, 3, 12, 12), 0.3), torch.full((1, 3, 12, 12), -0.5)
    assert ssim(a, b).item() == pytest.approx((2 * 0.3 * -0.5 + C1) / (0.3**2 + 0.5**2 + C1), rel=1e-4)
    checks = (torch.arange(12)[:, None] + torch.arange(12)) % 2 * 2.0 - 1
    one = checks.expand(1, 3, 12, 12) * 0.5
    assert ssim(one, -one).item() < -0.9  # means of about 0 alike, structure opposite


def test_ssim_agrees_with_its_definition_written_out() -> None:
    x, y = noise(1, 3, 24, 30, seed=1), noise(1, 3, 24, 30, seed=2) * 0.7
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    g /= g.sum()

    def mean(a: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(a, g, axis=0), g, axis=1)[5:-5, 5:-5]

    values = []
    for a, b in zip(x[0].double().numpy(), y[0].double().numpy(), strict=True):
        m, k = mean(a), mean(b)
        va, vb, cov = mean(a * a) - m * m, mean(b * b) - k * k, mean(a * b) - m * k
        values.append(((2 * m * k + C1) * (2 * cov + C2) / ((m * m + k * k + C1) * (va + vb + C2))).mean())
    assert ssim(x, y).item() == pytest.approx(np.mean(values), abs=1e-9)


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_parity_with_torchmetrics(data_range: float) -> None:
    image = pytest.importorskip("torchmetrics.functional.image", reason="the oracle is not installed")
    x, y = noise(3, 3, 32, 40, seed=3).double(), noise(3, 3, 32, 40, seed=4).double()
    y = 0.7 * x + 0.3 * y
    if data_range == 1:
        x, y = (x + 1) / 2, (y + 1) / 2
    _, whole = image.structural_similarity_index_measure(x, y, data_range=data_range, return_full_image=True)
    theirs = whole[..., 5:-5, 5:-5].mean((1, 2, 3))  # theirs also averages windows that reach beyond the border
    assert ssim(x, y, data_range).tolist() == pytest.approx(theirs.tolist(), rel=1e-6)
    theirs = image.peak_signal_noise_ratio(x, y, data_range=data_range, reduction="none", dim=(1, 2, 3))
    assert psnr(x, y, data_range).tolist() == pytest.approx(theirs.tolist(), rel=1e-6)
