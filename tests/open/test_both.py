"""What every model does, whether its stages are ours or diffusers': the library, and the engine below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import t2i
from t2i.cli.app import run
from t2i.engine import PromptBatch
from t2i.media.images import load_image
from t2i.sampling import SampleRequest, by_stage

CAT, APPLE = "a cat in the snow", "a red apple"
STEPS = {"base": 2}


@pytest.fixture(scope="module", params=["ours", "diffusers"])
def folder(request: pytest.FixtureRequest, tiny: Path, checkpoint: Callable[[str], Path]) -> Path:
    return tiny if request.param == "ours" else checkpoint("sd")


@pytest.fixture(scope="module")
def model(folder: Path) -> t2i.Model:
    return t2i.load(str(folder))


@pytest.fixture
def side(model: t2i.Model) -> int:
    return model.stored.sizes[0] if hasattr(model.stored, "sizes") else model.stored.manifest.sizes[0]


def asked(side: int) -> SampleRequest:
    return SampleRequest(size=side, stages=by_stage(steps=STEPS))


def far(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_a_picture_is_its_prompts_and_seeds(model: t2i.Model, side: int) -> None:
    pictures = model.sample([CAT, APPLE], n=2, seed=5, size=side, steps=STEPS)
    assert [picture.size for picture in pictures] == [(side, side)] * 4
    assert len({picture.tobytes() for picture in pictures}) == 4
    alone = model.sample(APPLE, seed=6, size=side, steps=STEPS, batch=1)[0]
    assert far(alone, pictures[3]) <= 1


def test_the_same_pixels_as_the_command(
    model: t2i.Model, folder: Path, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    size = ["--size", str(side), "--steps", "base=2"]
    args = ["--model", str(folder), "--device", "cpu", "--seed", "7", "-n", "2", "--guidance", "base=2", "-q", *size]
    assert run(["sample", CAT, *args]) == 0
    pictures = model.sample(CAT, n=2, seed=7, guidance={"base": 2.0}, size=side, steps=STEPS)
    for picture, path in zip(pictures, sorted(Path("out").glob("*.png")), strict=True):
        assert far(picture, load_image(path)) == 0


def test_every_dial_changes_the_picture(model: t2i.Model, side: int) -> None:
    plain = {"seed": 7, "size": side, "steps": STEPS}
    first = model.sample(CAT, **plain)[0]  # type: ignore[arg-type]
    for other in ({"steps": {"base": 3}}, {"guidance": {"base": 2.5}}, {"negative": "snow"}, {"sampler": "heun"}):
        assert far(model.sample(CAT, **{**plain, **other})[0], first) > 0, other  # type: ignore[arg-type]


def test_inpainting_keeps_what_is_outside(model: t2i.Model) -> None:
    photo = Image.radial_gradient("L").resize((40, 24)).convert("RGB")
    mask = Image.new("L", (40, 24))
    mask.paste(255, (4, 4, 14, 14))
    first, second = model.inpaint(photo, "a dog", mask, n=2, seed=3, feather=0, steps=STEPS)
    assert first.tobytes() != second.tobytes()
    kept = np.asarray(mask) == 0
    assert (np.asarray(first)[kept] == np.asarray(photo)[kept]).all()
    assert (np.asarray(first)[~kept] != np.asarray(photo)[~kept]).any()


def test_starting_from_a_picture(model: t2i.Model, side: int) -> None:
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    request = SampleRequest(size=side, stages=by_stage(steps={"base": 4}))
    alone = model.engine.image_to_image(image, PromptBatch([CAT], [7], request), strength=0.5).images[0]
    among = model.engine.image_to_image(image, PromptBatch([APPLE, CAT], [7, 7], request), strength=0.5).images
    assert (among[1] - alone).abs().max() <= 1e-4
    other = model.engine.image_to_image(-image, PromptBatch([CAT], [7], request), strength=0.5).images[0]
    assert (other - alone).abs().max() > 1e-3


def test_stages_and_steps_are_told(model: t2i.Model, side: int) -> None:
    told: list[tuple[str, int, int]] = []
    tell = lambda stage, step, n, x0_hat: told.append((stage, step, n))  # noqa: E731
    samples = model.engine.sample(PromptBatch([CAT], [7], asked(side), tell))
    assert [row for row in told if row[0] == "base"] == [("base", 1, 2), ("base", 2, 2)]
    assert samples.truncated == [None] and len(samples.unknown) == 1
    long = model.engine.sample(PromptBatch([CAT + " and a dog" * 200], [7], asked(side)))
    assert long.truncated[0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n": 0}, "n=0 asks for no picture"),
        ({"seed": -1}, "seed=-1 is not a seed"),
        ({"size": 63}, "63"),
        ({"stepz": {"base": 2}}, "no setting 'stepz'"),
        ({"sampler": "eular"}, "eular"),
    ],
)
def test_mistakes_are_sentences(model: t2i.Model, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(t2i.UsageError, match=sentence):
        model.sample(CAT, **settings)  # type: ignore[arg-type]


def test_what_only_one_of_them_does(checkpoint: Callable[[str], Path], tiny: Path) -> None:
    sd = t2i.load(str(checkpoint("sd")))
    for wrong in (
        lambda: sd.score([Image.new("RGB", (8, 8))], CAT),
        lambda: sd.upscale(Image.new("RGB", (8, 8)), scale=2),
        lambda: sd.sample(CAT, threshold="static"),
        lambda: sd.sample(CAT, prior="none"),
        lambda: t2i.load(str(tiny), quantize="int8"),
        lambda: t2i.load(str(tiny), memory="lots"),
    ):
        with pytest.raises(t2i.UsageError):
            wrong()
    assert sd.sample(CAT, seed=1, size=(96, 64), steps=STEPS)[0].size == (96, 64)
    assert t2i.load(str(checkpoint("x4"))).upscale(Image.new("RGB", (16, 16)), scale=4, steps=2).size == (64, 64)
