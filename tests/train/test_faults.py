"""Trainings whose surroundings fail: numbers that are none, a full disk, damaged checkpoints, data that vanish."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import ended, in_child
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t2i.cli.app import run as command
from t2i.errors import InputError
from t2i.files import STAGED_PREFIX, TEMP_PREFIX
from t2i.store.bundle import read_bundle
from t2i.train.loop import NAN_LIMIT, fit
from t2i.train.objective import Trainable
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.recipe import Schedule
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS, State, read_facts
from t2i.train.trainer import train

# Numbers that are none


class Toy(Trainable):
    """A linear layer whose loss is no number at the steps `bad`."""

    def __init__(self, out: Path, recipe: str, bad: range, steps: int = 6) -> None:
        loaded = load_recipe(recipe)
        self.name, self.bad, self.facts = "toy", bad, {}
        self.run = Run(loaded, out, Pictures(loaded))
        self.schedule = Schedule(steps=steps, batch=1, precision="fp32", save_every=1, log_every=1)
        g = torch.Generator().manual_seed(0)
        self.module = nn.Linear(3, 3)
        for p in self.module.parameters():
            p.data = torch.randn(p.shape, generator=g)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        value = torch.nan if step in self.bad else 1.0
        return value * self.module(torch.ones(1, 3)).square().sum(), {}


def test_a_broken_batch_is_skipped_also_at_the_end(micro: str, tmp_path: Path) -> None:
    for at in (0, 3, 5):
        state = fit(Toy(tmp_path / str(at), micro, range(at, at + 1)), resume=False)
        assert (state.step, state.skipped) == (6, 1)
        assert all(bool(torch.isfinite(t).all()) for t in state.tensors().values())
        assert read_facts(tmp_path / str(at) / ".train/toy")["step"] == 6


@pytest.mark.parametrize(("bad", "steps", "last"), [(range(4, 6), 6, 5), (range(1), 1, 0), (range(6), 6, 5)])
def test_a_training_whose_last_steps_were_skipped_is_not_done(
    bad: range, steps: int, last: int, micro: str, tmp_path: Path
) -> None:
    for resume in (False, bool(last)):
        with pytest.raises(InputError, match=r"last .* steps of toy was no number") as error:
            fit(Toy(tmp_path, micro, bad, steps), resume=resume)
        assert error.value.exit_code == 3
    checkpoint = tmp_path / ".train/toy"
    assert read_facts(checkpoint)["step"] == last if last else not (checkpoint / TENSORS).exists()
    if last:  # the last checkpoint is good: with a loss that is a number the training can end
        assert fit(Toy(tmp_path, micro, range(0), steps), resume=True).step == steps


def test_skipped_steps_are_counted_over_a_resume(micro: str, tmp_path: Path) -> None:
    fit(Toy(tmp_path, micro, range(0), 2), resume=False)
    for part in (range(2, 2 + NAN_LIMIT - 1), range(2, 2 + 2 * NAN_LIMIT)):
        task = Toy(tmp_path, micro, part, 200)
        steps: list[int] = []
        task.run.report = lambda record, steps=steps: steps.append(record.get("step", 0))  # type: ignore[misc]
        task.run.stop = lambda steps=steps: bool(steps) and steps[-1] >= NAN_LIMIT  # type: ignore[misc]
        if part.stop == 2 + 2 * NAN_LIMIT:
            with pytest.raises(InputError, match=f"for the {NAN_LIMIT}th time"):
                fit(task, resume=True)
            assert steps[-1] <= NAN_LIMIT + 2
        else:
            assert fit(task, resume=True).skipped_last > 1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    """The checkpoint before them stays."""
    net = nn.Linear(2, 2)
    state = State(net, MuonAdamW(net.named_parameters(), lr=0.1), PowerEMA(net))
    state.save(tmp_path, {}, state.tensors())
    before = (tmp_path / TENSORS).read_bytes()
    net.weight.data[0, 0] = torch.inf
    with pytest.raises(InputError, match="model/weight"):
        state.save(tmp_path, {}, state.tensors())
    assert (tmp_path / TENSORS).read_bytes() == before


@pytest.fixture(scope="module")
def finished_clip(micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clip") / "m"
    train("clip", micro, steps=2, out=out)
    return out


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """Change the tensors and the facts of a checkpoint."""
    tensors, facts = load_file(path), read_facts(path.parent)
    change(tensors, facts)
    save_file(tensors, path, {"facts": json.dumps(facts)})


def poison(prefix: str) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def change(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        name = next(n for n, t in tensors.items() if n.startswith(prefix) and t.is_floating_point() and t.numel() > 1)
        tensors[name].view(-1)[-1] = torch.nan

    return change


@pytest.mark.parametrize("prefix", ["model/", "ema/", "optimizer/"])
def test_a_checkpoint_with_nan_is_refused_and_its_stage_not_done(
    prefix: str, micro: str, finished_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    shutil.copytree(finished_clip, out)
    rewrite(out / ".train/clip" / TENSORS, poison(prefix))
    weights = (out / "clip/model.safetensors").read_bytes()
    for stage, steps in (("clip", "2"), ("clip", "4"), ("all", "4")):
        code = command(["train", stage, "--recipe", micro, "--steps", steps, "--out", str(out), "--resume"])
        said = capsys.readouterr().err
        assert code == 3 and "no numbers" in said and prefix in said and "Traceback" not in said
    assert (out / "clip/model.safetensors").read_bytes() == weights


# Damaged checkpoints


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": cut,
    "text": lambda data: b"hello",
    "pickle": lambda data: b"\x80\x04K\x01.",
    "huge header": lambda data: b"\xff" * 8 + data[8:],
    "zeros": lambda data: bytes(len(data)),
}
STRANGE: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], None]] = {
    "no step": lambda tensors, facts: facts.pop("step"),
    "step is a text": lambda tensors, facts: facts.update(step="many"),
    "step is negative": lambda tensors, facts: facts.update(step=-1),
    "step is endless": lambda tensors, facts: facts.update(step=10**400),
    "seconds are none": lambda tensors, facts: facts.update(seconds=None),
    "a tensor is missing": lambda tensors, facts: tensors.pop("ema/clip.logit_scale"),
    "a tensor is too many": lambda tensors, facts: tensors.update({"model/x": torch.ones(1)}),
    "another shape": lambda tensors, facts: tensors.update({"ema/clip.logit_scale": torch.ones(3)}),
    "another type": lambda tensors, facts: tensors.update({"ema/clip.logit_scale": torch.tensor(1)}),
    "half an optimiser": lambda tensors, facts: tensors.pop(next(n for n in tensors if n.endswith("/mean"))),
    "another optimiser": lambda tensors, facts: tensors.update({"optimizer/0/evil": torch.ones(1)}),
    "another tokenizer": lambda tensors, facts: facts.update(tokenizer="0" * 64),
}


@pytest.mark.parametrize("name", [*DAMAGES, *STRANGE, "no facts"])
def test_a_damaged_checkpoint_is_named(
    name: str, micro: str, finished_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    shutil.copytree(finished_clip, out)
    path = out / ".train/clip" / TENSORS
    if name in DAMAGES:
        path.write_bytes(DAMAGES[name](path.read_bytes()))
    elif name in STRANGE:
        rewrite(path, STRANGE[name])
    else:
        save_file(load_file(path), path)
    code = command(["train", "clip", "--recipe", micro, "--steps", "4", "--out", str(out), "--resume"])
    said = capsys.readouterr().err
    assert code == 3 and str(path) in said and "Traceback" not in said, said


# A disk that is full, or that refuses


@pytest.mark.parametrize("most", [200, 3_000, 30_000, 300_000])
def test_a_full_disk_is_said_and_leaves_nothing_half(
    most: int, micro: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No file may grow beyond `most` bytes: the tokenizer, the log, the checkpoint or the bundle cannot be written."""
    out = tmp_path / "m"
    args = ["train", "clip", "--recipe", micro, "--steps", "2", "--out", str(out)]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        os._exit(command(args))

    assert ended(in_child(limited)) == 3
    said = capfd.readouterr().err
    assert "File too large" in said and "Traceback" not in said
    left = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert not [path for path in left if path.name.startswith((TEMP_PREFIX, STAGED_PREFIX))]
    assert not [path for path in left if path.suffix in (".json", ".safetensors", ".md") and not path.stat().st_size]
    if (out / "bundle.json").exists():
        assert read_bundle(out).verify()
    assert command([*args, "--overwrite"]) == 0


