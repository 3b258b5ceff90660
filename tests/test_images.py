"""Pixels in and out of files, and what the files say about themselves."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.errors import InputError, InternalError, UsageError
from t2i.images import load_image, read_metadata, save_image, to_pil, to_tensor
from t2i.marks import Record

RECORD = Record(
    key="k" * 32,
    command="sample",
    prompt="a cat [/bold] \x1b[31m & <b> 猫🐈",
    seed=7,
    model="small",
    weights="ab" * 32,
    size=(8, 6),
    settings={"stages": {"base": {"steps": 8, "sampler": "euler", "guidance": 1.5}}},
    negative="blur",
)


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def test_every_level_survives_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([levels] * 3, -1))
    tensor = to_tensor(image)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert tensor.min() == -1
    assert tensor.max() == 1
    assert np.array_equal(np.asarray(to_pil(tensor)), np.asarray(image))


def test_rounding_goes_to_the_nearest_level_and_cuts() -> None:
    levels = torch.tensor([-3.0, -1.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.0, 9.0])
    image = to_pil(levels.reshape(1, 1, 6).expand(3, 1, 6))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_a_picture_of_no_numbers_is_refused() -> None:
    with pytest.raises(InternalError):
        to_pil(torch.full((3, 2, 2), float("nan")))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("private", [False, True])
def test_marks_survive(tmp_path: Path, suffix: str, private: bool) -> None:
    path = tmp_path / f"猫{suffix}"
    save_image(picture(), path, replace(RECORD, private=private))
    facts = read_metadata(path)
    assert facts["t2i"] == replace(RECORD, private=private).table()
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert facts["ai_system"] == "t2i (small)"
    assert "Steps: 8, Sampler: euler, CFG scale: 1.5, Seed: 7, Size: 8x6" in facts["parameters"]
    assert ("猫🐈" in facts["parameters"]) is not private
    assert ("猫🐈".encode() in path.read_bytes()) is not private or suffix != ".png"
    assert list(tmp_path.iterdir()) == [path]


def test_png_marks_stand_before_the_pixels(tmp_path: Path) -> None:
    save_image(picture(), tmp_path / "a.png", RECORD)
    data = (tmp_path / "a.png").read_bytes()
    assert 0 < data.index(b"XML:com.adobe.xmp") < data.index(b"IDAT")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_very_long_prompt_still_saves(tmp_path: Path, suffix: str) -> None:
    record = replace(RECORD, prompt="猫" * 20_000)
    save_image(picture(), tmp_path / f"a{suffix}", record)
    assert read_metadata(tmp_path / f"a{suffix}")["digital_source_type"] == "trainedAlgorithmicMedia"


def test_saving_over_and_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_image(picture(), path)
    with pytest.raises(FileExistsError):
        save_image(picture(), path, exclusive=True)
    save_image(picture(), path)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError):
        save_image(picture(), tmp_path / "a.gif")
    with pytest.raises(InputError) as caught:
        save_image(picture(), tmp_path / "no" / "a.png")
    assert caught.value.code == "output"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_image(picture(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_sixteen_bit_grey_is_scaled_by_257(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    path = write(tmp_path / "a.png", Image.fromarray(wide))
    assert np.asarray(load_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_hidden_colour_is_never_revealed(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    pixels = np.asarray(load_image(write(tmp_path / "a.png", image)))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_orientation_and_cmyk(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_image(write(tmp_path / "a.jpg", picture(), exif=exif)).size == (6, 8)
    assert load_image(write(tmp_path / "b.jpg", picture("CMYK"))).mode == "RGB"
    assert load_image(write(tmp_path / "c.png", picture("P"))).mode == "RGB"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (head, *chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def flipped() -> bytes:
    out = io.BytesIO()
    picture(size=(64, 64)).save(out, format="PNG")
    data = bytearray(out.getvalue())
    data[len(data) // 2] ^= 1
    return bytes(data)


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    picture(size=(64, 64)).save(out, format=kind)
    return out.getvalue()


BAD = {
    "empty": b"",
    "text": b"not a picture",
    "truncated png": encoded("PNG")[:-200],
    "truncated jpeg": encoded("JPEG")[:-400],
    "truncated webp": encoded("WEBP")[:-200],
    "bit flip": flipped(),
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "too many pixels": png(10_000, 10_000, (b"IDAT", zlib.compress(b""))),
    "impossible size": png(2**30, 2**30, (b"IDAT", zlib.compress(b""))),
    "text bomb": png(1, 1, (b"zTXt", b"a\0\0" + zlib.compress(b"a" * 50_000_000)), (b"IDAT", zlib.compress(b"\0" * 4))),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(BAD[name])
    with pytest.raises(InputError, match=r"bad\.png") as caught:
        load_image(path)
    assert caught.value.code == "image"


def test_a_picture_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.png", tmp_path, "a\0b.png"):
        with pytest.raises(InputError):
            load_image(path)
