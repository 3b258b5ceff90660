"""Evaluations: their arithmetic by closed forms, and every part on a whole small bundle and drawn sprites."""

from __future__ import annotations

import colorsys
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.evaluate.program import PARTS, main, world_config
from t2i.lab.evaluate.retrieval import recalls
from t2i.lab.evaluate.scenes import distinct_scenes, full_caption, scene_content
from t2i.lab.evaluate.tables import markdown
from t2i.lab.evaluate.upsampler import shift
from t2i.lab.evaluate.workbench import Workbench, mean_row
from t2i.pipeline import Pipeline
from t2i.score.suite import read_suite
from t2i.world import Group, Relation, Scene, WorldConfig
from t2i.world.vocabulary import is_shape, things


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_colour_shift_is_said_in_levels() -> None:
    x = noise(5, 3, 16, 16) * 0.5
    moved = x + torch.tensor([2.0, 0.0, -1.0]).view(3, 1, 1) / 127.5
    assert shift(moved, x)["shift"] == pytest.approx([2.0, 0.0, -1.0], abs=1e-3)
    assert shift(moved, x)["shift of a picture"]["mean"] == pytest.approx(2.0, abs=1e-3)


# Retrieval --------------------------------------------------------------------------------------------------------


def test_recall_counts_the_diagonal_and_gives_no_gift_to_ties() -> None:
    assert recalls(torch.eye(8))["R@1"]["mean"] == 1.0
    assert recalls(torch.ones(8, 8))["R@1"]["mean"] == 0.0  # a model that cannot tell knows nothing
    likeness = torch.eye(10)
    likeness[0, 1] = likeness[2, 3] = 2.0
    assert recalls(likeness)["R@1"]["mean"] == pytest.approx(0.8) and recalls(likeness)["R@5"]["mean"] == 1.0
    assert recalls(torch.eye(10).roll(1, 0))["median rank"] > 1


def test_one_caption_one_content() -> None:
    def scene(a: str, b: str, kind: str | None) -> Scene:
        groups = (Group(a), Group(b))
        return Scene(0, 0, "snow", None, "fluent3d", groups, (), Relation(kind) if kind else None)

    assert scene_content(scene("cat", "dog", "left")) == scene_content(scene("dog", "cat", "right"))
    assert scene_content(scene("cat", "dog", "left")) != scene_content(scene("dog", "cat", "left"))
    assert scene_content(scene("cat", "dog", "above")) == scene_content(scene("dog", "cat", "below"))
    assert scene_content(scene("cat", "dog", "next")) == scene_content(scene("dog", "cat", "next"))
    assert scene_content(scene("cat", "dog", None)) == scene_content(scene("dog", "cat", None))
    assert scene_content(scene("cat", "dog", "behind")) != scene_content(scene("dog", "cat", "behind"))


def test_means_are_json() -> None:
    assert mean_row([0.25]) == {"mean": 0.25, "low": None, "high": None, "n": 1}
    m = mean_row(torch.tensor([1.0, 2.0, 3.0]))
    half = 4.30265 / 3**0.5
    assert m["mean"] == 2.0 and m["low"] == pytest.approx(2 - half, 1e-5) and m["high"] == pytest.approx(2 + half, 1e-5)


# The whole --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of one set: each thing of the core vocabulary a disc of its own hue with a square in it."""
    folder = tmp_path_factory.mktemp("sprites") / "fluent3d"
    folder.mkdir()
    core = [thing for thing in things().values() if thing.core and not is_shape(thing)]
    for i, thing in enumerate(core):
        picture = Image.new("RGBA", (48, 48))
        pen = ImageDraw.Draw(picture)
        red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(i / len(core), 0.9, 0.9))
        pen.ellipse((2, 2, 46, 46), fill=(red, green, blue, 255))
        pen.rectangle((12, 12, 12 + i % 7 * 4, 30), fill=(blue, red, green, 255))
        picture.save(folder / f"{thing.sprite}.webp", lossless=True)
    return folder.parent


@pytest.fixture(scope="module")
def bench(tiny: Path, sprites: Path) -> Workbench:
    return Workbench(Pipeline.load(tiny), world_config("first"), sprites, n=2, prompts=16, few=16, scenes=16, batch=8)


def test_scenes_of_the_suite_hold_what_is_asked(bench: Workbench) -> None:
    for i, p in enumerate(bench.suite(48)):
        scene = bench.scene_of(p.expectation, i, 0)
        assert [(g.thing, g.colour) for g in scene.groups] == [(w.thing, w.colour) for w in p.expectation.objects]
        assert [g.count for g in scene.groups] == [w.count or 1 for w in p.expectation.objects]
        assert p.expectation.place in (None, scene.place) and (scene.place == "plain") == (scene.shade is not None)
        assert scene.shade is None or scene.shade not in [g.colour for g in scene.groups]
        assert bench.scene_of(p.expectation, i, 0) == scene != bench.scene_of(p.expectation, i, 1)


