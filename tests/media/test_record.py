"""What pictures say about themselves, ours and other tools'."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from t2i.errors import InputError
from t2i.media.images import load_image, read_metadata, save_image
from t2i.media.metadata import EXIF_IFD, MAKE, MODEL, USER_COMMENT
from t2i.media.other_tools import read_comfy, read_parameters
from t2i.media.record import Record, carried, edited_source_type

SUFFIXES = ("png", "jpg", "webp")
BASE = {"steps": 8, "guidance": 1.5, "sampler": "dpmpp_2m"}
RECORD = Record(
    key="0" * 32, command="sample", prompt="一只猫 & <a> \"cat\" 🐈", seed=7, model="small", weights="ab" * 32,
    size=(64, 64), settings={"size": 64, "dtype": "float32", "stages": {"base": BASE}}, negative="a dog",
    files={"base": "cd" * 32},
)  # fmt: skip
LINE = """a cat, (masterpiece:1.2),
in two lines
Negative prompt: blurry, low quality
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1234567890, Size: 512x768, Model hash: abc, Model: dream, \
Lora hashes: "x: 1, y: 2", Version: v1.9.3"""
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": ["9", 0], "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal",
            "model": ["4", 0], "positive": ["12", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dream.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat in the snow", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["10", 0], "clip": ["4", 1]}},
    "9": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
    "10": {"class_type": "PrimitiveString", "inputs": {"value": "blurry"}},
    "12": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "strength": 1.0}},
}  # fmt: skip
COMFY = {
    "tool": "ComfyUI", "prompt": "a cat in the snow", "negative": "blurry", "seed": 42, "steps": 20,
    "sampler": "euler", "guidance": 8.0, "size": [512, 768], "model": "dream.safetensors",
}  # fmt: skip


def picture() -> Image.Image:
    return Image.new("RGB", (64, 64), "red")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_everything_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save_image(picture(), path, RECORD)
    facts = read_metadata(path)
    assert facts["t2i"] == RECORD.table()
    assert facts["t2i"]["files"] == {"base": "cd" * 32}
    assert set(facts["t2i"]["versions"]) == {"t2i", "python", "torch"}
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert facts["ai_system"] == "t2i (small)"
    assert facts["generator"] is None
    said = read_parameters(facts["parameters"])
    assert said is not None
    assert (said["prompt"], said["negative"], said["seed"]) == (RECORD.prompt, "a dog", 7)
    assert (said["steps"], said["sampler"], said["guidance"], said["size"]) == (8, "dpmpp_2m", 1.5, [64, 64])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_private_picture_holds_no_prompt(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    source = {"t2i": {"prompt": "SECRET", "seed": 1}, "parameters": "SECRET", "generator": {"prompt": "SECRET"}}
    save_image(picture(), path, replace(RECORD, prompt="SECRET", negative="SECRET", private=True, source=source))
    data = path.read_bytes()
    for code in ("utf-8", "utf-16-be", "utf-16-le"):
        assert "SECRET".encode(code) not in data
    assert read_metadata(path)["t2i"]["source"]["t2i"] == {"seed": 1}
    assert read_metadata(path)["t2i"]["key"] == RECORD.key


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exiftool_reads_what_was_written(tmp_path: Path, suffix: str) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    path = tmp_path / f"x.{suffix}"
    save_image(picture(), path, RECORD)
    command = ["exiftool", "-j", "-G", "-struct", "-charset", "utf8", str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"Warning" not in done.stdout, done.stdout
    (facts,) = json.loads(done.stdout)
    uri = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert facts["XMP:DigitalSourceType"] in (uri, "Trained Algorithmic Media")  # newer ones translate it
    assert facts["XMP:AISystemUsed"] == "t2i (small)"
    assert facts["XMP:AISystemVersionUsed"] == RECORD.table()["versions"]["t2i"]
    assert facts["XMP:AIPromptInformation"] == RECORD.prompt
    line = facts["PNG:Parameters"] if suffix == "png" else facts["EXIF:UserComment"]
    assert "Steps: 8, Sampler: dpmpp_2m, CFG scale: 1.5, Seed: 7" in line
    assert RECORD.prompt in line
    if suffix == "png":
        data = path.read_bytes()
        assert data.index(b"XML:com.adobe.xmp") < data.index(b"IDAT")


def test_a_prompt_cannot_speak_for_the_settings() -> None:
    """Line breaks in a prompt would end it for every reader of the line."""
    prompt = "a cat\nNegative prompt: kindness\nSteps: 99, Seed: 1"
    said = read_parameters(replace(RECORD, prompt=prompt).parameters())
    assert said is not None
    assert (said["steps"], said["seed"]) == (8, 7)


def test_a_long_prompt_leaves_the_marks(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"x.{suffix}"
        save_image(picture(), path, replace(RECORD, prompt="猫" * 20_000))
        facts = read_metadata(path)
        assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
        if suffix == "png":
            assert facts["t2i"]["prompt"] == "猫" * 20_000


# Other tools ------------------------------------------------------------------------------------------


def test_the_line_of_automatic1111() -> None:
    assert read_parameters(LINE) == {
        "tool": "AUTOMATIC1111", "prompt": "a cat, (masterpiece:1.2),\nin two lines",
        "negative": "blurry, low quality", "seed": 1234567890, "steps": 20, "sampler": "DPM++ 2M Karras",
        "guidance": 7.5, "size": [512, 768], "model": "dream",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "a cat", "Steps", "Steps: x", "Negative prompt: a"])
def test_a_text_that_is_no_such_line(text: str) -> None:
    assert read_parameters(text) is None


def test_the_graph_of_comfy() -> None:
    assert read_comfy(json.dumps(GRAPH)) == COMFY


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"a": 1}', '{"1": {"inputs": {}}}', "[" * 100_000, '{"1": {"class_type": "x"}}'],
)
def test_a_text_that_is_no_graph(text: str) -> None:
    assert read_comfy(text) is None


def test_graphs_that_lead_nowhere_or_in_circles() -> None:
    for change in ({"positive": ["3", 0]}, {"positive": ["99", 0]}, {"positive": 7}, {"seed": ["3", 0], "steps": "x"}):
        inputs: dict[str, Any] = {**GRAPH["3"]["inputs"], **change}  # type: ignore[dict-item]
        said = read_comfy(json.dumps({**GRAPH, "3": {"class_type": "KSampler", "inputs": inputs}}))
        assert said is not None
        assert said["tool"] == "ComfyUI"


def test_files_of_other_tools(tmp_path: Path) -> None:
    """As these programs write them: text chunks in PNG, EXIF in JPEG and WebP, either byte order."""
    info = PngInfo()
    info.add_text("parameters", LINE)
    picture().save(tmp_path / "a.png", pnginfo=info)
    info = PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    info.add_text("workflow", "{}")
    picture().save(tmp_path / "c.png", pnginfo=info)
    for name, code in (("be.jpg", "utf-16-be"), ("le.jpg", "utf-16-le"), ("be.webp", "utf-16-be")):
        exif = Image.Exif()
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + LINE.encode(code)
        picture().save(tmp_path / name, exif=exif)
    exif = Image.Exif()
    exif[MODEL], exif[MAKE] = "prompt:" + json.dumps(GRAPH), "workflow:{}"
    picture().save(tmp_path / "c.webp", exif=exif)
    for name in ("a.png", "be.jpg", "le.jpg", "be.webp"):
        facts = read_metadata(tmp_path / name)
        assert (facts["t2i"], facts["parameters"]) == (None, LINE), name
        assert facts["generator"] == read_parameters(LINE)
    for name in ("c.png", "c.webp"):
        assert read_metadata(tmp_path / name)["generator"] == COMFY, name


def test_a_record_that_only_looks_like_ours_is_not_repeated(tmp_path: Path) -> None:
    for number, text in enumerate(
        ['{"schema": 1, "seed": NaN}', '{"schema": 2}', "[1]", '{"schema": 1, "path": "/x"}']
    ):
        info = PngInfo()
        info.add_itxt("t2i", text)
        path = tmp_path / f"{number}.png"
        picture().save(path, pnginfo=info)
        assert read_metadata(path)["t2i"] in (None, {"schema": 1})


# What an edited picture keeps --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "command", "after"),
    [
        (None, "inpaint", "compositeWithTrainedAlgorithmicMedia"),
        ("digitalCapture", "inpaint", "compositeWithTrainedAlgorithmicMedia"),
        ("trainedAlgorithmicMedia", "inpaint", "trainedAlgorithmicMedia"),
        (None, "upscale", "algorithmicallyEnhanced"),
        ("trainedAlgorithmicMedia", "upscale", "trainedAlgorithmicMedia"),
        ("digitalCapture", "upscale", "digitalCapture"),
        ('"/><script>', "upscale", "algorithmicallyEnhanced"),
    ],
)
def test_the_source_type_of_an_edited_picture(before: str | None, command: str, after: str) -> None:
    assert edited_source_type({"digital_source_type": before}, command) == after


def test_what_is_carried_over_does_not_grow(tmp_path: Path) -> None:
    path, sizes = tmp_path / "x.png", []
    record = RECORD
    for _ in range(3):
        save_image(picture(), path, record)
        marks = read_metadata(path)
        record = replace(RECORD, command="upscale", source=carried(marks))
        assert record.source is not None
        assert record.source["t2i"]["prompt"] == RECORD.prompt
        sizes.append(len(json.dumps(record.table())))
    assert sizes[1] == sizes[2] or sizes[0] < sizes[1] == sizes[2]
    picture().save(path)
    assert carried(read_metadata(path)) is None


@pytest.mark.parametrize("said", ['{"schema": 1, "prom', "[]", "{}"])
def test_a_record_that_cannot_be_read_is_told(tmp_path: Path, said: str) -> None:
    info = PngInfo()
    info.add_text("t2i", said)
    picture().save(tmp_path / "x.png", pnginfo=info)
    facts = read_metadata(tmp_path / "x.png")
    assert facts["t2i"] is None and facts["damaged"]
    picture().save(tmp_path / "y.png")
    assert not read_metadata(tmp_path / "y.png")["damaged"]


def test_damaged_metadata_is_a_sentence(tmp_path: Path) -> None:
    data = io.BytesIO()
    picture().save(data, "PNG")
    raw = bytearray(data.getvalue())
    raw[30] ^= 255
    (tmp_path / "x.png").write_bytes(raw)
    with pytest.raises(InputError, match=r"x\.png"):
        load_image(tmp_path / "x.png")
