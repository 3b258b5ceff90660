"""The bundles of weights/ that share stages, and what a wheel carries of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from t2i.store.bundle import read_bundle

ROOT = Path(__file__).parents[2]
OWN_LIMIT = {
    "dalle-small": 14_000_000, "imagen-small": 14_000_000, "small-student": 17_000_000, "small-teacher": 18_000_000,
}  # fmt: skip
IN_CHECKOUTS = {"weights/dalle-small", "weights/small-student", "weights/small-teacher"}


@pytest.mark.parametrize("name", OWN_LIMIT)
def test_a_shipped_bundle_is_whole_and_small(name: str) -> None:
    bundle = read_bundle(ROOT / "weights" / name)
    bundle.verify()
    assert bundle.manifest.name == name
    files = [path for path in bundle.path.rglob("*") if path.is_file()]
    assert {str(path.relative_to(bundle.path)) for path in files} - {"bundle.json"} <= set(bundle.manifest.files)
    assert sum(path.stat().st_size for path in files) < OWN_LIMIT[name]


def test_a_wheel_carries_every_bundle_but_those_of_checkouts() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    carried = {path for path in build["force-include"] if path.startswith("weights")}
    there = {f"weights/{path.name}" for path in (ROOT / "weights").iterdir()}
    assert there - carried == IN_CHECKOUTS and carried <= there
    assert all(build["force-include"][path] == path.replace("weights", "t2i/_weights") for path in carried)
