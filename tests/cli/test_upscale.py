"""`t2i upscale` with real networks: sizes, folders, batches in which something fails, marks that are carried over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.media.images import load_image, read_metadata


@pytest.fixture
def place(studio: Path) -> Path:
    (studio / "photos" / "deep").mkdir(parents=True)
    photo(20, 12).save("photos/a.png")
    photo(9, 16).save("photos/deep/b.jpg")
    return studio


def photo(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def upscale(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["upscale", *args, "--model", "tiny", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return out.splitlines(), err


def test_folders_keep_their_structure_and_are_not_made_twice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = upscale(capsys, "photos", "--to", "80", "-o", "big")
    assert out == ["big/a.png", "big/deep/b.jpg"]
    assert [load_image(path).size for path in out] == [(80, 48), (45, 80)]
    assert [line.split(":")[0] for line in err.splitlines() if "detail" in line] == [
        "photos/a.png",
        "photos/deep/b.jpg",
    ]
    times = [Path(path).stat().st_mtime_ns for path in out]
    assert upscale(capsys, "photos", "--to", "80", "-o", "big")[0] == out
    assert [Path(path).stat().st_mtime_ns for path in out] == times
    assert upscale(capsys, "photos/a.png", "--to", "40", "-o", "big")[0] == ["big/a-2.png"]
    assert upscale(capsys, "photos/*.png", "--scale", "2.5", "-o", "glob")[0] == ["glob/a.png"]
    assert load_image("glob/a.png").size == (50, 30)


def test_a_lone_picture_may_be_given_a_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("photos/a.png").read_bytes()
    args = ("photos/a.png", "--scale", "2", "-o")
    for _ in range(2):  # made once
        out, err = upscale(capsys, *args, "new/u.webp")
        assert out == ["new/u.webp"] and err.endswith(": new/\n")
    with Image.open("new/u.webp") as image:
        assert (image.format, image.size) == ("WEBP", (40, 24))
    assert [path.name for path in Path("new").iterdir()] == ["u.webp"]  # no manifest, as for a named picture of sample
    for more in ([], ["--overwrite"]):  # never over what it was made from
        assert upscale(capsys, *args, "photos/a.png", *more)[0] == ["photos/a-2.png"]
    assert Path("photos/a.png").read_bytes() == before


def test_one_failure_does_not_stop_the_rest(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/b.png").write_bytes(Path("photos/a.png").read_bytes()[:-200])
    Path("photos/c.webp").write_text("not a picture")
    out, err = upscale(capsys, "photos", "nothing.png", "--scale", "2", "--json", code=3)
    *records, envelope = [json.loads(line) for line in out]
    assert [record["path"] for record in records] == ["out/a.png", "out/deep/b.jpg"]
    assert (envelope["failed"], envelope["error"]["code"]) == (3, "partial")
    for name in ("photos/b.png", "photos/c.webp", "nothing.png"):
        assert name in err
    # each is told once; one alone as it is, and many name the first for who reads JSON
    assert err.count("cannot read nothing.png") == 1
    assert envelope["error"]["message"] == "3 of 5 pictures failed; the first is photos/b.png."
    out, _ = upscale(capsys, "photos/b.png", "--scale", "2", "--json", code=3)
    fault = json.loads(out[-1])["error"]
    assert fault["code"] == "image" and "photos/b.png" in fault["message"]


def test_an_empty_folder_among_many_is_its_own_failure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nothing").mkdir()
    out, err = upscale(capsys, "nothing", "photos/a.png", "x*.png", "--scale", "2", code=3)
    assert out == ["out/a.png"]
    assert "the folder nothing holds no PNG" in err and "no file is called like x*.png" in err
    assert "2 of 3 pictures failed; the first is nothing." in err


def test_a_bare_number_of_steps_is_the_upsamplers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,), _ = upscale(capsys, "photos/a.png", "--scale", "2", "--steps", "1")
    stages = read_metadata(path)["t2i"]["settings"]["stages"]
    assert {stage["steps"] for stage in stages.values()} == {1}


def test_the_picture_itself_is_never_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("photos/a.png").read_bytes()
    assert upscale(capsys, "photos/a.png", "--scale", "2", "-o", "photos", "--overwrite")[0] == ["photos/a-2.png"]
    assert upscale(capsys, "photos/a.png", "--scale", "3", "-o", "photos")[0] == ["photos/a-3.png"]
    assert Path("photos/a.png").read_bytes() == before


def test_marks_are_carried_over(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["sample", "a cat in the snow", "--model", "tiny", "--seed", "3", "-o", "cat.png", "--device", "cpu"])
    capsys.readouterr()
    (path,), _ = upscale(capsys, "cat.png", "--to", "100")
    facts = read_metadata(path)
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert (facts["t2i"]["command"], facts["t2i"]["prompt"]) == ("upscale", "a cat in the snow")
    assert facts["t2i"]["source"]["t2i"]["seed"] == 3
    (path,), _ = upscale(capsys, "photos/a.png", "--to", "100")
    assert read_metadata(path)["digital_source_type"] == "algorithmicallyEnhanced"


@pytest.mark.parametrize("to", ["10", "20"])
def test_a_lone_picture_that_is_large_enough_is_refused(
    to: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_image(Path("photos/a.png"))
    assert max(before.size) == 20
    out, err = upscale(capsys, "photos/a.png", "--to", to, code=2)
    assert (
        out == [] and "photos/a.png: its longer side has 20 pixels already" in err and "--to with more than 20" in err
    )
    assert not Path("out").exists()


def test_among_several_what_is_large_enough_keeps_its_pixels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are enlarged; one line says how many were not, also when all are there already."""
    Image.new("RGB", (90, 60), "blue").save("photos/wide.png")
    for _ in range(2):
        out, err = upscale(capsys, "photos", "--to", "80", "-o", "big")
        assert len(out) == 3
        assert "t2i: warning: 1 of 3 pictures has 80 pixels or more already: its pixels are kept as they are" in err
    same = [np.asarray(load_image(Path(folder) / "wide.png")) for folder in ("photos", "big")]
    assert np.array_equal(*same)
    assert [max(load_image(Path(path)).size) for path in out].count(80) == 2


