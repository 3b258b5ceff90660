"""A model whose training is not over: every command says so, which stages it lacks, and exits 3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.errors import InputError
from t2i.pipeline import Pipeline
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import write_bundle
from t2i.store.compatibility import pixel_sizes

Part = Callable[..., Path]


@pytest.fixture
def part(studio: Path) -> Part:
    """Writes those stages of `tiny` that are named as another of this user's models."""
    models = studio.parent / "home" / "models"
    whole = read_bundle(models / "tiny")

    def part(name: str, *kept: str) -> Path:
        entries = tuple(e for e in whole.manifest.stages if e.name in kept)
        stages = {e.name: whole.load_stage(e.name) for e in entries}
        manifest = replace(whole.manifest, name=name, stages=entries, sizes=(), stop=None)
        manifest = replace(manifest, sizes=pixel_sizes(manifest, {n: c for n, (c, _) in stages.items()}))
        write_bundle(models / name, manifest, stages, whole.tokenizer_json(), f"# {name}\n")
        return models / name

    return part


@pytest.mark.parametrize(
    ("kept", "lacks"),
    [
        ((), ["clip", "base"]),
        (("clip",), ["base"]),
        (("clip", "prior"), ["base"]),
        (("prior", "base"), ["clip"]),
        (("clip", "upsampler64"), ["base"]),
        (("clip", "base"), []),  # this base reads the text itself
        (("clip", "prior", "base"), []),
    ],
)
def test_what_it_lacks_is_said(
    part: Part, capsys: pytest.CaptureFixture[str], kept: tuple[str, ...], lacks: list[str]
) -> None:
    folder = part("part", *kept)
    said = f"it has no {' and no '.join(lacks)}"
    assert run(["models", "verify", "part", "--json"]) == (3 if lacks else 0)
    out, err = capsys.readouterr()
    record, envelope = map(json.loads, out.splitlines())
    assert (record["ok"], record["lacks"], envelope["ok"]) == (not lacks, lacks, not lacks)
    assert record["files"] == len(read_bundle(folder).manifest.files)  # what is there is whole
    assert ("the model 'part' is unfinished" in err and said in err) is bool(lacks)
    assert run(["models", "list", "--json"]) == 0
    listed = next(r for r in map(json.loads, capsys.readouterr().out.splitlines()) if r.get("name") == "part")
    assert listed["lacks"] == lacks
    assert (listed["fault"] is not None) is bool(lacks)
    assert run(["models", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("part\t")]
    assert (said in line) is bool(lacks)
    assert run(["models", "show", "part"]) == 0  # the card can be read all the same
    shown = capsys.readouterr().out
    assert "# part" in shown and (said in shown) is bool(lacks)
    if lacks:
        with pytest.raises(InputError, match=said):
            Pipeline.load(folder)
    else:
        Pipeline.load(folder)


def test_every_command_that_draws_refuses_it(
    part: Part, studio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part("part", "clip")
    part("blind", "prior", "base", "upsampler64")
    Image.new("RGB", (20, 20), "red").save("photo.png")
    Path("p.txt").write_text("a cat\n")
    monkeypatch.setattr(Pipeline, "load", lambda *args, **kw: pytest.fail("it was loaded"))
    before = sorted(studio.rglob("*"))
    for args in (
        ["sample", "a cat"],
        ["vary", "photo.png"],
        ["inpaint", "photo.png", "a cat", "--box", "2,2,9,9"],
        ["upscale", "photo.png", "--to", "64"],
        ["score", "--suite", "p.txt", "--extractor", "clip:tiny"],
    ):
        for model, lacks in (("part", "base"), ("blind", "clip")):
            assert run([*args, "--model", model, "--device", "cpu"]) == 3, (args, model)
            out, err = capsys.readouterr()
            assert out == ""
            assert f"the model '{model}' is unfinished: it has no {lacks}." in err
            assert f"t2i train {lacks} --out" in err
    assert sorted(studio.rglob("*")) == before


def test_a_base_that_reads_no_text_needs_its_prior(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The widths say it; the weights need not be looked at."""
    from t2i.store.completeness import missing_stages

    bundle = read_bundle(studio.parent / "home" / "models" / "tiny")
    configs = {name: {**config, "widths": {**config["widths"]}} for name, config in bundle.configs.items()}
    configs["base"]["widths"]["text_dim"] = 0
    assert missing_stages(bundle.manifest, configs) == []
    entries = tuple(e for e in bundle.manifest.stages if e.kind != "prior")
    assert missing_stages(replace(bundle.manifest, stages=entries), configs) == ["prior"]
    assert missing_stages(replace(bundle.manifest, family="imagen", stages=()), {}) == ["text", "base"]


def test_one_damaged_and_one_unfinished_are_both_told(part: Part, capsys: pytest.CaptureFixture[str]) -> None:
    part("part", "clip")
    shutil.copytree(part("whole", "clip", "base"), Path("hurt"))
    Path("hurt/base/config.json").write_text("{}")
    assert run(["models", "verify", "part", "hurt", "whole"]) == 3
    out, err = capsys.readouterr()
    assert out == "whole: whole, 6 files\n"
    assert "unfinished" in err and "hurt/base/config.json" in err
    assert "2 of 3 models cannot be used" in err
