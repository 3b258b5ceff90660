"""`t2i sample` with real networks: from the command line to the files, and the processes a user starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from t2i.cli.app import run
from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"


@pytest.fixture
def place(studio: Path) -> Path:
    """A folder to work in, with the model `tiny` among this user's models."""
    return studio


def sample(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["sample", *args, "--model", "tiny", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    return out.splitlines(), err


def start(*args: str, code: str = "from t2i.cli.app import main; main()") -> subprocess.Popen[bytes]:
    """The program as a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def heed() -> None:  # a test run in the background is started with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed,
        start_new_session=True,
    )


def test_pictures_are_drawn_named_and_not_drawn_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = sample(capsys, CAT, "-n", "4", "--seed", "7")
    assert out == [f"out/a-cat-in-the-snow-{seed}.png" for seed in (7, 8, 9, 10)]
    pictures = [load_image(place / path).tobytes() for path in out]
    assert len(set(pictures)) == 4
    assert load_image(out[0]).size == (64, 64)
    assert "4 pictures in" in err
    times = [(place / path).stat().st_mtime_ns for path in out]
    assert sample(capsys, CAT, "-n", "4", "--seed", "7")[0] == out
    assert [(place / path).stat().st_mtime_ns for path in out] == times
    # drawn alone, in another batch, elsewhere: the same picture
    (alone,), _ = sample(capsys, CAT, "--seed", "9", "-o", "other")
    again = load_image(alone).tobytes()
    assert max(abs(a - b) for a, b in zip(again, pictures[2], strict=True)) <= 4


def test_a_file_of_prompts_with_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "p.txt").write_text(f"# two\n{CAT}\n一只猫\n", encoding="utf-8")
    out, _ = sample(capsys, "-f", "p.txt", "--size", "16", "--json", "--keep-stages")
    *records, envelope = [json.loads(line) for line in out]
    assert [record["prompt"] for record in records] == [CAT, "一只猫"]
    assert envelope["pictures"] == 2
    for record in records:
        assert load_image(record["path"]).size == (16, 16)
        assert read_metadata(record["path"])["t2i"]["key"] == record["key"]
        assert list(record["stages"]) == ["base"]
    again, _ = sample(capsys, "-f", "p.txt", "--size", "16", "--json")
    assert [json.loads(line)["skipped"] for line in again[:-1]] == [True, True]


def test_equal_pictures_are_drawn_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "p.txt").write_text(f"{CAT}\n{CAT}\n")
    out, _ = sample(capsys, "-f", "p.txt", "--seed", "1", "--size", "16")
    assert out == ["out/a-cat-in-the-snow-1.png"] * 2
    assert len(list((place / "out").glob("*.png"))) == 1
    out, _ = sample(capsys, "-f", "p.txt", "--seed", "1", "--size", "16", "--overwrite")
    assert len(list((place / "out").glob("*.png"))) == 1


def test_overwriting_spares_the_pictures_of_this_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = (CAT, "-n", "3", "--seed", "1", "--size", "16", "-o", "x.png", "--overwrite", "--batch", "2")
    for _ in range(2):
        assert sample(capsys, *args)[0] == ["x.png", "x-2.png", "x-3.png"]
    assert len({load_image(path).tobytes() for path in place.glob("x*.png")}) == 3


def test_what_the_model_does_not_read_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = sample(capsys, "a zebrafish in the snow", "-n", "3", "--size", "16")
    assert err.count("the model has never read 'zebrafish'; near: zebra") == 1
    (place / "p.txt").write_text("a zebrafish\na zebrafish at night\na glockenspiel at night\n")
    _, err = sample(capsys, "-f", "p.txt", "--size", "16")
    assert (err.count("'zebrafish'"), err.count("'glockenspiel'")) == (1, 1)
    _, err = sample(capsys, " ".join([CAT] * 9), "--size", "16", "--quiet")
    assert err.count("the prompt is longer than the model reads; it did not see “") == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "tokenizer", "pipe"])
def test_damaged_models(place: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    model = place.parent / "home" / "models" / "tiny"
    file = model / ("tokenizer.json" if damage == "tokenizer" else "base/model.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "cut":
        file.write_bytes(data[:-8])
    elif damage in ("missing", "pipe"):
        file.unlink()
        if damage == "pipe":
            os.mkfifo(file)
    else:
        file.write_bytes(data)
    out, err = sample(capsys, CAT, code=3)
    assert out == []
    assert f"{file.parent.name}/{file.name}" in err
    assert "Traceback" not in err
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("../{slug}.png", "leads out of the current folder"),
        ("a/../../{slug}.png", "leads out of the current folder"),
        ("/there/{slug}.png", "leads out of the current folder"),
        ("link/{slug}.png", "leads out of the current folder"),
        ("{slug}{slug}.png", "too long for a file"),
        ("{seed.__class__}.png", "is not a field"),
        ("{slug!r}.png", "is not a field"),
        ("{0}.png", "is not a field"),
        ("{slug.png", "is not a field"),
        ("a\nb", "names no folder"),
    ],
)
def test_templates_that_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], output: str, sentence: str
) -> None:
    (place / "link").symlink_to(place.parent / "home")
    out, err = sample(capsys, CAT + " and more" * 20, "-o", output, code=2)
    assert sentence in err
    assert out == []
    assert sorted(p.name for p in place.iterdir()) == ["link"]


def test_a_plain_folder_may_be_anywhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("../there", str(place.parent / "abs")):
        out, _ = sample(capsys, CAT, "--seed", "1", "--size", "16", "-o", folder)
        assert out == [f"{folder}/a-cat-in-the-snow-1.png"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--steps", "2.5"), "whole number"),
        (("--steps", "clip=2"), "the stage 'clip' does not take it"),
        (("--guidance", "up=3"), "no stage 'up'"),
        (("--size", "63"), "stops at 16, 64"),
    ],
)
def test_settings_that_make_no_sense(
    place: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], sentence: str
) -> None:
    _, err = sample(capsys, CAT, *args, code=2)
    assert sentence in err


# Processes of their own -----------------------------------------------------------------------------


def test_sampling_imports_no_foreign_library(place: Path) -> None:
    """It costs seconds: torch, safetensors and the tokenizer are what a picture needs."""
    foreign = {"diffusers", "transformers", "open_clip", "torchvision", "scipy", "rich"}
    foreign |= {"torch._dynamo", "torch._inductor", "sympy", "huggingface_hub", "accelerate"}
    code = (
        "import sys; from t2i.cli.app import run; code = run(sys.argv[1:]);"
        f"sys.stderr.write(repr(sorted({foreign!r} & set(sys.modules))[:5])); sys.exit(code)"
    )
    process = start("sample", CAT, "-n", "2", "--model", "tiny", "--device", "cpu", "-q", code=code)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    assert len(out.splitlines()) == 2
    assert err.decode() == "[]"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done(place: Path, number: int, code: int) -> None:
    args = ("-n", "5000", "--seed", "1", "--batch", "1", "--size", "16", "--json", "-q")
    process = start("sample", CAT, *args, "--model", "tiny", "--device", "cpu")
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err.decode()
    *records, envelope = [json.loads(line) for line in [*lines, *out.splitlines()]]
    assert envelope["ok"] is False
    assert envelope["error"]["code"] == "interrupted"
    assert envelope["pictures"] == len(records)
    assert sorted(p.name for p in (place / "out").glob("*.png")) == sorted(Path(r["path"]).name for r in records)
    for record in records:
        load_image(record["path"])
    assert b"Traceback" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_does_not_wait_for_the_picture(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """It comes in the middle of the second picture's steps, and no other step is taken."""
    from t2i.pipeline import Pipeline

    real, seen = Pipeline.sample, list[int]()

    def signalled(self: Pipeline, prompts: Any, seeds: Any, *args: Any, on_step: Any, **kw: Any) -> Any:
        def step(stage: str, n: int, total: int, x0_hat: Any) -> None:
            if seeds == [2] and stage == "base":
                seen.append(n)
                if n == 3:
                    os.kill(os.getpid(), number)
            on_step(stage, n, total, x0_hat)

        return real(self, prompts, seeds, *args, on_step=step, **kw)

    monkeypatch.setattr(Pipeline, "sample", signalled)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    args = [
        CAT,
        "--seed",
        "1..5",
        "--batch",
        "1",
        "--steps",
        "50",
        "--size",
        "16",
        "--model",
        "tiny",
        "--device",
        "cpu",
    ]
    assert run(["sample", *args]) == code
    signal.signal(signal.SIGINT, before)
    out, err = capsys.readouterr()
    assert seen == [1, 2, 3]
    assert out == "out/a-cat-in-the-snow-1.png\n"
    assert ("interrupted" if code == 130 else "terminated") in err and "Traceback" not in err
    assert sorted(path.name for path in (place / "out").iterdir()) == ["a-cat-in-the-snow-1.png", "manifest.jsonl"]


def test_two_runs_into_one_folder(place: Path) -> None:
    """Both draw different pictures of one name: nothing is overwritten or lost."""
    args = (CAT, "--seed", "1..4", "--size", "16", "--batch", "1", "-q", "--model", "tiny", "--device", "cpu")
    runs = [start("sample", *args, "--steps", str(steps)) for steps in (2, 3)]
    paths = [path for process in runs for path in process.communicate(timeout=600)[0].decode().split()]
    assert [process.returncode for process in runs] == [0, 0]
    assert len(set(paths)) == 8
    assert sorted(p.name for p in (place / "out").glob("*.png")) == sorted(Path(path).name for path in paths)
    assert len({load_image(path).tobytes() for path in paths}) == 8


def test_results_that_cannot_be_written_are_an_output_error(place: Path) -> None:
    """A full disk behind stdout is the user's to mend (3), and a closed one gets no results and no traceback (0)."""
    for redirect, code in ((">/dev/full", 3), ("--json >/dev/full", 3), (">&-", 0)):
        line = f'"{sys.executable}" -c "from t2i.cli.app import main; main()" models list {redirect}'
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr and "fault of ours" not in done.stderr
