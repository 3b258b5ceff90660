"""The super-resolution U-Net's training: its pool of redrawn pictures, exact resume, and what the bundle says of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training import redrawn_recipe

from t2i.errors import UsageError
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.train.encoders import Encoders
from t2i.train.objectives.sr_unet import SRUNetObjective, crop, dissimilarity, soften
from t2i.train.plan import plan
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS
from t2i.train.trainer import train

CHANGES = [
    "upsampler256.steps=4", "upsampler256.batch=4", "upsampler256.warmup=1", "upsampler256.save_every=2",
    "upsampler256.log_every=1", "upsampler256.precision=fp32", "upsampler256.size=64", "upsampler256.crop=32",
    "upsampler256.pool.size=20", "upsampler256.lr=1e-3", "upsampler256.pool.same=9",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(micro: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The micro recipe with the other design of its upsampler."""
    return redrawn_recipe(micro, tmp_path_factory.mktemp("recipe"), "cond_dim = 32")


@pytest.fixture(scope="module")
def made(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all stages but the upsampler."""
    out = tmp_path_factory.mktemp("redraw") / "model"
    for stage in ("clip", "prior", "base"):
        train(stage, recipe, out=out)
    return out


def objective(made: Path, recipe: str, tmp_path: Path, *changes: str, data: str = "scenes") -> SRUNetObjective:
    """The objective with its pool filled, in a new copy of the bundle."""
    values = dict(change.split("=") for change in (*CHANGES, *(f"upsampler256.{change}" for change in changes)))
    table = load_recipe(recipe, values)
    out = copy(made, tmp_path / "-".join(("m", *changes)))
    found = SRUNetObjective(Run(table, out, Pictures(table, data)), "upsampler256", Encoders())
    assert found.fill_pool()
    return found


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_it_draws_its_pool_and_puts_its_network_into_the_bundle(made: Path, recipe: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    train("upsampler256", recipe, CHANGES, out=out)
    pool = out / ".train" / "upsampler256" / "pool"
    high, low, drawn = (np.load(pool / f"{name}.npy") for name in ("high", "low", "drawn"))
    assert high.shape == (20, 3, 64, 64) and low.shape == drawn.shape == (20, 3, 16, 16)
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(high).float(), 4)
    assert float((small - torch.from_numpy(low).float()).abs().mean()) < 8  # the same scenes, drawn small
    assert (low != drawn).any() and json.loads((pool / "filled.json").read_text())["count"] == 20
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


def test_what_the_base_drew_elsewhere_is_left_out(made: Path, recipe: str, tmp_path: Path) -> None:
    pool = objective(made, recipe, tmp_path, "pool.same=0").pool  # nothing is the same
    assert (pool.arrays["drawn"] == pool.arrays["low"]).all() and (pool.arrays["told"] == pool.arrays["z"]).all()
    pool = objective(made, recipe, tmp_path, "pool.same=9").pool
    assert (pool.arrays["drawn"] != pool.arrays["low"]).any(axis=(1, 2, 3)).all()
    assert (pool.arrays["told"] != pool.arrays["z"]).any(axis=1).sum() > 10


def test_what_is_drawn_from_noise_alone_has_a_plain_place(made: Path, recipe: str, tmp_path: Path) -> None:
    both = {share: objective(made, recipe, tmp_path, f"pool.free={share}") for share in (0, 1)}
    plain = both[1].source.plain
    assert plain is not None
    for share, source in ((0, both[0].source), (1, plain)):
        wanted = source.batch(both[share].examples_seed, 0, 16, 16).pixels[:, :, 0, 0]  # no thing reaches this corner
        found = both[share].pool.pixels("low", list(range(16)))[:, :, 0, 0]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)
        assert float((found - both[1 - share].pool.pixels("low", list(range(16)))[:, :, 0, 0]).abs().max()) > 0.1


def test_your_own_pictures_are_redrawn_where_they_are(made: Path, recipe: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64), (80 * i, 40, 200)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text("a red circle")
    it = objective(made, recipe, tmp_path, data=str(photos))
    assert not it.pool.arrays["boxes"].any() and float(it.loss(0)[0].detach()) > 0


def test_imagens_upsampler_reads_the_text(blind_micro: str, tmp_path: Path) -> None:
    recipe, out = redrawn_recipe(blind_micro, tmp_path, "cond_dim = 24", 'reads = "text"'), tmp_path / "m"
    told = train("all", recipe, CHANGES, out=out, dry_run=True)
    assert isinstance(told, dict) and [row["stage"] for row in told["stages"]] == ["text", "base", "upsampler256"]
    train("all", recipe, CHANGES, out=out)
    pool = out / ".train" / "upsampler256" / "pool"
    assert (np.load(pool / "z.npy") == np.load(pool / "told.npy")).all()
    bundle = read_bundle(out)
    assert bundle.configs["upsampler256"]["widths"] == {"low": 16, "size": 64, "text_dim": 24}
    pipeline = Pipeline.load(out)
    (entry,) = pipeline.manifest.of_kind("upsampler")
    low = torch.zeros(2, 3, 16, 16)
    text, _ = pipeline.encode(["a red circle", "a blue star in the snow"])
    large = pipeline.sample_upsampler(entry, low, Conditioning(text), [1, 1], SampleRequest())
    assert large.shape == (2, 3, 64, 64) and not torch.equal(large[0], large[1])
    longer = replace(text, pooled=3 * text.pooled)
    torch.testing.assert_close(
        pipeline.sample_upsampler(entry, low, Conditioning(longer), [1, 1], SampleRequest()), large
    )
    with pytest.raises(UsageError, match=r"write upsampler256\.net\.reads"):
        train("upsampler256", recipe, [*CHANGES, "upsampler256.net.reads=image"], out=out, overwrite=True)


def test_it_goes_when_clip_is_trained_anew(made: Path, recipe: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    train("upsampler256", recipe, CHANGES, out=out)
    train("clip", recipe, out=out, overwrite=True)
    assert [entry.name for entry in read_bundle(out).manifest.stages] == ["clip"]


def test_a_pool_of_another_base_is_drawn_anew(made: Path, recipe: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    train("upsampler256", recipe, CHANGES, out=out)
    path = out / ".train" / "upsampler256" / "pool" / "drawn.npy"
    before = np.load(path)
    train("base", recipe, ["base.steps=9", "base.lr=3e-2"], out=out, overwrite=True)
    train("upsampler256", recipe, CHANGES, out=out, overwrite=True)
    assert (np.load(path) != before).any()


def test_the_loss_is_a_function_of_the_step(made: Path, recipe: str, tmp_path: Path) -> None:
    it = objective(made, recipe, tmp_path)
    losses = [float(it.loss(step)[0].detach()) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    with torch.autocast("cpu", torch.bfloat16):  # as a training in bf16 calls it
        loss = it.loss(0)[0]
    assert float(loss.detach()) == pytest.approx(losses[0], rel=0.05)


def test_crops_are_cut_where_they_are_said_to_begin() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    cut = crop(x, torch.tensor([[2, 4], [0, 1]]), 4)
    assert torch.equal(cut[0], x[0, :, 2:6, 4:8]) and torch.equal(cut[1], x[1, :, :4, 1:5])


def test_dissimilarity_is_0_of_equals_and_2_of_a_pattern_and_its_negative() -> None:
    pattern = torch.where((torch.arange(32)[:, None] + torch.arange(32)) % 2 == 0, 1.0, -1.0).expand(1, 3, 32, 32)
    assert float(dissimilarity(pattern, pattern)) == pytest.approx(0, abs=1e-5)
    # the means are +-1/49, and the covariance is minus the variance
    mean, c1, c2 = 1 / 49**2, 4e-4, 3.6e-3
    wanted = 1 - (c1 - 2 * mean) / (c1 + 2 * mean) * (c2 - 2 * (1 - mean)) / (c2 + 2 * (1 - mean))
    assert float(dissimilarity(pattern, -pattern)) == pytest.approx(wanted, rel=1e-3)


def test_softening_keeps_flat_pictures_and_the_mean() -> None:
    flat = torch.full((1, 3, 6, 6), 0.3)
    torch.testing.assert_close(soften(flat), flat)
    dot = torch.zeros(1, 3, 7, 7)
    dot[:, :, 3, 3] = 16
    assert soften(dot)[0, 0, 2:5, 2:5].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@pytest.mark.parametrize(
    "change",
    [
        "design=other", "crop=30", "pool.size=0", "blur=.5", "pool.strength=[.9,.5]", "pool.free=2",
        "net.reads=music",
    ],
)  # fmt: skip
def test_tables_that_make_no_sense_are_refused(change: str, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"upsampler256\."):
        train("all", recipe, [f"upsampler256.{change}"], out=tmp_path / "m")


def test_a_dry_run_needs_no_trained_stage_and_writes_nothing(recipe: str, tmp_path: Path) -> None:
    table = load_recipe(recipe, dict(change.split("=") for change in CHANGES))
    run = Run(table, tmp_path / "m", Pictures(table))
    told = plan(run, ("clip", "prior", "base", "upsampler256"))
    assert [row["stage"] for row in told["stages"]] == ["clip", "prior", "base", "upsampler256"]
    assert told["stages"][-1]["parameters"] > 0 and not (tmp_path / "m").exists()
