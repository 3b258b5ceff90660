"""Distances between sets of features, against closed forms, scipy and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from t2i.errors import InputError
from t2i.score.distances import (
    frechet,
    frechet_from_stats,
    kid,
    mmd_rbf,
    moments,
    permutation_p,
    prdc,
    rbf_kernel,
    unit_rows,
)


def draw(seed: int, n: int, d: int, mean: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d)) * scale + mean


@pytest.mark.parametrize(("n", "d"), [(40, 12), (12, 40)])
def test_a_set_has_no_distance_to_itself(n: int, d: int) -> None:
    x = draw(0, n, d)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x[::-1]) == pytest.approx(0, abs=1e-9)
    assert mmd_rbf(x, x) == pytest.approx(0, abs=1e-9)
    whole = prdc(x, x)
    assert (whole.precision, whole.recall, whole.coverage) == (1, 1, 1)


def test_frechet_of_gaussians_in_closed_form() -> None:
    """Diagonal covariances commute: the distance is |a - b|² + sum (s - t)²."""
    n, d = 5000, 6
    q = np.linalg.qr(draw(1, n, d) - draw(1, n, d).mean(0))[0]
    q -= q.mean(0)
    q = np.linalg.qr(q)[0] * np.sqrt(n - 1)  # mean 0 and covariance 1 exactly
    a, b = np.arange(d) * 0.3, np.arange(d)[::-1] * 0.1
    s, t = 1 + np.arange(d) * 0.5, 2 - np.arange(d) * 0.2
    expected = ((a - b) ** 2).sum() + ((s - t) ** 2).sum()
    x, y = q * s + a, q * t + b
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_from_stats(a, np.diag(s**2), b, np.diag(t**2)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 20), (15, 30, 64), (100, 10, 32)])
def test_frechet_against_the_matrix_square_root(n: int, m: int, d: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, y = draw(2, n, d), draw(3, m, d, 0.3, 1.4) @ draw(4, d, d, scale=d**-0.5)
    (mu, sigma), (mu_y, sigma_y) = moments(x), moments(y)
    if min(n, m) > d:  # scipy's root of a singular matrix is good to four digits only
        root = linalg.sqrtm(sigma)
    else:
        values, vectors = linalg.eigh(sigma)
        root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    middle = linalg.eigvalsh(root @ sigma_y @ root).clip(0)
    expected = ((mu - mu_y) ** 2).sum() + np.trace(sigma) + np.trace(sigma_y) - 2 * np.sqrt(middle).sum()
    assert frechet(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_from_stats(mu, sigma, mu_y, sigma_y) == pytest.approx(expected, rel=1e-6)
    assert frechet(torch.from_numpy(x), torch.from_numpy(y)) == frechet(x, y)


def test_parity_with_torch_fidelity() -> None:
    """On saved features, to 1e-6: FD, KID on the whole sets, precision and recall with three neighbours."""
    pytest.importorskip("torch_fidelity", reason="the oracle is not installed: pip install torch-fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = draw(5, 400, 48), draw(6, 400, 48, 0.15, 1.1)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    stats = [fid_features_to_statistics(t) for t in (tx, ty)]
    fid = fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert frechet(x, y) == pytest.approx(fid, rel=1e-6)
    theirs = kid_features_to_metric(tx, ty, kid_subsets=2, kid_subset_size=400, verbose=False)
    assert kid(x, y)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    prc = prc_features_to_metric(tx, ty, prc_neighborhood=3, verbose=False)
    ours = prdc(y, x, k=3)
    assert (ours.precision, ours.recall) == pytest.approx((prc["precision"], prc["recall"]), abs=1e-6)


def test_kid_of_one_distribution_is_nought_on_average() -> None:
    values = [kid(draw(2 * i, 60, 16), draw(2 * i + 1, 80, 16))[0] for i in range(200)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    far = kid(draw(0, 60, 16), draw(1, 60, 16, 0.5))[0]
    assert far > 5 * np.std(values)


def test_kid_over_subsets_agrees_with_the_whole() -> None:
    x, y = draw(0, 400, 8), draw(1, 400, 8, 0.4)
    mean, deviation = kid(x, y, subsets=60, size=100)
    assert deviation > 0
    assert mean == pytest.approx(kid(x, y)[0], abs=3 * deviation / 60**0.5 + 0.02)
    assert kid(x, y, 60, 100) == (mean, deviation)


def test_mmd_against_a_sum_by_hand() -> None:
    x, y = unit_rows(draw(0, 5, 3)), unit_rows(draw(1, 4, 3, 1.0))

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / 200))

    def mean(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
        return float(np.mean([[k(a, b) for b in q] for a in p]))

    assert mmd_rbf(x, y) == pytest.approx(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-8)


def test_collapse_and_invention_are_told_apart() -> None:
    real = draw(0, 300, 4)
    collapsed = prdc(real, draw(1, 300, 4, scale=0.05))
    assert collapsed.precision > 0.95 and collapsed.recall < 0.1 and collapsed.coverage < 0.3
    invented = prdc(real, draw(2, 300, 4, mean=6.0))
    assert invented.precision == 0 and invented.density == 0 and invented.coverage == 0
    same = prdc(real, draw(3, 300, 4))
    assert same.precision > 0.8 and same.recall > 0.8 and same.coverage > 0.9 and 0.8 < same.density < 1.2


def test_the_permutation_test_keeps_its_level_and_finds_a_shift() -> None:
    """Under equal distributions p is uniform; 200 pairs, so 5% is between 1% and 10%."""
    ps = np.array([permutation_p(draw(i, 20, 4), draw(1000 + i, 25, 4), permutations=99, seed=i) for i in range(200)])
    assert 0.01 <= (ps <= 0.05).mean() <= 0.10
    assert 0.4 < ps.mean() < 0.6
    assert permutation_p(draw(0, 60, 4), draw(1, 60, 4, 0.8), permutations=199) == 1 / 200
    assert permutation_p(draw(0, 60, 4), draw(1, 60, 4, 0.8), rbf_kernel, 199, biased=True) == 1 / 200


def test_order_does_not_matter() -> None:
    x, y = draw(0, 50, 8), draw(1, 40, 8, 0.2)
    shuffled = x[np.random.default_rng(0).permutation(50)]
    assert frechet(shuffled, y) == pytest.approx(frechet(x, y), rel=1e-12)
    assert kid(shuffled, y)[0] == pytest.approx(kid(x, y)[0], rel=1e-12)
    assert prdc(y, shuffled) == prdc(y, x)


def test_too_few_pictures_and_broken_features_are_refused() -> None:
    for measure in (frechet, kid, mmd_rbf):
        with pytest.raises(InputError, match="1 picture is too small"):
            measure(draw(0, 1, 4), draw(1, 9, 4))
    with pytest.raises(InputError, match="needs 6"):
        prdc(draw(0, 5, 4), draw(1, 9, 4))
    with pytest.raises(InputError, match="not numbers"):
        frechet(np.full((4, 2), np.nan), draw(0, 4, 2))
    with pytest.raises(InputError, match="cannot be compared"):
        frechet_from_stats(np.zeros(3), np.eye(3), np.zeros(2), np.eye(2))
