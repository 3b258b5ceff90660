"""A training that is killed at any moment goes on with --resume, and ends at the weights of one that was not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import ended, in_child, killed_at, killed_before, touches
from safetensors.torch import load_file

from t2i.errors import InputError
from t2i.store.bundle import read_bundle
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.state import TENSORS, State, read_facts
from t2i.train.trainer import train


def same(a: Path, b: Path) -> bool:
    left, right = load_file(a), load_file(b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def small_state(value: float) -> State:
    net = torch.nn.Linear(12, 12)
    for p in net.parameters():
        p.data.fill_(value)
    optimizer = MuonAdamW(net.named_parameters(), lr=0.1)
    state = State(net, optimizer, PowerEMA(net), step=int(value))
    net(torch.ones(1, 12)).sum().backward()
    optimizer.step()
    return state


def test_a_checkpoint_is_killed_before_each_touch_of_the_disk(tmp_path: Path) -> None:
    """Step, weights and optimiser are all of the old checkpoint or all of the new one."""
    folder, old, new = tmp_path / "stage", small_state(1.0), small_state(2.0)
    old.save(folder, {"stage": "toy"}, old.tensors())
    before = (folder / TENSORS).read_bytes()
    seen = []
    for touch in range(touches(lambda: new.save(folder, {"stage": "toy"}, new.tensors()), folder)):
        (folder / TENSORS).write_bytes(before)
        killed_before(touch, lambda: new.save(folder, {"stage": "toy"}, new.tensors()), folder)
        state = small_state(0.0)
        facts = state.load(folder, {"stage": "toy"})
        whole = old if state.step == 1 else new
        assert facts["step"] == whole.step and facts == read_facts(folder)
        loaded, kept = state.tensors(), whole.tensors()
        assert loaded.keys() == kept.keys()
        assert all(torch.equal(loaded[name], kept[name]) for name in kept)  # by name: their order varies
        seen.append(state.step)
    assert seen == sorted(seen) and set(seen) == {1, 2}


@pytest.fixture(scope="module")
def finished_model(micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "m"
    train("all", micro, steps=1, out=out)
    return out


def over(stage: str, micro: str, out: Path) -> Callable[[], object]:
    """Trains a stage anew, to other weights than those that are there."""
    changes = [f"{stage}.lr=7e-3", f"{stage}.save_every=1", f"{stage}.sample_every=100"]
    return lambda: train(stage, micro, changes, steps=2, out=out, overwrite=True)


def go_on(stage: str, micro: str, out: Path) -> None:
    """What a user does after a kill: --resume; or, where no step has been saved, the command again."""
    if (out / ".train" / stage / TENSORS).is_file() and not (out / ".train" / "forgotten").exists():
        train(stage, micro, [f"{stage}.lr=7e-3"], steps=2, out=out, resume=True)
        return
    with pytest.raises(InputError, match="no checkpoint"):
        train(stage, micro, [f"{stage}.lr=7e-3"], steps=2, out=out, resume=True)
    over(stage, micro, out)()


def kill_everywhere(stage: str, micro: str, model: Path, folder: Path, every: int = 1) -> int:
    """Kill a training over a finished stage before each touch of the disk. How often it was killed."""
    straight, out = folder / "straight", folder / "killed"
    shutil.copytree(model, straight)
    over(stage, micro, straight)()
    shutil.copytree(model, out)
    count = touches(over(stage, micro, out), out)
    started = False
    for touch in range(0, count, every):
        shutil.rmtree(out)
        shutil.copytree(model, out)
        killed_before(touch, over(stage, micro, out), out)
        read_bundle(out).verify()
        old = out / ".train" / stage / TENSORS
        untouched = old.is_file() and same(old, model / ".train" / stage / TENSORS)
        if untouched and not (out / ".train" / "forgotten").exists():  # it has not begun
            assert not started
            continue
        started = True
        go_on(stage, micro, out)
        for file in (f"{stage}/model.safetensors", f"{stage}/config.json", "tokenizer.json"):
            assert (out / file).read_bytes() == (straight / file).read_bytes(), (touch, file)
        assert same(old, straight / ".train" / stage / TENSORS), touch
        names = [entry.name for entry in read_bundle(straight).manifest.stages]
        assert [entry.name for entry in read_bundle(out).manifest.stages] == names
    assert started
    return len(range(0, count, every))


def test_a_training_over_a_finished_one_is_killed_now_and_then(
    micro: str, finished_model: Path, tmp_path: Path
) -> None:
    assert kill_everywhere("upsampler256", micro, finished_model, tmp_path, every=9) > 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["clip", "prior", "base", "upsampler256"])
def test_a_training_over_a_finished_one_is_killed_before_each_touch_of_the_disk(
    stage: str, micro: str, finished_model: Path, tmp_path: Path
) -> None:
    killed = kill_everywhere(stage, micro, finished_model, tmp_path)
    print(f"{stage}: killed {killed} times")
    assert killed > 30


def test_a_training_that_was_killed_before_its_export_is_not_taken_for_done(
    micro: str, finished_model: Path, tmp_path: Path
) -> None:
    """Its last step is saved and the bundle still holds an earlier training's weights: they must not be kept."""
    out, straight = tmp_path / "killed", tmp_path / "straight"
    changes = ["upsampler256.lr=7e-3"]
    for folder in (out, straight):
        shutil.copytree(finished_model, folder)
    train("upsampler256", micro, changes, steps=1, out=straight, overwrite=True)
    shutil.copyfile(straight / ".train/upsampler256" / TENSORS, out / ".train/upsampler256" / TENSORS)
    told: list[str] = []
    train(
        "all",
        micro,
        changes,
        steps=1,
        out=out,
        resume=True,
        report=lambda r: told.append(r["stage"]) if r["event"] == "kept" else None,
    )
    assert told == ["clip", "prior", "base"]
    weights = "upsampler256/model.safetensors"
    assert (out / weights).read_bytes() == (straight / weights).read_bytes() != (finished_model / weights).read_bytes()


