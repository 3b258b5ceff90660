"""Several runs into one folder: none draws what another is drawing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from killing import broken_off_everywhere

from t2i.jobs.claims import LOCK, Claims

HOLDER = """
import sys
from pathlib import Path
from t2i.jobs.claims import Claims
claims = Claims()
for key in sys.argv[1:]:
    print(claims.take(Path("a.png"), key), flush=True)
sys.stdin.read()
claims.close()
"""


def holder(place: Path, *keys: str) -> tuple[subprocess.Popen[str], list[bool]]:
    """A process that holds what it can claim until its stdin is closed, and what it got."""
    command = [sys.executable, "-c", HOLDER, *keys]
    process = subprocess.Popen(command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [process.stdout.readline() == "True\n" for _ in keys]


def test_a_claim_is_one_runs_until_it_ends(tmp_path: Path) -> None:
    first, got = holder(tmp_path, "x", "y")
    assert got == [True, True]
    second, got = holder(tmp_path, "x", "z")
    assert got == [False, True]
    mine = Claims()
    assert not mine.take(tmp_path / "a.png", "x")
    assert mine.take(tmp_path / "b.png", "x"), "another name is another picture"
    first.kill()  # the system takes its claims back
    first.wait()
    assert mine.take(tmp_path / "a.png", "x", wait=True)
    assert mine.take(tmp_path / "a.png", "x"), "claimed already, by this run"
    assert not mine.take(tmp_path / "a.png", "z")
    mine.close()
    assert (tmp_path / LOCK).exists(), "the second still uses it"
    second.communicate()
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    one, two = Claims(), Claims()
    assert one.take(tmp_path / "a.png", "x")
    one.release()
    (tmp_path / LOCK).unlink()  # as by a run that ended in between
    assert one.take(tmp_path / "a.png", "y")
    process, got = holder(tmp_path, "y")
    assert got == [False]
    process.communicate()
    for claims in (one, two):
        claims.close()


def test_where_nothing_can_be_locked_everything_can_be_claimed(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    assert Claims().take(tmp_path / "a.png", "x")
    assert Claims().take(tmp_path / "none" / "a.png", "x")


def test_runs_into_one_folder_share_the_work(studio: Path) -> None:
    """Every run reports every picture; each is drawn by one of them, and listed once."""
    args = ["sample", "a cat in the snow", "--seed", "1..24", "--size", "16", "--batch", "3", "--steps", "12"]
    command = [sys.executable, "-m", "t2i", *args, "--model", "tiny", "--device", "cpu"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=600) for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0], told
    assert [out.split() for out, _ in told] == [[f"out/a-cat-in-the-snow-{seed}.png" for seed in range(1, 25)]] * 3
    drawn = sum(
        int(line.split()[0]) for _, err in told for line in err.splitlines() if " in " in line and "picture" in line
    )
    assert drawn == 24
    lines = (studio / "out" / "manifest.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 24 and max(Counter(lines).values()) == 1
    assert len(list((studio / "out").iterdir())) == 25


def test_a_signal_while_the_claims_are_let_go_leaves_no_file(tmp_path: Path) -> None:
    """`close` is called again where it was broken off, as at the end of a run."""
    claims = Claims()

    def check() -> None:
        claims.close()
        assert not list(tmp_path.iterdir())
        assert claims.take(tmp_path / "a.png", "x")

    check()
    assert broken_off_everywhere(claims.close, check) > 10
    claims.close()
