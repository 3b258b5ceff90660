"""A user's folder as training data: three layouts, broken files, missing captions, the order of batches."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from t2i.data import folder as module
from t2i.data.folder import FolderSource
from t2i.errors import InputError

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


def picture(colour: str, size: tuple[int, int] = (24, 24), kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(data, kind)
    return data.getvalue()


def fill(path: Path, colours: list[str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for colour in colours:
        (path / f"{colour}.png").write_bytes(picture(colour))
        (path / f"{colour}.txt").write_text(f"a {colour} wall\n\n  all {colour}\n")
    return path


def shard(path: Path, colours: list[str], table: bool = False) -> None:
    with tarfile.open(path, "w") as tar:
        for i, colour in enumerate(colours):
            said = json.dumps({"caption": f"a {colour} wall"}).encode() if table else f"a {colour} wall".encode()
            for suffix, data in (("png", picture(colour)), ("json" if table else "txt", said)):
                info = tarfile.TarInfo(f"{i:04d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def check_batch(source: FolderSource, colours: list[str]) -> None:
    """One epoch holds every picture once, each with its own caption, whatever the layout."""
    batch = source.batch(1, 0, len(colours), 8)
    assert batch.pixels.shape == (len(colours), 3, 8, 8) and batch.pixels.dtype == torch.float32
    seen = set()
    for pixels, caption in zip(batch.pixels, batch.captions, strict=True):
        colour = next(c for c in COLOURS if c in caption)
        expected = torch.tensor(COLOURS[colour]) / 127.5 - 1
        torch.testing.assert_close(pixels.mean((1, 2)), expected, atol=0.01, rtol=0)
        seen.add(colour)
    assert seen == set(colours)


def test_text_files(tmp_path: Path) -> None:
    source = FolderSource(fill(tmp_path, ["red", "green", "blue"]))
    check_batch(source, ["red", "green", "blue"])
    assert {source.captions(0, 0, take) for take in range(6)} == set(source.entries[source._index(0, 0)].captions)
    assert "3 captioned pictures" in source.describe()


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    rows = []
    for key, colour in (("text", "red"), ("caption", "green")):
        (tmp_path / f"sub/{colour}.jpg").write_bytes(picture(colour, kind="JPEG"))
        rows.append(json.dumps({"file_name": f"sub/{colour}.jpg", key: f"a {colour}\nwall"}))
    (tmp_path / "blue.png").write_bytes(picture("blue"))
    rows.append(json.dumps({"file_name": "blue.png", "text": ["a blue wall", "blue"]}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    check_batch(FolderSource(tmp_path), ["red", "green", "blue"])


def test_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a-0000.tar", ["red", "green"])
    shard(tmp_path / "a-0001.tar", ["blue", "white"], table=True)
    four = ["red", "green", "blue", "white"]
    check_batch(FolderSource(tmp_path / "a-{0000..0001}.tar"), four)
    check_batch(FolderSource(tmp_path), four)
    check_batch(FolderSource(tmp_path / "a-0000.tar"), four[:2])


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    path = fill(tmp_path, list(COLOURS))
    one, other = FolderSource(path), FolderSource(path)
    for step in (3, 0, 7):
        a = one.batch(5, step, 3, 8)
        b = other.batch(5, step, 3, 8)
        assert torch.equal(a.pixels, b.pixels) and a.captions == b.captions and a.content == b.content
        assert [one.captions(5, 3 * step + i, 0) for i in range(3)] == a.captions
    orders = [tuple(one.batch(seed, 0, 5, 8).content) for seed in range(6)]
    assert len(set(orders)) > 1
    epochs = [tuple(one.batch(5, step, 5, 8).content) for step in range(6)]
    assert all(len(set(epoch)) == 5 for epoch in epochs) and len(set(epochs)) > 1
    assert len(one.batch(5, 0, 17, 8).captions) == 17  # a batch larger than the folder


def test_pictures_are_cropped_to_their_middle_and_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), COLOURS["red"])
    image.paste(COLOURS["blue"], (20, 0, 40, 20))
    image.save(tmp_path / "wide.png")
    turned = Image.new("RGB", (20, 20), COLOURS["red"])
    turned.paste(COLOURS["blue"], (0, 0, 20, 10))  # blue above; orientation 3 turns it upside down
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    for name in ("wide", "turned"):
        (tmp_path / f"{name}.txt").write_text(name)
    batch = FolderSource(tmp_path).batch(0, 0, 2, 10)
    by_name = dict(zip(batch.captions, batch.pixels, strict=True))
    assert by_name["wide"][2].min() > 0.5 and by_name["wide"][0].max() < -0.5
    assert by_name["turned"][2, 9].min() > 0.9 and by_name["turned"][2, 0].max() < -0.9


def test_broken_pictures_are_counted_named_and_replaced(tmp_path: Path) -> None:
    fill(tmp_path, ["red", "green", "blue"])
    (tmp_path / "red.png").write_bytes(picture("red")[:40])
    (tmp_path / "white.png").write_bytes(picture("white"))  # without a caption
    (tmp_path / "notes.txt").write_text("no picture")
    records: list[dict[str, Any]] = []
    source = FolderSource(tmp_path, records.append)
    assert records == [{"event": "data", "pictures": 2, "without_caption": 1, "broken": 1, "broken_files": "red.png"}]
    captions = " ".join(source.batch(0, 0, 30, 8).captions)
    assert "red" not in captions and "green" in captions and "blue" in captions


def test_what_only_decoding_finds_is_reported_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY_UP_TO", 0)
    fill(tmp_path, ["red", "green", "blue"])
    (tmp_path / "red.png").write_bytes(b"")
    records: list[dict[str, Any]] = []
    one, other = FolderSource(tmp_path, records.append), FolderSource(tmp_path)
    a, b = one.batch(0, 0, 9, 8), other.batch(0, 0, 9, 8)
    assert {"event": "broken", "picture": "red.png", "broken": 1} in records
    assert "red" not in " ".join(a.captions) and torch.equal(a.pixels, b.pixels) and a.captions == b.captions


def test_many_broken_files_are_not_all_named(tmp_path: Path) -> None:
    fill(tmp_path, ["red"])
    for i in range(20):
        (tmp_path / f"x{i:02d}.jpg").write_bytes(b"rubbish")
        (tmp_path / f"x{i:02d}.txt").write_text("rubbish")
    records: list[dict[str, Any]] = []
    FolderSource(tmp_path, records.append)
    assert records[0]["broken"] == 20 and records[0]["broken_files"].endswith("x07.jpg and 12 more")


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE", 2 * 3 * 8 * 8)
    source = FolderSource(fill(tmp_path, list(COLOURS)))
    first = source.batch(0, 0, 20, 8)
    assert len(source._cache) == 2
    assert torch.equal(first.pixels, source.batch(0, 0, 20, 8).pixels)


def nothing(path: Path) -> Path:
    return path


def only_text(path: Path) -> Path:
    (path / "a.txt").write_text("a cat")
    return path


def no_captions(path: Path) -> Path:
    (path / "a.png").write_bytes(picture("red"))
    (path / "a.txt").write_text("\n \n")
    return path


def all_broken(path: Path) -> Path:
    for name in ("a", "b"):
        (path / f"{name}.png").write_bytes(b"rubbish")
        (path / f"{name}.txt").write_text("a cat")
    return path


def bad_table(path: Path) -> Path:
    (path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n{"file": "b.png"}\n')
    return path


def outside(path: Path) -> Path:
    (path / "metadata.jsonl").write_text('{"file_name": "../a.png", "text": "a"}\n')
    return path


def missing_files(path: Path) -> Path:
    (path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n')
    return path


def not_utf8(path: Path) -> Path:
    (path / "a.png").write_bytes(picture("red"))
    (path / "a.txt").write_bytes(b"\xff\xfe\xff")
    return path


def bad_shard(path: Path) -> Path:
    (path / "a.tar").write_bytes(b"rubbish" * 200)
    return path


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (nothing, "holds no PNG, JPEG or WebP picture"),
        (only_text, "holds no PNG, JPEG or WebP picture"),
        (lambda path: path / "nowhere", "does not exist"),
        (lambda path: path / "x-{0003..0001}.tar", "not a range of shards"),
        (lambda path: path / "x-{0000..0001}.tar", "cannot read the shard"),
        (no_captions, "none of the 1 pictures"),
        (all_broken, "none of the 2 captioned pictures"),
        (bad_table, "line 2 of"),
        (outside, "line 1 of"),
        (missing_files, "none of the 1 captioned pictures"),
        (not_utf8, "not UTF-8"),
        (bad_shard, "cannot be read"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(build: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as error:
        FolderSource(build(tmp_path))
    assert (error.value.code, error.value.exit_code) == ("data", 3)
