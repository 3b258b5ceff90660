"""`t2i score` from the command line to its files and exit codes, with the networks of a tiny bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.media.images import load_image, read_metadata, save_image

PROMPTS = ["a cat in the snow", "a red apple on a blue background", "a zebra next to a house at night",
           "two penguins in the snow", "一只猫在雪地里玩耍", "two cats"]  # fmt: skip
EYE = ("--extractor", "clip:tiny")


@pytest.fixture
def place(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the model `tiny` and a list of six prompts."""
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    shutil.copytree(tiny, models / "tiny")
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("p.txt").write_text("\n".join(PROMPTS), "utf-8")
    return tmp_path / "here"


def score(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["score", *args, "--device", "cpu", *EYE])
    out, err = capsys.readouterr()
    assert got == code, err
    return out.splitlines(), err


DRAW = ("--suite", "p.txt", "--model", "tiny", "--size", "16", "-n", "2")


def test_a_suite_is_drawn_scored_kept_and_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = score(capsys, *DRAW, "--save-baseline", "base.json", "--sheet", "sheet.png")
    table = dict(line.split("\t")[:2] for line in out)
    assert {"clip", "variety", "duplicate", "blank", "sharpness"} <= set(table)
    pictures = sorted(Path("scores/p-tiny").glob("*.png"))
    assert len(pictures) == 12 and load_image("sheet.png").size[0] > 200
    record = read_metadata(pictures[0])["t2i"]
    assert record["command"] == "score"
    assert {"clip", "prior", "base"} <= set(record["files"]) <= {"clip", "prior", "base", "upsampler64"}
    times = [p.stat().st_mtime_ns for p in pictures]
    pictures[3].unlink()
    # resumed: one picture is drawn, all others are as they were; the same model is not worse than itself
    out, err = score(capsys, *DRAW, "--baseline", "base.json", "--strict", "--max-drop", "1%")
    assert [p.stat().st_mtime_ns for i, p in enumerate(pictures) if i != 3] == times[:3] + times[4:]
    assert "11 of 12 were there already" in err
    assert out[-1].startswith("verdict\tpass")
    # a baseline is written over only when told so, and remembers what it said
    assert "there already" in score(capsys, *DRAW, "--save-baseline", "base.json", code=3)[1]
    score(capsys, *DRAW, "--seed", "9", "--baseline", "base.json", "--update-baseline")
    kept = json.loads(Path("base.json").read_text())
    assert len(kept["history"]) == 1 and kept["recipe"]["extractor"]["name"] == "clip:tiny"


