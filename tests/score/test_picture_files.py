"""Pictures and their prompts, wherever these are written; and lists of prompts in other people's formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from t2i.errors import InputError
from t2i.media.images import save_image
from t2i.media.record import Record
from t2i.score.picture_files import find_pictures, read_prompts
from t2i.score.suite import find_suite, read_suite
from t2i.world.reading import Expectation


def picture(path: Path, shade: int = 90, prompt: str | None = None, key: str = "k") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = Record(key, "sample", prompt, 7, "tiny", "w" * 64, (16, 16)) if prompt else None
    save_image(Image.new("RGB", (16, 16), (shade, 40, 200)), path, record)
    return path


def test_a_prompt_is_found_where_it_stands(tmp_path: Path) -> None:
    picture(tmp_path / "own.png", prompt="a cat")
    picture(tmp_path / "beside.jpg").with_suffix(".txt").write_text("a dog\n")
    picture(tmp_path / "deep" / "listed.webp")
    (tmp_path / "deep" / "metadata.jsonl").write_text('{"file_name": "listed.webp", "text": "a bear"}\n')
    picture(tmp_path / "silent.png")
    found, broken = find_pictures([tmp_path])
    assert [(p.name, p.prompt, p.seed) for p in found] == [
        ("beside.jpg", "a dog", None),
        ("deep/listed.webp", "a bear", None),
        ("own.png", "a cat", 7),
        ("silent.png", None, None),
    ]
    assert broken == []
    rows = [{"file_name": "own.png", "prompt": "a fox"}, {"file_name": "deep/listed.webp", "prompt": "a bee"}]
    listed = tmp_path / "given.jsonl"
    listed.write_text("\n".join(map(json.dumps, rows)))
    assert {p.name: p.prompt for p in find_pictures([tmp_path], read_prompts(listed))[0]}["own.png"] == "a fox"
    listed.write_text('{"file_name": "own.png"}')
    with pytest.raises(InputError, match="line 1"):
        read_prompts(listed)


def test_a_mask_beside_its_picture_is_no_picture(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.mask.png", "cat.mask-2.png", "ski.mask.png"):
        picture(tmp_path / name)
    found, _ = find_pictures([tmp_path])
    assert [p.name for p in found] == ["cat.png", "ski.mask.png"]
    assert [p.name for p in find_pictures([tmp_path / "cat.mask.png"])[0]] == ["cat.mask.png"]


def test_another_tools_line_is_read(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "a red boat,\nat night\nNegative prompt: fog\nSteps: 20, Seed: 3")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert find_pictures([tmp_path])[0][0].prompt == "a red boat,\nat night"


def test_stages_hidden_and_broken_files(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", prompt="a cat", key="k1")
    picture(tmp_path / "a.base.png", prompt="a cat", key="k1.base")
    picture(tmp_path / ".hidden.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    found, broken = find_pictures([tmp_path, tmp_path / "a.png"])
    assert [p.name for p in found] == ["a.png"]
    assert [path.name for path, _ in broken] == ["cut.png"]
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError):
            find_pictures([nothing])


def test_lists_of_others(tmp_path: Path) -> None:
    geneval = tmp_path / "evaluation_metadata.jsonl"
    row = {"tag": "color_attr", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a red cup"}
    geneval.write_text(json.dumps(row) + "\n" + json.dumps(row))
    only, again = read_suite(geneval)
    assert only == again  # the command leaves repeats out and says so
    assert (only.text, only.task, only.expectation) == ("a photo of a red cup", "color attr", Expectation())
    parti = tmp_path / "PartiPrompts.tsv"
    parti.write_text('Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\t\na "cat"\tAnimals\tBasic\t\n')
    assert [(p.text, p.task) for p in read_suite(parti)] == [("bond", "Abstract"), ('a "cat"', "Animals")]
    bench = tmp_path / "drawbench.csv"
    bench.write_text('Prompts,Category\n"A red car, and a dog.",Colors\n')
    assert [(p.text, p.task) for p in read_suite(bench)] == [("A red car, and a dog.", "Colors")]
    plain = tmp_path / "p.txt"
    plain.write_text("# mine\na cat\n\na cat\n一只猫\n", "utf-8")
    assert [p.text for p in read_suite(plain)] == ["a cat", "a cat", "一只猫"]
    for broken, text in (("e.txt", "#\n"), ("e.csv", "Name\nx\n"), ("e.jsonl", "[1]\n")):
        (tmp_path / broken).write_text(text)
        with pytest.raises(InputError):
            read_suite(tmp_path / broken)


def test_the_shipped_list_is_named_and_read() -> None:
    core, every = find_suite("scenes"), find_suite("scenes-all")
    assert len(core) == 696 and {p.vocabulary for p in core} == {"core"}
    assert len(every) == 1340 and every[:696] == core
    assert all(p.expectation != Expectation() for p in every)
