"""Stages: a network joined with a process, and what each is conditioned on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.process import Flow
from t2i.errors import UsageError
from t2i.nets.prior import PriorCond, PriorConfig, ResidualPrior
from t2i.sampling import SamplingConfig
from t2i.stages.base import base_cond, sample_base
from t2i.stages.prior import pick_best, sample_prior
from t2i.stages.stage import GuidedCond, InpaintCond, Stage, Start
from t2i.stages.upsampler import sample_upsampler
from t2i.text.cond import TextCond

NO_COND = GuidedCond(None, None)


class Spy(nn.Module):
    """A network that returns `answer(x_t)` and remembers what it was called with."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = type("Config", (), config)()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[Tensor, Tensor, Any]] = []

    def forward(self, x_t: Tensor, t: Tensor, *cond: Any) -> Tensor:
        self.calls.append((x_t, t, cond[0] if len(cond) == 1 else cond))
        return 0.5 * x_t[:, :3] if x_t.ndim == 4 else 0.5 * x_t


def stage(net: nn.Module, **defaults: Any) -> Stage:
    return Stage("spy", net, Flow(), "x0", SamplingConfig(**defaults))


def text(rows: int) -> TextCond:
    g = torch.Generator().manual_seed(0)
    tokens, pooled = torch.randn(rows, 5, 4, generator=g), torch.randn(rows, 6, generator=g)
    return TextCond(tokens, torch.ones(rows, 5, dtype=torch.bool), pooled)


def test_the_nearest_draw_is_kept() -> None:
    g = torch.Generator().manual_seed(1)
    draws, z_text = F.normalize(torch.randn(3, 4, 6, generator=g), dim=-1), torch.randn(4, 6, generator=g)
    best = pick_best(draws, 5 * z_text)
    scores = torch.einsum("kbe,be->kb", draws, z_text)
    assert torch.allclose((best * z_text).sum(-1), scores.max(0).values)


def test_two_draws_of_the_prior_are_not_worse_than_one() -> None:
    said, net = text(8), Spy()
    one, two = (sample_prior(stage(net), said, range(8), SamplingConfig(steps=2, best_of=k)) for k in (1, 2))
    first, second = ((z * F.normalize(said.pooled, dim=-1)).sum(-1) for z in (one, two))
    assert bool((second >= first - 1e-6).all())
    assert bool((second > first + 1e-3).any())
    assert torch.allclose(two.norm(dim=-1), torch.ones(8))


def test_the_prior_is_guided_by_its_own_null() -> None:
    net = Spy()
    sample_prior(stage(net), text(2), [1, 2], SamplingConfig(steps=1, guidance=3.0))
    cond = net.calls[0][2]
    assert isinstance(cond, PriorCond)
    assert cond.keep is not None
    assert cond.keep.tolist() == [True, True, False, False]


class ReadsAtEachStep(nn.Module):
    """The network, not known as one that can read the text before."""

    def __init__(self, net: ResidualPrior) -> None:
        super().__init__()
        self.net, self.config = net, net.config

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        out: Tensor = self.net(z_t, t, cond)
        return out


def test_a_text_is_read_once_for_all_steps_and_draws_of_a_prior() -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 6, "token_dim": 4, "width": 8, "heads": 2, "pool_width": 8, "pool_heads": 2, "depth": 1}
    net = ResidualPrior(PriorConfig(**sizes, time_features=4))  # type: ignore[arg-type]
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    read: list[int] = []
    net.pool.register_forward_hook(lambda module, inputs, out: read.append(len(out)))
    said, other = text(3), TextCond(-text(3).tokens, text(3).mask, -text(3).pooled)
    asked = {"guidance": 2.0, "steps": 4, "best_of": 2}
    with torch.no_grad():
        made = sample_prior(stage(net), said, [1, 2, 3], SamplingConfig(**asked), negative=other)  # type: ignore[arg-type]
        assert read == [3, 1, 3]  # the texts, the null, and what is not wanted
        slow = sample_prior(
            stage(ReadsAtEachStep(net)), said, [1, 2, 3], SamplingConfig(**asked), negative=other  # type: ignore[arg-type]
        )  # fmt: skip
    assert len(read) == 3 + 4
    torch.testing.assert_close(made, slow)


def test_a_base_with_a_mask_is_told_to_paint_everything() -> None:
    net, said = Spy(in_channels=7), text(2)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    cond = GuidedCond(base_cond(said, z), base_cond(said, z, keep=False))
    made = sample_base(stage(net), 8, cond, [1, 2], SamplingConfig(steps=1))
    assert made.shape == (2, 3, 8, 8)
    x_t = net.calls[0][0]
    assert x_t.shape == (2, 7, 8, 8)
    assert bool((x_t[:, 3] == 1).all())
    assert bool((x_t[:, 4:] == 0).all())


@pytest.mark.parametrize("with_text", [True, False])
@pytest.mark.parametrize("with_z", [True, False])
def test_the_null_has_the_shape_of_the_condition(with_text: bool, with_z: bool) -> None:
    said, z = (text(2) if with_text else None), (torch.zeros(2, 6) if with_z else None)
    net = Spy(in_channels=3)
    cond, null = base_cond(said, z), base_cond(said, z, keep=False)
    made = sample_base(stage(net), 8, GuidedCond(cond, null), [1, 2], SamplingConfig(steps=1, guidance=2.0))
    assert made.shape == (2, 3, 8, 8)
    both = net.calls[0][2]
    for there, keep in ((with_text, both.tokens_keep), (with_z, both.z_keep)):
        assert (keep.tolist() == [True, True, False, False]) if there else keep is None


