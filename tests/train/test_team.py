"""A batch that is cut into parts, in passes or between processes, gives the same training."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training import trained_by

from t2i.errors import UsageError
from t2i.train.log import read_log
from t2i.train.part import Part, check_cut
from t2i.train.recipe import Schedule
from t2i.train.state import read_facts

CLOSE = 1e-5


def curve(out: Path, stage: str) -> list[float]:
    """The loss of every step."""
    return [row["loss"] for row in read_log(out / ".train" / stage / "log.jsonl") if row["event"] == "step"]


def close(a: Path, b: Path, stage: str) -> bool:
    left, right = curve(a, stage), curve(b, stage)
    assert left, stage
    pairs = list(zip(left, right, strict=True))
    return all(abs(x - y) <= CLOSE * max(1, abs(x)) for x, y in pairs)


def test_parts_are_the_whole() -> None:
    rows = torch.arange(12)
    parts = [Part(rank, 2, turn, 3) for rank in range(2) for turn in range(3)]
    assert torch.equal(torch.cat([part.rows(rows) for part in parts]), rows)
    assert Part().rows(rows) is rows
    assert Part(1, 2).rows(["a", "b", "c", "d"]) == ["c", "d"]


def test_a_batch_that_cannot_be_cut_is_refused(micro: str, tmp_path: Path) -> None:
    check_cut("base", Schedule(batch=7), 1, 4, "")
    with pytest.raises(UsageError, match="cannot be cut into 3 equal parts") as caught:
        check_cut("base", Schedule(batch=64), 3, 1, "")
    assert "base.batch=66" in caught.value.hint
    with pytest.raises(UsageError, match="cannot be cut into 4"):
        trained_by("upsampler256", micro, ["upsampler256.batch=4", "upsampler256.accumulate=4"], out=tmp_path / "m")
    with pytest.raises(UsageError, match="contrast is between all"):
        trained_by("clip", micro, ["clip.accumulate=2"], out=tmp_path / "m")


@pytest.mark.parametrize(
    ("recipe", "stage", "cut"),
    [
        ("dalle_micro", "vae", ("vae",)),
        pytest.param("micro", "all", ("base", "prior", "upsampler256"), marks=pytest.mark.slow),
        pytest.param("blind_micro", "all", ("text", "base", "upsampler256"), marks=pytest.mark.slow),
        pytest.param("dalle_micro", "all", ("vae", "dalle"), marks=pytest.mark.slow),
        pytest.param("gan_micro", "all", ("gan",), marks=pytest.mark.slow),
    ],
)
def test_passes_give_the_curve_of_the_whole_batch(
    recipe: str, stage: str, cut: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(recipe)
    trained_by(stage, path, out=tmp_path / "whole")
    trained_by(stage, path, [f"{name}.accumulate=2" for name in cut], out=tmp_path / "cut")
    for name in cut:
        assert close(tmp_path / "whole", tmp_path / "cut", name), name


# Several processes -------------------------------------------------------------------------------------------------

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(*args: str, ranks: int = 2, engine: str = "") -> list[subprocess.Popen[str]]:
    """`t2i train` in several processes, as `torchrun` starts them. engine: "fsdp" for the one of test_sharding.py."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    group |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if engine == "fsdp" else {}
    command = [sys.executable, "-m", "t2i", "train", *args, "--device", "cpu"]
    return [
        subprocess.Popen(
            command, env={**ENV, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(ranks)
    ]  # fmt: skip


def launch(*args: str, ranks: int = 2, code: int = 0) -> tuple[str, str]:
    """What the processes printed. Checks their exit codes."""
    runs = start(*args, ranks=ranks)
    told = [process.communicate(timeout=900) for process in runs]
    assert [process.returncode for process in runs] == [code] * ranks, told
    return "".join(out for out, _ in told), "".join(err for _, err in told)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["micro", "blind_micro", "dalle_micro", "gan_micro"])
def test_two_processes_give_the_curve_of_one(recipe: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = request.getfixturevalue(recipe)
    alone, two = tmp_path / "alone", tmp_path / "two"
    bundle = trained_by("all", path, out=alone)
    out, err = launch("--recipe", path, "--out", str(two))
    assert out.split() == [str(two)], "only the first process prints"
    assert err.count(" start 0/") == len(list(alone.glob(".train/*/log.jsonl")))
    stages = sorted(log.parent.name for log in alone.glob(".train/*/log.jsonl"))
    assert stages and all(close(alone, two, s) for s in stages), [(curve(alone, s), curve(two, s)) for s in stages]
    assert {entry.name for entry in bundle.manifest.stages} <= {path.name for path in two.iterdir()}


@pytest.mark.slow
def test_what_two_saved_one_resumes_and_back(micro: str, tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    trained_by("clip", micro, out=straight)
    for first, name in ((2, "two-one"), (1, "one-two")):
        out = tmp_path / name
        stop = ["clip", "--recipe", micro, "--out", str(out), "--steps"]
        for ranks, steps, resume in ((first, "6", []), (3 - first, "12", ["--resume"])):
            launch(*stop, steps, "--set", "clip.decay=0", *resume, ranks=ranks)
        assert read_facts(out / ".train/clip")["step"] == 12
    trained_by("clip", micro, ["clip.decay=0"], out=tmp_path / "plain", steps=12)
    for name in ("two-one", "one-two"):
        assert close(tmp_path / "plain", tmp_path / name, "clip"), curve(tmp_path / name, "clip")


@pytest.mark.slow
def test_two_processes_of_two_passes(micro: str, tmp_path: Path) -> None:
    cut = ["base.accumulate=2", "base.batch=8", "upsampler256.accumulate=2", "upsampler256.batch=8"]
    trained_by("all", micro, cut[1::2], out=tmp_path / "alone")
    launch("--recipe", micro, "--out", str(tmp_path / "two"), *[word for text in cut for word in ("--set", text)])
    for stage in ("base", "upsampler256"):
        assert close(tmp_path / "alone", tmp_path / "two", stage)


@pytest.mark.slow
def test_shards_are_split_between_processes(micro: str, tmp_path: Path) -> None:
    """Pictures in WebDataset shards; each process reads its rows of a batch."""
    import io
    import tarfile

    from PIL import Image

    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for i in range(12):
                picture = io.BytesIO()
                Image.new("RGB", (24, 20), (20 * i, 100 * shard, 255 - 20 * i)).save(picture, "PNG")
                for name, data in ((f"{i:03}.png", picture.getvalue()), (f"{i:03}.txt", f"picture {i}".encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    data = str(tmp_path / "{0..1}.tar")
    changes = ["tokenizer.captions=100", "clip.steps=4"]
    trained_by("clip", micro, changes, data, tmp_path / "alone")
    sets = [word for text in changes for word in ("--set", text)]
    launch("clip", "--recipe", micro, "--data", data, "--out", str(tmp_path / "two"), *sets)
    assert close(tmp_path / "alone", tmp_path / "two", "clip")


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_said_by_all(micro: str, tmp_path: Path) -> None:
    out = str(tmp_path / "m")
    _, err = launch("--recipe", micro, "--out", out, "--set", "clip.batch=5", code=2)
    assert "cannot be cut into 2 equal parts" in err
    _, err = launch("--recipe", micro, "--out", out, "--dry-run", code=2)
    assert "is one process" in err
    _, err = launch("--recipe", micro, "--out", out, "--resume", code=3)
    assert err.count("there is no checkpoint to resume") == 2
    assert not re.search("Traceback", err)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["", "fsdp"])
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, [143, 143]), (signal.SIGKILL, [4, -9])])
def test_a_process_that_is_told_to_stop_or_dies_ends_all(
    micro: str, tmp_path: Path, number: int, codes: list[int], engine: str
) -> None:
    """After a signal with a checkpoint; after a kill with a sentence."""
    args = ["clip", "--recipe", micro, "--out", str(tmp_path / "m"), "--steps", "100000", "--set", "clip.muon=false"]
    runs = start(*args, engine=engine)
    log, end = tmp_path / "m" / ".train" / "clip" / "log.jsonl", time.monotonic() + 300
    while not log.is_file() or not curve(tmp_path / "m", "clip"):
        assert all(process.poll() is None for process in runs) and time.monotonic() < end
        time.sleep(0.2)
    runs[1].send_signal(number)
    told = [process.communicate(timeout=300) for process in runs]
    assert [process.returncode for process in runs] == codes, told
    if number == signal.SIGTERM:
        assert read_facts(tmp_path / "m/.train/clip")["step"] == len(curve(tmp_path / "m", "clip"))
    else:
        assert "another process of this training has ended" in told[0][1]
