"""Hostile bundles, recipes and checkpoints: a documented exit code, no traceback, nothing outside, an end in time."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import VALUES, change_bytes, change_json, no_hang
from safetensors.torch import load_file, save_file

from t2i.cli.app import run
from t2i.errors import EXIT_INPUT, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE, UsageError
from t2i.train.compatibility import check_recipe
from t2i.train.objectives import objective_of
from t2i.train.recipes import load_recipe
from t2i.train.state import TENSORS, read_facts
from t2i.train.trainer import train

ENDS = {EXIT_OK, EXIT_USAGE, EXIT_INPUT, EXIT_UNAVAILABLE}
FUZZ = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FILES = ("bundle.json", "clip/config.json", "prior/config.json", "base/config.json", "upsampler64/config.json")
WEIGHTS = ("clip/model.safetensors", "base/model.safetensors", "tokenizer.json", "bundle.json")
many = st.integers(0, 10**6)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def ends_well(args: list[str], work: Path, capsys: pytest.CaptureFixture[str], out: str = "out") -> int:
    """Run a command; only `out`, inside `work`, may be written."""
    before = names(work)
    with no_hang():
        code = run(args)
    said = capsys.readouterr()
    assert code in ENDS, (code, said.err)
    assert "Traceback" not in said.err
    assert code == EXIT_OK or "error: " in said.err
    assert {name for name in names(work) - before if name.split("/")[0] != out} == set()
    return code


def hostile_bundle(model: Path, relative: str, data: bytes, rehash: bool) -> None:
    (model / relative).write_bytes(data)
    if rehash and relative != "bundle.json":
        manifest = json.loads((model / "bundle.json").read_text())
        manifest["files"][relative] = hashlib.sha256(data).hexdigest()
        (model / "bundle.json").write_text(json.dumps(manifest))


def try_bundle(tiny: Path, work: Path, relative: str, data: bytes, capsys: pytest.CaptureFixture[str]) -> int:
    """verify says whole only of a bundle that draws; of another, sample ends with a sentence too."""
    for old in ("model", "out"):
        shutil.rmtree(work / old, ignore_errors=True)
    shutil.copytree(tiny, work / "model")
    hostile_bundle(work / "model", relative, data, rehash=True)
    model = str(work / "model")
    whole = ends_well(["models", "verify", model], work, capsys)
    ends_well(["models", "show", model], work, capsys)
    sample = ["sample", "a cat", "--model", model, "--seed", "1", "-o", str(work / "out"), "--device", "cpu"]
    drawn = ends_well(sample, work, capsys)
    assert whole != EXIT_OK or drawn == EXIT_OK or b'"sizes"' in data, (
        f"verify calls it whole, sample ends with {drawn}"
    )
    return drawn


def changed(path: Path, where: int, what: int) -> bytes:
    return json.dumps(change_json(json.loads(path.read_text()), where, what)).encode()


@FUZZ
@given(relative=st.sampled_from(FILES), where=many, what=st.integers(0, len(VALUES) + 1))
def test_bundles_of_strange_values(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], relative: str, where: int, what: int
) -> None:
    try_bundle(tiny, tmp_path, relative, changed(tiny / relative, where, what), capsys)


@FUZZ
@given(relative=st.sampled_from(WEIGHTS), seed=many)
def test_bundles_of_other_bytes(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], relative: str, seed: int
) -> None:
    try_bundle(tiny, tmp_path, relative, change_bytes((tiny / relative).read_bytes(), Random(seed)), capsys)


def toml(value: Any) -> str:
    """A value in TOML's syntax; JSON's is nearly the same."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "nan" if value is None else json.dumps(value)


