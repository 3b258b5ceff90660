"""Reading takes regular files only, and not without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from killing import broken_off_everywhere

from t2i.errors import InputError
from t2i.files import (
    TEMP_PREFIX,
    append_line,
    atomic_file,
    clear_stale,
    open_regular,
    read_bytes,
    read_text,
    visible_files,
)


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


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    """A temporary file that a process still writes is locked, and stays, however old it is."""
    writer = (
        "import os, sys, time\nfrom pathlib import Path\nfrom t2i.files import atomic_file\n"
        "with atomic_file(Path('whole')) as file:\n"
        "    file.write(b'x')\n    file.flush()\n    print(flush=True)\n    sys.stdin.read()\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", writer], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in runs:
        assert process.stdout is not None
        process.stdout.readline()
    (tmp_path / f"{TEMP_PREFIX}link").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("x")
    runs[0].kill()
    runs[0].wait()
    assert len(list(tmp_path.glob(f"{TEMP_PREFIX}*"))) == 3
    clear_stale(tmp_path)
    assert len(list(tmp_path.glob(f"{TEMP_PREFIX}*"))) == 3, "one that is this young may be locked in a moment"
    for path in tmp_path.glob(f"{TEMP_PREFIX}*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    clear_stale(tmp_path)
    assert len(list(tmp_path.glob(f"{TEMP_PREFIX}*"))) == 2
    runs[1].communicate()
    assert runs[1].returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{TEMP_PREFIX}link", "mine", "whole"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_two_signals_at_any_moments_leave_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    """As when ^C is pressed twice: while the file is made, written, named, or removed again."""
    path = tmp_path / "whole"
    seen = []

    def work() -> None:
        path.unlink(missing_ok=True)
        with atomic_file(path, exclusive=exclusive) as file:
            file.write(b"all of it")

    def check() -> None:
        assert set(os.listdir(tmp_path)) <= {"whole"}
        seen.append(path.exists())
        assert not seen[-1] or path.read_bytes() == b"all of it"

    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)  # Python swallows those raised at a collection
    assert broken_off_everywhere(work, check) > 100
    assert set(seen) == {False, True}


def test_hidden_files_and_folders_are_not_looked_into(tmp_path: Path) -> None:
    """Nor are they where the folder itself lies in a hidden one."""
    folder = tmp_path / ".hidden" / "photos"
    for name in ("a.png", "deep/b.png", ".c.png", ".train/base/sheets/d.png", "deep/.e/f.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert {str(p.relative_to(folder)) for p in visible_files(folder)} == {"a.png", "deep/b.png"}
