"""A real server of the tiny model in a process of its own: the same pictures, several clients, kills, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from t2i.cli.app import run
from t2i.media.images import load_image
from t2i.serve.wire import MAX_LINE

CAT = "a cat in the snow"
MANY = 3000  # pictures that are not drawn before something happens
LONG = 300.0  # seconds; what waits longer has hung


class Talk:
    """A client that speaks for itself."""

    def __init__(self, path: str) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.settimeout(LONG)
        self.link.connect(path)
        self.file = self.link.makefile("rb")
        self.hello = self.line()

    def line(self) -> dict[str, Any]:
        got: dict[str, Any] = json.loads(self.file.readline() or "{}")
        return got

    def send(self, data: bytes | dict[str, Any]) -> None:
        self.link.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def answer(self) -> tuple[list[str], dict[str, Any]]:
        """(paths, envelope)"""
        paths = []
        while "ok" not in (table := self.line()):
            assert table, "no envelope"
            if "path" in table:
                paths.append(table["path"])
        return paths, table

    def ask(self, data: bytes | dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        self.send(data)
        return self.answer()

    def close(self) -> None:
        self.file.close()
        self.link.close()


Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture(scope="module")
def home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """T2I_HOME with the model `tiny`, and what else a server and its client must share."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny, home / "models" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("T2I_HOME", str(home))
        patch.setenv("GOMP_SPINCOUNT", "20000")  # as the program sets it where it is started
        yield home


@pytest.fixture(scope="module")
def start(home: Path) -> Iterator[Start]:
    """Start `t2i serve` -> (process, address), ready to be asked."""
    started: list[subprocess.Popen[str]] = []
    short = Path(tempfile.mkdtemp(prefix="t2i-"))  # the path of a socket is short

    def start(*args: str) -> tuple[subprocess.Popen[str], str]:
        place = [] if {"--socket", "--port"} & set(args) else ["--socket", str(short / f"{len(started)}.sock")]
        command = [sys.executable, "-m", "t2i", "serve", "--model", "tiny", "--device", "cpu", *place, *args]
        heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 - a shell's background job ignores it
        process = subprocess.Popen(  # in an empty folder, where `-m` finds the program that the client is
            command, cwd=short, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
        )
        started.append(process)
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert address, process.stderr.read()
        return process, json.loads(address)["serving"] if "--json" in args else address

    yield start
    for process in started:
        process.kill()
        process.communicate()
    shutil.rmtree(short)


@pytest.fixture(scope="module")
def served(start: Start) -> str:
    """The address of a server that every test may use."""
    return start()[1]


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def order(here: Path, **more: Any) -> dict[str, Any]:
    return {"prompt": CAT, "seed": 7, "size": 16, "cwd": str(here), **more}


