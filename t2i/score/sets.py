"""Set against set: distances between the features of two piles of pictures, and their statistics as a file."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.errors import InputError
from t2i.files import explain_os_error, write_bytes
from t2i.score.distances import (
    frechet,
    frechet_from_stats,
    kid,
    mmd_rbf,
    moments,
    permutation_p,
    prdc,
    rbf,
    rows,
    unit,
)
from t2i.score.recipe import Network, Recipe, read_recipe

K = 5
ENOUGH = 10_000  # pictures below which FD is shown and never gates
MOST = 2000  # rows of each set that the permutation test takes


@dataclass(frozen=True)
class Stats:
    """A set by its features: mean, covariance, how many, and the features themselves where the file holds them."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n: int
    features: NDArray[Any] | None
    network: Network


@dataclass(frozen=True)
class Distances:
    """This set (n pictures) against another (m). None: the other's file holds no features. notes: what to beware."""

    n: int
    m: int
    fd: float
    notes: tuple[str, ...] = ()
    kid: float | None = None
    kid_p: float | None = None
    cmmd: float | None = None
    cmmd_p: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None

    def table(self) -> dict[str, Any]:
        return {**asdict(self), "notes": list(self.notes)}


def stats_of(features: NDArray[Any], network: Network) -> Stats:
    """Raises InputError (code ``few``) for fewer than two pictures."""
    mu, sigma = moments(features)
    return Stats(mu, sigma, len(features), features, network)


def save_stats(path: Path, stats: Stats) -> None:
    """Write mu, sigma, n, features and the recipe as .npz. mu and sigma are named as pytorch-fid names them."""
    recipe = json.dumps(Recipe(stats.network).table(), sort_keys=True)
    file = io.BytesIO()
    arrays: dict[str, Any] = {} if stats.features is None else {"features": np.asarray(stats.features, np.float32)}
    np.savez_compressed(file, mu=stats.mu, sigma=stats.sigma, n=stats.n, recipe=np.array(recipe), **arrays)
    write_bytes(path, file.getvalue())


def load_stats(path: Path) -> Stats:
    """Raises InputError where the file cannot be read, or does not say how it was made (code ``recipe``)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if "recipe" not in file:
                what = f"{path} does not say which network made it, nor how pictures were resized for it."
                raise InputError(what, "Make it again with --save-stats, from the pictures.", "recipe")
            recipe = read_recipe(json.loads(str(file["recipe"])), str(path))
            features = file["features"] if "features" in file else None  # noqa: SIM401 - a file, no table
            mu, sigma = np.asarray(file["mu"], np.float64), np.asarray(file["sigma"], np.float64)
            n = int(file["n"])
        if (
            mu.ndim != 1
            or sigma.shape != (len(mu), len(mu))
            or not (np.isfinite(mu).all() and np.isfinite(sigma).all())
        ):
            raise ValueError("its arrays have the wrong shapes or no numbers")
        if features is not None and features.shape != (n, len(mu)):
            raise ValueError("its features are not as many as it says")
    except OSError as error:
        raise InputError(f"cannot read {path}: {explain_os_error(error)}.") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} holds no statistics that can be read.", "Make it again with --save-stats.") from error
    return Stats(mu, sigma, n, features, recipe.extractor)


def against(features: NDArray[Any], other: Stats, seed: int = 0) -> Distances:
    """The distances of a set of features (n, d) from ``other``. CMMD takes unit rows, the others rows as they are.

    Raises InputError (code ``few``) for fewer than two pictures on either side.
    """
    own = _ordered(rows(features))
    if other.n < 2:
        rows(np.zeros((other.n, 1)))
    notes = []
    n, d = own.shape
    fewest = min(n, other.n)
    if fewest < ENOUGH:
        notes.append(f"FD of {fewest} pictures is shown only: it falls with their number, so it gates nothing")
    if fewest <= d:
        notes.append(f"{fewest} pictures do not span {d} features; FD is mostly sampling error")
    theirs = other.features
    if theirs is None:
        notes.append("the other side holds no features: no KID, CMMD, precision or recall")
        fd = frechet_from_stats(*moments(own), other.mu, other.sigma)
        return Distances(n, other.n, fd, tuple(notes))
    theirs = _ordered(np.asarray(theirs, np.float64))
    near: dict[str, float] = {}
    if fewest > K:
        near = asdict(prdc(theirs, own, K))
    else:
        notes.append(f"precision, recall, density and coverage need more than {K} pictures on each side")
    rng = np.random.default_rng(seed)
    some, others = (_some(np.asarray(x, np.float64), rng) for x in (own, theirs))
    return Distances(
        n,
        other.n,
        frechet(own, theirs),
        tuple(notes),
        kid=kid(own, theirs)[0],
        kid_p=permutation_p(some, others, seed=seed),
        cmmd=mmd_rbf(unit(own), unit(theirs)),
        cmmd_p=permutation_p(unit(some), unit(others), rbf, seed=seed, biased=True),
        **near,
    )


def _ordered(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows in an order of their own, so that subsets and permutations do not depend on that of the files."""
    return x[np.lexsort(x.T)]


def _some(x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return x if len(x) <= MOST else x[rng.choice(len(x), MOST, replace=False)]
