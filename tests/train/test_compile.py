"""Compiled networks train as others do: each for one shape, whatever the lengths of its texts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from t2i.errors import UsageError
from t2i.train.log import read_log
from t2i.train.trainer import train

STAGES = ("clip", "prior", "base", "upsampler256")
REDRAWS = """
[upsampler256]
design = "sr_unet"
size = 64
crop = 32
pool.size = 20
[upsampler256.net]
channels = [8, 8]
down = [1, 1]
up = [1, 1]
emb_dim = 16
z_cells = 0
cond_dim = 32
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "design"), [*((stage, "") for stage in STAGES), (STAGES[-1], REDRAWS)])
def test_compiled_networks_have_the_same_losses(stage: str, design: str, micro: str, tmp_path: Path) -> None:
    recipe, before = str(tmp_path / "recipe.toml"), tmp_path / "before"
    text = Path(micro).read_text()
    if design:
        head, tail = text.split("[upsampler256]")
        text = head + design + tail[tail.index("[upsampler256.schedule]") :]
    Path(recipe).write_text(text)
    train("all", recipe, [f"{name}.steps=1" for name in STAGES], out=before)
    losses: dict[str, list[float]] = {}
    for how in ("false", "true"):
        out = tmp_path / how
        shutil.copytree(before, out)
        torch._dynamo.reset()
        counters.clear()
        more = [f"{stage}.compile={how}", f"{stage}.log_every=1", f"{stage}.steps=6", f"{stage}.sample_every=100"]
        train(stage, recipe, more, out=out, overwrite=True)
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
