"""Starting from a picture and repainting a part of one, for each family that can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.cli.app import run
from t2i.engine import PromptBatch
from t2i.errors import UsageError
from t2i.media.images import load_image
from t2i.open.engine import DiffusersEngine
from t2i.sampling import SampleRequest, by_stage
from t2i.store.open_model import read_open_model

CAT, APPLE = "a cat in the snow", "a red apple"
STARTS = ("sd", "sdxl", "sd3", "flux", "if", "kandinsky-prior+kandinsky")
REPAINTS = ("sd", "sdxl", "sd3", "flux", "if", "kandinsky-prior+kandinsky-inpaint")
Engine = Callable[[str], DiffusersEngine]
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]


def photo(width: int = 96, height: int = 64) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


def asked(steps: int, **more: Any) -> SampleRequest:
    return SampleRequest(stages=by_stage(steps={"prior": 2, "base": steps}), **more)


@pytest.mark.parametrize("name", STARTS)
def test_a_picture_to_start_from(name: str, engine: Engine) -> None:
    start, other = pixels(photo()), -pixels(photo())
    request = asked(4)
    alone = engine(name).image_to_image(start, PromptBatch([CAT], [7], request), strength=0.5).images[0]
    among = engine(name).image_to_image(start, PromptBatch([APPLE, CAT], [7, 7], request), strength=0.5).images
    assert (among[1] - alone).abs().max() <= 1e-4
    assert (among[0] - alone).abs().max() > 1e-3
    from_other = engine(name).image_to_image(other, PromptBatch([CAT], [7], request), strength=0.5).images[0]
    assert (from_other - alone).abs().max() > 1e-2


def test_no_step_at_all(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no step at all"):
        engine("sd").image_to_image(pixels(photo()), PromptBatch([CAT], [7], asked(4)), strength=0.1)


@pytest.mark.parametrize("name", REPAINTS)
def test_what_is_not_masked_is_kept(name: str, engine: Engine) -> None:
    image, mask = pixels(photo()), torch.zeros(1, 64, 96)
    mask[:, 20:40, 30:60] = 1
    painted = engine(name).inpaint(image, mask, PromptBatch([CAT, CAT], [7, 8], asked(2)), feather=0).images
    assert painted.shape == (2, 3, 64, 96)
    assert bool((painted[:, :, mask[0] == 0] == image[:, mask[0] == 0]).all())
    assert (painted[0] - painted[1]).abs().max() > 1e-2
    assert (painted[0] - image)[:, mask[0] == 1].abs().mean() > 0.1


def test_the_commands(checkpoint: Checkpoint, command: Command) -> None:
    photo().save("photo.png")
    model = ("--model", checkpoint("sd"), "--steps", "4", "--seed", "7")
    (started,), _ = command("sample", CAT, "--init", "photo.png", "--strength", "0.5", *model)
    assert load_image(started).size == (64, 64)
    assert command("sample", CAT, "--init", "photo.png", "--strength", "0.5", *model)[0] == [started]
    (painted,), _ = command("inpaint", "photo.png", CAT, "--box", "30,20,30,20", "--feather", "0", *model)
    same = np.asarray(load_image(painted)) == np.asarray(photo())
    assert same[:20].all()
    assert not same[20:40, 30:60].all()


@pytest.mark.parametrize(
    ("family", "args", "sentence"),
    [
        ("pixart", ["sample", CAT, "--init", "photo.png"], "cannot start from a picture"),
        ("pixart", ["inpaint", "photo.png", CAT, "--box", "1,1,9,9"], "cannot repaint a part of a picture"),
        ("sd", ["inpaint", "photo.png", "--box", "1,1,9,9"], "cannot remove what is masked"),
        ("sd", ["inpaint", "photo.png", CAT, "--mask-text", "a dog"], "cannot find things in a picture"),
        ("sd", ["upscale", "photo.png", "--scale", "2"], "cannot enlarge pictures"),
        ("sd", ["vary", "photo.png"], "cannot make variations"),
        ("sd", ["sample", CAT, "--rerank", "2"], "cannot compare pictures with texts"),
        ("sd", ["sample", CAT, "--prior", "none"], "cannot draw without its prior"),
        ("sd", ["sample", CAT, "--threshold", "static"], "--threshold: Stable Diffusion takes none"),
        ("flux", ["sample", CAT, "--negative", "blurry"], "--negative: FLUX takes none"),
        ("flux", ["sample", CAT, "--sampler", "ancestral"], "cannot be sampled with it"),
        ("unclip", ["sample", CAT, "--sampler", "euler"], "--sampler: unCLIP (Karlo) takes none"),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_it_is_loaded(
    family: str, args: list[str], sentence: str, checkpoint: Checkpoint, command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    photo().save("photo.png")
    monkeypatch.setattr(DiffusersEngine, "load", lambda *args: pytest.fail("it was loaded"))
    _, err = command(*args, "--model", checkpoint(family), code=2)
    assert sentence in err
    assert "hint: " in err


def test_what_can_is_named(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    sd = str(checkpoint("sd"))
    with pytest.raises(UsageError, match="sd cannot enlarge pictures") as refused:
        read_open_model([Path(sd)]).check_can("t2i upscale")
    assert refused.value.hint == (
        "Upscalers can, such as sd-x4-upscaler, and models of ours, such as small. "
        "It can draw from prompts, start from a picture and repaint a part of a picture."
    )
    assert run(["models", "show", sd]) == 0
    assert "  unless told otherwise: 64 px, 50 steps, guidance 7.5\n" in capsys.readouterr().out
    assert run(["models", "export", sd, "-o", "clip"]) == 2
    assert "sd is no model of ours, and only the CLIP of ours is exported" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc", "ancestral", "consistency"])
def test_samplers(sampler: str, engine: Engine) -> None:
    plain = engine("sd").sample(PromptBatch([CAT], [7], asked(3))).images[0]
    request = SampleRequest(stages=by_stage(steps={"base": 3}, sampler={"base": sampler}))
    other = engine("sd").sample(PromptBatch([CAT], [7], request))
    assert bool(other.images.isfinite().all())
    assert (other.images[0] - plain).abs().max() > 1e-3
