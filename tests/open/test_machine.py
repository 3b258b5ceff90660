"""--quantize, --memory and --compile: what they change, what is recorded, and what a device cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from t2i.engine import PromptBatch
from t2i.media.images import load_image, read_metadata
from t2i.open.engine import DiffusersEngine
from t2i.open.machine import offload_groups
from t2i.sampling import SampleRequest, by_stage
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import read_open_model

CAT = "a cat in the snow"
Engine = Callable[[str], DiffusersEngine]
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]


def loaded(folder: Path, **options: str | bool) -> DiffusersEngine:
    return DiffusersEngine.load(read_open_model([folder]), options=LoadOptions(**options))  # type: ignore[arg-type]


def draw(engine: DiffusersEngine, size: int = 64) -> torch.Tensor:
    request = SampleRequest(size=size, stages=by_stage(steps={"prior": 2, "base": 2, "upsampler": 2}))
    return engine.sample(PromptBatch([CAT, "a red apple"], [7, 8], request)).images


@pytest.mark.parametrize("family", ["sd", "pixart"])
def test_eight_bits_hold_nearly_the_same_weights(family: str, checkpoint: Checkpoint, engine: Engine) -> None:
    pytest.importorskip("torchao", reason="the library torchao is not installed")
    small = loaded(checkpoint(family), quantize="int8")
    net = small.pipelines.parts["base"]["unet" if family == "sd" else "transformer"]
    linear = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    assert {module.weight.qdata.dtype for module in linear} == {torch.int8}
    far = (draw(small) - draw(engine(family))).abs().mean()
    assert 0 < far < 0.1


def test_quantised_pictures_are_others(checkpoint: Checkpoint, command: Command) -> None:
    pytest.importorskip("torchao", reason="the library torchao is not installed")
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1")
    (plain,), _ = command(*args)
    (small,), err = command(*args, "--quantize", "int8", "-o", "int8")
    assert "torchao" not in err
    plain_record, record = (read_metadata(path)["t2i"] for path in (plain, small))
    assert record["settings"]["quantize"] == "int8"
    assert record["key"] != plain_record["key"]
    assert command("sample", "--replay", small, "--model", checkpoint("sd"))[0] == [f"{small}: identical"]


def test_little_memory_decodes_in_tiles(checkpoint: Checkpoint, engine: Engine, command: Command) -> None:
    tiled = loaded(checkpoint("sd"), memory="low")
    vae = tiled.pipelines.parts["base"]["vae"]
    assert vae.use_tiling and vae.use_slicing
    assert (draw(tiled) - draw(engine("sd"))).abs().max() <= 1e-4  # of the size of one tile
    assert draw(tiled, 128).shape[-1] == 128
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1")
    (out,), _ = command(*args, "--memory", "low")
    assert read_metadata(out)["t2i"]["settings"]["memory"] == "low"
    (same,), _ = command(*args, "--memory", "off", "-o", "off")
    assert "memory" not in read_metadata(same)["t2i"]["settings"]
    assert np.abs(np.asarray(load_image(out), int) - np.asarray(load_image(same), int)).max() <= 1


@pytest.mark.parametrize("family", ["sd", "sd3", "if", "unclip"])
def test_layers_come_and_go_and_draw_the_same(family: str, checkpoint: Checkpoint, engine: Engine) -> None:
    """What `--memory low` does on a GPU, with the CPU in its place."""
    low = loaded(checkpoint(family))
    offload_groups(low.pipelines.parts["base"].items(), "cpu")
    nets = [part for part in low.pipelines.parts["base"].values() if isinstance(part, torch.nn.Module)]
    hooked = [net for net in nets if any(hasattr(module, "_diffusers_hook") for module in net.modules())]
    assert len(hooked) == len(nets) - ("vae" in low.pipelines.parts["base"])
    assert (
        draw(low, 16 if family == "if" else 64) - draw(engine(family), 16 if family == "if" else 64)
    ).abs().max() <= 1e-5


@pytest.mark.slow
def test_compiled_networks_draw_the_same(checkpoint: Checkpoint, engine: Engine) -> None:
    compiled = loaded(checkpoint("sd"), compile=True)
    assert (draw(compiled) - draw(engine("sd"))).abs().max() <= 1e-3


@pytest.mark.parametrize(
    ("family", "options", "code", "sentence"),
    [
        ("if", ("--memory", "low"), 2, "DeepFloyd IF decodes none"),
        ("unclip", ("--memory", "low"), 2, "unCLIP (Karlo) decodes none"),
        ("sd", ("--quantize", "int4"), 2, "runs on an NVIDIA GPU"),
        ("sd", ("--quantize", "int3"), 2, "int3"),
        ("sd", ("--memory", "lots"), 2, "lots"),
        ("small", ("--memory", "low"), 2, "--memory low: small is a model of ours"),
        ("small", ("--quantize", "int8"), 2, "--quantize: small is a model of ours"),
        ("small", ("--compile",), 2, "--compile: small is a model of ours"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_weights_are_loaded(
    family: str, options: tuple[str, ...], code: int, sentence: str, checkpoint: Checkpoint, command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("t2i.open.stage_pipelines.load_parts", lambda *args: pytest.fail("it was loaded"))
    model = "small" if family == "small" else checkpoint(family)
    _, err = command("sample", CAT, "--model", model, *options, code=code)
    assert sentence in err
    assert "hint: " in err


def test_compiling_needs_a_compiler(checkpoint: Checkpoint, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    _, err = command("sample", CAT, "--model", checkpoint("sd"), "--compile", code=4)
    assert "needs a C++ compiler" in err
