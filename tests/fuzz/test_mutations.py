"""Files that were good and are damaged at random, given to every command that reads them.

Whatever they hold, a command ends with a documented exit code, without a traceback, in time, and writes nothing outside
its folder. Seeded: the same mutations in every run.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from t2i.cli.app import run
from t2i.errors import InputError
from t2i.media.images import read_metadata
from t2i.score.baseline import load_baseline
from t2i.score.picture_files import read_prompts
from t2i.score.set_distances import load_stats

MUTATIONS = 100  # of each kind of file
SECONDS = 120  # for one command on a busy machine; each takes far less than one
DOCUMENTED = {0, 2, 3, 4, 5}  # 1 is the verdict of a gate or a replay, which `judge` allows; 70 is a fault of ours
TOKENS = [
    b"1e999", b"-1e308", b"9" * 400, b"-1", b"0", b"NaN", b"null", b"true", b'"', b"{}", b"[]", b"[" * 3000,
    b'"\\ud800"', b"\\u0000", b"\0", b"\xff", b"\xe2\x80\xa8", b"\n", b",", b":", b"../../x", b"/dev/zero",
    b"{a|b}", b"x" * 70_000,
]  # fmt: skip
DRAW = ["--model", "tiny", "--device", "cpu", "-q"]
EYE = ["--extractor", "clip:tiny", "--device", "cpu"]
SIGN = ["--sign-cert", "cert.pem", "--sign-key", "key.pem"]
CAT = "a cat in the snow"
GOOD = ["good.png", "good.jpg", "good.webp"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three changes: a bit, a cut, a part twice or not at all, a hostile word for a number or anywhere."""
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 30, 400])
        numbers = [found.span() for found in re.finditer(rb"-?\d+(\.\d+)?", data)]
        match rng.choice(["bit", "cut", "repeat", "remove", "insert", "number", "number"]):
            case "bit" if data:
                at %= len(data)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "repeat":
                data = data[:at] + data[at : at + length] + data[at:]
            case "remove":
                data = data[:at] + data[at + length :]
            case "number" if numbers:
                start, end = rng.choice(numbers)
                data = data[:start] + rng.choice(TOKENS) + data[end:]
            case _:
                data = data[:at] + rng.choice(TOKENS) + data[at:]
    return data


