"""The super-resolution U-Net's training: its pool of redrawn pictures, exact resume, and what the bundle says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from t2i.errors import UsageError
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.train.encoders import Encoders
from t2i.train.objectives.sr_unet import SRUNetObjective, centres, crop, soften
from t2i.train.plan import plan
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS
from t2i.train.trainer import train

CHANGES = [
    "upsampler256.steps=4", "upsampler256.batch=4", "upsampler256.warmup=1", "upsampler256.save_every=2",
    "upsampler256.log_every=1", "upsampler256.precision=fp32", "upsampler256.size=64", "upsampler256.crop=32",
    "upsampler256.pool=20", "upsampler256.lr=1e-3", "upsampler256.same=9",
]  # fmt: skip
TABLE = """
[upsampler256]
design = "sr_unet"
[upsampler256.net]
channels = [8, 8]
down = [1, 1]
up = [1, 1]
emb_dim = 16
cond_dim = 32
z_cells = 0
"""


@pytest.fixture(scope="module")
def recipe(micro: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The micro recipe with the other design of its upsampler."""
    text = Path(micro).read_text()
    path = tmp_path_factory.mktemp("recipe") / "redraw.toml"
    head, tail = text.split("[upsampler256]")
    rest = tail[tail.index("\n[", tail.index("[upsampler256.net]") + 1) :] if tail.count("\n[") > 1 else ""
    path.write_text(head + TABLE + rest)
    return str(path)


@pytest.fixture(scope="module")
def made(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all stages but the upsampler."""
    out = tmp_path_factory.mktemp("redraw") / "model"
    for stage in ("clip", "prior", "base"):
        train(stage, recipe, out=out)
    return out


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_it_draws_its_pool_and_puts_its_network_into_the_bundle(made: Path, recipe: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    train("upsampler256", recipe, CHANGES, out=out)
    pool = out / ".train" / "upsampler256" / "pool"
    high, low, redrawn = (np.load(pool / f"{name}.npy") for name in ("high", "low", "redrawn"))
    assert high.shape == (20, 3, 64, 64) and low.shape == redrawn.shape == (20, 3, 16, 16)
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(high).float(), 4)
    assert float((small - torch.from_numpy(low).float()).abs().mean()) < 8  # the same scenes, drawn small
    assert (low != redrawn).any() and json.loads((pool / "filled.json").read_text())["count"] == 20
    bundle = read_bundle(out)
    assert bundle.configs["upsampler256"]["design"] == "sr_unet" and bundle.manifest.sizes == (16, 64)
    entry = bundle.manifest.stages[-1]
    assert (entry.defaults.steps, entry.defaults.noise) == (1, 0.3)
    images = Pipeline.load(out).sample(["a red circle"], [1], SampleRequest(size=64)).images
    assert images.shape == (1, 3, 64, 64) and bool(images.isfinite().all())


def test_stopped_and_resumed_equals_straight_to_the_bit(made: Path, recipe: str, tmp_path: Path) -> None:
    straight, broken = copy(made, tmp_path / "a"), copy(made, tmp_path / "b")
    train("upsampler256", recipe, CHANGES, out=straight)

    pool = broken / ".train" / "upsampler256" / "pool"
    train("upsampler256", recipe, CHANGES, out=broken, stop=(pool / "filled.json").is_file)
    assert json.loads((pool / "filled.json").read_text())["count"] == 16
    records: list[dict[str, Any]] = []

    def stepped() -> bool:
        return any(r["event"] == "step" for r in records)

    train("upsampler256", recipe, CHANGES, out=broken, report=records.append, stop=stepped)
    assert (broken / ".train" / "upsampler256" / TENSORS).is_file() and not (broken / "upsampler256").exists()
    train("upsampler256", recipe, CHANGES, out=broken, resume=True)
    a, b = (load_file(out / ".train" / "upsampler256" / TENSORS) for out in (straight, broken))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_pool_of_another_base_is_drawn_anew(made: Path, recipe: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    train("upsampler256", recipe, CHANGES, out=out)
    path = out / ".train" / "upsampler256" / "pool" / "redrawn.npy"
    before = np.load(path)
    train("base", recipe, ["base.steps=9", "base.lr=3e-2"], out=out, overwrite=True)
    train("upsampler256", recipe, CHANGES, out=out, overwrite=True)
    assert (np.load(path) != before).any()


def test_the_loss_is_a_function_of_the_step(made: Path, recipe: str, tmp_path: Path) -> None:
    table = load_recipe(recipe, dict(change.split("=") for change in CHANGES))
    events: list[dict[str, Any]] = []
    run = Run(table, copy(made, tmp_path / "m"), Pictures(table, "scenes", None), report=events.append)
    objective = SRUNetObjective(run, "upsampler256", Encoders())
    assert objective.fill_pool() and events[0]["event"] == "embed"
    losses = [float(objective.loss(step)[0].detach()) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    with torch.autocast("cpu", torch.bfloat16):  # as a training in bf16 calls it
        loss = objective.loss(0)[0]
    assert float(loss.detach()) == pytest.approx(losses[0], rel=0.05)


def test_crops_are_cut_where_they_are_said_to_begin() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    cut = crop(x, torch.tensor([[2, 4], [0, 1]]), 4)
    assert torch.equal(cut[0], x[0, :, 2:6, 4:8]) and torch.equal(cut[1], x[1, :, :4, 1:5])


def test_the_centre_of_a_thing_is_that_of_its_pixels() -> None:
    masks = torch.zeros(2, 2, 8, 8)
    masks[0, 1, 2:5, 4:7] = 1
    found = centres(masks, 2)
    assert found[0, 0].tolist() == [3 / 8, 5 / 8]
    assert bool((found[0, 1:] == -1).all()) and bool((found[1] == -1).all())
    assert bool((centres(None, 2) == -1).all())


def test_softening_keeps_flat_pictures_and_the_mean() -> None:
    flat = torch.full((1, 3, 6, 6), 0.3)
    torch.testing.assert_close(soften(flat), flat)
    dot = torch.zeros(1, 3, 7, 7)
    dot[:, :, 3, 3] = 16
    assert soften(dot)[0, 0, 2:5, 2:5].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@pytest.mark.parametrize("change", ["upsampler256.design=other", "upsampler256.crop=30", "upsampler256.pool=0"])
def test_tables_that_make_no_sense_are_refused(change: str, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"upsampler256\."):
        train("all", recipe, [change], out=tmp_path / "m")


def test_a_dry_run_needs_no_trained_stage_and_writes_nothing(recipe: str, tmp_path: Path) -> None:
    table = load_recipe(recipe, dict(change.split("=") for change in CHANGES))
    run = Run(table, tmp_path / "m", Pictures(table, "scenes", None))
    told = plan(run, ("clip", "prior", "base", "upsampler256"))
    assert [row["stage"] for row in told["stages"]] == ["clip", "prior", "base", "upsampler256"]
    assert told["stages"][-1]["parameters"] > 0 and not (tmp_path / "m").exists()
