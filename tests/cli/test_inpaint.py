"""`t2i inpaint` with real networks: masks of every kind, what is kept to the byte, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.errors import UsageError
from t2i.jobs.masks import parse_outpaint
from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"


@pytest.fixture
def place(studio: Path) -> Path:
    """A folder with photo.png (40x30) and mask.png, and the model `tiny` among this user's models."""
    photo().save("photo.png")
    white((10, 8, 12, 9)).save("mask.png")
    return studio


def photo(width: int = 40, height: int = 30) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def white(box: tuple[int, int, int, int], size: tuple[int, int] = (40, 30)) -> Image.Image:
    x, y, w, h = box
    mask = Image.new("L", size, 0)
    mask.paste(255, (x, y, x + w, y + h))
    return mask


def inpaint(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["inpaint", *args, "--model", "tiny", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return out.splitlines(), err


def changed(path: str | Path, before: Image.Image) -> np.ndarray[Any, Any]:
    """Which pixels of a picture file differ from those before, (H, W)."""
    after, old = np.asarray(load_image(path)), np.asarray(before)
    assert after.shape == old.shape
    different: np.ndarray[Any, Any] = (after != old).any(-1)
    return different


def replay(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["sample", "--replay", *args, "--model", "tiny", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    return out.splitlines(), err


@pytest.mark.parametrize("more", [["--outpaint", "right=8"], ["--mask-mode", "keep"]])
def test_replay(place: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    for prompt in ([CAT], []):
        (path,), _ = inpaint(capsys, "photo.png", *prompt, "--mask", "mask.png", *more, "--seed", "7")
        given = ["--from", "mask.png", "--from", "photo.png"]
        assert replay(capsys, path, *given)[0] == [f"{path}: identical"]
    assert "(inpaint)" in replay(capsys, path, code=3)[1]
    assert "the mask of" in replay(capsys, path, *given[2:], code=3)[1]


def test_replay_needs_no_mask_where_the_margins_say_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--outpaint", "left=8", "--seed", "7")
    assert replay(capsys, path, "--from", "photo.png")[0] == [f"{path}: identical"]


def test_pixels_outside_of_the_mask_are_the_same_bytes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("photo.png", CAT, "--mask", "mask.png", "--feather", "0", "-n", "2", "--seed", "7")
    out, _ = inpaint(capsys, *args)
    assert out == ["out/photo-a-cat-in-the-snow-7.png", "out/photo-a-cat-in-the-snow-8.png"]
    inside = np.asarray(Image.open("mask.png")) > 0
    for path in out:
        different = changed(path, photo())
        assert not different[~inside].any()
        assert different[inside].mean() > 0.5
    assert load_image(out[0]).tobytes() != load_image(out[1]).tobytes()
    times = [Path(path).stat().st_mtime_ns for path in out]
    assert inpaint(capsys, *args)[0] == out
    assert [Path(path).stat().st_mtime_ns for path in out] == times


@pytest.mark.parametrize("feather", [(), ("--feather", "4")])
def test_a_feather_stays_inside_of_the_mask(
    place: Path, capsys: pytest.CaptureFixture[str], feather: tuple[str, ...]
) -> None:
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.png", *feather, "--seed", "7")
    (hard,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.png", "--feather", "0", "--seed", "7", "-o", "hard")
    assert not changed(path, photo())[np.asarray(Image.open("mask.png")) == 0].any()
    assert changed(path, load_image(hard)).any()


def test_a_box_that_is_cut_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), err = inpaint(capsys, "photo.png", CAT, "--box", "30,20,20,5", "--seed", "7")
    assert "--box 30,20,20,5 reaches beyond the 40x30 picture; 30,20,10,5 is repainted" in err
    assert not changed(path, photo())[np.asarray(white((30, 20, 10, 5))) == 0].any()


def test_a_mask_may_be_a_little_coloured_by_jpeg(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open("mask.png").convert("RGB").save("mask.jpg", quality=80)
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.jpg", "--seed", "7")
    assert changed(path, photo()).any()


def test_the_modes_of_a_mask(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.eval(Image.open("mask.png"), lambda v: 255 - v).save("keep.png")
    (one,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.png", "--seed", "7", "-o", "a")
    (two,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "keep.png", "--mask-mode", "keep", "--seed", "7", "-o", "b")
    assert load_image(one).tobytes() == load_image(two).tobytes()


def test_transparency_is_the_mask(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.eval(white((10, 8, 12, 9)), lambda v: 255 - v))
    image.save("hole.png")
    (path,), _ = inpaint(capsys, "hole.png", CAT, "--feather", "0", "--seed", "7")
    inside = np.asarray(white((10, 8, 12, 9))) > 0
    assert not changed(path, photo())[~inside].any()
    # the colour hidden under the transparent part has no say
    hidden = photo()
    hidden.paste((255, 0, 0), (10, 8, 22, 17))
    hidden.putalpha(image.getchannel("A"))
    hidden.save("hole.png")
    (again,), _ = inpaint(capsys, "hole.png", CAT, "--feather", "0", "--seed", "7", "-o", "again")
    assert load_image(again).tobytes() == load_image(path).tobytes()


def test_outpainting(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--outpaint", "left=50%,bottom=7", "--feather", "0", "--seed", "7")
    made = load_image(path)
    assert made.size == (60, 37)
    assert made.crop((20, 0, 60, 30)).tobytes() == photo().tobytes()
    assert read_metadata(path)["t2i"]["size"] == [60, 37]


def test_sides_of_an_outpaint() -> None:
    assert parse_outpaint("25%", (40, 30)) == (10, 8, 10, 8)
    assert parse_outpaint("left=50%,right=128", (40, 30)) == (20, 0, 128, 0)
    assert parse_outpaint("all=2px, top=0", (40, 30)) == (2, 0, 2, 2)
    for wrong in ("left=900%", "", "0", "up=3", "left=", "left=-3", "left=3em", "50000%", "1e3"):
        with pytest.raises(UsageError, match="--outpaint"):
            parse_outpaint(wrong, (4000, 3000))


def test_without_a_prompt_something_is_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), _ = inpaint(capsys, "photo.png", "--mask", "mask.png", "--seed", "7")
    assert path == "out/photo-removed-7.png"
    assert read_metadata(path)["t2i"]["prompt"] == ""


def test_a_mask_from_text_that_names_no_thing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--mask-text", "the noise", "--mask-shape", "exact", "--mask-grow", "0", "--show-mask")
    out, err = inpaint(capsys, "photo.png", CAT, *args, "--seed", "7", "--json")
    assert "'the noise' names no thing that can be told from others" in err
    saved = f"{Path(json.loads(out[0])['path']).with_suffix('')}.mask.png"
    assert f"mask: {saved}" in err
    mask = np.asarray(Image.open(saved).convert("L"))
    assert set(np.unique(mask)) == {0, 255}
    record = json.loads(out[0])
    assert record["settings"]["inpaint"]["text"] == "the noise"


def test_the_mask_of_a_picture_that_exists_is_saved_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("photo.png", CAT, "--mask", "mask.png", "--seed", "7")
    (path,), _ = inpaint(capsys, *args)
    saved = f"{Path(path).with_suffix('')}.mask.png"
    for _ in range(2):  # an equal mask keeps its name
        _, err = inpaint(capsys, *args, "--show-mask")
        assert "was there already" in err and f"mask: {saved}," in err
    mask = np.asarray(Image.open(saved).convert("L"))
    assert np.array_equal(mask > 0, np.asarray(Image.open("mask.png").convert("L")) > 0)


def test_each_picture_has_its_own_mask(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = ((2, 2, 9, 9), (20, 10, 8, 8))
    for i, box in enumerate(boxes):
        args = ("--box", ",".join(map(str, box)), "--seed", "1", "--show-mask", "-o", "photo.png")
        (path,), err = inpaint(capsys, "photo.png", CAT, *args)
        assert path == f"photo-{i + 2}.png" and f"photo.png is taken: the picture is {path}" in err
    for i, box in enumerate(boxes):
        assert np.array_equal(np.asarray(Image.open(f"photo-{i + 2}.mask.png").convert("L")), np.asarray(white(box)))


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_no_mask_replaces_the_one_that_is_read(
    place: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    Path("mask.png").rename("y.mask.png")
    before = Path("y.mask.png").read_bytes()
    args = ("--mask", "y.mask.png", "--box", "0,0,5,5", "--seed", "1", "--show-mask", "-o", "y.png")
    _, err = inpaint(capsys, "photo.png", CAT, *args, *more)
    assert "mask: y.mask-2.png" in err and Path("y.mask-2.png").is_file()
    assert Path("y.mask.png").read_bytes() == before


@pytest.mark.parametrize("output", ["photo.png", "mask.png", "../here/photo.png"])
def test_no_input_is_overwritten(place: Path, capsys: pytest.CaptureFixture[str], output: str) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    _, err = inpaint(capsys, "photo.png", "--mask", "mask.png", "--seed", "1", "-o", output, "--overwrite", code=2)
    assert f"-o would write over the picture {output}, which is read" in err
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_thing_that_is_not_there_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 30), (90, 140, 220)).save("sky.png")
    out, err = inpaint(capsys, "sky.png", CAT, "--mask-text", "the dog", code=3)
    assert not out
    assert "'the dog' was not found in sky.png: no thing is clearly seen in the picture" in err


def test_what_the_picture_says_of_itself(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.png", "--seed", "7")
    facts = read_metadata(path)
    assert facts["digital_source_type"] == "compositeWithTrainedAlgorithmicMedia"
    assert (facts["t2i"]["command"], facts["t2i"]["size"]) == ("inpaint", [40, 30])
    run(["sample", CAT, "--model", "tiny", "--seed", "3", "--size", "16", "-o", "drawn.png", "--device", "cpu"])
    capsys.readouterr()
    (path,), _ = inpaint(capsys, "drawn.png", "一只猫", "--box", "2,2,5,5", "--seed", "7")
    facts = read_metadata(path)
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert facts["t2i"]["source"]["t2i"]["prompt"] == CAT


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "nothing said": (["photo.png", CAT], 2, "nothing says what to repaint"),
    "blank": (["photo.png", CAT, "--mask", "black.png"], 2, "the mask is blank"),
    "full": (["photo.png", CAT, "--mask", "black.png", "--mask-mode", "keep"], 2, "covers the whole picture"),
    "other size": (["photo.png", CAT, "--mask", "small.png"], 2, "the mask small.png is 5x5"),
    "photograph": (["photo.png", CAT, "--mask", "photo.png"], 2, "photo.png is no mask: "),
    "no mask": (["photo.png", CAT, "--mask", "no.png"], 3, "cannot read no.png"),
    "no picture": (["no.png", CAT, "--mask", "mask.png"], 3, "cannot read no.png"),
    "text": (["text.png", CAT, "--mask", "mask.png"], 3, "text.png is not a PNG"),
    "empty": (["empty.png", CAT, "--mask", "mask.png"], 3, "empty.png"),
    "cut short": (["cut.png", CAT, "--mask", "mask.png"], 3, "cut.png"),
    "damaged mask": (["photo.png", CAT, "--mask", "cut.png"], 3, "cut.png"),
    "tiff": (["photo.tif", CAT, "--mask", "mask.png"], 3, "photo.tif is not a PNG"),
    "box outside": (["photo.png", CAT, "--box", "40,0,5,5"], 2, "lies outside of the picture"),
    "no box": (["photo.png", CAT, "--box", "4,0,0,5"], 2, "is not a box"),
    "whole box": (["photo.png", CAT, "--box", "0,0,40,30"], 2, "covers the whole picture"),
    "outpaint": (["photo.png", CAT, "--outpaint", "up=3"], 2, "--outpaint"),
    "empty prompt": (["photo.png", " ", "--mask", "mask.png"], 2, "the prompt is empty"),
    "NUL": (["photo.png", "a\0b", "--mask", "mask.png"], 2, "NUL"),
    "mode": (["photo.png", CAT, "--mask", "mask.png", "--mask-mode", "swap"], 2, "--mask-mode 'swap'"),
    "mode without": (["photo.png", CAT, "--box", "1,1,5,5", "--mask-mode", "keep"], 2, "--mask-mode needs --mask"),
    "grow without": (["photo.png", CAT, "--box", "1,1,5,5", "--mask-grow", "0.1"], 2, "--mask-grow needs --mask-text"),
    "grow": (["photo.png", CAT, "--mask-text", "the dog", "--mask-grow", "9"], 2, "share of the picture's short side"),
    "side twice": (["photo.png", CAT, "--outpaint", "left=3,left=4"], 2, "says left twice"),
    "no side": (["photo.png", CAT, "--outpaint", ""], 2, "--outpaint '' cannot be read"),
    "moving mask": (["photo.png", CAT, "--mask", "moving.webp", "--strict"], 3, "moving.webp is an animation of 2"),
    "animation": (["moving.webp", CAT, "--box", "1,1,5,5", "--strict"], 3, "moving.webp is an animation of 2 frames"),
    "model": (["photo.png", CAT, "--mask", "mask.png", "--model", "nothing"], 4, "nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_the_model_loads(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Image.new("L", (40, 30), 0).save("black.png")
    Image.new("L", (5, 5), 255).save("small.png")
    photo().save("photo.tif")
    photo().save("moving.webp", save_all=True, append_images=[photo().rotate(180)])
    Path("text.png").write_text("not a picture")
    Path("empty.png").touch()
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:-300])
    # a model that cannot be loaded: had it been, the message would be another
    weights = place.parent / "home" / "models" / "tiny" / "base" / "model.safetensors"
    weights.write_bytes(b"damaged")
    args, code, sentence = REFUSED[name]
    words = ["inpaint", *args, *([] if "--model" in args else ["--model", "tiny"])]
    assert run(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert not Path("out").exists()


def test_an_animation_gives_its_first_frame(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo().save("moving.webp", save_all=True, append_images=[photo().rotate(180)], lossless=True)
    (path,), err = inpaint(capsys, "moving.webp", CAT, "--mask", "mask.png", "--feather", "0", "--seed", "7")
    assert "moving.webp is an animation of 2 frames; the first is taken" in err
    assert not changed(path, photo())[np.asarray(Image.open("mask.png")) == 0].any()


def test_the_colour_profile_is_written_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo().save("photo.png", icc_profile=profile)
    (path,), _ = inpaint(capsys, "photo.png", CAT, "--mask", "mask.png", "--seed", "7")
    assert Image.open(path).info["icc_profile"] == profile
