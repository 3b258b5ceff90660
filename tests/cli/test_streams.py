"""Exit codes where the surroundings are broken: closed streams, no current folder, no home, too little memory."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2i.cli.ui import UI

CAT = "a cat in the snow"
DRAW = f"sample '{CAT}' --seed 1 --size 16 --model tiny --device cpu"
#: what is broken -> (command line, exit code)
CASES = {
    "no stderr": ("models list 2>&-", 0),
    "no stderr, a mistake": ("sample '' 2>&-", 2),
    "no stderr, a picture": (f"{DRAW} 2>&-", 0),
    "a full stderr": (f"{DRAW} 2>/dev/full", 0),
    "a full stderr, a mistake": ("sample '' 2>/dev/full", 2),
    "a full stderr, a traceback": ("sample '' --debug 2>/dev/full", 2),
    "no stdin": ("models list <&-", 0),
    "no stdin to read from": ("sample -f - <&-", 3),
    "no stdout": ("models list >&-", 0),
    "no stdout, what is there": ("capabilities >&-", 0),
    "no stdout, what is there, for programs": ("capabilities --json >&-", 0),
    "no stdout, a picture": (f"{DRAW} >&-", 0),
    "no stdout, a mistake": ("sample '' >&-", 2),
    "no streams at all": (f"{DRAW} <&- >&- 2>&-", 0),
    "a full stdout, help": ("--help >/dev/full", 3),
    "a full stdout and stderr": ("models list >/dev/full 2>/dev/full", 3),
    "no reader of stderr": (f"{DRAW} 2> >(true)", 0),
    "no reader of the help": ("--help > >(true)", 141),
    "no reader of anything": ("sample '' --json > >(true) 2> >(true)", 141),
    "stdin without end": ("sample -f - < /dev/zero", 3),
    "a line without end": ("sample --interactive --model tiny --device cpu < /dev/zero", 3),
    "a pipe for a file": ("sample -f <(echo a cat)", 3),
}


def shell(line: str, cwd: Path | None = None, first: str = ":") -> subprocess.CompletedProcess[str]:
    """`t2i` with arguments and redirections, in bash, after another command."""
    script = f'{first}; exec "{sys.executable}" -c "from t2i.cli.app import main; main()" {line}'
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CASES)
def test_exit_codes_with_broken_streams(studio: Path, name: str) -> None:
    line, code = CASES[name]
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "fault of ours" not in done.stderr
    if line.startswith(DRAW):
        (path,) = (studio / "out").glob("*.png")
        assert path.read_bytes().startswith(b"\x89PNG")


def test_no_file_takes_the_place_of_a_closed_stream(studio: Path) -> None:
    """What a library writes to descriptor 2 would else go into whatever file was opened first."""
    code = (
        "import os\nfrom pathlib import Path\nfrom t2i.cli.streams import prepare_streams\nprepare_streams()\n"
        "file = open('first', 'w')\nos.write(2, b'noise')\nos.write(1, b'noise')\n"
        "Path('told').write_text(str(file.fileno() > 2))"
    )
    subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" <&- >&- 2>&-'], check=True)
    assert (studio / "told").read_text() == "True"
    assert (studio / "first").read_bytes() == b""


@pytest.mark.parametrize(
    "line", [DRAW, DRAW + " -o '{slug}.png'", "models list", "score x.png", "upscale x.png --to 9"]
)
def test_a_current_folder_that_was_removed(studio: Path, line: str) -> None:
    gone = studio / "gone"
    gone.mkdir()
    done = shell(line, gone, "rmdir ../gone")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("t2i: error: the current folder cannot be used")


@pytest.mark.parametrize("home", ["~nosuchuser", "~nosuchuser/models"])
@pytest.mark.parametrize("args", ["models list", DRAW, "score x.png --extractor clip:tiny"])
def test_a_home_of_nobody(studio: Path, monkeypatch: pytest.MonkeyPatch, home: str, args: str) -> None:
    monkeypatch.setenv("T2I_HOME", home)
    Image.new("RGB", (16, 16)).save(studio / "x.png")
    done = shell(args)
    assert done.returncode == 2
    assert "T2I_HOME" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [60, 200, 400, 700, 1000, 1500])
def test_libraries_that_do_not_fit_into_memory(studio: Path, megabytes: int) -> None:
    """The loader of shared libraries refuses, wherever it is just then."""

    def tight() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-m", "t2i", "sample", CAT, "--model", "tiny", "--size", "16", "--device", "cpu"]
    done = subprocess.run(command, preexec_fn=tight, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "not enough memory" in done.stderr and "Traceback" not in done.stderr


def test_a_program_that_cannot_be_loaded_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('no such library')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "t2i", "--help"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "no such library" in done.stderr and "Traceback" not in done.stderr


SHUT = [
    ["info", "shut.png"],
    ["sample", "--replay", "shut.png"],
    ["sample", CAT, "--init", "shut.png"],
    ["inpaint", "open.png", CAT, "--mask", "shut.png"],
    ["vary", "open.png", "--to", "shut.png"],
    ["score", "--suite", "shut.png"],
]


@pytest.mark.parametrize("args", SHUT, ids=lambda args: args[0])
def test_a_file_without_rights_is_a_bad_input(studio: Path, args: list[str]) -> None:
    """Not a mistake in the command, which the parser's own check would make of it."""
    powerless = []
    if os.geteuid() == 0:  # root reads everything
        if shutil.which("setpriv") is None:
            pytest.skip("nothing here takes the rights of root away")
        powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    for name in ("open.png", "shut.png"):
        Image.new("RGB", (16, 16)).save(name)
    os.chmod("shut.png", 0)
    command = [*powerless, sys.executable, "-c", "from t2i.cli.app import main; main()", *args]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "shut.png" in done.stderr and "Permission denied" in done.stderr


class PressedWhileWriting(io.RawIOBase):
    """A terminal on which ^C is pressed while the first line is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.seen:
            os.kill(os.getpid(), signal.SIGINT)
        self.seen += bytes(data)
        return len(data)


def test_a_signal_in_the_middle_of_a_line_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    terminal, ui = PressedWhileWriting(), UI("train")
    try:
        with ui.finishing() as signals:
            monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(terminal)))
            ui.note("a line")
            ui.note("another")
    finally:
        signal.signal(signal.SIGINT, before)
    assert signals == [signal.SIGINT]
    assert terminal.seen.startswith(b"a line\n") and terminal.seen.endswith(b"another\n")
    assert b"stopping as soon as this is saved" in terminal.seen
