"""Pictures from pictures by their embeddings: Karlo's image variations, Kandinsky's decoder with its prior."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from checkpoints import build
from PIL import Image

from t2i.engine import PromptBatch
from t2i.errors import UsageError
from t2i.media.images import load_image, read_metadata
from t2i.open.engine import DiffusersEngine
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage
from t2i.store.open_model import read_open_model

KANDINSKY, KARLO = "kandinsky-prior+kandinsky", "unclip-variation"
Engine = Callable[[str], DiffusersEngine]
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]
STEPS = ("--steps", "base=2,up=2")


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


def asked(name: str) -> SampleRequest:
    upsampler = {"upsampler": 2} if name == KARLO else {}
    return SampleRequest(stages=by_stage(steps={"base": 2, **upsampler}))


def generators() -> list[torch.Generator]:
    return [generator("noise", seed, "base", 0) for seed in (7, 8)]


def own_karlo(checkpoint: Checkpoint) -> Any:
    pipeline = build(KARLO)
    steps = {"decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2}
    return pipeline([photo()] * 2, generator=generators(), output_type="np", **steps).images


def own_kandinsky(checkpoint: Checkpoint) -> Any:
    folders = [checkpoint(part) for part in KANDINSKY.split("+")]
    prior = diffusers.KandinskyV22PriorPipeline.from_pretrained(folders[0], use_safetensors=True)
    decoder = diffusers.KandinskyV22Pipeline.from_pretrained(folders[1], use_safetensors=True)
    for pipeline in (prior, decoder):
        pipeline.set_progress_bar_config(disable=True)
    made = prior.interpolate([photo()], [1.0], num_inference_steps=2)
    embeds, none = made.image_embeds.expand(2, -1), made.negative_image_embeds.expand(2, -1)
    return decoder(embeds, none, 64, 64, 2, generator=generators(), output_type="np").images


@pytest.mark.parametrize(("name", "draw"), [(KARLO, own_karlo), (KANDINSKY, own_kandinsky)], ids=["karlo", "kandinsky"])
def test_the_same_picture_as_by_diffusers_itself(
    name: str, draw: Callable[[Checkpoint], Any], checkpoint: Checkpoint, engine: Engine
) -> None:
    ours = engine(name).variations(pixels(photo()), PromptBatch(["", ""], [7, 8], asked(name))).images
    levels = (ours.permute(0, 2, 3, 1).numpy() + 1) * 127.5
    assert np.abs(levels - 255 * draw(checkpoint)).max() <= 2
    assert np.abs(levels[0] - levels[1]).max() > 2


@pytest.mark.parametrize("name", [KARLO, KANDINSKY])
def test_blends_go_from_one_picture_to_the_other(name: str, engine: Engine) -> None:
    a, b = pixels(photo(0)), pixels(photo(1))
    frames = engine(name).blend(a, b, [0.0, 0.5, 1.0], PromptBatch([""] * 3, [7, 7, 7], asked(name))).images
    for picture, frame in ((a, frames[0]), (b, frames[2])):
        alone = engine(name).variations(picture, PromptBatch([""], [7], asked(name))).images[0]
        assert (frame - alone).abs().max() <= 1e-4
    assert (frames[0] - frames[2]).abs().max() > 1e-3
    assert (frames[1] - frames[0]).abs().max() > 1e-4


@pytest.mark.parametrize("name", [KARLO, KANDINSKY])
def test_a_text_diff_turns_the_embedding_away_from_one_text_towards_another(
    name: str, checkpoint: Checkpoint, engine: Engine
) -> None:
    model, picture = engine(name), pixels(photo())
    frames = model.text_diff(
        picture, "a cat", "a dog", [0.0, 0.5, 1.0], PromptBatch([""] * 3, [7, 7, 7], asked(name))
    ).images
    assert (frames[0] - model.variations(picture, PromptBatch([""], [7], asked(name))).images[0]).abs().max() <= 1e-4
    assert (frames[1] - frames[0]).abs().max() > 1e-4 and (frames[2] - frames[1]).abs().max() > 1e-4
    back = model.text_diff(picture, "a dog", "a cat", [0.5], PromptBatch([""], [7], asked(name))).images
    assert (back[0] - frames[1]).abs().max() > 1e-4
    # the last frame by diffusers itself: the difference of the texts, as long as the picture's embedding
    whole = build(name.split("+")[0])
    ids = whole.tokenizer(["a dog", "a cat"], padding="max_length", return_tensors="pt").input_ids
    read = getattr(whole, "image_processor", None) or whole.feature_extractor
    with torch.inference_mode():
        dog, cat = torch.nn.functional.normalize(whole.text_encoder(ids).text_embeds, dim=-1)
        z = whole.image_encoder(read(photo(), return_tensors="pt").pixel_values).image_embeds
        d = (dog - cat)[None] * z.norm() / (dog - cat).norm()
    noise = [generator("noise", 7, "base", 0)]
    if name == KARLO:
        steps = {"decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2}
        alone = whole(image_embeddings=d, generator=noise, output_type="np", **steps).images
    else:
        decoder = diffusers.KandinskyV22Pipeline.from_pretrained(checkpoint("kandinsky"), use_safetensors=True)
        decoder.set_progress_bar_config(disable=True)
        alone = decoder(d, whole.get_zero_embed(1), 64, 64, 2, generator=noise, output_type="np").images
    levels = (frames[2].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(levels - 255 * alone[0]).max() <= 2


@pytest.mark.parametrize("name", [KARLO, KANDINSKY])
def test_the_command(name: str, checkpoint: Checkpoint, command: Command) -> None:
    photo(0).save("a.png")
    photo(1).save("b.png")
    model = ("--model", "+".join(str(checkpoint(part)) for part in name.split("+")))
    steps = STEPS if name == KARLO else ("--steps", "base=2")
    two, _ = command("vary", "a.png", "-n", "2", "--seed", "7", *model, *steps)
    assert len({load_image(path).tobytes() for path in two}) == 2
    assert command("vary", "a.png", "-n", "2", "--seed", "7", *model, *steps)[0] == two
    assert read_metadata(two[0])["t2i"]["command"] == "vary"
    frames, _ = command("vary", "a.png", "--to", "b.png", "--frames", "3", "--seed", "7", *model, *steps)
    assert len(frames) == 3
    texts = ("--from-text", "a cat", "--to-text", "a dog", "--theta", "0.5")
    (moved,), _ = command("vary", "a.png", *texts, "--seed", "7", *model, *steps)
    record = read_metadata(moved)["t2i"]["settings"]
    assert record["text-diff"]["texts"] == ["a cat", "a dog"]
    assert set(record["stages"]) == ({"base", "upsampler"} if name == KARLO else {"base"})  # no prior runs
    assert command("sample", "--replay", moved, "--from", "a.png", *model)[0] == [f"{moved}: identical"]
    replay = ("sample", "--replay", two[1], "--from", "a.png", *model)
    (verdict,) = command(*replay)[0]  # drawn alone it may round otherwise than in a batch of two
    assert verdict == f"{two[1]}: identical" or verdict.endswith("differ by one")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a cat",), "varies pictures without reading a text"),
        (("--strength", "0.5"), "draws all noise anew"),
        (("--from-text", "a cat", "--to-text", "a dog", "--strength", "0.5"), "draws all noise anew"),
    ],
)
def test_what_only_our_models_do(
    words: tuple[str, ...], sentence: str, checkpoint: Checkpoint, command: Command
) -> None:
    photo().save("a.png")
    assert sentence in command("vary", "a.png", *words, "--model", checkpoint(KARLO), code=2)[1]


def test_karlo_varies_and_draws_nothing_else(checkpoint: Checkpoint, command: Command) -> None:
    _, err = command("sample", "a cat", "--model", checkpoint(KARLO), code=2)
    assert "cannot draw from prompts" in err
    assert "It can make variations of a picture" in err


def test_settings_of_a_prior_that_does_not_run(checkpoint: Checkpoint, command: Command) -> None:
    photo().save("a.png")
    model = "+".join(str(checkpoint(part)) for part in KANDINSKY.split("+"))
    _, err = command("vary", "a.png", "--model", model, "--steps", "prior=2,base=2", code=2)
    assert "--steps: the stage 'prior' does not run for what was asked" in err


def test_a_text_diff_takes_a_text_encoder_of_the_same_space(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint(KARLO), tmp_path / "karlo")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": ["transformers", "CLIPTextModel"]}))
    model = read_open_model([folder])
    model.check_can("t2i vary")
    with pytest.raises(UsageError, match="cannot move a picture from one text to another"):
        model.check_can("--from-text")
