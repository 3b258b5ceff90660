"""Strict JSON and files of JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2i.errors import InputError
from t2i.jsonl import read_jsonl, strict_json


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"prompt": "one\u2028two"}\r\n\n{"prompt": "three"}\n', "utf-8")
    assert list(read_jsonl(path)) == [(1, {"prompt": "one\u2028two"}), (3, {"prompt": "three"})]


@pytest.mark.parametrize("line", ["{", "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "[" * 100_000])
def test_what_is_not_a_strict_object_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"ok": 1}\n' + line, "utf-8")
    with pytest.raises(InputError, match="line 2 of the list") as caught:
        list(read_jsonl(path, "the list", "Write it again.", "data"))
    assert caught.value.code == "data" and caught.value.hint == "Write it again."


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(InputError, match="not text in UTF-8"):
        list(read_jsonl(tmp_path / "latin.jsonl"))


@pytest.mark.parametrize("text", ["1e999", "-1e400", "1" * 400, "[0.5, 1e309]", '"\\ud800"', '{"\\uDFFF": 1}', b"\xff"])
def test_what_cannot_be_used_or_written_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json(text)


def test_large_numbers_and_whole_characters_are_kept() -> None:
    assert strict_json('[9223372036854775807, 1e300, "\\ud83d\\ude00"]') == [2**63 - 1, 1e300, "😀"]
    assert strict_json('"\\ud800"', half_characters=True) == "\ud800"


def test_strict_json_names_the_fault() -> None:
    with pytest.raises(ValueError, match="'a' appears twice"):
        strict_json('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match="NaN is not a number"):
        strict_json(b'{"a": NaN}')