def test_an_upsampler_makes_one_pass_a_step_and_adds_its_noise() -> None:
    low = torch.zeros(2, 3, 4, 4)
    net = Spy(scale=2, multiple=1, one_pass=False)
    made = sample_upsampler(stage(net), low, [1, 2], SamplingConfig(steps=2, guidance=7.0, noise=0.25))
    assert made.shape == (2, 3, 8, 8)
    assert [len(x_t) for x_t, _, _ in net.calls] == [2, 2]
    noisy, level = net.calls[0][2]
    assert level.tolist() == [0.25, 0.25]
    assert 0.15 < float(noisy.std()) < 0.35
    alone = Spy(scale=2, multiple=1, one_pass=False)
    sample_upsampler(stage(alone), low[:1], [2], SamplingConfig(steps=2, noise=0.25))
    assert torch.equal(alone.calls[0][2][0][0], noisy[1])


def test_networks_compute_in_their_own_dtype_and_samplers_in_float32() -> None:
    net = Spy(in_channels=3).to(torch.bfloat16)
    z = torch.zeros(1, 6)
    cond = GuidedCond(base_cond(None, z), base_cond(None, z, keep=False))
    made = sample_base(stage(net), 8, cond, [1], SamplingConfig(steps=2))
    assert made.dtype == torch.float32
    x_t, t, cond = net.calls[0]
    assert (x_t.dtype, t.dtype, cond.z.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    assert cond.z_keep.dtype == torch.bool


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no sampler 'eular'"):
        SamplingConfig(sampler="eular").check()


class Believing(Spy):
    """Takes all that it sees for the picture: x0_hat = x_t / alpha_t."""

    def forward(self, x_t: Tensor, t: Tensor, *cond: Any) -> Tensor:
        self.calls.append((x_t, t, cond))
        return x_t / (1 - t).view(-1, 1, 1, 1)


def test_a_run_starts_from_a_picture_or_from_other_noise() -> None:
    net = Believing()
    x0 = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    eps = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    made = stage(net, steps=4)
    sampling = made.defaults

    def run(start: Start | None) -> Tensor:
        net.calls.clear()
        return made.run(lambda x, t, cond: net(x, t), (1, 4, 4), NO_COND, sampling, [7], start=start)

    levels = made.sigmas(sampling)
    half = run(Start(eps=eps, x0=x0, strength=0.5))
    assert len(net.calls) == 2
    assert torch.allclose(half, x0 + levels[2] * eps, atol=1e-4)
    assert torch.allclose(run(Start(eps=eps)), levels[0] * eps, rtol=1e-4)
    own = run(None)
    assert torch.equal(run(Start()), own)
    assert not torch.allclose(own, levels[0] * eps)


def test_what_is_known_is_held_to_the_bit() -> None:
    net = Believing()
    x0 = torch.linspace(-1, 1, 32).view(2, 1, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    made = stage(net, steps=4, sampler="dpmpp_2m")
    known = InpaintCond(x0, mask)
    for resamples in (0, 3):
        out = made.run(
            lambda x, t, cond: net(x, t), (1, 4, 4), NO_COND, made.defaults, [7, 8], known=known, resamples=resamples
        )
        assert torch.equal(out[:, :, 2:], x0[:, :, 2:])
        assert not torch.equal(out[:, :, :2], x0[:, :, :2])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ancestral"])
def test_a_stage_that_stops_early_is_never_asked_below(sampler: str, known: bool) -> None:
    net = Spy(in_channels=7)
    z, x0 = torch.zeros(1, 6), torch.linspace(-1, 1, 192).view(1, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[:, :, :4] = 1
    sampling = SamplingConfig(steps=20, sampler=sampler, t_end=0.3)
    cond, held = base_cond(None, z), InpaintCond(x0, mask) if known else None
    made = sample_base(stage(net), 8, GuidedCond(cond, cond), [1], sampling, known=held)
    asked = [float(t) for _, t, _ in net.calls]
    assert min(asked) == pytest.approx(0.3)
    last = 0.5 * net.calls[-1][0][:, :3]  # x0_hat there
    painted = slice(0, 4) if known else slice(0, 8)
    assert torch.allclose(made[:, :, painted], last[:, :, painted].clamp(-1, 1), atol=1e-5)
    if known:
        assert torch.equal(made[:, :, 4:], x0[:, :, 4:])


def test_a_stage_cannot_stop_before_it_begins() -> None:
    with pytest.raises(UsageError, match="cannot stop"):
        stage(Spy()).sigmas(SamplingConfig(t_end=1.0))


def test_the_plain_estimate_of_a_student_is_that_of_its_teacher() -> None:
    """It learns from the estimate with the condition; the one without is only looked at."""
    bias = torch.tensor(0.5, requires_grad=True)

    def teacher(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return x_t.sin() + t[:, None] * cond + bias

    def student(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        uncond = teacher(x_t, t, torch.zeros_like(cond))
        return uncond + 3.0 * (teacher(x_t, t, cond) - uncond)

    g = torch.Generator().manual_seed(0)
    x_t, t, cond = torch.randn(4, 3, generator=g), torch.rand(4, generator=g), torch.randn(4, 3, generator=g)
    made = stage(Spy(), distilled=3.0).plain(student, torch.zeros_like)(x_t, t, cond)
    assert torch.allclose(made, teacher(x_t, t, cond), atol=1e-6)
    made.sum().backward()
    assert float(bias.grad or 0) == pytest.approx(12 / 3)  # of the student's 12 numbers, a third of each
    assert stage(Spy()).plain(student, torch.zeros_like) is student
