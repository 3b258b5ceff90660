from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from t2i.diffusion.process import VP, Flow, Process
from t2i.diffusion.schedule import SCHEDULES, sigmas, start_at, stop_at
from t2i.errors import UsageError

TABLE = VP("linear", T=1000)
ON_TABLES = {"leading", "linspace", "trailing"}


@pytest.mark.parametrize("n", [1, 2, 4, 10, 50, 250])
@pytest.mark.parametrize("process", [Flow(), VP("cosine"), VP("linear"), TABLE, VP("cosine", T=1000)], ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_n_steps_that_fall_to_zero_within_the_process(name: str, process: Flow | VP, n: int) -> None:
    if name in ON_TABLES and not (isinstance(process, VP) and process.T):
        with pytest.raises(UsageError):
            sigmas(name, process, n)
        return
    s = sigmas(name, process, n)
    assert len(s) == n + 1 and s[-1] == 0
    assert all(a > b for a, b in pairwise(s))
    assert s[0] <= float(process.sigma(torch.tensor(process.t_range[1], dtype=torch.float64))) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["karras", "logsnr", "uniform_t", "shifted", "trailing"])
def test_the_first_step_is_at_the_noisiest_level(name: str) -> None:
    top = float(TABLE.sigma(torch.tensor(999.0, dtype=torch.float64)))
    assert sigmas(name, TABLE, 7)[0] == pytest.approx(top)


def test_karras_by_its_equation() -> None:
    s = sigmas("karras", Flow(), 5, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    for i, v in enumerate(s[:-1]):
        assert v == pytest.approx((80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)


def test_logsnr_is_geometric() -> None:
    s = sigmas("logsnr", Flow(), 6)[:-1]
    ratios = [b / a for a, b in pairwise(s)]
    assert max(ratios) == pytest.approx(min(ratios))


def test_shift_by_its_definition_and_its_direction() -> None:
    plain, shifted = sigmas("shifted", Flow(), 8), sigmas("shifted", Flow(), 8, shift=3.0)
    for v in shifted[1:-1]:
        t = v / (1 + v)
        unshifted = t / (3 - 2 * t)  # the inverse of t' = 3 t / (1 + 2 t)
        assert 0 < unshifted < t
    assert sum(v > 1 for v in shifted) > sum(v > 1 for v in plain)
    assert plain == pytest.approx(sigmas("uniform_t", Flow(), 8))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("leading", {}, [800, 600, 400, 200, 0]),
        ("leading", {"offset": 1}, [801, 601, 401, 201, 1]),
        ("leading", {"multistep": True}, [830, 664, 498, 332, 166]),
        ("linspace", {}, [999, 749, 500, 250, 0]),
        ("linspace", {"multistep": True}, [999, 799, 599, 400, 200]),
        ("trailing", {}, [999, 799, 599, 399, 199]),
    ],
)
def test_timesteps_by_hand(name: str, settings: dict[str, int], expected: list[int]) -> None:
    s = torch.tensor(sigmas(name, TABLE, 5, **settings)[:-1], dtype=torch.float64)
    assert TABLE.t(s).tolist() == expected


@pytest.mark.parametrize(
    ("name", "process", "n", "settings"),
    [
        ("cosine", Flow(), 4, {}),
        ("karras", Flow(), 0, {}),
        ("karras", Flow(), 4, {"shift": 2.0}),
        ("karras", Flow(), 4, {"sigma_min": 5.0, "sigma_max": 1.0}),
        ("shifted", Flow(), 4, {"shift": -1.0}),
        ("trailing", TABLE, 2000, {}),
        ("leading", TABLE, 1001, {}),
    ],
)
def test_nonsense_is_refused_with_a_hint(name: str, process: Process, n: int, settings: dict[str, float]) -> None:
    with pytest.raises(UsageError) as e:
        sigmas(name, process, n, **settings)  # type: ignore[arg-type]
    assert e.value.hint


def test_partial_trajectories() -> None:
    s = sigmas("karras", Flow(), 10)
    assert start_at(s, 1.0) == s
    assert start_at(s, 0.3) == s[7:]
    assert len(start_at(s, 0.01)) == 2
    for bad in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError):
            start_at(s, bad)


@pytest.mark.parametrize(
    ("process", "t_end"), [(Flow(), 0.2), (VP("cosine"), 0.2), (VP("linear"), 0.2), (TABLE, 200.0)], ids=str
)
@pytest.mark.parametrize("name", ["uniform_t", "karras", "logsnr"])
def test_a_schedule_that_stops_early(name: str, process: Flow | VP, t_end: float) -> None:
    plain = sigmas(name, process, 10)
    s = stop_at(plain, process, t_end)
    assert len(s) == 11 and s[0] == pytest.approx(plain[0]) and s[-1] == 0
    assert all(a > b for a, b in pairwise(s))
    assert float(process.t(torch.tensor(s[-2], dtype=torch.float64))) == pytest.approx(t_end)


def test_uniform_times_stay_uniform_when_they_stop_early() -> None:
    s = stop_at(sigmas("uniform_t", Flow(), 20), Flow(), 0.12)
    times = [v / (1 + v) for v in s[:-1]]
    assert times == pytest.approx([0.999 - i / 19 * (0.999 - 0.12) for i in range(20)])


def test_levels_above_the_stop_stay_as_they_are() -> None:
    eight = sigmas("uniform_t", Flow(), 8)  # the lowest is t = .125
    assert stop_at(eight, Flow(), 0.12) == stop_at(eight, Flow(), 0.0) == eight
    assert stop_at([5.0, 0.0], Flow(), 0.5) == [5.0, 0.0]
    for bad in (-0.1, 0.999, math.nan):
        with pytest.raises(UsageError, match="cannot stop"):
            stop_at(eight, Flow(), bad)
