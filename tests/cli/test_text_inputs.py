"""What people, and those who mean ill, put into prompts, names and places; each provoked for real."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.jobs.output_paths import MAX_NAME, MAX_SLUG
from t2i.media.images import load_image, read_metadata

Draw = Callable[..., tuple[list[str], str]]
MARKUP = "a [bold red]cat[/] [/foo] [link=file:///etc/passwd]x"
HOSTILE = {
    "markup": MARKUP,
    "escape": "a \x1b[31mred\x1b[0m \x1b]0;title\x07 cat",
    "c0": "a \x01\x02\x08\x7f cat",
    "c1": "a \x9b31m cat",
    "bidi": "a \u202etac\u202c \u2066cat\u2069",
    "line separators": "a\u2028cat\u2029in\x85the snow",
    "line breaks": "a cat\r\nout/other.png\tin",
    "emoji": "a 👩\u200d🚀 and a 🐈\u200d⬛",
    "chinese": "一只猫在雪地里玩耍，旁边有一座房子",
    "right to left": "قطة في الثلج",
    "combining": "e\u0301" * 40,
    "brace": "a {x} {0} {p.__class__} %s $HOME `id` ; rm -rf",
    "xml": "]]></rdf:RDF><t2i:record>{}</t2i:record> &amp; \ufffe\uffff",
    "json": 'a "quoted\\" cat", "seed": 1}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_prompt_comes_back_and_shows_safely(
    draw: Draw, capsys: pytest.CaptureFixture[str], name: str, suffix: str
) -> None:
    from t2i.cli.app import run

    prompt = HOSTILE[name]
    out, err = draw(prompt, "--seed", "1", "-o", "{slug}." + suffix)
    assert len(out) == 1
    assert len(Path(out[0]).name.encode()) <= MAX_SLUG + 5
    assert read_metadata(out[0])["t2i"]["prompt"] == prompt.strip()
    assert read_metadata(out[0])["digital_source_type"] == "trainedAlgorithmicMedia"
    if name in ("escape", "c0", "c1", "bidi", "line separators", "line breaks"):
        assert "characters that do not show" in err
    else:
        assert "characters that do not show" not in err
    assert run(["info", out[0]]) == 0
    shown = err + capsys.readouterr().out
    for char in "\x1b\x07\x01\x08\x7f\x9b\u202e\u2066\u2028\u2029\x85\r":
        assert char not in shown
    if name == "markup":
        assert MARKUP in shown


@pytest.mark.parametrize("prompt", ["a\0cat", "a\ud800cat", "c" * (1 << 20), "", " \n\t"])
@pytest.mark.parametrize("how", ["argument", "file", "jobs", "negative"])
def test_what_is_no_prompt_is_refused_before_anything_happens(draw: Draw, studio: Path, prompt: str, how: str) -> None:
    if how == "negative" and not prompt.strip():
        return  # no negative prompt is a fine one
    args = [prompt]
    if how == "file":
        if "\ud800" in prompt or not prompt.strip():
            return  # no UTF-8 file holds the one, and the other is a blank line
        (studio / "p.txt").write_text("a cat\n" + prompt + "\n")
        args = ["-f", "p.txt"]
    elif how == "jobs":
        (studio / "p.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
        args = ["-f", "p.jsonl"]
    elif how == "negative":
        args = ["a cat", "--negative", prompt]
    out, err = draw(*args, code=2)
    assert out == []
    assert len(err) < 500
    assert not (studio / "out").exists()


def test_a_prompt_as_long_as_is_taken(draw: Draw) -> None:
    prompt = ("cat " * 20_000)[: 64 << 10].strip()
    out, err = draw(prompt, "--seed", "1")
    assert read_metadata(out[0])["t2i"]["prompt"] == prompt
    assert "it did not see “" in err
    assert len(Path(out[0]).name.encode()) <= MAX_NAME


def test_hostile_names_in_a_jobs_file_stay_in_the_folder(draw: Draw, studio: Path) -> None:
    rows = [
        {"prompt": "a cat", "seed": 1, "name": name}
        for name in ("../../x", "/etc/x", "..", "a/b", "\x1b]0;x", "{seed}")
    ]
    (studio / "j.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, _ = draw("-f", "j.jsonl")
    assert all(Path(path).parent == Path("out") for path in out)
    assert {path.parent for path in studio.parent.rglob("*.png")} == {studio / "out"}


def test_a_link_that_leads_out_is_refused(draw: Draw, studio: Path) -> None:
    (studio.parent / "outside").mkdir()
    (studio / "link").symlink_to(studio.parent / "outside")
    (studio / "a-cat.png").symlink_to(studio.parent / "outside" / "victim.png")
    _, err = draw("a cat", "-o", "link/{slug}.png", code=2)
    assert "leads out of the current folder" in err
    # a link at the name itself is replaced or stepped around, never written through
    (studio.parent / "outside" / "victim.png").write_bytes(b"mine")
    for more in ([], ["--overwrite"]):
        draw("a cat", "--seed", "1", "-o", "{slug}.png", *more)
        assert (studio.parent / "outside" / "victim.png").read_bytes() == b"mine"
    assert not (studio / "a-cat.png").is_symlink()


def test_a_folder_that_cannot_be_written(studio: Path, draw: Draw) -> None:
    (studio / "file").write_text("x")
    for place in ("file/x", "/proc/x", "/dev/null/x", "file"):
        out, err = draw("a cat", "-o", place, code=3)
        assert out == []
        assert "cannot write to" in err
    if os.geteuid():  # the superuser may write everywhere
        (studio / "closed").mkdir(mode=0o500)
        assert "ermission" in draw("a cat", "-o", "closed", code=3)[1]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full(studio: Path, draw: Draw, overwrite: bool) -> None:
    """A limit on the size of files, for a real refusal by the system: what was there stays, nothing half is left."""
    (first,), _ = draw("a cat", "--seed", "1", "--size", "64")
    before = {path: path.read_bytes() for path in (studio / "out").iterdir()}

    def tight() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    args = [
        "sample",
        "a cat",
        "-n",
        "2",
        "--seed",
        "1",
        "--steps",
        "2",
        "--size",
        "64",
        "--model",
        "tiny",
        "--device",
        "cpu",
    ]
    command = [sys.executable, "-m", "t2i", *args, *(["--overwrite"] if overwrite else []), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=tight, check=False)
    assert done.returncode == 3, done.stderr
    envelope = json.loads(done.stdout.splitlines()[-1])
    assert (envelope["ok"], envelope["pictures"], envelope["error"]["code"]) == (False, 0, "output")
    assert "File too large" in envelope["error"]["message"]
    assert {path: path.read_bytes() for path in (studio / "out").iterdir()} == before
    load_image(first)
