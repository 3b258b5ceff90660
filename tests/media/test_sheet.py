"""Contact sheets: every picture in its cell, labels beside, captions under it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.media.fonts import Font, find_font
from t2i.media.sheet import Cell, captioned, contact_sheet, in_rows, titled, wrap

THREE = Path(__file__).parent / "fonts" / "three-characters.ttf"
PLAIN = Font(None, True)


def pictures(n: int, size: tuple[int, int] = (16, 12)) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, (n, size[1], size[0], 3), dtype=np.uint8)
    return [Image.fromarray(v) for v in values]


def dark(image: Image.Image) -> int:
    return int((np.asarray(image.convert("L")) < 128).sum())


@pytest.mark.parametrize(("n", "rows"), [(1, [1]), (2, [2]), (4, [2, 2]), (5, [3, 2]), (10, [4, 4, 2])])
def test_rows_are_about_as_many_as_columns(n: int, rows: list[int]) -> None:
    assert [len(row) for row in in_rows(range(n))] == rows
    assert [len(row) for row in in_rows(range(n), 3)] == [3] * (n // 3) + [n % 3] * bool(n % 3)


def test_every_picture_is_in_its_cell(tmp_path: Path) -> None:
    five = pictures(5)
    five[1].save(tmp_path / "b.png")
    rows: list[list[Cell]] = [[five[0], tmp_path / "b.png", five[2]], [five[3], None, five[4]]]
    for cell in (None, (16, 12)):
        sheet = contact_sheet(rows, cell=cell)
        assert sheet.size == (3 * 16 + 4, 2 * 12 + 2)
        for i, picture in ((0, five[0]), (1, five[1]), (2, five[2]), (3, five[3]), (5, five[4])):
            x, y = i % 3 * 18, i // 3 * 14
            assert sheet.crop((x, y, x + 16, y + 12)).tobytes() == picture.tobytes()
        assert sheet.getpixel((18 + 8, 14 + 6)) == (211, 211, 211)
        assert sheet.getpixel((16, 0)) == sheet.getpixel((0, 12)) == (255, 255, 255)


def test_columns_and_rows_take_the_size_of_what_they_hold() -> None:
    small, wide = pictures(1, (10, 10))[0], pictures(1, (30, 20))[0]
    sheet = contact_sheet([[small, wide], [small]], gap=3)
    assert sheet.size == (10 + 3 + 30, 20 + 3 + 10)
    assert sheet.crop((13, 0, 43, 20)).tobytes() == wide.tobytes()
    assert sheet.crop((0, 23, 10, 33)).tobytes() == small.tobytes()
    reduced = contact_sheet([[small, wide]], cell=(15, 15))
    assert reduced.size == (15 + 2 + 15, 15)
    assert reduced.getpixel((17 + 7, 12)) == (255, 255, 255)  # the wide one keeps its shape
    assert wide.size == (30, 20)


def test_labels_stand_beside_the_pictures_and_move_them() -> None:
    rows = in_rows(pictures(4, (40, 40)), 2)
    bare = contact_sheet(rows)
    sheet = contact_sheet(rows, left=["seed 1\nsteps 2", "seed 2"], top=["a", "b"])
    x, y = sheet.width - bare.width, sheet.height - bare.height
    assert x > 20 and y > 10
    assert sheet.crop((x, y, *sheet.size)).tobytes() == bare.tobytes()
    assert dark(sheet.crop((0, y, x, sheet.height))) > 50 and dark(sheet.crop((x, 0, sheet.width, y))) > 5
    assert dark(sheet.crop((0, 0, x, y))) == 0


def test_labels_in_chinese_are_drawn_with_a_font_that_has_them() -> None:
    rows = in_rows(pictures(2, (40, 40)))
    font = find_font("一只猫", folders=[THREE.parent])
    sheet, other = (contact_sheet(rows, left=[text], font=font) for text in ("一只猫", "只只只"))
    boxes = contact_sheet(rows, left=["狗狗狗"], font=font)
    assert sheet.size == other.size == boxes.size
    assert len({image.tobytes() for image in (sheet, other, boxes)}) == 3


def test_captions_and_titles() -> None:
    picture = pictures(1, (80, 40))[0]
    assert captioned(picture, [], PLAIN) is picture
    told = captioned(picture, ["a cat beside a house in the snow under a dark sky, and a dog", "one"], PLAIN)
    assert told.crop((0, 0, 80, 40)).tobytes() == picture.tobytes()
    assert told.width == 80 and 60 < told.height < 120 and dark(told.crop((0, 40, *told.size))) > 50
    sheet = titled(told, "everything", PLAIN)
    assert sheet.crop((0, sheet.height - told.height, *sheet.size)).tobytes() == told.tobytes()
    assert dark(sheet.crop((0, 0, 80, sheet.height - told.height))) > 20


def test_captions_are_wrapped() -> None:
    font = PLAIN.at(12)
    text = "two small orange cats next to a very large blue house in the snow"
    lines = wrap(text, font, 120, 9)
    assert len(lines) > 2 and " ".join(lines) == text
    assert all(font.getlength(line) <= 120 for line in lines)
    cut = wrap(text, font, 120, 2)
    assert len(cut) == 2 and cut[-1].endswith("…") and font.getlength(cut[-1]) <= 120
