from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from t2i.diffusion.process import VP, Flow, Process, from_config
from t2i.errors import UsageError

ALL = [
    Flow(),
    VP("cosine"),
    VP("linear"),
    VP("cosine", T=1000),
    VP("linear", T=1000),
    VP("scaled_linear", T=1000, beta_start=0.00085, beta_end=0.012),
]


@pytest.mark.parametrize("p", ALL, ids=str)
def test_sigma_and_t_are_inverse_and_grow(p: Process) -> None:
    lo, hi = p.t_range
    t = torch.linspace(lo, hi, 777, dtype=torch.float64)
    s = p.sigma(t)
    assert (s.diff() > 0).all() and s.isfinite().all()
    assert (p.t(s) - t).abs().max() < 2e-3 * max(hi / 1000, 1e-6)
    assert isinstance(p, Process)


@pytest.mark.parametrize("p", ALL, ids=str)
def test_coefficients_agree_with_the_ratio(p: Process) -> None:
    t = torch.linspace(*p.t_range, 99, dtype=torch.float64)
    a, s = p.alpha_t(t), p.sigma_t(t)
    torch.testing.assert_close(s / a, p.sigma(t))
    torch.testing.assert_close(p.alpha_at(p.sigma(t)), a)
    if isinstance(p, VP):
        torch.testing.assert_close(a**2 + s**2, torch.ones_like(a))
    else:
        torch.testing.assert_close(a + s, torch.ones_like(a))


@pytest.mark.parametrize("p", [p for p in ALL if isinstance(p, VP) and p.T], ids=str)
def test_a_table_gives_its_integers_back_in_float32(p: VP) -> None:
    t = torch.arange(1000.0)
    assert torch.equal(p.t(p.sigma(t)), t)


def test_ddpm_table_by_its_definition() -> None:
    bar = 1.0
    for i in range(1000):
        bar *= 1 - (1e-4 + (2e-2 - 1e-4) * i / 999)
        if i in (0, 499, 999):
            assert float(VP("linear", T=1000).alpha_t(torch.tensor(float(i))) ** 2) == pytest.approx(bar, rel=1e-5)


def test_the_continuous_processes_are_the_limits_of_the_tables() -> None:
    t = torch.tensor([100.0, 400.0, 800.0])
    for schedule in ("cosine", "linear"):
        table, limit = VP(schedule, T=1000), VP(schedule)  # type: ignore[arg-type]
        torch.testing.assert_close(table.sigma(t), limit.sigma((t + 1) / 1000), rtol=2e-2, atol=0)


def test_add_noise_mixes_each_row_at_its_own_level(g: torch.Generator) -> None:
    x0, eps = torch.randn(3, 2, 4, generator=g), torch.randn(3, 2, 4, generator=g)
    t = torch.tensor([0.0, 0.25, 0.5])
    x_t = Flow().add_noise(x0, t, eps)
    torch.testing.assert_close(x_t[0], x0[0])
    torch.testing.assert_close(x_t[1], 0.75 * x0[1] + 0.25 * eps[1])
    torch.testing.assert_close(x_t[2], (x0[2] + eps[2]) / 2)


@pytest.mark.parametrize("p", ALL, ids=str)
def test_training_times_lie_where_the_process_is_defined(p: Process) -> None:
    t = p.training_time(torch.linspace(0, 1, 501, dtype=torch.float64))
    assert (p.sigma_t(t) >= 0).all() and (p.alpha_t(t) > 0).all() and t.max() <= p.t_range[1]
    if isinstance(p, VP) and p.T:
        assert torch.equal(t, t.round()) and t[0] == 0 and t[-1] == p.T - 1


def test_vp_starts_from_unit_noise_in_its_own_space() -> None:
    p, eps = VP("cosine", T=1000), torch.ones(1, 4)
    s = p.sigma(torch.tensor([833.0], dtype=torch.float64))
    torch.testing.assert_close(p.start(eps, float(s)) * float(p.alpha_at(s)), eps)
    torch.testing.assert_close(Flow().start(eps, 9.0), 9 * eps)


@pytest.mark.parametrize("p", ALL, ids=str)
def test_config_round_trip(p: Flow | VP) -> None:
    assert from_config({"kind": p.kind, **asdict(p)}) == p


@pytest.mark.parametrize("bad", [{}, {"kind": "vs"}, {"kind": "flow", "T": 3}, {"kind": "vp", "schedule": "sine"}])
def test_unknown_configs_are_the_users_to_mend(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError) as e:
        from_config(bad)
    assert e.value.code == "config" and e.value.hint
