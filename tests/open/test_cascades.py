"""Models of several stages: unCLIP, Kandinsky's prior and decoder, IF's stages, upscalers for any model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from t2i.engine import PromptBatch
from t2i.media.images import load_image, read_metadata
from t2i.open.engine import DiffusersEngine
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage

CAT, APPLE = "a cat in the snow", "a red apple"
Engine = Callable[[str], DiffusersEngine]
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]
STEPS = {"prior": 2, "base": 2, "upsampler": 2, "upsampler64": 2, "upsampler256": 2}


def asked(**more: Any) -> SampleRequest:
    return SampleRequest(stages=by_stage(steps=STEPS), **more)


def generators(stage: str) -> list[torch.Generator]:
    return [generator("noise", seed, stage, 0) for seed in (7, 8)]


def own(cls: Any, folder: Path) -> Any:
    pipeline = cls.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_kandinsky(checkpoint: Checkpoint) -> Any:
    prior = own(diffusers.KandinskyV22PriorPipeline, checkpoint("kandinsky-prior"))
    made = prior([CAT, APPLE], num_inference_steps=2, generator=generators("prior"))
    decoder = own(diffusers.KandinskyV22Pipeline, checkpoint("kandinsky"))
    return decoder(
        made.image_embeds, made.negative_image_embeds, 64, 64, 2, generator=generators("base"), output_type="np"
    ).images


def own_if(checkpoint: Checkpoint) -> Any:
    first, second = (own(getattr(diffusers, cls), checkpoint(name)) for cls, name in IF)
    plain: dict[str, Any] = {"num_inference_steps": 2, "clean_caption": False, "output_type": "np"}
    small = first([CAT, APPLE], generator=generators("base"), **plain).images
    low = torch.from_numpy(small).permute(0, 3, 1, 2) * 2 - 1
    return second([CAT, APPLE], image=low, generator=generators("upsampler64"), **plain).images


IF = (("IFPipeline", "if"), ("IFSuperResolutionPipeline", "if2"))


@pytest.mark.parametrize(
    ("name", "draw"), [("kandinsky-prior+kandinsky", own_kandinsky), ("if+if2", own_if)], ids=["kandinsky", "if"]
)
def test_the_same_picture_as_by_diffusers_itself(
    name: str, draw: Callable[[Checkpoint], Any], checkpoint: Checkpoint, engine: Engine
) -> None:
    ours = engine(name).sample(PromptBatch([CAT, APPLE], [7, 8], asked())).images
    assert ours.shape == (2, 3, 64, 64)
    levels = (ours.permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert np.abs(levels - 255 * draw(checkpoint)).max() <= 2
    assert np.abs(levels[0] - levels[1]).max() > 2


@pytest.mark.parametrize("name", ["kandinsky-prior+kandinsky", "if+if2", "sd+x4"])
def test_a_picture_does_not_depend_on_its_batch(name: str, engine: Engine) -> None:
    alone = engine(name).sample(PromptBatch([CAT], [7], asked())).images[0]
    among = engine(name).sample(PromptBatch([APPLE, CAT], [7, 7], asked())).images
    assert (among[1] - alone).abs().max() <= 1e-4
    assert (among[0] - alone).abs().max() > 1e-2


def test_the_stages_of_a_cascade_have_dials_and_are_kept(checkpoint: Checkpoint, command: Command) -> None:
    model = f"{checkpoint('if')}+{checkpoint('if2')}"
    args = ("sample", CAT, "--model", model, "--seed", "7")
    steps = ("--steps", "base=2,up=3")
    (large,), _ = command(*args, *steps, "--keep-stages", "--guidance", "up=2")
    assert load_image(large).size == (64, 64)
    assert load_image(large.replace(".png", ".base.png")).size == (16, 16)
    record = read_metadata(large)["t2i"]
    assert record["model"] == "if+if2"
    assert record["settings"]["stages"] == {
        "base": {"steps": 2, "guidance": 7.0}, "upsampler64": {"steps": 3, "guidance": 2.0}
    }  # fmt: skip
    assert {name.split("/")[0] for name in record["files"]} == {"base", "upsampler64"}
    assert "does not run" in command(*args, *steps, "--size", "16", "-o", "small", code=2)[1]
    (small,), _ = command(*args, "--steps", "base=2", "--size", "16", "-o", "small")
    assert load_image(small).size == (16, 16)
    assert read_metadata(small)["t2i"]["settings"]["stages"] == {"base": {"steps": 2, "guidance": 7.0}}
    assert command("sample", "--replay", large, "--model", model)[0] == [f"{large}: identical"]
    command(*args, "--size", "32", code=2)


def test_half_precision(checkpoint: Checkpoint, command: Command) -> None:
    model = f"{checkpoint('if')}+{checkpoint('if2')}"
    args = ("sample", CAT, "--model", model, "--seed", "7", "--steps", "base=2,up=2")
    (whole,), _ = command(*args)
    (half,), _ = command(*args, "--dtype", "bfloat16", "-o", "half")
    assert read_metadata(half)["t2i"]["settings"]["dtype"] == "bfloat16"
    assert load_image(half).tobytes() != load_image(whole).tobytes()


def test_unclip_has_dials_for_each_stage(checkpoint: Checkpoint, command: Command) -> None:
    args = ("sample", CAT, "--model", checkpoint("unclip"), "--seed", "7", "--steps")
    (plain,), _ = command(*args, "prior=2,base=2,up=2")
    stages = read_metadata(plain)["t2i"]["settings"]["stages"]
    assert stages == {
        "prior": {"steps": 2, "guidance": 4.0}, "base": {"steps": 2, "guidance": 8.0}, "upsampler": {"steps": 2}
    }  # fmt: skip
    for number, steps in enumerate(("prior=3,base=2,up=2", "prior=2,base=3,up=2", "prior=2,base=2,up=3")):
        (other,), _ = command(*args, steps, "-o", f"x{number}")
        assert load_image(other).tobytes() != load_image(plain).tobytes()


def test_networks_that_two_stages_share_are_loaded_once(engine: Engine) -> None:
    parts = engine("if+if2").pipelines.parts
    assert parts["base"]["text_encoder"] is parts["upsampler64"]["text_encoder"]


@pytest.mark.parametrize(("name", "scale"), [("x4", 4), ("if2", 4), ("x2", 2)])
def test_upscalers_enlarge_pictures(name: str, scale: int, checkpoint: Checkpoint, command: Command) -> None:
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save("small.png")
    args = ("upscale", "small.png", "--scale", str(scale), "--model", checkpoint(name), "--steps", "2", "-o", "big")
    (out,), err = command(*args, "--prompt", CAT)
    assert load_image(out).size == (16 * scale, 16 * scale)
    assert "all of the model's detail kept, unmeasured" in err
    before = Path(out).stat().st_mtime_ns
    assert command(*args, "--prompt", CAT)[0] == [out]
    assert Path(out).stat().st_mtime_ns == before
    (other,), _ = command(*args, "--prompt", APPLE)
    assert load_image(other).tobytes() != load_image(out).tobytes()
    _, err = command("sample", CAT, "--model", checkpoint(name), code=2)
    assert "cannot draw from prompts" in err
    assert "It can enlarge pictures." in err


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (["kandinsky"], "has no prior to make them"),
        (["kandinsky-prior"], "nothing that draws from its embeddings"),
        (["sd", "if"], "are two models"),
    ],
)
def test_parts_that_make_no_model(parts: list[str], sentence: str, checkpoint: Checkpoint, command: Command) -> None:
    model = "+".join(str(checkpoint(part)) for part in parts)
    assert sentence in command("sample", CAT, "--model", model, code=2)[1]