def sample(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["sample", *args, "--model", "tiny", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    return out.splitlines(), err


def test_it_draws_what_is_drawn_without_it(
    here: Path, served: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files equal to the byte, the same lines on stdout and stderr, also for what exists and for a part that fails."""
    Path("jobs.jsonl").write_text(
        '{"prompt": "a {red|blue} apple", "n": 2, "steps": 2}\n{"prompt": "一只猫", "name": "../猫", "seed": [3, 9]}\n'
    )
    runs = [
        ["-f", "jobs.jsonl", "--size", "16", "--batch", "3"],
        ["-f", "jobs.jsonl", "--size", "16", "--batch", "3"],  # all of it exists
        [CAT, "--seed", "1", "--sweep", "steps=1,2", "--grid", "--keep-stages", "--no-prompt-metadata"],
        ["a gizmo", "--seed", "4", "--size", "16", "--rerank", "2", "-o", "{slug}/{index:03}.webp"],
    ]
    told: dict[str, list[Any]] = {}
    for place in ("alone", "server"):
        if place == "server":
            monkeypatch.setenv("T2I_SERVER", served)
        Path(place).mkdir()
        monkeypatch.chdir(here / place)
        shutil.copy("../jobs.jsonl", ".")
        told[place] = []
        for args in runs:
            out, err = sample(capsys, *args)
            told[place].append((out, re.sub(r"in \d+\.\d s", "in … s", err)))
        monkeypatch.chdir(here)
    assert told["server"] == told["alone"]
    files = {place: {p.relative_to(place): p for p in Path(place).rglob("*") if p.is_file()} for place in told}
    assert set(files["server"]) == set(files["alone"])
    for name, file in files["alone"].items():
        assert files["server"][name].read_bytes() == file.read_bytes(), name
        assert files["server"][name].stat().st_mode == file.stat().st_mode, name
    assert len(files["alone"]) > 12


def test_a_client_needs_no_torch(here: Path, served: str) -> None:
    code = "import sys; from t2i.cli.app import run; run(sys.argv[1:]); print('torch' in sys.modules)"
    args = ["sample", CAT, "--seed", "1", "--size", "16", "--model", "tiny", "--device", "cpu", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env={**os.environ, "T2I_SERVER": served}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    *_, record, envelope, torch = done.stdout.splitlines()
    assert (done.returncode, torch) == (0, "False"), done.stderr
    assert Path(json.loads(record)["path"]).is_file() and json.loads(envelope)["pictures"] == 1


def test_what_is_not_the_same_is_drawn_here(
    here: Path, served: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2I_SERVER", served)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    out, err = sample(capsys, CAT, "--seed", "1", "--size", "16")
    assert Path(out[0]).is_file()
    assert f"the server {served} is not used: it differs in environment; drawing here" in err
    for nowhere in ("nowhere.sock", "1"):
        monkeypatch.setenv("T2I_SERVER", nowhere)
        assert "is not used" in sample(capsys, CAT, "--seed", "1", "--size", "16")[1]


def test_lines_of_json(here: Path, served: str) -> None:
    talk = Talk(served)
    assert talk.hello["server"] == "t2i" and talk.hello["model"] == "tiny"
    paths, end = talk.ask(order(here, n=2))
    assert paths == ["out/a-cat-in-the-snow-7.png", "out/a-cat-in-the-snow-8.png"]
    assert (end["ok"], end["pictures"], end["exit"]) == (True, 2, 0)
    assert all((here / path).is_file() for path in paths)
    assert len((here / "out" / "manifest.jsonl").read_text().splitlines()) == 2
    # the same connection, and one that says at once that it will send no more
    assert talk.ask(order(here, n=3))[1]["pictures"] == 3
    talk.send(order(here, seed=1))
    talk.link.shutdown(socket.SHUT_WR)
    assert talk.answer()[0] == ["out/a-cat-in-the-snow-1.png"]
    talk.close()


def test_bad_orders_get_a_sentence(here: Path, served: str) -> None:
    inside = Talk(served)
    for wrong, code, said in (
        ({"output": "../{slug}.png"}, 2, "leads out of the current folder"),
        ({"output": "x.exe/{slug}"}, 2, "does not end in"),
        ({"size": 17}, 2, "17"),
        ({"folder": "/"}, 2, "no field"),
        ({"prompt": "\ud83d"}, 2, "not valid Unicode"),
        ({"output": "/proc/nowhere"}, 3, "cannot write"),
        ({"cwd": "/nowhere"}, 2, "is no folder"),
    ):
        _, end = inside.ask(order(here, **wrong))
        assert (end["ok"], end["exit"]) == (False, code), (wrong, end)
        assert said in end["error"]["message"], end
    for data, said in (
        (b"GET / HTTP/1.1\r\n\r\n", "cannot be used as JSON"),
        (b"[1]\n", "not a JSON object"),
        (b'{"a": ' * 100_000 + b"\n", "nested too deeply"),
        (b"\xff\xfe\n", "cannot be used as JSON"),
        (b'{"n": 1e999}\n', "too large"),
    ):
        talk = Talk(served)
        _, end = talk.ask(data)
        assert end["exit"] == 3 and said in end["error"]["message"], end
        assert talk.line() == {}  # hung up
        talk.close()
    huge = Talk(served)
    with suppress(OSError):  # it does not read all of it
        huge.send(b"x" * (MAX_LINE + (1 << 20)))
    huge.close()
    assert inside.ask(order(here))[1]["ok"]
    inside.close()
    assert sorted(path.name for path in here.iterdir()) == ["out"]


def test_several_clients_wait_for_one_another(here: Path, served: str) -> None:
    idle, talks = Talk(served), [Talk(served) for _ in range(4)]  # one says nothing
    for i, talk in enumerate(talks):
        talk.send(order(here, n=5, output=f"out{i}"))
    for i, talk in enumerate(talks):
        paths, end = talk.answer()
        assert end["ok"] and paths == [f"out{i}/a-cat-in-the-snow-{seed}.png" for seed in range(7, 12)]
        talk.close()
    idle.close()


def test_a_client_that_hangs_up_ends_its_work(here: Path, served: str) -> None:
    gone = Talk(served)
    gone.send(order(here, n=MANY, batch=1))
    while "path" not in gone.line():
        pass
    waiting = Talk(served)
    waiting.send(order(here, n=MANY, output="never"))
    waiting.close()
    gone.close()
    after = Talk(served)
    assert after.ask(order(here, output="after"))[1]["ok"]
    after.close()
    made = list((here / "out").glob("*.png"))
    assert 0 < len(made) < MANY and not (here / "never").exists()
    assert all(load_image(path).size == (16, 16) for path in made)
    assert not [path for path in (here / "out").iterdir() if path.name.startswith(".t2i-tmp")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(here: Path, start: Start, number: int) -> None:
    process, address = start()
    talk = Talk(address)
    talk.send(order(here, n=MANY, batch=1))
    while "path" not in talk.line():
        pass
    process.send_signal(number)
    paths, end = talk.answer()
    talk.close()
    assert end["error"]["code"] == "interrupted"
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err and not Path(address).exists()
    made = list((here / "out").glob("*.png"))
    assert len(paths) < len(made) + 1 < MANY
    assert all(load_image(path).size == (16, 16) for path in made)
    assert not [path for path in (here / "out").iterdir() if path.name.startswith(".t2i-tmp")]


def test_one_that_is_killed_loses_no_picture(
    here: Path, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client goes on by itself: each picture is told once, in order. The socket that is left is taken over."""
    process, address = start()
    monkeypatch.setenv("T2I_SERVER", address)

    def kill() -> None:
        while not list(here.glob("out/*-12.png")):
            time.sleep(0.01)
        process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    out, err = sample(capsys, CAT, "-n", "200", "--seed", "1", "--size", "16", "--batch", "1")
    killer.join(LONG)
    assert out == [f"out/a-cat-in-the-snow-{seed}.png" for seed in range(1, 201)]
    assert "is not used: it has gone, or does not answer; drawing here" in err
    assert Path(address).exists()
    again, same = start("--socket", address)
    assert same == address
    refused = subprocess.run(
        [sys.executable, "-m", "t2i", "serve", "--model", "tiny", "--socket", address], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 4 and "is listening at" in refused.stderr
    talk = Talk(address)
    assert talk.ask(order(here))[1]["ok"]
    talk.close()
    again.terminate()
    again.communicate(timeout=LONG)


def test_a_port_wants_its_token(
    here: Path, home: Path, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without anybody it ends by itself."""
    process, address = start("--port", "0", "--idle", "20", "--json")
    host, port = address.split(":")
    token = home / "serve" / f"port-{port}.token"
    assert host == "127.0.0.1" and token.stat().st_mode & 0o777 == 0o600
    with socket.create_connection((host, int(port)), LONG) as link, link.makefile("rwb") as file:
        file.readline()
        file.write(json.dumps(order(here)).encode() + b"\n")
        file.flush()
        end = json.loads(file.readline())
    assert (end["ok"], end["exit"]) == (False, 2) and "token" in end["error"]["message"]
    assert not list(here.iterdir())
    monkeypatch.setenv("T2I_SERVER", address)
    out, err = sample(capsys, CAT, "--seed", "1", "--size", "16")
    assert Path(out[0]).is_file() and "is not used" not in err
    out, err = process.communicate(timeout=LONG)
    assert json.loads(out)["ok"]  # the envelope
    assert process.returncode == 0 and "nobody asked for 20 s" in err
    assert not token.exists()


def test_what_is_refused_before_anything_is_loaded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "open").mkdir(mode=0o755)
    (here / "open").chmod(0o755)
    for args, code, said in (
        (["--socket", "open/a.sock"], 3, "others can enter"),
        (["--socket", "x" * 120], 3, "at most 100 bytes"),
        (["--port", "70000"], 2, "there is no port 70000"),
        (["--port", "0", "--socket", "a.sock"], 2, "do not go together"),
        (["--idle", "0"], 2, "idle"),
    ):
        assert run(["serve", "--model", "tiny", *args]) == code
        assert said in capsys.readouterr().err
    Path("private").mkdir(mode=0o700)
    Path("private/a.sock").write_text("no socket")
    assert run(["serve", "--model", "tiny", "--socket", "private/a.sock"]) == 3
    assert "is not a socket" in capsys.readouterr().err
    assert Path("private/a.sock").read_text() == "no socket"
