"""`t2i capabilities`: what it says is what the parser takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import t2i
from t2i.cli.app import app, run
from t2i.errors import CODES

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "records-1.json").read_text("utf-8"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["capabilities", "--json"]) == 0
    first, envelope = map(json.loads, capsys.readouterr().out.splitlines())
    assert envelope["ok"] and envelope["command"] == "capabilities"
    return first


def test_it_follows_the_schema(said: dict[str, Any]) -> None:
    pytest.importorskip("jsonschema").Draft202012Validator(SCHEMA).validate(said)


def test_every_option_is_the_parsers(said: dict[str, Any]) -> None:
    root: Any = typer.main.get_command(app)
    for command in said["commands"]:
        found = root
        for word in command["name"].split():
            found = found.commands[word]
        flags = {flag for param in found.params for flag in (*param.opts, *param.secondary_opts) if flag[0] == "-"}
        assert {flag for option in command["options"] for flag in option["flags"]} == flags - {"--help", "-h"}
    assert {"sample", "models pull", "capabilities"} <= {command["name"] for command in said["commands"]}


def test_options_say_what_they_take(said: dict[str, Any]) -> None:
    sample = next(command for command in said["commands"] if command["name"] == "sample")
    options = {option["name"]: option for option in sample["options"]}
    assert options["model"]["flags"] == ["--model", "-m"] and options["model"]["default"] == "small"
    assert options["overwrite"]["flags"] == ["--overwrite", "--skip-existing"] and options["overwrite"]["switch"]
    assert options["n"]["type"] == "int" and options["n"]["default"] is None
    assert [argument["name"] for argument in sample["arguments"]] == ["prompt"]
    types = {each["type"] for command in said["commands"] for each in (*command["options"], *command["arguments"])}
    assert types == {"str", "int", "float", "bool", "path"}
    pull = next(command for command in said["commands"] if command["name"] == "models pull")
    assert pull["arguments"][0]["several"] and pull["arguments"][0]["required"]


def test_codes_and_version(said: dict[str, Any]) -> None:
    assert said["version"] == t2i.__version__
    assert said["error_codes"] == {code: number for code, (number, _) in CODES.items()}


def test_it_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from t2i.cli.app import run; run(['capabilities', '--json']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'diffusers', 'huggingface_hub')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capabilities"]) == 0
    out = capsys.readouterr().out
    assert "models pull" in out and "dpmpp_2m" in out and "FLUX" in out