@contextmanager
def in_time() -> Iterator[None]:
    """An AssertionError in a command that does not end. Not an Exception: nothing takes it for a fault of its own."""

    def late(number: int, frame: FrameType | None) -> None:
        raise SystemError("it did not end in time")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Bench:
    """Runs commands in a folder and looks at what they leave. counts: exit code -> how often."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self.capsys = place, capsys
        self.counts: dict[int, int] = {}
        self.around = self._around()

    def judge(self, what: str, *args: str, verdicts: bool = False) -> None:
        with in_time():
            code = run(list(args))
        out, err = self.capsys.readouterr()
        self.counts[code] = self.counts.get(code, 0) + 1
        assert code in DOCUMENTED or (verdicts and code == 1), f"{what}: {args}: {code}: {err[-600:]}"
        assert "Traceback" not in err, f"{what}: {args}: {err[-2000:]}"
        for line in out.splitlines() if "--json" in args else ():
            json.loads(line)
        assert self._around() == self.around, f"{what}: {args} wrote outside of its folder"
        shutil.rmtree(self.place / "new", ignore_errors=True)
        for path in self.place.glob("odd-*"):
            path.unlink()

    def _around(self) -> list[Path]:
        kept = (self.place, self.place.parent / "home" / "score.sqlite")
        return [p for p in sorted(self.place.parent.rglob("*")) if not any(p == k or k in p.parents for k in kept)]


@pytest.fixture
def bench(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with good files of every kind, made by the commands themselves."""
    shutil.copytree(tiny, tmp_path / "home" / "models" / "tiny")
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    here = tmp_path / "here"
    for ending in ("png", "jpg", "webp"):
        assert run(["sample", CAT, "--seed", "7", "--size", "16", "--steps", "1", "-o", f"good.{ending}", *DRAW]) == 0
    (here / "good.jsonl").write_text('{"prompt": "a cat", "seed": 7, "steps": {"base": 2}, "negative": "a dog"}\n' * 2)
    (here / "good.txt").write_text("a cat\n# a comment\na {red|blue} dog\n")
    expect = {"objects": [{"thing": "cat", "count": 2}, {"thing": "dog", "colour": "red"}], "relation": ["left", 0, 1]}
    rows = [{"prompt": f"cat {i}", "lang": "en", "task": "count", "side": "train", "expect": expect} for i in range(2)]
    (here / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "suite.csv").write_text('Prompts,Category\n"a cat, twice",x\na dog,y\n')
    caption = "a cat that sits in the snow beside a red house, with a small dog far behind it, in the evening"
    (here / "metadata.jsonl").write_text(json.dumps({"file_name": "good.png", "prompt": caption}) + "\n")
    assert run(["score", "good.png", "good.jpg", "good.webp", *EYE, "--save-baseline", "good.json", "-q"]) == 0
    assert run(["score", "good.png", "good.jpg", *EYE, "--against", "good.webp", "-q"]) == 3
    assert run(["score", "good.png", "good.jpg", *EYE, "--save-stats", "good.npz", "-q"]) == 0
    if find_spec("c2pa") and find_spec("cryptography"):
        from certificates import write_certificates

        write_certificates(here)
        assert run(["sample", CAT, "--init", "good.jpg", "--seed", "7", "-o", "signed.jpg", *DRAW, *SIGN]) == 0
    capsys.readouterr()
    return Bench(here, capsys)


def pictures(bench: Bench, name: str) -> list[list[str]]:
    """The commands that read a picture."""
    shutil.copytree(bench.place, bench.place / "new", ignore=shutil.ignore_patterns("*.json*", "*.npz", "*.csv", "new"))
    return [
        ["info", name, "--json"],
        ["upscale", "good.png", name, "--scale", "2", "-o", "new", *DRAW],
        ["inpaint", name, CAT, "--box", "2,2,5,5", "--seed", "1", "--steps", "1", "-o", "new", *DRAW],
        ["score", name, "good.png", *EYE, "--json", "--metrics", "clip"],
        ["sample", CAT, "--seed", "7", "--size", "16", "--steps", "1", "-o", name, *DRAW],
        ["sample", "--replay", name, "--device", "cpu"],
    ]


def record_in(place: Path, rng: random.Random) -> bytes:
    """A whole picture whose record is damaged: what only its JSON can show."""
    text = mutated(json.dumps(read_metadata(place / "good.png")["t2i"]).encode(), rng).decode("utf-8", "replace")
    info = PngInfo()
    info.add_itxt(rng.choice(["t2i", "t2i", "parameters", "prompt"]), text.replace("\0", ""))
    Image.open(place / "good.png").save(place / "odd.png", pnginfo=info)
    return (place / "odd.png").read_bytes()


def damaged(name: str) -> Callable[[Path, random.Random], bytes]:
    return lambda place, rng: mutated((place / name).read_bytes(), rng)


