"""Each family through t2i: the same pictures as by diffusers itself, alone or in a batch, drawn again, resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from checkpoints import FAMILIES, build

from t2i.engine import PromptBatch
from t2i.media.images import load_image, read_metadata
from t2i.open.engine import DiffusersEngine
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage

CAT, APPLE = "a cat in the snow", "a red apple"
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]


def asked(steps: int = 2, **more: Any) -> SampleRequest:
    return SampleRequest(**{"size": 64, **more}, stages=by_stage(steps={"prior": 2, "base": steps, "upsampler": 2}))


#: what diffusers' own call takes, beside prompt and generators
SIZED = {"width": 64, "height": 64, "num_inference_steps": 2}
STAGES = ("prior_num_inference_steps", "decoder_num_inference_steps", "super_res_num_inference_steps")
OWN: dict[str, dict[str, Any]] = {
    "pixart": {**SIZED, "use_resolution_binning": False, "clean_caption": False},
    "sana": {**SIZED, "use_resolution_binning": False, "clean_caption": False},
    "if": {**SIZED, "clean_caption": False},
    "unclip": dict.fromkeys(STAGES, 2),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_picture_as_by_diffusers_itself(
    family: str, checkpoint: Checkpoint, engine: Callable[[str], DiffusersEngine]
) -> None:
    ours = engine(family).sample(PromptBatch([CAT, APPLE], [7, 8], asked())).images
    if family == "unclip":  # diffusers finds no class of this folder's: see `write_folder`
        pipeline = build(family)
    else:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(checkpoint(family), use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    generators = [generator("noise", seed, "base", 0) for seed in (7, 8)]
    arguments = OWN.get(family, SIZED)
    own = pipeline([CAT, APPLE], generator=generators, output_type="np", **arguments).images
    levels = (ours.permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert np.abs(levels - 255 * own).max() <= 2
    assert np.abs(levels[0] - levels[1]).max() > 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_does_not_depend_on_its_batch(family: str, engine: Callable[[str], DiffusersEngine]) -> None:
    alone = engine(family).sample(PromptBatch([CAT], [7], asked())).images[0]
    among = engine(family).sample(PromptBatch([APPLE, CAT, "two penguins"], [7, 7, 9], asked())).images
    assert (among[1] - alone).abs().max() <= 1e-4
    assert (among[0] - alone).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_every_dial_changes_the_picture(family: str, engine: Callable[[str], DiffusersEngine]) -> None:
    def draw(**more: Any) -> torch.Tensor:
        guidance = {"guidance": {"base": more.pop("guidance")}} if "guidance" in more else {}
        stages = by_stage(steps={"base": more.pop("steps", 2)}, **guidance)
        request = SampleRequest(**{"size": 64, **more}, stages=stages)
        return engine(family).sample(PromptBatch([CAT], [7], request)).images[0]

    plain = draw()
    for other in ({"steps": 3}, {"guidance": 2.0}, {"negative": "blurry"}):
        assert (draw(**other) - plain).abs().max() > 1e-3, other
    assert draw(size=(96, 64)).shape == (3, 64, 96)


def test_steps_are_told(engine: Callable[[str], DiffusersEngine]) -> None:
    told: list[tuple[str, int, int]] = []
    engine("sd").sample(PromptBatch([CAT], [7], asked(3), lambda stage, step, n, x0_hat: told.append((stage, step, n))))
    assert told == [("base", 1, 3), ("base", 2, 3), ("base", 3, 3)]


def test_a_prompt_file_is_drawn_resumed_and_replayed(checkpoint: Checkpoint, command: Command) -> None:
    Path("p.txt").write_text(f"{CAT}\n{APPLE}\n")
    args = ("sample", "-f", "p.txt", "--model", checkpoint("sd"), "--steps", "2")
    out, _ = command(*args)
    assert len(out) == 2
    facts = read_metadata(out[0])
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    record = facts["t2i"]
    assert (record["prompt"], record["model"], record["size"]) == (CAT, "sd", [64, 64])
    assert record["settings"]["stages"] == {"base": {"steps": 2, "guidance": 7.5}}
    assert set(record["files"]) == {
        "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    lines = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [CAT, APPLE]
    times = [Path(path).stat().st_mtime_ns for path in out]
    again, err = command(*args)
    assert again == out
    assert "2 of 2 were there already" in err
    assert [Path(path).stat().st_mtime_ns for path in out] == times
    assert command("sample", "--replay", out[1], "--model", checkpoint("sd"))[0] == [f"{out[1]}: identical"]


def test_a_replay_without_its_model(checkpoint: Checkpoint, command: Command) -> None:
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1", "--sampler", "ancestral")
    (out,), _ = command(*args)
    _, err = command("sample", "--replay", out, code=4)
    assert "was made with the model 'sd', which is not here" in err
    assert "hint: Name it with --model" in err
    assert "Did you mean" not in err
    _, err = command("sample", "--replay", out, "--model", checkpoint("sd3"), code=3)
    assert "the model cannot do what" in err
    assert "It was made with other weights" in err


def test_a_suite_is_drawn_and_gated(checkpoint: Checkpoint, command: Command) -> None:
    rows = [{"prompt": CAT}, {"prompt": APPLE}]
    Path("suite.jsonl").write_text("\n".join(map(json.dumps, rows)))
    args = ("score", "--suite", "suite.jsonl", "--model", checkpoint("sd"), "--steps", "2", "-n", "2")
    command(*args, "--save-baseline", "base.json")
    out, _ = command(*args, "--baseline", "base.json")
    assert len(list(Path("scores/suite-sd").glob("*.png"))) == 4
    assert any("clip" in line for line in out)


def test_sizes(checkpoint: Checkpoint, command: Command) -> None:
    (out,), _ = command("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1", "--size", "96x64")
    assert load_image(out).size == (96, 64)
    assert read_metadata(out)["t2i"]["settings"]["size"] == [96, 64]
    assert command("sample", "--replay", out, "--model", checkpoint("sd"))[0] == [f"{out}: identical"]
    for size in ("60", "64x60", "0", "100000", "64x", "large"):
        command("sample", CAT, "--model", checkpoint("sd"), "--size", size, code=2)
