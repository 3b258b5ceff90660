"""Set against set: distances between the features of two sets of pictures, and a set's statistics as a file."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.errors import InputError
from t2i.files import explain_os_error, read_bytes, write_bytes
from t2i.jsonl import strict_json
from t2i.score.distances import (
    feature_rows,
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
from t2i.score.recipe import NetworkInfo, ScoreRecipe, read_recipe

K = 5  # neighbours, for precision and recall
ENOUGH_FOR_FD = 10_000  # pictures; FD of fewer is shown and gates nothing
MAX_UNPACKED = 4 << 30  # bytes of a file's arrays
MAX_VALUE = 1e12  # of a feature; beyond it squares and sums would leave float64's range
MAX_PERMUTED = 2000  # rows of each set that the permutation test uses


@dataclass(frozen=True)
class FeatureStats:
    """A set of n pictures by its features: mean (D,), covariance (D, D), and the features (n, D) if they are stored."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n: int
    features: NDArray[Any] | None
    network: NetworkInfo


@dataclass(frozen=True)
class SetDistances:
    """This set (n pictures) against another (m pictures).

    None: the other set's file holds no features, or a set is too small. notes: warnings about the numbers.
    """

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

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "notes": list(self.notes)}

    def numbers(self) -> dict[str, float]:
        """The counts and the distances that were measured."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, (int, float))}


def feature_stats(features: NDArray[Any], network: NetworkInfo) -> FeatureStats:
    """Raises InputError (code `few`) for fewer than two pictures."""
    mu, sigma = moments(features)
    return FeatureStats(mu, sigma, len(features), features, network)


def save_stats(path: Path, stats: FeatureStats) -> None:
    """Write an .npz with mu, sigma, n, features and the recipe. pytorch-fid uses the same names for mu and sigma."""
    recipe = json.dumps(ScoreRecipe(stats.network).to_json(), sort_keys=True)
    file = io.BytesIO()
    arrays: dict[str, Any] = {} if stats.features is None else {"features": np.asarray(stats.features, np.float32)}
    np.savez_compressed(file, mu=stats.mu, sigma=stats.sigma, n=stats.n, recipe=np.array(recipe), **arrays)
    write_bytes(path, file.getvalue())


def load_stats(path: Path) -> FeatureStats:
    """Raises InputError if the file cannot be read, or does not say how it was made (code `recipe`)."""
    try:
        data = io.BytesIO(read_bytes(path))
        with zipfile.ZipFile(data) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise ValueError("it is far larger than it looks")
        with warnings.catch_warnings(), np.load(data, allow_pickle=False) as file:
            warnings.simplefilter("ignore")  # of an array's head that is odd
            if "recipe" not in file:
                what = f"{path} does not say which network made it, nor how pictures were resized for it."
                raise InputError(what, "Make it again with --save-stats, from the pictures.", "recipe")
            recipe = read_recipe(strict_json(str(file["recipe"])), str(path))
            features = file["features"] if "features" in file else None  # noqa: SIM401 - a file, no table
            mu, sigma = np.asarray(file["mu"], np.float64), np.asarray(file["sigma"], np.float64)
            n = int(file["n"])
        if mu.ndim != 1 or not len(mu) or sigma.shape != (len(mu), len(mu)):
            raise ValueError("its arrays have the wrong shapes")
        if n < 2 or (features is not None and features.shape != (n, len(mu))):
            raise ValueError("its features are not as many as it says")
        if features is not None:
            features = np.asarray(features, np.float32)
        for array in (mu, sigma, *(() if features is None else (features,))):
            if not bool((np.abs(array) <= MAX_VALUE).all()):  # NaN, too
                raise ValueError("it holds what is no number, or much too large")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {explain_os_error(error)}.") from error
    except Exception as error:  # numpy, zipfile and zlib raise nearly anything for a damaged archive
        raise InputError(f"{path} holds no statistics that can be read.", "Make it again with --save-stats.") from error
    return FeatureStats(mu, sigma, n, features, recipe.extractor)


def compare_sets(features: NDArray[Any], other: FeatureStats, seed: int = 0) -> SetDistances:
    """The distances of a set of features (n, D) from `other`. CMMD normalises the rows; the others do not.

    seed: of the subsets and permutations. Raises InputError (code `few`) for fewer than two pictures on either side.
    """
    own = _sorted_rows(feature_rows(features))
    if other.n < 2:
        feature_rows(np.zeros((other.n, 1)))  # raises
    notes = []
    n, d = own.shape
    fewest = min(n, other.n)
    if fewest < ENOUGH_FOR_FD:
        notes.append(f"FD of {fewest} pictures is shown only: it falls with their number, so it gates nothing")
    if fewest <= d:
        notes.append(f"{fewest} pictures do not span {d} features; FD is mostly sampling error")
    theirs = other.features
    if theirs is None:
        notes.append("the other side holds no features: no KID, CMMD, precision or recall")
        fd = frechet_from_stats(*moments(own), other.mu, other.sigma)
        return SetDistances(n, other.n, fd, tuple(notes))
    theirs = _sorted_rows(np.asarray(theirs, np.float64))
    overlap: dict[str, float] = {}
    if fewest > K:
        overlap = asdict(prdc(theirs, own, K))
    else:
        notes.append(f"precision, recall, density and coverage need more than {K} pictures on each side")
    rng = np.random.default_rng(seed)
    ours_few, theirs_few = (_random_rows(np.asarray(x, np.float64), rng) for x in (own, theirs))
    return SetDistances(
        n,
        other.n,
        frechet(own, theirs),
        tuple(notes),
        kid=kid(own, theirs)[0],
        kid_p=permutation_p(ours_few, theirs_few, seed=seed),
        cmmd=mmd_rbf(unit_rows(own), unit_rows(theirs)),
        cmmd_p=permutation_p(unit_rows(ours_few), unit_rows(theirs_few), rbf_kernel, seed=seed, biased=True),
        **overlap,
    )


def _sorted_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows in lexical order, so that subsets and permutations do not depend on the order of the files."""
    return x[np.lexsort(x.T)]


def _random_rows(x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """At most MAX_PERMUTED rows, without repeats."""
    return x if len(x) <= MAX_PERMUTED else x[rng.choice(len(x), MAX_PERMUTED, replace=False)]
