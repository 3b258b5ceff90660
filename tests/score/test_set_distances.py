"""Statistics files and set compare_sets set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2i.errors import InputError
from t2i.score.distances import frechet
from t2i.score.recipe import NetworkInfo, ScoreRecipe, require_same_recipe
from t2i.score.set_distances import compare_sets, feature_stats, load_stats, save_stats

NETWORK = NetworkInfo("clip:small", "a" * 64, 64, "area")


def draw(seed: int, n: int, d: int = 12, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32) + np.float32(mean)


def test_a_file_gives_back_what_was_measured(tmp_path: Path) -> None:
    x, y = draw(0, 80), draw(1, 90, mean=0.3)
    save_stats(tmp_path / "s.npz", feature_stats(y, NETWORK))
    stats = load_stats(tmp_path / "s.npz")
    assert (stats.n, stats.network) == (90, NETWORK)
    there = compare_sets(x, stats)
    assert there.fd == pytest.approx(frechet(x, y), rel=1e-9)
    assert there == compare_sets(x, feature_stats(y, NETWORK))
    assert there.kid is not None and there.kid > 0 and there.kid_p is not None and there.kid_p < 0.01
    assert compare_sets(x, feature_stats(draw(2, 90), NETWORK)).kid_p > 0.01  # type: ignore[operator]
    bare = replace(stats, features=None)
    save_stats(tmp_path / "bare.npz", bare)
    less = compare_sets(x, load_stats(tmp_path / "bare.npz"))
    assert less.fd == pytest.approx(there.fd, rel=1e-6) and less.kid is None
    assert any("no features" in note for note in less.notes)


def test_small_sets_are_warned_of_and_single_pictures_refused() -> None:
    notes = compare_sets(draw(0, 8), feature_stats(draw(1, 10), NETWORK)).notes
    assert any("gates nothing" in note for note in notes) and any("do not span" in note for note in notes)
    assert compare_sets(draw(0, 4), feature_stats(draw(1, 10), NETWORK)).precision is None
    for x, y in ((1, 9), (9, 1)):
        with pytest.raises(InputError, match="1 picture is too small") as caught:
            compare_sets(draw(0, x), feature_stats(draw(1, y), NETWORK))
        assert caught.value.exit_code == 3


def test_the_order_of_files_does_not_matter() -> None:
    x, other = draw(0, 40), feature_stats(draw(1, 50, mean=0.2), NETWORK)
    a, b = compare_sets(x, other), compare_sets(x[::-1], other)
    for name in ("fd", "kid", "kid_p", "cmmd", "cmmd_p", "precision", "recall", "density", "coverage"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9)


def test_a_file_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "foreign.npz", mu=np.zeros(4), sigma=np.eye(4))
    with pytest.raises(InputError, match="which network") as caught:
        load_stats(tmp_path / "foreign.npz")
    assert caught.value.code == "recipe"
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(InputError):
        load_stats(tmp_path / "text.npz")
    recipe = np.array(json.dumps(ScoreRecipe(NETWORK).to_json()))
    good = {"mu": np.zeros(4), "sigma": np.eye(4), "n": 3, "features": np.zeros((3, 4), np.float32), "recipe": recipe}
    np.savez(tmp_path / "odd.npz", **good)
    assert load_stats(tmp_path / "odd.npz").n == 3
    for name, value in (
        ("mu", np.full(4, 1e300)), ("sigma", np.full((4, 4), np.nan)), ("sigma", np.eye(3)), ("n", 1), ("n", -3),
        ("features", np.full((3, 4), np.inf, np.float32)), ("features", np.zeros((2, 4))), ("mu", np.array(["a"] * 4)),
        ("recipe", np.array("1e999")),
    ):  # fmt: skip
        np.savez(tmp_path / "odd.npz", **{**good, name: value})
        with pytest.raises(InputError):
            load_stats(tmp_path / "odd.npz")
    with pytest.raises(InputError, match="resize"):
        require_same_recipe(ScoreRecipe(NETWORK), ScoreRecipe(replace(NETWORK, resize="bicubic")), "s.npz")


def test_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    """zipfile, zlib and numpy each raise their own errors, by where the damage is."""
    rng = np.random.default_rng(0)
    save_stats(tmp_path / "s.npz", feature_stats(rng.normal(size=(6, 3)), NETWORK))
    whole, read = (tmp_path / "s.npz").read_bytes(), 0
    for at in range(0, len(whole), 2):
        (tmp_path / "odd.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            load_stats(tmp_path / "odd.npz")
            read += 1
        except InputError:
            continue
    assert 0 < read < len(whole) // 4
