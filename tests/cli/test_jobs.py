"""Many pictures: jobs files, alternatives, sweeps, sheets, manifests; with real networks."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2i.errors import T2IError, UsageError
from t2i.jobs.prompt_file import read_lines, seed_of
from t2i.jobs.sheets import _sheet
from t2i.jobs.sweep import parse_sweep
from t2i.media.images import load_image, read_metadata
from t2i.prompts import expand

Draw = Callable[..., tuple[list[str], str]]
CAT = "a cat in the snow"


def write(name: str, *rows: Any) -> None:
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def manifest(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "manifest.jsonl").read_text("utf-8").splitlines()]


def test_lines_with_settings_of_their_own(draw: Draw) -> None:
    write(
        "jobs.jsonl",
        {"prompt": CAT, "seed": 7, "n": 2, "steps": 2, "name": "first one"},
        {"prompt": "一只猫", "seed": [3, 9], "guidance": {"base": 1.5}, "negative": "snow"},
        {"prompt": CAT, "seed": "4..5", "steps": "base=2,prior=1", "sampler": "euler", "threshold": [0.9, 1.5]},
        {"prompt": CAT, "size": 64},
    )
    out, _ = draw("-f", "jobs.jsonl", "--json", "--guidance", "2.5")
    *records, envelope = map(json.loads, out)
    assert envelope["pictures"] == 7
    assert [Path(r["path"]).name for r in records] == [
        "first-one-7.png", "first-one-8.png", "一只猫-3.png", "一只猫-9.png", "a-cat-in-the-snow-4.png",
        "a-cat-in-the-snow-5.png", f"a-cat-in-the-snow-{seed_of(CAT, 2)}.png",
    ]  # fmt: skip
    bases = [r["settings"]["stages"]["base"] for r in records]
    assert [base["steps"] for base in bases] == [2, 2, 4, 4, 2, 2, 4]
    assert [base["guidance"] for base in bases] == [2.5, 2.5, 1.5, 1.5, 2.5, 2.5, 2.5]  # the line wins
    assert [base["sampler"] for base in bases[4:]] == ["euler", "euler", "dpmpp_2m"]
    assert bases[4]["threshold"] == [0.9, 1.5]
    assert records[2]["negative"] == "snow"
    assert records[4]["settings"]["stages"]["prior"]["steps"] == 1
    assert [r["size"] for r in records] == [[16, 16]] * 6 + [[64, 64]]
    # drawn with the same settings from the command line, it is the same picture
    alone, _ = draw(CAT, "--seed", "8", "--steps", "2", "--guidance", "2.5", "--json")
    assert json.loads(alone[0])["key"] == records[1]["key"]
    far = zip(load_image(records[1]["path"]).tobytes(), load_image(json.loads(alone[0])["path"]).tobytes(), strict=True)
    assert max(abs(a - b) for a, b in far) <= 4


def test_jobs_that_take_turns_share_batches_and_are_told_in_order(draw: Draw) -> None:
    rows = [
        {"prompt": f"a {word}", "steps": 1 + i % 3, "seed": i}
        for i, word in enumerate(["cat", "dog", "fox", "bear"] * 6)
    ]
    write("jobs.jsonl", *rows)
    out, _ = draw("-f", "jobs.jsonl", "--json", "--batch", "4")
    records = [json.loads(line) for line in out[:-1]]
    assert [r["seed"] for r in records] == list(range(24))
    assert {r["batch"] for r in records} == {4}
    again, _ = draw("-f", "jobs.jsonl", "--batch", "4")
    assert again == [r["path"] for r in records]


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ('{"prompt": "a cat"', 3, "line 2 of jobs.jsonl cannot be used as JSON"),
        ("[1]", 3, "line 2 of jobs.jsonl is not a JSON object"),
        ('{"prompt": "a", "sede": 1}', 2, "Did you mean 'seed'?"),
        ('{"seed": 1}', 2, "line 2 of jobs.jsonl holds no prompt"),
        ('{"prompt": 7}', 2, "line 2 of jobs.jsonl holds a prompt that is no text"),
        ('{"prompt": "a", "prompt": "b"}', 3, "line 2 of jobs.jsonl cannot be used as JSON"),
        ('{"prompt": "a", "seed": [1, 1]}', 2, "names a seed twice"),
        ('{"prompt": "a\\u0000b"}', 2, "the prompt in line 2 of jobs.jsonl contains a NUL"),
        ('{"prompt": "a\\ud800b"}', 2, "not valid Unicode"),
        ('{"prompt": "a", "n": 0}', 2, "line 2 of jobs.jsonl: n: 0 is not"),
        ('{"prompt": "a", "n": true}', 2, "n: true is not"),
        ('{"prompt": "a", "seed": -1}', 2, "line 2 of jobs.jsonl: --seed '-1' is not a seed"),
        ('{"prompt": "a", "seed": 1.5}', 2, "seed: 1.5 is not a seed"),
        ('{"prompt": "a", "seed": [1, 2], "n": 3}', 2, "names 2 seeds"),
        ('{"prompt": "a", "steps": {"bsae": 3}}', 2, "line 2 of jobs.jsonl: --steps: the model has no stage 'bsae'"),
        ('{"prompt": "a", "steps": [[]]}', 2, "steps: [[]] cannot be read"),
        ('{"prompt": "a", "guidance": NaN}', 3, "line 2 of jobs.jsonl cannot be used as JSON"),
        ('{"prompt": "a", "size": 63}', 2, "stops at 16, 64"),
        ('{"prompt": "a", "sampler": "eular"}', 2, "Did you mean euler?"),
        ('{"prompt": "a", "name": 3}', 2, "name: 3 is not text"),
        ('{"prompt": "a {|}"}', 0, ""),
        ('{"prompt": "{|cat}"}', 2, "an alternative leaves an empty prompt"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(draw: Draw, studio: Path, line: str, code: int, sentence: str) -> None:
    Path("jobs.jsonl").write_text('{"prompt": "a cat", "seed": 1}\n' + line + "\n")
    out, err = draw("-f", "jobs.jsonl", code=code)
    assert sentence in err
    if code:
        assert out == []
        assert not (studio / "out").exists()


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ('{"prompt": "a cat"}\n\n# no\n{"prompt": "a dog"}\n', ["a cat", "a dog"]),
        ("{red|blue} cat\n", ["{red|blue} cat"]),
        ('\n# jobs\n{ "prompt": "a cat" }\n', ["a cat"]),
    ],
)
def test_stdin_says_by_its_first_line_what_it_is(
    monkeypatch: pytest.MonkeyPatch, text: str, prompts: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [line.prompt for line in read_lines("-")] == prompts


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a {red|blue} {cat|dog}", ["a red cat", "a red dog", "a blue cat", "a blue dog"]),
        ("a {|red} cat", ["a cat", "a red cat"]),
        ("{x} {}", ["{x} {}"]),
        ("\\{a|b} {c|d}", ["{a|b} c", "{a|b} d"]),
        ("一只{红|蓝}猫", ["一只红猫", "一只蓝猫"]),
    ],
)
def test_alternatives(prompt: str, prompts: list[str]) -> None:
    assert expand(prompt) == prompts


def test_too_many_alternatives_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="make 1048576 prompts"):
        expand("{a|b}" * 20)


def test_alternatives_share_their_seed(draw: Draw) -> None:
    out, _ = draw("a {red|blue} cat", "--seed", "1,5")
    assert out == [f"out/a-{colour}-cat-{seed}.png" for colour in ("red", "blue") for seed in (1, 5)]


def test_a_sweep_with_its_sheet(draw: Draw) -> None:
    out, _ = draw(CAT, "--seed", "1,2", "--sweep", "guidance.prior=1,2,4", "--sweep", "steps=1,2", "--json")
    *records, sheet, envelope = map(json.loads, out)
    assert envelope["pictures"] == 12
    assert records[3]["sweep"] == ["guidance.prior=2", "steps=2"]
    assert [r["settings"]["stages"]["prior"]["guidance"] for r in records[:6]] == [1, 1, 2, 2, 4, 4]
    assert sheet["of"] == 12
    page = load_image(sheet["path"])
    assert page.width > 2 * 18
    assert page.height > 6 * 18
    assert read_metadata(sheet["path"])["digital_source_type"] == "trainedAlgorithmicMedia"
    again, _ = draw(CAT, "--seed", "1,2", "--sweep", "guidance.prior=1,2,4", "--sweep", "steps=1,2")
    assert again == [r["path"] for r in records] + [sheet["path"]]
    assert len(list(Path("out").glob("sweep-*.png"))) == 1
    # one value of the sweep, asked for alone, is there already
    alone, _ = draw(CAT, "--seed", "2", "--guidance", "prior=2", "--steps", "2", "--json")
    assert json.loads(alone[0])["skipped"]


def test_names_say_the_settings(draw: Draw) -> None:
    out, err = draw(CAT, "--seed", "1", "--sweep", "guidance=1,2")
    stem = "out/a-cat-in-the-snow-1"
    assert out[:2] == [f"{stem}-guidance-1-size-16.png", f"{stem}-guidance-2-size-16.png"]
    assert "2 pictures in" in err and err.rstrip().splitlines()[-1].endswith(": out/")
    assert draw(CAT, "--seed", "1")[0] == [f"{stem}.png"]
    assert draw(CAT, "--seed", "1", "--guidance", "2")[0] == [f"{stem}-guidance-2-size-16.png"]  # of the sweep
    for _ in range(2):
        assert draw(CAT, "--seed", "1", "--negative", "a dog!")[0] == [f"{stem}-negative-a-dog-size-16.png"]
    assert draw(CAT, "--seed", "1", "--negative", "a dog", "-o", "x.png")[0] == ["x.png"]
    assert draw(CAT, "--seed", "1", "--guidance", "3", "-o", "x.png")[0] == ["x-2.png"]
    # two settings of which the name says the same are still two files
    assert draw(CAT, "--seed", "1", "--negative", "a dog?")[0] == [f"{stem}-negative-a-dog-size-16-2.png"]


def test_a_name_that_is_taken_is_told_once(draw: Draw) -> None:
    args = (CAT, "--seed", "1,2", "-o", "x.png")
    for _ in range(2):
        out, err = draw(*args)
        assert out == ["x.png", "x-2.png"] and "taken" not in err  # the number is this run's own
    for _ in range(2):  # also of pictures that are there already
        out, err = draw(*args, "--guidance", "3")
        assert out == ["x-3.png", "x-4.png"]
        assert err.count("taken") == 1 and "x.png is taken: the picture is x-3.png" in err


def test_a_run_says_what_it_did(draw: Draw) -> None:
    _, err = draw(CAT, "--seed", "1,2")
    assert "2 pictures in" in err and "already" not in err
    _, err = draw(CAT, "--seed", "1..3")
    assert "1 picture in" in err and ", 2 of 3 were there already: out" in err
    _, err = draw(CAT, "--seed", "1..3")
    assert "3 of 3 were there already: out" in err and " in " not in err.splitlines()[-1]
    _, err = draw(CAT, "--seed", "1..3", "-o", "{seed}/{slug}.png")
    assert f": 3 folders below {Path.cwd()}" in err


def test_every_cell_of_a_sheet_holds_its_picture(draw: Draw) -> None:
    out, _ = draw(CAT, "--seed", "1,2", "--sweep", "steps=1,2,3")
    paths = [Path(path) for path in out[:6]]
    sheet = _sheet([list(paths[:3]), [*paths[3:5], None]], ["seed 1", "seed 2"], ["a", "b", "c"])
    bare = _sheet([list(paths[:3]), [*paths[3:5], None]], [], [])
    assert bare.size == (3 * 16 + 4, 2 * 16 + 2)
    assert sheet.width > bare.width
    for i, path in enumerate(paths[:5]):
        x, y = i % 3 * 18, i // 3 * 18
        assert bare.crop((x, y, x + 16, y + 16)).tobytes() == load_image(path).tobytes()
    assert bare.getpixel((36 + 8, 18 + 8)) == (211, 211, 211)  # one that failed


def test_a_label_that_no_font_can_write_is_numbered(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    from t2i.jobs import sheets
    from t2i.media import fonts

    monkeypatch.setattr(fonts, "system_folders", lambda: [])
    Path("p.txt").write_text("a cat\n一只猫\n", encoding="utf-8")
    seen: list[list[str]] = []
    real = sheets._sheet
    monkeypatch.setattr(sheets, "_sheet", lambda rows, left, top: seen.append(left) or real(rows, left, top))
    draw("-f", "p.txt", "--seed", "1", "--sweep", "steps=1,2")
    assert seen == [["a cat\nseed 1", "prompt 2\nseed 1"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("guidance", "cannot be read"),
        ("guidance=1,,2", "cannot be read"),
        ("guidence=1", "Did you mean guidance?"),
        ("size.base=1", "is no dial"),
        ("guidance=1,1", "names a value twice"),
    ],
)
def test_a_sweep_that_makes_no_sense(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_sweep([text])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        ("--sweep", "steps.upsampler64=1,2"),
        ("--steps", "base=1,up=2"),
        ("--sr-noise", "0.1"),
        ("--threshold", "upsampler64=static"),
        ("--prior", "none", "--guidance", "prior=2,base=3"),
    ],
)
def test_a_setting_of_a_stage_that_does_not_run_is_refused(draw: Draw, options: tuple[str, ...]) -> None:
    _, err = draw(CAT, "--size", "16", *options, code=2)
    stage = "prior" if "none" in options else "upsampler64"
    assert f"the stage '{stage}' does not run for what was asked" in err
    assert "at --size 16 there run " in err


def test_a_setting_that_one_picture_of_a_run_heeds_is_fine(draw: Draw, studio: Path) -> None:
    Path("p.jsonl").write_text(f'{{"prompt": "{CAT}", "size": 16}}\n{{"prompt": "{CAT}", "size": 64}}\n')
    out, _ = draw("-f", "p.jsonl", "--steps", "base=1,up=2", "-o", "mixed")
    assert len(out) == 2
    draw(CAT, "--size", "16", "--prior", "none", "--guidance", "2")  # a bare number is for whichever runs


def test_a_value_of_a_sweep_is_checked_before_anything_is_drawn(draw: Draw, studio: Path) -> None:
    _, err = draw(CAT, "--sweep", "sampler=euler,eular", code=2)
    assert "Did you mean euler?" in err
    assert not (studio / "out").exists()


def test_the_grid(draw: Draw) -> None:
    out, _ = draw(CAT, "-n", "5", "--seed", "1", "--grid", "-o", "g")
    assert len(out) == 6
    assert load_image(out[-1]).size == (3 * 16 + 4, 2 * 16 + 2)
    assert load_image(out[-1]).crop((18, 0, 34, 16)).tobytes() == load_image(out[1]).tobytes()
    assert draw(CAT, "-n", "5", "--seed", "1", "--grid", "-o", "g")[0] == out


# Manifests and what is there already ----------------------------------------------------------------


def test_the_manifest_lists_every_picture_once(draw: Draw) -> None:
    for _ in range(2):
        out, _ = draw(CAT, "-n", "3", "--seed", "1")
    lines = manifest("out")
    assert [f"out/{line['path']}" for line in lines] == out
    assert [line["seed"] for line in lines] == [1, 2, 3]
    for line, path in zip(lines, out, strict=True):
        assert read_metadata(path)["t2i"] == {key: line[key] for key in line if key != "path"}
    draw(CAT, "-n", "1", "--seed", "1", "-o", "one.png")
    assert not Path("manifest.jsonl").exists()  # a picture with a name is no batch


def test_a_torn_manifest_is_mended(draw: Draw) -> None:
    draw(CAT, "-n", "3", "--seed", "1")
    file = Path("out/manifest.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[2][:40])  # one line missing, one torn by a kill
    draw(CAT, "-n", "3", "--seed", "1")
    whole = []
    for line in file.read_text().splitlines():
        try:
            whole.append(json.loads(line)["seed"])
        except ValueError:
            whole.append(None)
    assert whole == [1, None, 2, 3]


def test_a_picture_that_was_damaged_is_told_and_drawn_beside(draw: Draw) -> None:
    (path,), _ = draw(CAT, "--seed", "1")
    good = Path(path).read_bytes()
    hurt = bytearray(good)
    hurt[hurt.rfind(b"IDAT") + 12] ^= 255
    for damaged in (bytes(hurt), good[: len(good) // 2], b"", b"no picture"):
        Path(path).write_bytes(damaged)
        Path("out/a-cat-in-the-snow-1-size-16.png").unlink(missing_ok=True)
        out, err = draw(CAT, "--seed", "1")
        assert out == ["out/a-cat-in-the-snow-1-size-16.png"]
        assert "t2i: warning: " in err
        assert "out/a-cat-in-the-snow-1.png" in err
        assert Path(path).read_bytes() == damaged
        assert load_image(out[0]).tobytes() == _decoded(good)
    out, err = draw(CAT, "--seed", "1")
    assert out == ["out/a-cat-in-the-snow-1-size-16.png"]


def _decoded(data: bytes) -> bytes:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_one_name_for_many_pictures_is_not_slow(draw: Draw) -> None:
    """Each name is looked at once: the hundredth picture costs what the first did."""
    from t2i.jobs import output_index

    looked: list[Path] = []
    real = output_index.variant
    try:
        output_index.variant = lambda path, number: looked.append(path) or real(path, number)  # type: ignore[func-returns-value]
        out, _ = draw(CAT, "-n", "60", "--seed", "1", "-o", "x.png", "--batch", "32")
    finally:
        output_index.variant = real
    assert out[-1] == "x-60.png"
    assert len(looked) < 5 * 60


# Replay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_is_replayed(draw: Draw, suffix: str) -> None:
    args = ("--negative", "a dog", "--steps", "base=3", "--guidance", "base=2,prior=2", "--threshold", "0.9")
    (path,), _ = draw(CAT, "--seed", "5", *args, "-o", f"x.{suffix}")
    assert draw("--replay", path, "--model", "tiny")[0] == [f"{path}: identical"]
    record = json.loads(draw("--replay", path, "--json")[0][0])  # the model is named in the picture
    assert (record["identical"], record["same_weights"], record["max_difference"]) == (True, True, 0)
    assert record["verdict"] == "identical"


@pytest.mark.parametrize(("by", "verdict", "code"), [(1, "equal", 0), (2, "different", 1)])
def test_a_level_more_or_less_is_equal(draw: Draw, by: int, verdict: str, code: int) -> None:
    from t2i.media.images import save_image
    from t2i.media.record import Record

    (path,), _ = draw(CAT, "--seed", "5")
    image, record = load_image(path), read_metadata(path)["t2i"]
    near = image.point(lambda v: v + by if v < 128 else v - by)
    fields = {key: record[key] for key in ("key", "command", "prompt", "seed", "model", "weights", "settings")}
    save_image(near, Path("near.png"), Record(**fields, size=(16, 16)))
    line, *_ = draw("--replay", "near.png", "--json", code=code)[0]
    assert (json.loads(line)["verdict"], json.loads(line)["max_difference"]) == (verdict, by)


def test_a_picture_that_was_changed_is_not_identical(draw: Draw) -> None:
    from t2i.media.images import save_image
    from t2i.media.record import Record

    (path,), _ = draw(CAT, "--seed", "5")
    image, record = load_image(path), read_metadata(path)["t2i"]
    image.putpixel((3, 3), tuple((c + 100) % 256 for c in image.getpixel((3, 3))))  # type: ignore[union-attr]
    fields = {key: record[key] for key in ("key", "command", "prompt", "seed", "model", "weights", "settings")}
    save_image(image, Path("changed.png"), Record(**fields, size=(16, 16)))
    (line,), err = draw("--replay", "changed.png", code=1)
    assert "changed.png came out different, from the same weights" in err
    assert "--replay and -n do not go together" in draw("--replay", "changed.png", "-n", "3", code=2)[1]
    assert "--replay and --steps" in draw("--replay", "changed.png", "--steps", "1", code=2)[1]
    assert "takes a picture" in draw("--replay", "out/manifest.jsonl", code=2)[1]
    assert line.startswith("changed.png: different, by ")
    save_image(image, Path("other.png"), Record(**{**fields, "seed": 6}, size=(16, 16)))
    _, err = draw("--replay", "other.png", code=1)
    assert "does not fit together" in err
    _, err = draw("--replay", "changed.png", "--from", "other.png", code=3)
    assert "changed.png was not made from other.png" in err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"command": "inpaint"}, "a damaged record: the settings have None in the place of a table"),
        ({"command": "upscale"}, "was made by t2i upscale, which is not replayed"),
        ({"seed": -1}, "a damaged record: seed is -1, not from 0"),
        ({"seed": "7"}, "a damaged record: seed is '7', not a whole number"),
        ({"settings": {}}, "a damaged record: settings.stages is no table of tables"),
        ({"settings": {"stages": {}, "dtype": ["a"]}}, "a damaged record: settings.dtype is ['a'], not one of float32"),
        ({"settings": {"dtype": "float32", "size": 16, "stages": {"other": 3}}}, "is no table of tables"),
        ({"settings": {"dtype": "float32", "size": 17, "stages": {}}}, "the model cannot do what"),
        ({"model": "../../etc"}, "names no model"),
        ({"private": True}, "keeps its prompt to itself"),
    ],
)
def test_a_record_that_cannot_be_replayed(draw: Draw, change: dict[str, Any], sentence: str) -> None:
    from t2i.media.images import save_image
    from t2i.media.record import Record

    (path,), _ = draw(CAT, "--seed", "5")
    record = read_metadata(path)["t2i"]
    fields = {key: record[key] for key in ("key", "command", "prompt", "seed", "model", "weights", "settings")}
    save_image(load_image(path), Path("x.png"), Record(**{**fields, **change}, size=(16, 16)))
    _, err = (
        draw("--replay", "x.png", "--model", "tiny", code=3) if "model" not in change else (draw_named(draw, "x.png"))
    )
    assert sentence in err


def draw_named(draw: Draw, path: str) -> tuple[list[str], str]:
    """Replay with the model that the picture names."""
    from t2i.jobs.replay import _model

    with pytest.raises(T2IError) as caught:
        _model(Path(path), read_metadata(path)["t2i"], None)
    return [], str(caught.value)


def test_a_private_picture_is_replayed_with_its_prompt(draw: Draw) -> None:
    (path,), _ = draw("a secret cat", "--seed", "5", "--no-prompt-metadata", "-o", "x.png")
    assert draw("a secret cat", "--replay", path)[0] == ["x.png: identical"]
    assert "does not fit together" in draw("another cat", "--replay", path, code=1)[1]