def test_a_damaged_picture_is_drawn_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its record is whole, and its pixels are not."""
    score(capsys, *DRAW)
    hurt = sorted(Path("scores/p-tiny").glob("*.png"))[3]
    whole = np.asarray(load_image(hurt), np.int16)
    data = hurt.read_bytes()
    hurt.write_bytes(data[:-30] + bytes(255 - byte for byte in data[-30:-20]) + data[-20:])
    assert read_metadata(hurt)["t2i"]["command"] == "score"
    _, err = score(capsys, *DRAW)
    assert "drawn again beside it" in err
    again = np.asarray(load_image(hurt.with_stem(f"{hurt.stem}-2")), np.int16)
    assert abs(again - whole).max() <= 1  # drawn alone it may round otherwise than in its batch


def test_a_regression_is_exit_1_and_named(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    score(capsys, *DRAW, "--save-baseline", "base.json")
    for path in Path("scores/p-tiny").glob("*.png"):  # a generator that draws one grey picture
        record = read_metadata(path)["t2i"]
        path.with_suffix(".txt").write_text(record["prompt"], "utf-8")
        save_image(Image.new("RGB", (16, 16), (120, 120, 120)), path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    reports = ("--junit", "s.xml", "--html", "s.html")
    out, err = score(capsys, "scores/p-tiny", "--baseline", "base.json", *reports, "--json", code=1)
    *records, summary, envelope = [json.loads(line) for line in out]
    assert len(records) == 12 and all(r["metrics"]["duplicate"] == r["metrics"]["blank"] == 1 for r in records)
    assert summary["verdict"] == "regression" and {"duplicate", "blank"} <= set(summary["gate"]["fell"])
    assert envelope["ok"] is False and envelope["error"]["code"] == "gate" and envelope["pictures"] == 12
    assert "12 of 12 pictures repeat another" in err
    gate = next(s for s in ElementTree.parse("s.xml").getroot() if s.get("name") == "gate")
    assert int(gate.get("failures", 0)) >= 2
    assert "regression" in Path("s.html").read_text("utf-8") and "regression" in Path("summary.md").read_text("utf-8")
    # an update is a decision: it reports and does not fail
    score(capsys, "scores/p-tiny", "--baseline", "base.json", "--update-baseline")


def test_a_baseline_with_no_number_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "--save-baseline", "base.json")
    table = json.loads(Path("base.json").read_text("utf-8"))
    table["units"][0]["metrics"]["clip"] = float("nan")
    Path("base.json").write_text(json.dumps(table), "utf-8")
    assert "cannot be used as JSON" in score(capsys, *DRAW, "--baseline", "base.json", code=3)[1]


def test_undecided_is_exit_5_only_under_strict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.txt").write_text("\n".join(PROMPTS[:2]), "utf-8")
    draw = ("--suite", "two.txt", *DRAW[2:])
    score(capsys, *draw, "--save-baseline", "base.json")
    out, err = score(capsys, *draw, "--baseline", "base.json")
    assert out[-1].startswith("verdict\tinconclusive") and "Fewer than five" in err
    score(capsys, *draw, "--baseline", "base.json", "--strict", code=5)


def test_sets_pairs_and_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "-o", "a", "--save-stats", "a.npz")
    score(capsys, *DRAW, "-o", "b", "--seed", "40")
    by_file, _ = score(capsys, "b", "--against", "a.npz")
    by_folder, err = score(capsys, "b", "--against", "a")
    assert by_file == by_folder and any(line.startswith("set: kid_p\t") for line in by_file)
    assert "gates nothing" in err
    score(capsys, "a", "--against", "a", "--alpha", "0.01")
    score(capsys, "a", "--before", "a", "--tier", "exact")
    out, _ = score(capsys, "b", "--before", "a", code=3)  # other seeds, other names: no pairs
    shutil.copytree("a", "c")
    victim = sorted(Path("c").glob("*.png"))[0]
    record = read_metadata(victim)["t2i"]
    victim.with_suffix(".txt").write_text(record["prompt"], "utf-8")
    save_image(load_image(victim).rotate(180), victim)
    out, err = score(capsys, "c", "--before", "a", "--tier", "close", "--html", "c.html", code=1)
    assert next(line for line in out if "\tfar\t" in line).startswith(victim.name) and "11 exact, 0 close, 1 far" in err
    out, _ = score(capsys, "a", "--labels", "cat,snow")
    assert sum(int(line.split("\t")[1]) for line in out if line.startswith("label: ")) == 12
    one = sorted(Path("a").glob("*.png"))[0]
    assert "too small" in score(capsys, str(one), "--against", "b", code=3)[1]


def test_files_in_another_order_score_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "-o", "a")
    files = sorted(str(p) for p in Path("a").glob("*.png"))
    one, two = (score(capsys, *some, "--fresh", "--batch", "5")[0] for some in (files, files[::-1]))
    assert one == two


def test_scores_of_another_recipe_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "--save-baseline", "base.json", "--save-stats", "s.npz")
    table = json.loads(Path("base.json").read_text())
    Path("edited.json").write_text(json.dumps({**table, "recipe": {**table["recipe"], "suite": "x"}}))
    assert "digest" in score(capsys, *DRAW, "--baseline", "edited.json", code=3)[1]
    got = run(["score", "scores/p-tiny", "--extractor", "judge", "--against", "s.npz", "--device", "cpu"])
    assert got == 3 and "was made in another way" in capsys.readouterr().err
    Path("fewer.txt").write_text("\n".join(PROMPTS[1:]), "utf-8")
    fewer = ("--suite", "fewer.txt", *DRAW[2:])
    assert "1 of the 6 prompts" in score(capsys, *fewer, "--baseline", "base.json", code=3)[1]


MISTAKES: list[tuple[list[str], int, str]] = [
    ([], 2, "nothing to score"),
    (["p.txt"], 3, "not a PNG"),
    (["nowhere"], 3, "nothing at"),
    (["--suite", "p.txt", "--max-drop", "much"], 2, "--max-drop"),
    (["--suite", "p.txt", "--metrics", "clipp"], 2, "Did you mean"),
    (["--suite", "p.txt", "--update-baseline"], 2, "--baseline"),
    (["--suite", "p.txt", "--max-drop", "5%"], 2, "--baseline"),
    (["--suite", "p.txt", "--margin", "clip=1"], 2, "--baseline"),
    (["--suite", "p.txt", "--primary", "clip"], 2, "--baseline"),
    (["--suite", "p.txt", "--strict"], 2, "--baseline"),
    (["--suite", "p.txt", "--baseline", "none.json"], 3, "cannot read the baseline"),
    (["--suite", "none.txt"], 3, "cannot read the suite"),
    (["--suite", "scene"], 3, "there is no suite 'scene'"),
    (["--suite", "p.txt", "--model", "nobody"], 4, "no model"),
    (["--suite", "p.txt", "--extractor", "open_clip:ViT-B-32"], 4, "weights"),
    (["--suite", "p.txt", "--extractor", "inception"], 2, "not known"),
    (["--suite", "p.txt", "--tier", "close"], 2, "--before"),
    (["p.txt", "-n", "2"], 2, "-n is about drawing"),
    (["p.txt", "--model", "small"], 2, "--model is about drawing"),
    (["p.txt", "--steps", "4"], 2, "--steps is about drawing"),
    (["--suite", "p.txt", "--sha256", "0"], 2, "--weights"),
    (["--suite", "p.txt", "--prompts", "p.txt"], 2, "--prompts"),
    (["--suite", "p.txt", "--metrics", ","], 2, "--metrics names nothing"),
    (["--suite", "p.txt", "--labels", ""], 2, "--labels names nothing"),
    (["--suite", "p.txt", "--baseline", "p.txt", "--margin", "clip=1,clip=2"], 2, "twice"),
    (["--suite", "p.txt", "--labels", "cat"], 2, "nothing to choose"),
    (["--suite", "p.txt", "--labels", "cat,cat"], 2, "nothing to choose"),
    (["--suite", "p.txt", "--baseline", "p.txt", "--primary", "changed"], 2, "cannot lead"),
    (["--suite", "p.txt", "--html", "x", "--junit", "./x"], 2, "two options name one file"),
    (["--suite", "p.txt", "--sheet", "s.txt"], 2, "no picture's name"),
    (["--suite", "p.txt", "--html", "."], 3, "--html"),
    (["--suite", "p.txt", "--save-baseline", "."], 3, "--save-baseline"),
    (["--suite", "p.txt", "--junit", "p.txt/x.xml"], 3, "--junit"),
    (["--suite", "p.txt", "--steps", "many"], 2, "--steps"),
    (["--suite", "p.txt", "--size", "65"], 2, "--size 65"),
    (["--suite", "p.txt", "--against", "nowhere"], 3, "nothing at nowhere"),
    (["--suite", "p.txt", "--before", "empty"], 3, "no picture in empty"),
]


@pytest.mark.parametrize(("args", "code", "said"), MISTAKES)
def test_mistakes(place: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str) -> None:
    Path("empty").mkdir()
    assert run(["score", *args, "--device", "cpu"]) == code
    assert said in capsys.readouterr().err


def test_what_is_refused_is_refused_before_torch_is_imported(place: Path) -> None:
    """All but a file that has to be read to be refused."""
    Path("empty").mkdir()
    cases = [(args, code) for args, code, said in MISTAKES if said != "not a PNG"]
    lines = ["import sys", "from t2i.cli.app import run", f"for args, code in {cases!r}:"]
    lines += ["    assert run(['score', *args]) == code, args", "    assert 'torch' not in sys.modules, args"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (["new", "--html", "new/a.png"], "new/a.png"),
        (["new/a.png", "--junit", "./new/../new/a.png"], "new/a.png"),
        (["new", "--sheet", "new/deep/b.png"], "new/deep/b.png"),
        (["new", "--save-stats", "link.png"], "new/a.png"),
        (["new", "--before", "old", "--html", "old/a.png"], "old/a.png"),
        (["new", "--against", "old", "--sheet", "old/a.png"], "old/a.png"),
        (["new", "--against", "s.npz", "--save-stats", "s.npz"], "s.npz"),
        (["new", "--prompts", "p.jsonl", "--junit", "p.jsonl"], "p.jsonl"),
        (["new", "--html", "new/metadata.jsonl"], "new/metadata.jsonl"),
        (["--suite", "p.txt", "--html", "p.txt"], "p.txt"),
    ],
)
def test_no_report_replaces_what_is_scored(
    place: Path, capsys: pytest.CaptureFixture[str], args: list[str], kept: str
) -> None:
    for folder in ("new/deep", "old"):
        Path(folder).mkdir(parents=True)
    for name in ("new/a.png", "new/deep/b.png", "old/a.png"):
        Image.new("RGB", (16, 16), "red").save(name)
    for name in ("s.npz", "p.jsonl", "new/metadata.jsonl"):
        Path(name).write_text("{}", "utf-8")
    Path("link.png").symlink_to("new/a.png")
    before = Path(kept).read_bytes()
    assert run(["score", *args, "--device", "cpu"]) == 2
    assert "would write over the" in capsys.readouterr().err
    assert Path(kept).read_bytes() == before


def test_a_report_may_lie_among_the_pictures_and_is_written_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new").mkdir()
    Image.new("RGB", (16, 16), "red").save("new/a.png")
    for _ in range(2):
        score(capsys, "new", "--metrics", "blank", "--html", "new/s.html")
    assert "<html" in Path("new/s.html").read_text("utf-8")


def test_a_summary_that_cannot_be_written_is_told_before_anything_is_drawn(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
    assert "$GITHUB_STEP_SUMMARY" in score(capsys, *DRAW, code=3)[1]
    assert not Path("out").exists()


def test_what_of_a_suite_is_not_read_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.txt").write_text("a cat in the snow\na cat in the snow\na zyzzyva " + "and a dog " * 60, "utf-8")
    _, err = score(capsys, "--suite", "odd.txt", *DRAW[2:])
    assert "1 of the 3 prompts of odd.txt are repeats" in err
    assert "never read 'zyzzyva'" in err and "longer than the model reads" in err


def test_pictures_that_a_list_or_a_suite_does_not_know(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW)
    one = sorted(Path("scores/p-tiny").glob("*.png"))[0]
    row = {"file_name": one.name, "prompt": "a dog"}
    Path("l.jsonl").write_text(json.dumps({**row, "file_name": "x.png"}), "utf-8")
    assert "names none of the pictures" in score(capsys, str(one), "--prompts", "l.jsonl", code=3)[1]
    Path("l.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "file_name": "x.png"}), "utf-8")
    out, err = score(capsys, str(one), "--prompts", "l.jsonl")
    assert "1 of the 2 pictures that l.jsonl names are not there: x.png" in err
    assert next(line for line in out if line.startswith("clip")).split("\t")[2] == "–"  # one prompt has no interval
    Path("other.txt").write_text("a dog", "utf-8")
    assert "for a prompt of the suite" in score(capsys, str(one), "--suite", "other.txt", code=3)[1]
    _, err = score(capsys, str(one.parent), "--suite", "p.txt", "--prompts", "l.jsonl")
    assert "1 of 12 pictures show nothing that the suite asks for" in err


def test_what_of_a_baseline_is_not_alike_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "--save-baseline", "base.json")
    one = (*DRAW[:-1], "1", "--seed", "8", "-o", "b")
    _, err = score(capsys, *one, "--baseline", "base.json", "--max-drop", "100%")
    assert "the seeds are not the baseline's" in err and "only the baseline has variety" in err
    assert "another number of pictures than in the baseline: 6 of 6 prompts" in err
    assert (
        "--margin names 'variety'" in score(capsys, *one, "--baseline", "base.json", "--margin", "variety=1", code=4)[1]
    )


def test_pictures_whose_prompts_are_not_known_are_told_of_the_option_that_names_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tool's pictures against a baseline of ours, and the other way round."""
    score(capsys, *DRAW, "--save-baseline", "base.json")
    ours = sorted(Path("scores/p-tiny").glob("*.png"))
    Path("bare").mkdir()
    for i, path in enumerate(ours):
        load_image(path).save(f"bare/{i}.png")
    err = score(capsys, "bare", "--baseline", "base.json", code=3)[1]
    assert "were not scored" in err and "12 of the 12 pictures name no prompt: say which with --prompts FILE" in err
    lines = [{"file_name": f"{i}.png", "prompt": read_metadata(path)["t2i"]["prompt"]} for i, path in enumerate(ours)]
    Path("names.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    score(capsys, "bare", "--prompts", "names.jsonl", "--baseline", "base.json")
    score(capsys, "bare", "--save-baseline", "bare.json")
    err = score(capsys, "bare", "--prompts", "names.jsonl", "--baseline", "bare.json", code=3)[1]
    assert "The baseline's pictures named no prompt: make it again, with --prompts" in err
    shutil.copytree("bare", "renamed")
    Path("renamed/0.png").rename("renamed/other.png")
    err = score(capsys, "renamed", "--baseline", "bare.json", code=3)[1]
    assert "go by their file names: name them alike" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {**t, "units": [*t["units"], t["units"][0]]}, "twice"),
        (lambda t: {**t, "units": [{**t["units"][0], "metrics": {}}]}, "no metric"),
        (lambda t: {**t, "units": [{**t["units"][0], "metrics": {"clip": "high"}}]}, "units[0].metrics.clip is 'high'"),
        (lambda t: {**t, "units": [{**t["units"][0], "metrics": {"blank": -99.0}}]}, "is not a number from 0 to 1"),
        (lambda t: {**t, "units": [{**t["units"][0], "metrics": {"blink": 0.0}}]}, "is no metric"),
        (lambda t: {**t, "units": [{**t["units"][0], "pictures": 0}]}, "no picture of"),
        (lambda t: {**t, "pictures": 5000}, "it says 5000 pictures"),
        (lambda t: {**t, "units": 3}, "units is 3"),
        (lambda t: {k: v for k, v in t.items() if k != "date"}, "'date' is missing"),
        (lambda t: [t], "schema"),
    ],
)
def test_baselines_that_are_none(
    place: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], Any], said: str
) -> None:
    score(capsys, *DRAW, "--save-baseline", "base.json")
    Path("base.json").write_text(json.dumps(change(json.loads(Path("base.json").read_text("utf-8")))), "utf-8")
    assert said in score(capsys, *DRAW, "--baseline", "base.json", code=3)[1]


