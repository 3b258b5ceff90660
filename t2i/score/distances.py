"""How far one set of pictures lies from another: arithmetic on features (n, d), in float64.

Features are numpy arrays or torch tensors of one row a picture. Which network made them, and how the pictures
were resized for it, decides every number here: that is kept beside the numbers (`recipe.py`), not in them.

Shape legend: n rows of x, m rows of y, d features.
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
ROWS = 1024  # rows of a distance matrix that are held at a time


def rows(x: Features, least: int = 2) -> Array:
    """x as a finite float64 array (n, d). Raises InputError for fewer than ``least`` rows, or numbers that are none."""
    a = np.asarray(x, dtype=np.float64) if isinstance(x, np.ndarray) else x.detach().cpu().double().numpy()
    assert a.ndim == 2, a.shape
    if len(a) < least:
        what = f"a set of {len(a)} picture{'s' * (len(a) != 1)} is too small to compare; this needs {least}."
        raise InputError(what, "Give more pictures.", "few")
    if not np.isfinite(a).all():
        raise InputError("the features hold values that are not numbers.", "Were they made by a broken model?")
    return a


def moments(x: Features) -> tuple[Array, Array]:
    """(mu (d,), sigma (d, d)) of the rows: mean and unbiased covariance, in two passes. Raises InputError for n < 2."""
    a = rows(x)
    mu = a.mean(axis=0)
    centred = a - mu
    return mu, centred.T @ centred / (len(a) - 1)


def frechet(x: Features, y: Features) -> float:
    """Fréchet distance of the Gaussians that fit x and y (Heusel et al. 2017, 1706.08500, eq. 6).

    tr sqrt(sigma_x·sigma_y) is the nuclear norm of the centred cross product; neither d×d matrix is made, so that
    n < d is no trouble. Raises InputError for n < 2.
    """
    mean, factor = _gaussian(rows(x))
    mean_y, factor_y = _gaussian(rows(y))
    return _frechet(mean - mean_y, factor, factor_y)


def frechet_from_stats(mu: Array, sigma: Array, mu_y: Array, sigma_y: Array) -> float:
    """The same from stored means (d,) and covariances (d, d). Raises InputError where they do not fit together."""
    if not mu.shape == mu_y.shape == sigma.shape[:1] == sigma_y.shape[1:]:
        what = f"statistics of {mu.shape[0]} and of {mu_y.shape[0]} features cannot be compared."
        raise InputError(what, "Were they made by the same extractor?")
    return _frechet(mu - mu_y, _root(sigma), _root(sigma_y))


def _gaussian(a: Array) -> tuple[Array, Array]:
    """Mean, and a factor F (at most min(n, d) rows) of the covariance FᵀF."""
    mu = a.mean(axis=0)
    centred = (a - mu) / np.sqrt(len(a) - 1)
    if len(a) <= a.shape[1]:
        return mu, centred
    triangle: Any = np.linalg.qr(centred, mode="r")  # numpy's types know only the other mode
    return mu, triangle


def _root(sigma: Array) -> Array:
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    return np.sqrt(values.clip(0))[:, None] * vectors.T


def _frechet(between: Array, factor: Array, factor_y: Array) -> float:
    # sigma_x·sigma_y has the eigenvalues s², s the singular values of F_x·F_yᵀ
    cross = float(np.linalg.svd(factor @ factor_y.T, compute_uv=False).sum())
    trace = float((factor**2).sum() + (factor_y**2).sum())
    return max(0.0, float(between @ between) + trace - 2 * cross)


def poly(x: Array, y: Array) -> Array:
    """KID's kernel: (x·y/d + 1)³ (Bińkowski et al. 2018, 1801.01401, section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def rbf(x: Array, y: Array, sigma: float = CMMD_SIGMA) -> Array:
    """exp(-|x - y|² / 2 sigma²)."""
    out: Array = np.exp(-squared(x, y) / (2 * sigma**2))
    return out