def test_all_stages_anew_keep_none_of_the_old_ones(micro: str, finished_model: Path, tmp_path: Path) -> None:
    """`--overwrite` of all stages, broken off in the first, then resumed: the last one is trained anew too."""
    out, straight = tmp_path / "m", tmp_path / "straight"
    changes = ["upsampler256.lr=7e-3"]
    for folder in (out, straight):
        shutil.copytree(finished_model, folder)
    train("all", micro, changes, steps=3, out=straight, overwrite=True)
    steps: list[int] = []

    def report(record: dict[str, Any]) -> None:
        steps.extend([record["step"]] if record["event"] == "step" else [])

    train("all", micro, changes, steps=3, out=out, overwrite=True, report=report, stop=lambda: bool(steps))
    assert steps == [1, 2]  # CLIP is not done
    train("all", micro, changes, steps=3, out=out, resume=True)
    for stage in ("clip", "prior", "base", "upsampler256"):
        weights = f"{stage}/model.safetensors"
        assert (out / weights).read_bytes() == (straight / weights).read_bytes(), stage
    assert (out / weights).read_bytes() != (finished_model / weights).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["clip", "text", "prior", "base", "upsampler256"])
def test_twenty_random_kills_change_nothing(
    stage: str, micro: str, blind_micro: str, finished_model: Path, tmp_path: Path
) -> None:
    recipe = blind_micro if stage == "text" else micro
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    if stage != "text":
        shutil.copytree(finished_model, straight)
    changes = [f"{stage}.save_every=3", f"{stage}.log_every=1", f"{stage}.sample_every=1000"]
    assert ended(in_child(lambda: train(stage, recipe, changes, steps=60, out=straight, overwrite=True))) == 0
    if stage != "text":
        shutil.copytree(finished_model, killed)
        shutil.rmtree(killed / ".train" / stage)

    def begun() -> bool:
        return (killed / ".train" / stage / TENSORS).is_file()

    def go(report: Callable[[dict[str, Any]], None] = lambda record: None) -> object:
        again = begun()
        return train(stage, recipe, changes, steps=60, out=killed, resume=again, overwrite=not again, report=report)

    dice, saved = random.Random(stage), 0
    moments = sorted((dice.randrange(60), dice.random()) for _ in range(20))  # each lies ahead of what is saved by then
    for step, share in moments:
        saved += begun()
        killed_at(step, share, go)
    go()
    print(f"{stage}: {len(moments)} kills, {saved} of them after a checkpoint")
    assert saved >= 10  # else little was proved
    assert same(killed / ".train" / stage / TENSORS, straight / ".train" / stage / TENSORS)
    weights = f"{stage}/model.safetensors"
    assert (killed / weights).read_bytes() == (straight / weights).read_bytes()