def try_recipe(text: str, work: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """What can be read can be built; anything else is refused by the command, before anything is written."""
    path = work / "recipe.toml"
    path.write_text(text, "utf-8", errors="replace")
    with no_hang():
        try:
            recipe = load_recipe(str(path))
            stages = tuple(name for name in recipe.stages if recipe.has(name) and name not in recipe.share)
            check_recipe(recipe, stages, None)
        except UsageError:
            return ends_well(["train", "--recipe", str(path), "--out", str(work / "m"), "--dry-run"], work, capsys, "")
        with torch.device("meta"):
            for name in stages:
                if not recipe.stages[name].copied:
                    objective_of(recipe, name).build(recipe, name)
    return EXIT_OK


@FUZZ
@given(where=many, what=st.integers(0, len(VALUES) + 1))
def test_recipes_of_strange_values(
    micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: int, what: int
) -> None:
    raw = change_json(tomllib.loads(Path(micro).read_text()), where, what)
    try_recipe("\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in raw.items()), tmp_path, capsys)


@FUZZ
@given(seed=many)
def test_recipes_of_other_bytes(micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    text = change_bytes(Path(micro).read_bytes(), Random(seed)).decode("utf-8", errors="replace")
    try_recipe(text, tmp_path, capsys)


@pytest.fixture(scope="module")
def begun(micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose CLIP is trained."""
    out = tmp_path_factory.mktemp("begun") / "m"
    train("clip", micro, steps=1, out=out)
    return out


def try_checkpoint(
    begun: Path, micro: str, work: Path, capsys: pytest.CaptureFixture[str], seed: int, facts: tuple[int, int] | None
) -> int:
    """facts: where and what to change in the facts, as in `change_json`; None: bytes of the file are changed."""
    shutil.rmtree(work / "m", ignore_errors=True)
    shutil.copytree(begun, work / "m")
    path = work / "m/.train/clip" / TENSORS
    if facts:
        text = json.dumps(change_json(read_facts(path.parent), *facts))
        save_file(load_file(path), path, {"facts": text})
    else:
        path.write_bytes(change_bytes(path.read_bytes(), Random(seed)))
    args = ["train", "clip", "--recipe", micro, "--steps", "1", "--out", str(work / "m"), "--resume"]
    return ends_well(args, work, capsys, "m")


@FUZZ
@given(where=many, what=st.integers(0, len(VALUES) + 1))
def test_checkpoints_of_strange_facts(
    begun: Path, micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: int, what: int
) -> None:
    try_checkpoint(begun, micro, tmp_path, capsys, 0, (where, what))


@FUZZ
@given(seed=many)
def test_checkpoints_of_other_bytes(
    begun: Path, micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    try_checkpoint(begun, micro, tmp_path, capsys, seed, None)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["bundles", "recipes", "checkpoints"])
def test_a_thousand_mutations(
    what: str, tiny: Path, begun: Path, micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a seed of its own for each, so that one can be run again."""
    ends: dict[int, int] = {}
    raw = tomllib.loads(Path(micro).read_text())
    for seed in range(1000):
        rng = Random(f"{what} {seed}")
        where, value, as_bytes = rng.randrange(10**6), rng.randrange(len(VALUES) + 2), rng.random() < 0.4
        if what == "bundles":
            relative = rng.choice(WEIGHTS if as_bytes else FILES)
            old = tiny / relative
            data = change_bytes(old.read_bytes(), rng) if as_bytes else changed(old, where, value)
            code = try_bundle(tiny, tmp_path, relative, data, capsys)
        elif what == "recipes":
            if as_bytes:
                text = change_bytes(Path(micro).read_bytes(), rng).decode("utf-8", errors="replace")
            else:
                tables = change_json(raw, where, value).items()
                text = "\n".join(f"{json.dumps(key)} = {toml(table)}" for key, table in tables)
            code = try_recipe(text, tmp_path, capsys)
        else:
            code = try_checkpoint(begun, micro, tmp_path, capsys, where, None if as_bytes else (where, value))
        ends[code] = ends.get(code, 0) + 1
    with capsys.disabled():
        print(f"{sum(ends.values())} hostile {what}; exit code: times {dict(sorted(ends.items()))}")
    assert len(ends) > 1