def mmd(k_xx: Array, k_yy: Array, k_xy: Array, biased: bool = False) -> float:
    """Squared maximum mean discrepancy of three kernel blocks (Gretton et al. 2012, eq. 3; biased: eq. 5)."""
    if biased:
        return float(k_xx.mean() + k_yy.mean() - 2 * k_xy.mean())
    n, m = k_xy.shape
    own = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1)) + (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(own - 2 * k_xy.mean())


def kid(x: Features, y: Features, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Kernel distance (KID): mean and standard deviation of the unbiased MMD² over random subsets.

    Each of ``subsets`` takes ``size`` rows of each set without repeats. Where a set has no more than ``size`` rows,
    both whole sets are compared, once, and the deviation is 0. Raises InputError for fewer than two rows.
    """
    a, b = rows(x), rows(y)
    if min(len(a), len(b)) <= size:
        return mmd(poly(a, a), poly(b, b), poly(a, b)), 0.0
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        one, two = (s[rng.choice(len(s), size, replace=False)] for s in (a, b))
        values.append(mmd(poly(one, one), poly(two, two), poly(one, two)))
    return float(np.mean(values)), float(np.std(values))


def mmd_rbf(x: Features, y: Features, sigma: float = CMMD_SIGMA, scale: float = CMMD_SCALE) -> float:
    """CMMD's distance (Jayasumana et al. 2024, 2401.09603): biased MMD² of a Gaussian kernel, times ``scale``.

    The paper's rows are unit CLIP embeddings: see `unit`. Raises InputError for fewer than two rows.
    """
    a, b = rows(x), rows(y)
    return scale * mmd(rbf(a, a, sigma), rbf(b, b, sigma), rbf(a, b, sigma), biased=True)


def unit(x: Features) -> Array:
    """Rows of length 1; a row of zeros stays."""
    a = rows(x, 0)
    return a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Prdc:
    """How much of one set lies among the other, each in [0, 1] but density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, made: Features, k: int = 5) -> Prdc:
    """Precision and recall (Kynkäänniemi et al. 2019, 1904.06991), density and coverage (Naeem et al. 2020,
    2002.09797), with balls that reach to the k-th neighbour. Raises InputError for sets of k rows or fewer."""
    r, g = rows(real, k + 1), rows(made, k + 1)
    radius_r, radius_g = _reach(r, k), _reach(g, k)
    inside = np.zeros(len(g))  # for each made row, how many real balls hold it
    recalled, covered = np.zeros(len(r), bool), np.zeros(len(r), bool)
    for at, d in _blocks(r, g):
        inside += (d <= radius_r[at, None]).sum(axis=0)
        recalled[at] = (d <= radius_g).any(axis=1)
        covered[at] = d.min(axis=1) <= radius_r[at]
    return Prdc(float((inside > 0).mean()), float(recalled.mean()), float(inside.mean() / k), float(covered.mean()))


def permutation_p(
    x: Features, y: Features, kernel: Kernel = poly, permutations: int = 999, seed: int = 0, biased: bool = False
) -> float:
    """How often a random split of the pooled rows lies as far apart as x and y do, by MMD with ``kernel``.

    In (0, 1]: (1 + times) / (1 + permutations). Exact under exchange of rows, whatever n, m and d.
    """
    a, b = rows(x), rows(y)
    pool = np.concatenate([a, b])
    n, m = len(a), len(b)
    k = kernel(pool, pool)
    if not biased:
        np.fill_diagonal(k, 0.0)
    ways = (n * n, m * m) if biased else (n * (n - 1), m * (m - 1))
    rng = np.random.default_rng(seed)
    chosen = np.zeros((n + m, permutations + 1))
    chosen[:n, 0] = 1.0  # the first column is the split as it came
    for i in range(1, permutations + 1):
        chosen[rng.permutation(n + m)[:n], i] = 1.0
    of_x, total = k @ chosen, float(k.sum())
    xx = (chosen * of_x).sum(axis=0)
    both = of_x.sum(axis=0) - xx  # x against y, once
    values = xx / ways[0] + (total - xx - 2 * both) / ways[1] - 2 * both / (n * m)
    margin = 1e-12 * max(1.0, float(np.abs(values).max()))
    return float((values >= values[0] - margin).sum() / (permutations + 1))


def squared(x: Array, y: Array) -> Array:
    """Squared Euclidean distances (n, m)."""
    d = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)
    out: Array = d.clip(0)
    return out


def _blocks(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    for start in range(0, len(x), ROWS):
        at = slice(start, min(start + ROWS, len(x)))
        yield at, np.sqrt(squared(x[at], y))


def _reach(x: Array, k: int) -> Array:
    """The distance of each row to its k-th neighbour."""
    out = np.empty(len(x))
    for at, d in _blocks(x, x):
        d[np.arange(len(d)), np.arange(at.start, at.stop)] = 0.0  # itself, whatever rounding says
        out[at] = np.partition(d, k, axis=1)[:, k]
    return out
