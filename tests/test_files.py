"""Reading takes regular files only, and not without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from t2i.errors import InputError
from t2i.files import append_line, open_regular, read_bytes, read_text


def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    """None of these waits: the pipe has no writer, and the device no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="a pipe or a device"):
            read_bytes(tmp_path / name)
        with pytest.raises(InputError, match="a pipe or a device"):
            append_line(tmp_path / name, b"x")
    for name in ("", "loop", "nowhere", "a\0b"):
        with pytest.raises(OSError):
            open_regular(f"{tmp_path}/{name}")
        with pytest.raises(InputError, match="cannot read"):
            read_text(Path(f"{tmp_path}/{name}"))


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk is used
    with pytest.raises(OSError, match="larger than 512 MB"):
        read_bytes(path)
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger"):
        read_bytes(path, 4)


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b") == "one\ntwo"
