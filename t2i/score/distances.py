"""Distances between two sets of feature vectors: FD, KID, CMMD, precision and recall, permutation tests.

Features are numpy arrays or torch tensors with one row per picture; the arithmetic is in float64. The numbers are only
comparable between features of the same network and resize, which `recipe.py` records.

Shapes: x is (n, d), y is (m, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2i.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    Features = NDArray[Any] | Tensor

Array = NDArray[np.float64]
Kernel = Callable[[Array, Array], Array]

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
BLOCK = 1024  # rows of a distance matrix held at a time


def feature_rows(x: Features, least: int = 2) -> Array:
    """x as a float64 array (n, d). Raises InputError for fewer than `least` rows, NaN or infinities."""
    a = np.asarray(x, dtype=np.float64) if isinstance(x, np.ndarray) else x.detach().cpu().double().numpy()
    assert a.ndim == 2, a.shape
    if len(a) < least:
        what = f"a set of {len(a)} picture{'s' * (len(a) != 1)} is too small to compare; this needs {least}."
        raise InputError(what, "Give more pictures.", "few")
    if not np.isfinite(a).all():
        raise InputError("the features hold values that are not numbers.", "Were they made by a broken model?")
    return a


def moments(x: Features) -> tuple[Array, Array]:
    """Mean (d,) and unbiased covariance (d, d) of the rows. Raises InputError for n < 2."""
    a = feature_rows(x)
    mu = a.mean(axis=0)
    centred = a - mu
    return mu, centred.T @ centred / (len(a) - 1)


def frechet(x: Features, y: Features) -> float:
    """Fréchet distance (FD) of the Gaussians fitted to x and y (Heusel et al. 2017, 1706.08500, eq. 6).

    tr sqrt(sigma_x·sigma_y) is computed as the nuclear norm of the centred cross product, without the d×d matrices, so
    n < d works too. Raises InputError for n < 2.
    """
    mean, factor = _gaussian(feature_rows(x))
    mean_y, factor_y = _gaussian(feature_rows(y))
    return _frechet(mean - mean_y, factor, factor_y)


def frechet_from_stats(mu: Array, sigma: Array, mu_y: Array, sigma_y: Array) -> float:
    """`frechet` from stored means (d,) and covariances (d, d). Raises InputError if their sizes differ."""
    if not mu.shape == mu_y.shape == sigma.shape[:1] == sigma_y.shape[1:]:
        what = f"statistics of {mu.shape[0]} and of {mu_y.shape[0]} features cannot be compared."
        raise InputError(what, "Were they made by the same extractor?")
    return _frechet(mu - mu_y, _root(sigma), _root(sigma_y))


def _gaussian(a: Array) -> tuple[Array, Array]:
    """Mean (d,), and a factor F (min(n, d), d) of the covariance FᵀF."""
    mu = a.mean(axis=0)
    centred = (a - mu) / np.sqrt(len(a) - 1)
    if len(a) <= a.shape[1]:
        return mu, centred
    triangle: Any = np.linalg.qr(centred, mode="r")  # numpy's types only know the default mode
    return mu, triangle


def _root(sigma: Array) -> Array:
    """A factor F (d, d) of the covariance FᵀF."""
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    return np.sqrt(values.clip(0))[:, None] * vectors.T


def _frechet(shift: Array, factor: Array, factor_y: Array) -> float:
    """From the difference of the means and the factors of both covariances."""
    # the eigenvalues of sigma_x·sigma_y are s², with s the singular values of F_x·F_yᵀ
    cross = float(np.linalg.svd(factor @ factor_y.T, compute_uv=False).sum())
    trace = float((factor**2).sum() + (factor_y**2).sum())
    return max(0.0, float(shift @ shift) + trace - 2 * cross)


def poly_kernel(x: Array, y: Array) -> Array:
    """KID's kernel (x·y/d + 1)³: (n, m) (Bińkowski et al. 2018, 1801.01401, section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def rbf_kernel(x: Array, y: Array, sigma: float = CMMD_SIGMA) -> Array:
    """Gaussian kernel exp(-|x - y|² / 2 sigma²): (n, m)."""
    out: Array = np.exp(-squared_distances(x, y) / (2 * sigma**2))
    return out


def mmd(k_xx: Array, k_yy: Array, k_xy: Array, biased: bool = False) -> float:
    """Squared maximum mean discrepancy from three kernel matrices (Gretton et al. 2012, eq. 3; biased: eq. 5)."""
    if biased:
        return float(k_xx.mean() + k_yy.mean() - 2 * k_xy.mean())
    n, m = k_xy.shape
    within = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1)) + (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within - 2 * k_xy.mean())


