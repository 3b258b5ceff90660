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
from t2i.media.image_file import ImageFile
from t2i.media.images import lanczos, load_image, read_metadata, resize, save_animation, save_image, to_pil, to_tensor
from t2i.media.record import Record

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


def test_transparency_is_kept_apart(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    alpha = ImageFile.read(write(tmp_path / "a.png", image)).decode().alpha
    assert alpha is not None
    assert np.asarray(alpha).tolist() == [[0, 255]]
    opaque = picture().convert("RGBA")
    assert ImageFile.read(write(tmp_path / "b.png", opaque)).decode().alpha is None
    palette = picture().convert("P")
    used = palette.getpixel((0, 0))
    assert ImageFile.read(write(tmp_path / "c.png", palette, transparency=used)).decode().alpha is not None
    assert ImageFile.read(write(tmp_path / "d.jpg", picture())).decode().alpha is None


def test_an_animation_says_how_many_frames_it_has(tmp_path: Path) -> None:
    more = [picture().rotate(180), picture().rotate(90)]
    moving = write(tmp_path / "a.webp", picture(), save_all=True, append_images=more, lossless=True)
    read = ImageFile.read(moving).decode()
    assert read.frames == 3
    assert read.image.tobytes() == picture().tobytes()
    assert ImageFile.read(write(tmp_path / "b.png", picture())).decode().frames == 1


def test_colour_profiles(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert ImageFile.read(write(tmp_path / "a.jpg", picture(), icc_profile=profile)).decode().icc == profile
    assert ImageFile.read(write(tmp_path / "b.jpg", picture())).decode().icc is None
    # a profile that is none, or that of another kind of colour: converted without it
    for wrong in (b"rubbish", profile):
        read = ImageFile.read(write(tmp_path / "c.jpg", picture("CMYK"), icc_profile=wrong)).decode()
        assert (read.image.mode, read.icc) == ("RGB", None)
    save_image(picture(), tmp_path / "d.webp", RECORD, icc=profile)
    assert ImageFile.read(tmp_path / "d.webp").decode().icc == profile


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animations_go_forth_and_back(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (60 * i, 10, 10)) for i in range(4)]
    path = tmp_path / f"a{suffix}"
    save_animation(frames, path, RECORD)
    with Image.open(path) as moving:
        assert moving.n_frames == 6  # type: ignore[attr-defined]
        assert moving.info["loop"] == 0
        moving.seek(4)
        assert abs(moving.convert("RGB").getpixel((4, 4))[0] - 120) < 12  # type: ignore[index,operator]
    if suffix == ".webp":
        assert read_metadata(path)["digital_source_type"] == "trainedAlgorithmicMedia"
    with pytest.raises(UsageError, match=r"\.webp or \.gif"):
        save_animation(frames, tmp_path / "a.mp4")


def test_resizing() -> None:
    values = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert resize(values, 12, 16) is values
    assert torch.allclose(resize(values, 6, 4), values.reshape(1, 3, 6, 2, 4, 4).mean((3, 5)), atol=1e-6)
    assert resize(values, 5, 31).shape == (1, 3, 5, 31)
    assert float(resize(values, 40, 40).abs().max()) <= 1
    flat = torch.full((3, 7, 9), 0.3)
    assert float((lanczos(flat, 20, 31) - 0.3).abs().max()) < 1e-5
    image = to_pil(0.4 * values[0])  # Pillow's own cuts what overshoots between its two passes
    whole = image.resize((33, 50), Image.Resampling.LANCZOS)
    ours = to_pil(lanczos(to_tensor(image), 50, 33))
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(ours).astype(int)).max() <= 1
