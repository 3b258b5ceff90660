"""The sprite library's script on made-up sources: nothing is fetched."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from t2i.errors import InputError, UnavailableError
from t2i.lab import sprites as library
from t2i.lab.sprites import SETS, Icons, Package, Repository, build_set, canonical, to_sprite

RED = (220, 40, 40, 255)


def _png(width: int, height: int) -> bytes:
    image = Image.new("RGBA", (width, height))
    ImageDraw.Draw(image).ellipse((0, 0, width - 1, height - 1), fill=RED)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*command: str) -> None:
        raise AssertionError(f"would run {command}")

    monkeypatch.setattr(library, "run", refuse)


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("1F408", "1f408"),
        ("0023-fe0f-20e3", "23-20e3"),
        ("1f43b_200d_2744_fe0f", "1f43b-200d-2744"),
        ("00a9", "a9"),
    ],
)
def test_codepoints_have_one_spelling(stem: str, key: str) -> None:
    assert canonical(stem) == key


@pytest.mark.parametrize(("width", "height"), [(512, 512), (72, 36), (256, 256), (100, 400)])
def test_a_sprite_keeps_its_shape_and_its_colour(width: int, height: int) -> None:
    image = Image.open(io.BytesIO(_png(width, height)))
    sprite = to_sprite(image)
    assert sprite.size == (256, 256) and sprite.mode == "RGBA"
    left, top, right, bottom = sprite.getchannel("A").getbbox() or (0, 0, 0, 0)
    assert max(right - left, bottom - top) >= 254
    assert abs((right - left) / (bottom - top) - width / height) < 0.03
    reds, _, _, alphas = (band.tobytes() for band in sprite.split())
    rim = [red for red, alpha in zip(reds, alphas, strict=True) if alpha > 60]
    assert min(rim) >= RED[0] - 12, "a dark rim"


@pytest.mark.usefixtures("no_programs")
def test_a_set_from_a_repository_and_a_package(tmp_path: Path) -> None:
    assets = tmp_path / "things-emoji" / "assets"
    assets.mkdir(parents=True)
    for name in ("1f408_3d.png", "🐈_3d.png", "1f408-1f3fb_3d.png", "1f415_flat.svg"):
        (assets / name).write_bytes(_png(64, 64))
    _archive(
        tmp_path / "some-pack-1.0.tgz",
        {
            "package/a/1f408.png": b"",
            "package/a/2603-fe0f.png": _png(32, 32),
            "package/2604.png": b"",
            "package/a/x": b"",
        },
    )
    sources = (
        Repository("https://example.org/things-emoji", "abc", "assets", "", "_3d.png"),
        Package("@some/pack", "1.0", "package/a", ".png"),
    )
    out = tmp_path / "sprites" / "set"
    assert build_set(sources, None, tmp_path, out) == {"1f408", "2603"}  # no skin tones, no second cat
    assert sorted(p.name for p in out.iterdir()) == ["1f408.webp", "2603.webp"]
    with Image.open(out / "2603.webp") as image:
        assert (image.format, image.mode, image.size) == ("WEBP", "RGBA", (256, 256))
    assert build_set(sources, {"2603": "2603", "1": "1"}, tmp_path, tmp_path / "few") == {"2603"}


@pytest.mark.usefixtures("no_programs")
def test_svg_icons_get_their_frame(tmp_path: Path) -> None:
    icons = {
        "icons": {"cat": {"body": "<path/>"}, "dog": {"body": "<g/>", "width": 16}},
        "width": 32,
        "height": 32,
    }
    files = {
        "package/icons.json": icons,
        "package/chars.json": {"1f408": "cat", "1f415": "dog", "1f416": "pig"},
    }
    _archive(tmp_path / "p-2.tgz", {name: json.dumps(table).encode() for name, table in files.items()})
    drawn: list[bytes] = []

    def rasterise(svg: bytes) -> Image.Image:
        drawn.append(svg)
        return Image.open(io.BytesIO(_png(256, 256)))

    source = Icons("p", "2", "package", ".json")
    assert build_set((source,), None, tmp_path, tmp_path / "out", lambda: rasterise) == {"1f408", "1f415"}
    assert b'viewBox="0 0 32 32"' in drawn[0] and b'viewBox="0 0 16 32"' in drawn[1]


@pytest.mark.usefixtures("no_programs")
def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    _archive(tmp_path / "p-1.tgz", {"package/1f408.png": b"no picture"})
    with pytest.raises(InputError, match="1f408"):
        build_set((Package("p", "1", "package", ".png"),), None, tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_program_is_said() -> None:
    with pytest.raises(UnavailableError, match="no-such-program-here"):
        library.run("no-such-program-here")


def test_an_incomplete_library_exits_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _archive(tmp_path / "p-1.tgz", {"package/1f408.png": _png(64, 64)})
    monkeypatch.setitem(SETS, "noto", (Package("p", "1", "package", ".png"),))
    arguments = ["--out", str(tmp_path / "out"), "--sources", str(tmp_path), "--sets"]
    assert library.main([*arguments, "noto"]) == 3
    assert "1 sprites, lacks" in capsys.readouterr().out
    assert (tmp_path / "out" / "ATTRIBUTIONS.md").is_file()
    assert library.main([*arguments, "emojis"]) == 2
