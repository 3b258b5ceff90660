"""Orders as JSON: what is written is read again, and what makes no sense gets a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2i.cli.ui import UI
from t2i.errors import InputError, T2IError, UsageError
from t2i.jobs.prompt_file import PromptLine
from t2i.jobs.sample import SampleOrder
from t2i.jobs.sample_edit import SampleEdit
from t2i.serve.address import Address, check_own, make_private
from t2i.serve.orders import read_order, write_order
from t2i.serve.wire import error_of, error_table


@pytest.mark.parametrize(
    "order",
    [
        SampleOrder((PromptLine("a cat", where="job 1"),), seeds=(7, 8), n=2, output="{slug}.png"),
        SampleOrder(
            (
                PromptLine("一只猫", 2, [5, 6], "cat", {"steps": "base=8"}, "job 1"),
                PromptLine("a {red|blue} car", where="job 2"),
            ),
            options={"size": "16", "guidance": "2.5"}, edit=SampleEdit(rerank=3, best_of=2), sweep=("steps=1,2",),
            batch=3, grid=True, keep_stages=True, overwrite=True, private=True,
        ),
    ],
)  # fmt: skip
def test_an_order_comes_back(order: SampleOrder) -> None:
    table = json.loads(json.dumps(write_order(order, "")))
    assert read_order(table, UI())[0] == order


def test_one_prompt_is_an_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its seed is drawn at random, and told."""
    read, _ = read_order({"prompt": "a cat", "n": 3, "cwd": str(tmp_path)}, UI())
    assert read.lines[0].prompt == "a cat" and read.seeds is not None and len(read.seeds) == 3
    assert capsys.readouterr().err == f"seed {read.seeds[0]}\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"guidence": 2}, "Did you mean 'guidance'?"),
        ({"args": ["--overwrite"]}, "no field 'args'"),
        ({"cwd": "here"}, "is no folder"),
        ({"cwd": "/nowhere/at/all"}, "is no folder"),
        ({"cwd": "/\0"}, "is no folder"),
        ({"cwd": 7}, "cwd"),
        ({"prompt": None}, "a prompt, or jobs"),
        ({"jobs": [{"prompt": "a dog"}]}, "a prompt, or jobs"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "a\0cat"}, "NUL"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": None, "jobs": [{"prompt": "a dog", "size": []}]}, "job 1"),
        ({"prompt": None, "jobs": [7]}, "jobs[0]"),
        ({"n": 0}, "0"),
        ({"n": 10**9}, "1000000000"),
        ({"seed": "x"}, "not a seed"),
        ({"seed": [1, 1]}, "twice"),
        ({"batch": 0}, "batch"),
        ({"umask": 9999}, "umask"),
        ({"rerank": 1}, "rerank"),
        ({"prior": "none", "prior_best_of": 2}, "do not go together"),
        ({"overwrite": "yes"}, "overwrite"),
        ({"sampler": "nothing"}, "sampler"),
    ],
)
def test_what_is_no_order(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    table = {"prompt": "a cat", "cwd": str(tmp_path), **wrong}
    with pytest.raises(UsageError) as caught:
        read_order({key: value for key, value in table.items() if value is not None}, UI())
    assert said in str(caught.value)


def test_errors_keep_their_exit_code() -> None:
    for code in ("usage", "prompt", "output", "partial", "memory", "gate", "interrupted", "internal"):
        error = error_of({"code": code, "message": "a sentence.", "hint": "advice"})
        assert error_table(error) == {"code": code, "message": "a sentence.", "hint": "advice"}
    assert error_of({"code": "of another version"}).exit_code == 70


def test_addresses() -> None:
    assert Address.parse("127.0.0.1:80") == Address.parse("80") == Address(port=80)
    assert Address.parse("a/b.sock").path == Path("a/b.sock").absolute()
    for wrong in ("", "\0", "99999"):
        with pytest.raises(UsageError):
            Address.parse(wrong)


def test_a_place_must_be_private(tmp_path: Path) -> None:
    open_to_all = tmp_path / "to all"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    with pytest.raises(InputError, match=r"chmod 700 '.*to all'"):
        make_private(open_to_all)
    make_private(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(T2IError):
            make_private(place)
    with pytest.raises(InputError, match="not a socket"):
        check_own(tmp_path / "file")