def test_sixteen_bits_transparency_and_animation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = np.full((10, 10), 257 * 128, dtype=np.uint16)
    Image.fromarray(wide).save("wide.png")
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save("clear.png")
    photo(10, 10).save("moving.webp", save_all=True, append_images=[photo(10, 10).rotate(90)])
    out, err = upscale(capsys, "wide.png", "clear.png", "moving.webp", "--scale", "4")
    assert np.abs(np.asarray(load_image(out[0])).astype(int) - 128).max() <= 1
    assert np.asarray(load_image(out[1])).min() >= 254
    assert "moving.webp is an animation of 2 frames; the first is taken" in err
    _, err = upscale(capsys, "moving.webp", "--scale", "4", "--strict", "-o", "strict", code=3)
    assert "moving.webp is an animation of 2 frames." in err


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "no size": (["photos"], 2, "nothing says how large: give --to or --scale"),
    "two sizes": (["photos", "--to", "64", "--scale", "2"], 2, "both say how large"),
    "one file for two": (["photos", "--to", "64", "-o", "a.png"], 2, "is one file, and there are 2 pictures"),
    "another format": (["photos/a.png", "--to", "64", "-o", "a.gif"], 2, "does not end in .png"),
    "no folder": (["photos/a.png", "--to", "64", "-o", "photos/a.png/b.png"], 3, "cannot write"),
    "empty folder": (["nothing", "--to", "64"], 3, "holds no PNG"),
    "no match": (["x*.png", "--to", "64"], 3, "no file is called like x*.png"),
    "shrinking": (["photos", "--scale", "0.5"], 2, "--scale"),
    "steps": (["photos", "--to", "64", "--steps", "base=3"], 2, "the stage 'base' does not take it"),
    "too large": (["photos/a.png", "--to", "32000"], 3, "megapixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("nothing").mkdir()
    args, code, sentence = REFUSED[name]
    _, err = upscale(capsys, *args, code=code)
    assert sentence in err