def test_captions_of_a_set_are_distinct_and_say_the_place(bench: Workbench) -> None:
    scenes = distinct_scenes(bench, 24)
    assert len({scene_content(s) for s in scenes}) == 24 and len({full_caption(s, "en") for s in scenes}) == 24
    snowy = bench.world.layout.compose((Group("cat"),), "snow")
    assert all("snow" in full_caption(replace(snowy, index=i), "en").lower() for i in range(20))


def test_every_part_measures_a_whole_bundle(tiny: Path, sprites: Path, tmp_path: Path) -> None:
    out, tables, sheets = tmp_path / "report.json", tmp_path / "report.md", tmp_path / "sheets"
    common = ["--model", str(tiny), "--sprites", str(sprites), "--out", str(out), "--batch", "16"]
    counts = ["--n", "1", "--prompts", "16", "--few", "16", "--scenes", "16", "--sheets", str(sheets)]
    assert main([*common, *counts, "--only", "suite"]) == 0
    first = json.loads(out.read_text("utf-8"))
    rest = ",".join(part for part in PARTS if part != "suite")
    assert main([*common, *counts, "--only", rest, "--markdown", str(tables)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert set(PARTS) <= set(report) and report["suite"] == first["suite"]  # parts are added, none is lost
    assert set(report["suite"]["tasks"]) == {
        p.task for p in read_suite(Path(__file__).parents[2] / "t2i/score/scenes.jsonl")
    }
    assert report["suite"]["pictures"] == 16 and report["suite"]["zh - en"]["n"] == 8
    assert report["distances"]["renders"]["frechet"] >= 0 and 0 < report["distances"]["samples"]["p"] <= 1
    assert {"en", "zh"} <= set(report["retrieval"])
    cosines = report["prior"]["cosines"]
    assert cosines["twin"]["true image"]["mean"] > cosines["text"]["true image"]["mean"]
    assert "gain of the prior" in report["prior"]["ablation"]["text tokens alone"]
    dials = report["sweeps"]["dials"]
    assert {"base guidance", "base steps", "prior guidance", "prior steps", "prior best_of"} == set(dials)
    assert all(sum(point["default"] for point in series) == 1 for series in dials.values())
    up = report["upsampler"]["upsampler64"]
    assert up["from"] == 16 and up["to"] == 64 and up["lanczos"]["psnr"]["mean"] > up["upsampler64"]["psnr"]["mean"]
    text = tables.read_text("utf-8")
    assert text == markdown(report) and all(f"## {name}" in text for name in ("Suite", "Distances", "Sweeps"))
    assert all(line.count("|") > 2 for line in text.splitlines() if line.startswith("|"))
    names = {path.name for path in sheets.iterdir()}
    assert {"suite.png", "renders.png", "sweep-base-guidance.png", "upsampler-64.png"} <= names


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--only", "taste"], 2),
        (["--only", "renders"], 2),  # it draws the world, and no library is named
        (["--only", "suite", "--recipe", "secnd"], 2),
        (["--only", "suite", "--recipe", "tiny"], 2),  # a world that the judge has not seen
    ],
)
def test_what_cannot_be_measured_is_refused(tiny: Path, tmp_path: Path, options: list[str], code: int) -> None:
    assert main(["--model", str(tiny), "--out", str(tmp_path / "report.json"), *options]) == code


def test_no_pictures_of_a_prompt_are_too_few(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--model", str(tiny), "--only", "suite", "--n", "0"])
    assert ended.value.code == 2 and "'0' is not a whole number from 1 on" in capsys.readouterr().err


def test_a_drawn_world_needs_no_library_and_no_judge(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    asked = ["--recipe", "tiny", "--only", "embedding,retrieval", "--scenes", "16"]
    assert main(["--model", str(tiny), "--out", str(out), *asked]) == 0
    assert {"embedding", "retrieval"} <= set(json.loads(out.read_text("utf-8")))


def test_a_file_that_is_no_report_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text('{"mine": 1}', "utf-8")
    assert main(["--model", str(tiny), "--out", str(path), "--only", "suite"]) == 3
    assert path.read_text("utf-8") == '{"mine": 1}'


def test_the_worlds_dials_come_from_the_recipe() -> None:
    config = world_config("first")
    assert isinstance(config, WorldConfig) and config.vocabulary == "core" and "snow" in config.places
    with pytest.raises(UsageError):
        world_config("nowhere")
