"""The super-resolution U-Net: what it starts as, what it reads, and that crops and tiles agree with the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2i.diffusion.process import Flow
from t2i.errors import InputError
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.nets.upsampler import enlarge
from t2i.sampling import SamplingConfig
from t2i.stages.stage import Stage
from t2i.stages.upsampler import sample_upsampler

SMALL = SRUNetConfig(
    channels=(8, 8), down=(1, 1), up=(1, 1), emb_dim=16, cond_dim=12, z_grid=2, z_cells=2, z_channels=4
)


def net(config: SRUNetConfig = SMALL, seed: int = 1) -> SRUNet:
    """A network whose zero-initialised layers are filled too, so that every input counts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = SRUNet(config)
        for p in made.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.05)
    return made.eval().requires_grad_(False)


def given(n: int = 2, side: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    low = torch.rand(n, 3, side, side, generator=g) * 2 - 1
    z = torch.nn.functional.normalize(torch.randn(n, 12, generator=g), dim=-1)
    return low, torch.full((n,), 0.3), z


def test_a_new_network_returns_the_bicubic_enlargement() -> None:
    low, _, z = given()
    made = SRUNet(SMALL)(low, torch.zeros(2), z)
    assert made.shape == (2, 3, 32, 32)
    assert torch.equal(made, enlarge(low, 4))


def test_it_reads_the_level_the_vector_and_the_cells() -> None:
    low, level, z = given()
    one = net()
    made = one(low, level, z)
    assert not torch.allclose(made, one(low, level * 2, z), atol=1e-4)
    for part in (slice(0, 4), slice(4, 12)):
        other = z.clone()
        other[:, part] = -other[:, part]
        assert not torch.allclose(made, one(low, level, other), atol=1e-4)


def test_without_an_embedding_it_takes_the_null() -> None:
    low, level, z = given()
    one = net()
    keep = torch.tensor([True, False])
    made = one(low, level, z, keep)
    assert torch.allclose(made[:1], one(low, level, z)[:1], atol=1e-5)
    assert torch.allclose(made[1:], one(low, level)[1:], atol=1e-5)


def test_a_crop_gets_its_part_of_the_map() -> None:
    low, level, z = given(side=64)
    one = net()  # it sees 18 small pixels around: two blocks on each of two grids
    whole = one(low, level, z)
    corner = torch.tensor([[8, 12], [8, 12]])
    part = one(low[:, :, 8:56, 12:60], level, z, corner=corner, whole=(64, 64))
    inside = slice(4 * 20, 4 * 28)
    assert torch.allclose(part[:, :, inside, inside], whole[:, :, 112:144, 128:160], atol=1e-4)


def test_the_stage_takes_any_size_and_tiles_without_seams() -> None:
    stage = Stage("upsampler256", net(), Flow(), "x0", SamplingConfig(steps=1, noise=0.2))
    low = given(1, 101)[0][:, :, :90]
    whole = sample_upsampler(stage, low, [7], stage.defaults)
    assert whole.shape == (1, 3, 360, 404)
    tiled = sample_upsampler(stage, low, [7], stage.defaults, tile=76)
    assert torch.allclose(tiled, whole, atol=1e-4)


def test_the_stage_passes_the_embedding_on() -> None:
    stage = Stage("upsampler256", net(), Flow(), "x0", SamplingConfig(steps=1))
    low, _, z = given()
    with_z = sample_upsampler(stage, low, [7, 8], stage.defaults, z=z)
    assert torch.allclose(with_z, stage.net(low, torch.zeros(2), z).clamp(-1, 1), atol=1e-5)
    assert not torch.allclose(with_z, sample_upsampler(stage, low, [7, 8], stage.defaults), atol=1e-3)


@pytest.mark.parametrize("wrong", [{"down": (1,)}, {"scale": 1}, {"cond_dim": 8}, {"channels": (0, 8)}])
def test_sizes_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SRUNetConfig.from_dict({**SMALL.to_dict(), **wrong})
