"""A training that was killed and resumed ends at the same weights as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from t2i.errors import InputError
from t2i.train.log import read_log
from t2i.train.state import TENSORS, read_facts
from t2i.train.trainer import train

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# dies after step `die`, which lies behind the last checkpoint; -1: lives
SCRIPT = """
import os, signal, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from t2i.train.trainer import train
stage, recipe, out, die = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def report(record):
    if record["event"] == "step" and record["step"] == die:
        os.kill(os.getpid(), signal.SIGKILL)
resume = (Path(out) / ".train" / stage / "state.safetensors").is_file()
train(stage, recipe, sys.argv[5:], out=out, resume=resume, report=report)
"""


def checkpoint(out: Path, stage: str = "clip") -> Path:
    return out / ".train" / stage / TENSORS


def same(a: Path, b: Path) -> bool:
    left, right = load_file(a), load_file(b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_killed_and_resumed_equals_straight_to_the_bit(micro: str, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train("clip", micro, out=straight)
    done = subprocess.run([sys.executable, "-c", SCRIPT, "clip", micro, str(killed), "7"], env=ENV, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_facts(killed / ".train/clip")["step"] == 5
    assert not (killed / "clip").exists()  # no half-trained stage in the bundle
    bundle = train("clip", micro, out=killed, resume=True)
    assert same(checkpoint(straight), checkpoint(killed))
    assert not isinstance(bundle, dict)
    weights = "clip/model.safetensors"
    assert (straight / weights).read_bytes() == (killed / weights).read_bytes()
    # every step stands once in the log, also those between the checkpoint and the kill
    steps = [record["step"] for record in read_log(killed / ".train/clip/log.jsonl")]
    assert steps == list(range(1, 13))


def test_all_stages_go_on_where_they_were(micro: str, tmp_path: Path) -> None:
    """Stopped in the middle of the base, then resumed: the finished is kept, the rest as if not stopped."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    short = ["clip.steps=2"]
    train("all", micro, short, out=straight)
    seen: list[dict[str, Any]] = []

    def stop() -> bool:
        return any(r["event"] == "step" and r["stage"] == "base" and r["step"] >= 1 for r in seen)

    train("all", micro, short, out=stopped, report=seen.append, stop=stop)
    assert seen[-1]["event"] == "stopped" and not (stopped / "base").exists()
    again: list[dict[str, Any]] = []
    bundle = train("all", micro, short, out=stopped, resume=True, report=again.append)
    assert not isinstance(bundle, dict)
    assert [r["stage"] for r in again if r["event"] == "kept"] == ["clip", "prior"]
    assert [r["step"] for r in again if r["event"] == "start" and r["stage"] == "base"] == [2]
    assert bundle.manifest.sizes == (16, 64)
    for stage in ("clip", "base", "prior", "upsampler256"):
        assert same(checkpoint(straight, stage), checkpoint(stopped, stage)), stage
    third: list[dict[str, Any]] = []
    train("all", micro, short, out=stopped, resume=True, report=third.append)
    assert {r["event"] for r in third} == {"kept"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(number: signal.Signals, code: int, micro: str, tmp_path: Path) -> None:
    out = tmp_path / "m"
    args = [
        sys.executable,
        "-m",
        "t2i",
        "train",
        "clip",
        "--recipe",
        micro,
        "--steps",
        "100000",
        "--out",
        str(out),
        "--json",
    ]

    def heed() -> None:  # a test run in the background is started with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        args, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "step":
            process.send_signal(number)
            break
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert f"stopped; saved in {out}: clip. To go on: the same command with --resume" in errors
    last = [json.loads(line) for line in rest.splitlines() if "step" in json.loads(line)][-1]
    assert read_facts(out / ".train/clip")["step"] == last["step"]
    assert not (out / "clip").exists()


def test_resuming_nothing_is_refused(micro: str, tmp_path: Path) -> None:
    for stage in ("clip", "all"):
        with pytest.raises(InputError, match="no checkpoint") as error:
            train(stage, micro, out=tmp_path / "m", resume=True)
        assert error.value.exit_code == 3 and not (tmp_path / "m").exists()


def test_a_checkpoint_of_another_training_is_refused(micro: str, tmp_path: Path) -> None:
    train("clip", micro, ["clip.steps=1"], out=tmp_path)
    before = checkpoint(tmp_path).read_bytes()
    for change, words in (("clip.net.text_layers=2", "network of another size"), ("seed=4", "another seed")):
        with pytest.raises(InputError, match=words) as error:
            train("clip", micro, [change], out=tmp_path, resume=True)
        assert error.value.code == "mismatch"
    with pytest.raises(InputError, match="another network"):  # the small base trains with CLIP
        train("clip", micro, ["base.net.z_tokens=3"], out=tmp_path, resume=True)
    assert checkpoint(tmp_path).read_bytes() == before
    checkpoint(tmp_path).write_bytes(before[: len(before) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        train("clip", micro, out=tmp_path, resume=True)


def test_a_new_clip_drops_what_learned_from_the_old_one(micro: str, tmp_path: Path) -> None:
    train("all", micro, ["clip.steps=1"], steps=1, out=tmp_path)
    before = (tmp_path / "bundle.json").read_bytes()
    with pytest.raises(InputError, match="holds clip already") as error:
        train("clip", micro, ["seed=5"], steps=1, out=tmp_path)
    assert "--overwrite" in error.value.hint and (tmp_path / "bundle.json").read_bytes() == before
    bundle = train("clip", micro, ["seed=5"], steps=1, out=tmp_path, overwrite=True)
    assert not isinstance(bundle, dict)
    assert [entry.name for entry in bundle.manifest.stages] == ["clip", "upsampler256"]
    assert set(bundle.manifest.notes["training"]) == {"clip", "upsampler256"}
    with pytest.raises(InputError, match="no checkpoint"):
        train("base", micro, out=tmp_path, resume=True)


def test_a_clip_that_trains_on_is_learned_from_anew(micro: str, tmp_path: Path) -> None:
    train("all", micro, steps=1, out=tmp_path)
    seen: list[dict[str, Any]] = []
    bundle = train("all", micro, steps=2, out=tmp_path, resume=True, report=seen.append)
    assert not isinstance(bundle, dict)
    assert [entry.name for entry in bundle.manifest.stages] == ["clip", "prior", "base", "upsampler256"]
    assert [r["stage"] for r in seen if r["event"] == "dropped"] == ["base and prior"]
    starts = {r["stage"]: r["step"] for r in seen if r["event"] == "start"}
    assert starts == {"clip": 1, "base": 0, "prior": 0, "upsampler256": 1}


def test_a_training_with_workers_is_the_training_without(micro: str, tmp_path: Path) -> None:
    train("clip", micro, out=tmp_path / "alone")
    train("clip", micro, out=tmp_path / "helped", workers=2)
    assert same(checkpoint(tmp_path / "alone"), checkpoint(tmp_path / "helped"))