def test_pictures_after_that_have_none_before(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "-o", "a")
    shutil.copytree("a", "b")
    lost = sorted(Path("b").glob("*.png"))[0]
    lost.unlink()
    out, err = score(capsys, "a", "--before", "b", "--html", "new/folder/s.html")
    assert f"1 of the 12 pictures have none in b and are not compared: {lost.name}" in err
    assert Path("new/folder/s.html").is_file()
    assert "have none in b" in score(capsys, "a", "--before", "b", "--tier", "exact", code=3)[1]
    assert f"1 of the 12 pictures in a have none after: {lost.name}" in score(capsys, "b", "--before", "a", code=3)[1]
    shutil.copytree("b", "c")
    out, _ = score(capsys, "c", "--before", "b", "--tier", "exact")
    assert out[-1].endswith("11 pairs)")


def test_a_metric_that_cannot_be_had_is_exit_4_never_0(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "suite" in score(capsys, *DRAW, "--metrics", "scene", code=4)[1]


def test_part_of_a_set_that_cannot_be_read_is_exit_3(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, *DRAW, "-o", "a")
    sorted(Path("a").glob("*.png"))[0].write_bytes(b"no picture")
    out, err = score(capsys, "a", "--save-baseline", "b.json", code=3)
    assert "1 of the pictures could not be read" in err and any(line.startswith("clip\t") for line in out)
    assert not Path("b.json").exists()