def statistics(place: Path, rng: random.Random) -> bytes:
    """An archive that is damaged, or a whole one of a damaged array: its checksums would hide what is inside."""
    data = (place / "good.npz").read_bytes()
    if rng.random() < 0.3:
        return mutated(data, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(file, "w") as out:
        hurt = rng.choice(archive.namelist())
        for name in archive.namelist():
            content = archive.read(name)
            head = content[:10] if rng.random() < 0.7 else b""  # numpy's magic, most times
            out.writestr(name, head + mutated(content[len(head) :], rng) if name == hurt else content)
    return file.getvalue()


def signed(place: Path, rng: random.Random) -> bytes:
    """A picture with damaged Content Credentials: not its first bytes, which would only make it no picture."""
    data = (place / "signed.jpg").read_bytes()
    return data[:20] + mutated(data[20:], rng)


SUITE = ["--model", "tiny", "--size", "16", "--steps", "1", "-n", "1", "-o", "new", *EYE, "-q"]
#: kind -> (the damaged file, what makes it, the commands that read it)
KINDS: dict[str, tuple[str, Callable[[Path, random.Random], bytes], list[list[str]]]] = {
    "png": ("odd.png", damaged("good.png"), []),
    "jpeg": ("odd.jpg", damaged("good.jpg"), []),
    "webp": ("odd.webp", damaged("good.webp"), []),
    "signed": ("odd.jpg", signed, [
        ["info", "odd.jpg", "--json"], ["upscale", "odd.jpg", "--scale", "2", "-o", "new", *DRAW, *SIGN],
    ]),
    "record": ("odd.png", record_in, []),
    "prompts": ("odd.txt", damaged("good.txt"), [["sample", "-f", "odd.txt", "--size", "16", "-o", "new", *DRAW]]),
    "jobs": ("odd.jsonl", damaged("good.jsonl"), [["sample", "-f", "odd.jsonl", "--size", "16", "-o", "new", *DRAW]]),
    "suite": ("odd.jsonl", damaged("suite.jsonl"), [["score", "--suite", "odd.jsonl", *SUITE]]),
    "table": ("odd.csv", damaged("suite.csv"), [["score", "--suite", "odd.csv", *SUITE]]),
    "baseline": ("odd.json", damaged("good.json"), [["score", *GOOD, *EYE, "--baseline", "odd.json", "--json"]]),
    "statistics": ("odd.npz", statistics, [["score", "good.png", "good.jpg", *EYE, "--against", "odd.npz"]]),
    "captions": ("odd.jsonl", damaged("metadata.jsonl"), [["score", "good.png", *EYE, "--prompts", "odd.jsonl"]]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(bench: Bench, kind: str) -> None:
    name, make, commands = KINDS[kind]
    if kind == "signed" and not (bench.place / "signed.jpg").exists():
        pytest.skip("the extra c2pa is not installed")
    for number in range(MUTATIONS):
        rng = random.Random(f"{kind} {number}")
        (bench.place / name).write_bytes(make(bench.place, rng))
        every = commands or [rng.choice(pictures(bench, name))]
        for args in every:
            bench.judge(f"{kind} {number}", *args, verdicts="--baseline" in args or "--replay" in args)
    assert len(bench.counts) > 1, f"only {bench.counts}: the damage is never seen, or nothing survives it"
    assert sum(bench.counts.values()) >= MUTATIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "read"), [("baseline", load_baseline), ("statistics", load_stats), ("captions", read_prompts)]
)
def test_a_thousand_damaged_files_for_their_reader(bench: Bench, kind: str, read: Callable[[Path], object]) -> None:
    """Without the command around it, which takes most of the time."""
    name, make, _ = KINDS[kind]
    refused = 0
    for number in range(1000):
        (bench.place / name).write_bytes(make(bench.place, random.Random(f"{kind} {number}")))
        try:
            read(bench.place / name)
        except InputError:
            refused += 1
    assert 0 < refused < 1000


def test_the_good_files_are_good(bench: Bench) -> None:
    """Otherwise the mutations would show nothing."""
    for file in ("png", "jpg", "webp"):
        for args in pictures(bench, f"good.{file}")[:3]:
            bench.judge(file, *args)
    bench.judge("jobs", "sample", "-f", "good.jsonl", "--size", "16", "-o", "new", *DRAW)
    bench.judge("suite", "score", "--suite", "suite.jsonl", *SUITE)
    bench.judge("table", "score", "--suite", "suite.csv", *SUITE)
    bench.judge("captions", "score", "good.png", *EYE, "--prompts", "metadata.jsonl")
    assert bench.counts == {0: sum(bench.counts.values())}