def kid(x: Features, y: Features, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Kernel inception distance (KID): mean and standard deviation of the unbiased MMD² over random subsets.

    Each of `subsets` takes `size` rows of each set without repeats. If a set has no more than `size` rows, the
    whole sets are compared once, and the deviation is 0. Raises InputError for fewer than two rows.
    """
    a, b = feature_rows(x), feature_rows(y)
    if min(len(a), len(b)) <= size:
        return mmd(poly_kernel(a, a), poly_kernel(b, b), poly_kernel(a, b)), 0.0
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        one, two = (s[rng.choice(len(s), size, replace=False)] for s in (a, b))
        values.append(mmd(poly_kernel(one, one), poly_kernel(two, two), poly_kernel(one, two)))
    return float(np.mean(values)), float(np.std(values))


def mmd_rbf(x: Features, y: Features, sigma: float = CMMD_SIGMA, scale: float = CMMD_SCALE) -> float:
    """CMMD (Jayasumana et al. 2024, 2401.09603): biased MMD² of a Gaussian kernel, times `scale`.

    The paper's rows are unit CLIP embeddings: see `unit_rows`. Raises InputError for fewer than two rows.
    """
    a, b = feature_rows(x), feature_rows(y)
    return scale * mmd(rbf_kernel(a, a, sigma), rbf_kernel(b, b, sigma), rbf_kernel(a, b, sigma), biased=True)


def unit_rows(x: Features) -> Array:
    """The rows scaled to length 1; a row of zeros stays."""
    a = feature_rows(x, 0)
    return a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage. All lie in [0, 1], except that density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, generated: Features, k: int = 5) -> Prdc:
    """Precision and recall (Kynkäänniemi et al. 2019, 1904.06991), density and coverage (Naeem et al. 2020,
    2002.09797).

    Around each row lies a ball that reaches to its k-th neighbour in its own set. Raises InputError for sets of k rows
    or fewer.
    """
    r, g = feature_rows(real, k + 1), feature_rows(generated, k + 1)
    radius_r, radius_g = _neighbour_distance(r, k), _neighbour_distance(g, k)
    inside = np.zeros(len(g))  # for each generated row, how many real balls contain it
    recalled, covered = np.zeros(len(r), bool), np.zeros(len(r), bool)
    for at, d in _distance_blocks(r, g):
        inside += (d <= radius_r[at, None]).sum(axis=0)
        recalled[at] = (d <= radius_g).any(axis=1)
        covered[at] = d.min(axis=1) <= radius_r[at]
    return Prdc(float((inside > 0).mean()), float(recalled.mean()), float(inside.mean() / k), float(covered.mean()))


def permutation_p(
    x: Features, y: Features, kernel: Kernel = poly_kernel, permutations: int = 999, seed: int = 0, biased: bool = False
) -> float:
    """The p-value of a permutation test of equal distributions, with MMD² as the statistic.

    (1 + number of random splits at least as far apart as x and y) / (1 + permutations), in (0, 1]. It is exact for any
    n, m and d.
    """
    a, b = feature_rows(x), feature_rows(y)
    pooled = np.concatenate([a, b])
    n, m = len(a), len(b)
    k = kernel(pooled, pooled)
    if not biased:
        np.fill_diagonal(k, 0.0)
    pairs = (n * n, m * m) if biased else (n * (n - 1), m * (m - 1))
    rng = np.random.default_rng(seed)
    in_x = np.zeros((n + m, permutations + 1))  # each column is a split: 1 for the rows that play x
    in_x[:n, 0] = 1.0  # the first column is the actual split
    for i in range(1, permutations + 1):
        in_x[rng.permutation(n + m)[:n], i] = 1.0
    sums, total = k @ in_x, float(k.sum())
    xx = (in_x * sums).sum(axis=0)
    xy = sums.sum(axis=0) - xx
    values = xx / pairs[0] + (total - xx - 2 * xy) / pairs[1] - 2 * xy / (n * m)
    tolerance = 1e-12 * max(1.0, float(np.abs(values).max()))
    return float((values >= values[0] - tolerance).sum() / (permutations + 1))


def squared_distances(x: Array, y: Array) -> Array:
    """Squared Euclidean distances: (n, m)."""
    d = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)
    out: Array = d.clip(0)
    return out


def _distance_blocks(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """(rows of x, their distances to all rows of y), BLOCK rows at a time."""
    for start in range(0, len(x), BLOCK):
        at = slice(start, min(start + BLOCK, len(x)))
        yield at, np.sqrt(squared_distances(x[at], y))


def _neighbour_distance(x: Array, k: int) -> Array:
    """The distance of each row to its k-th nearest neighbour: (n,)."""
    out = np.empty(len(x))
    for at, d in _distance_blocks(x, x):
        d[np.arange(len(d)), np.arange(at.start, at.stop)] = 0.0  # to itself: exactly 0
        out[at] = np.partition(d, k, axis=1)[:, k]
    return out
