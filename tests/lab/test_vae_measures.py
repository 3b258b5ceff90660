"""What the program that measures a VAE prints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filling import VAE_CONFIG, fill

from t2i.lab.vae_measures import SHOWN, main, measure
from t2i.media.images import load_image
from t2i.nets.vae import VAE
from t2i.world import World, WorldConfig


def test_the_measures_are_those_of_the_reconstructions() -> None:
    vae = fill(VAE(VAE_CONFIG), 2)
    assert isinstance(vae, VAE)
    found = measure(vae.eval(), World(WorldConfig(vocabulary="shapes")), 16, 70)
    assert len(found.psnr) == len(found.ssim) == 70 and found.shown.shape == (2, SHOWN, 3, 16, 16)
    pixels, left = found.shown
    mse = (pixels - left).square().mean((1, 2, 3))
    torch.testing.assert_close(torch.tensor(found.psnr[:SHOWN]), 10 * torch.log10(4 / mse), atol=1e-3, rtol=1e-4)
    assert found.use is not None and 0 < found.use <= 1 and found.perplexity is not None
    assert 1 <= found.perplexity <= found.use * 20 + 1e-4  # of 20 codes
    vae.conv_out_latent.bias.data[3] += 1e6  # one code for everything
    found = measure(vae, World(WorldConfig(vocabulary="shapes")), 16, 8)
    assert found.use == pytest.approx(1 / 20) and found.perplexity == pytest.approx(1)


def test_the_program(dalle: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main([str(dalle), "--pictures", "8", "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("PSNR, dB", "SSIM", "share of codes in use", "perplexity"))
    assert load_image(sheet).width > 16 * SHOWN
    assert main([str(tiny)]) == 2 and "has no vae" in capsys.readouterr().err
