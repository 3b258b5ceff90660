"""The documentation is true: its commands parse, its links lead somewhere, what it names is in the code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import t2i

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(t2i.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
#: words that only make sense where this was written
FORBIDDEN = re.compile(
    r"/work\b|/tmp\b|/root\b|/home/\w|\bsessions?\b|\bhelpers?\b|\bagents?\b|\bissues?\b|pypi|npmjs|\bTODO\b|\bFIXME\b",
    re.IGNORECASE,
)


def ids(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every `program ...` in indented blocks and in spans, also after && or |."""
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    found = []
    for line in [*blocks, *re.findall(r"`([^`\n]+)`", text)]:
        for part in re.split(r"&&|\|", line):
            if part.strip().startswith(f"{program} "):
                words = shlex.split(part.strip().removeprefix(program), comments=True)
                found.append(words[: words.index(">")] if ">" in words else words)
    return found


def manual() -> list[tuple[str, list[str]]]:
    """(page, arguments) of every t2i command that a page tells to type; cli.md is the program's own text."""
    pages = [page for page in PAGES if page.name != "cli.md"]
    return [(page.name, words) for page in pages for words in commands(page.read_text("utf-8"), "t2i")]


def test_the_manual_has_commands() -> None:
    told = [words for page, words in manual() if page == "README.md"]
    assert ["sample", "a cat in the snow", "-n", "4"] in told
    assert len(told) > 8


@pytest.mark.parametrize(
    ("page", "words"), manual(), ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_every_command_of_the_manual_is_understood(page: str, words: list[str]) -> None:
    import typer

    from t2i.cli.app import app

    command: Any = typer.main.get_command(app)
    if words[0].startswith("-"):
        known = {name for parameter in command.params for name in parameter.opts}
        assert words[0] in known | {"--help", "-h"}
        return
    rest, name = list(words), "t2i"
    while getattr(command, "commands", None) and rest:
        name = rest.pop(0)
        assert name in command.commands, f"{page}: there is no command {name!r}"
        command = command.commands[name]
    if len(rest) == 1 and rest[0].startswith("--"):  # running text names an option without its value
        assert any(rest[0] in parameter.opts for parameter in command.params), f"{page}: {rest[0]}"
    elif rest:  # parses and runs nothing; raises for an unknown option or a bad value
        command.make_context(name, rest)


def test_commands_of_the_modules_are_understood() -> None:
    from t2i.lab import (
        compare_papers,
        edge_measures,
        edit_measures,
        judge_train,
        mask_measures,
        rates,
        scenes,
        scenes_suite,
        sprites,
        timings,
        watermarks,
    )
    from t2i.lab.evaluate import program as evaluate

    seen = 0
    programs = (
        compare_papers, edge_measures, edit_measures, evaluate, judge_train, mask_measures, rates, scenes,
        scenes_suite, sprites, timings, watermarks,
    )  # fmt: skip
    for program in programs:
        name = program.__name__.removesuffix(".program")
        for page in PAGES:
            for words in commands(page.read_text("utf-8"), f"python -m {name}"):
                program.build_parser().parse_args(words)
                seen += 1
    assert seen >= 12


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_word_that_only_makes_sense_elsewhere(page: Path) -> None:
    assert FORBIDDEN.findall(page.read_text("utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_what_a_page_names_is_in_the_code(page: Path) -> None:
    """`nets/unet.py: UNet` stands for the file and a class, function or constant in it."""
    for path, name in re.findall(r"`(?:t2i/)?([\w/]+\.py): ([\w.]+)`", page.read_text("utf-8")):
        source = PACKAGE / path
        assert source.is_file(), path
        last = name.split(".")[-1]
        found = re.search(rf"^\s*(?:def|class) {last}\b|^{last}\b", source.read_text("utf-8"), re.MULTILINE)
        assert found, f"{path} has no {name}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and page.name not in ("index.md",)
            and f"({page.name})" not in index] == []  # fmt: skip


def test_every_dial_and_table_of_a_recipe_is_explained() -> None:
    from t2i.train.objectives import STAGES
    from t2i.train.recipes import file_type
    from t2i.world import WorldConfig

    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert [f.name for f in fields(WorldConfig) if f"| `{f.name}` |" not in text] == []
    tables = [f.name for f in fields(file_type(STAGES)) if f.name not in ("name", "seed")]
    assert [name for name in tables if f"| `[{name}]` |" not in text] == []


def test_every_exit_code_is_in_the_readme() -> None:
    from t2i.errors import CODES

    text = (ROOT / "README.md").read_text("utf-8")
    for number in {number for number, _ in CODES.values()}:
        assert re.search(rf"^\| {number}\b", text, re.MULTILINE), number


def making(*args: str) -> subprocess.CompletedProcess[str]:
    """What docs/images/make.py does, with this t2i."""
    command = [sys.executable, str(ROOT / "docs" / "images" / "make.py"), *args]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_the_pictures_of_the_pages_are_made_by_name() -> None:
    images = ROOT / "docs" / "images"
    help_page = making("--help")
    assert help_page.returncode == 0 and not help_page.stderr
    there = {str(path.relative_to(images).with_suffix("")) for path in images.rglob("*.png")} - {"personal"}
    listed = help_page.stdout.split("PICTURE  ")[1].partition(";")[0]
    assert {name.strip() for name in listed.split(",")} == there
    done = making("editing/nothing")
    assert done.returncode == 2 and "there is no picture 'editing/nothing'" in done.stderr


@pytest.mark.slow
def test_a_picture_of_the_pages_is_made(tmp_path: Path) -> None:
    """The row with a mask, which has the name that --show-mask gives it."""
    from PIL import Image

    done = making("editing/inpaint", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "editing" / "inpaint.png") as row:
        assert row.height == 128 and row.width > 4 * row.height
