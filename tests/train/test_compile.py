"""Compiled networks train as others do: each for one shape, whatever the lengths of its texts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from training import redrawn_recipe

from t2i.errors import UsageError
from t2i.train.log import read_log
from t2i.train.trainer import train

STAGES = ("clip", "prior", "base", "upsampler256")
SMALL = ["upsampler256.size=64", "upsampler256.crop=32", "upsampler256.pool.size=20"]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "redraws"), [*((stage, False) for stage in STAGES), (STAGES[-1], True)])
def test_compiled_networks_have_the_same_losses(stage: str, redraws: bool, micro: str, tmp_path: Path) -> None:
    recipe, before = redrawn_recipe(micro, tmp_path, "cond_dim = 32") if redraws else micro, tmp_path / "before"
    changes = SMALL if redraws else []
    train("all", recipe, [*changes, *(f"{name}.steps=1" for name in STAGES)], out=before)
    losses: dict[str, list[float]] = {}
    for how in ("false", "true"):
        out = tmp_path / how
        shutil.copytree(before, out)
        torch._dynamo.reset()
        counters.clear()
        more = [f"{stage}.compile={how}", f"{stage}.log_every=1", f"{stage}.steps=6", f"{stage}.sample_every=100"]
        train(stage, recipe, [*changes, *more], out=out, overwrite=True)
        log = read_log(out / f".train/{stage}/log.jsonl")
        losses[how] = [row["loss"] for row in log if row["event"] == "step"]
    assert len(losses["true"]) == len(losses["false"]) == 6
    assert losses["true"] == pytest.approx(losses["false"], rel=2e-3)
    assert counters["stats"]["unique_graphs"] > 0 and not counters["graph_break"]


@pytest.mark.parametrize("stage", ["dalle", "gan", "text"])
def test_a_stage_that_is_not_compiled_refuses_it(stage: str, tmp_path: Path) -> None:
    recipe = {"dalle": "dalle-tiny", "gan": "gan-tiny", "text": "imagen-tiny"}[stage]
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=f"{stage} cannot be compiled"):
            train("all", recipe, [f"{stage}.compile=true"], out=tmp_path / "m", dry_run=dry_run)
    assert not (tmp_path / "m").exists()