def test_a_disk_that_is_full_for_the_log_alone(
    micro: str, finished_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    shutil.copytree(finished_clip, out)
    (out / ".train/clip/log.jsonl").unlink()
    (out / ".train/clip/log.jsonl").symlink_to("/dev/full")
    assert command(["train", "clip", "--recipe", micro, "--steps", "4", "--out", str(out), "--resume"]) == 3
    said = capsys.readouterr().err
    assert "No space left" in said and "--resume" in said and "Traceback" not in said
    assert read_facts(out / ".train/clip")["step"] == 2


def test_a_file_in_the_place_of_a_folder_is_said(
    micro: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / ".train").write_text("a file")
    assert command(["train", "clip", "--recipe", micro, "--steps", "1", "--out", str(out)]) == 3
    said = capsys.readouterr().err
    assert ".train" in said and "Traceback" not in said


def test_a_second_training_in_the_same_folder_is_refused(micro: str, finished_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    shutil.copytree(finished_clip, out)
    refused = list[str]()

    def report(record: dict[str, Any]) -> None:
        if record["event"] == "step":
            with pytest.raises(InputError) as error:
                train("clip", micro, steps=4, out=out, resume=True)
            refused.append(error.value.message)

    train("clip", micro, steps=3, out=out, resume=True, report=report)
    assert refused == [f"another training is at work in {out}."]
    train("clip", micro, steps=4, out=out, resume=True)  # the lock went with the training


# Data that vanish, and a clock that jumps


def test_a_data_folder_that_vanishes_ends_the_training_and_comes_back(micro: str, tmp_path: Path) -> None:
    data, changes = tmp_path / "photos", ["tokenizer.captions=40", "clip.save_every=1"]
    data.mkdir()
    for i in range(40):
        Image.new("RGB", (16, 16), (6 * i, 255 - 6 * i, 90)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(f"picture number {i}")

    def vanish(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == 1:
            data.rename(tmp_path / "away")

    with pytest.raises(InputError, match="has gone") as error:
        train("clip", micro, changes, str(data), tmp_path / "m", steps=4, report=vanish)
    assert "--resume" in error.value.hint and error.value.exit_code == 3
    (tmp_path / "away").rename(data)
    train("clip", micro, changes, str(data), tmp_path / "m", steps=4, resume=True)
    train("clip", micro, changes, str(data), tmp_path / "straight", steps=4)
    weights = "clip/model.safetensors"
    assert (tmp_path / "m" / weights).read_bytes() == (tmp_path / "straight" / weights).read_bytes()


def test_a_clock_that_jumps_changes_nothing(
    micro: str, finished_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By years, forward and back, at every look: the weights are those of a steady clock."""
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 + (-1) ** next(jumps) * 5e8)
    train("clip", micro, steps=1, out=tmp_path / "m")
    train("clip", micro, steps=2, out=tmp_path / "m", resume=True)
    weights = "clip/model.safetensors"
    assert (tmp_path / "m" / weights).read_bytes() == (finished_clip / weights).read_bytes()
