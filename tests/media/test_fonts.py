"""Fonts are chosen by the glyphs they have. three-characters.ttf has 一, 只 and 猫, drawn as bars, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from t2i.errors import InputError
from t2i.media.fonts import Font, find_font, has_glyphs

THREE = Path(__file__).parent / "fonts" / "three-characters.ttf"


def test_pillows_own_font_comes_first() -> None:
    assert find_font("plain letters, 7 ·\n", folders=[THREE.parent]) == Font(None, True)


def test_no_font_shows_everything() -> None:
    assert find_font("plain letters", folders=[]).complete
    assert not find_font("一只猫", folders=[]).complete
    assert find_font("一只狗", folders=[THREE.parent]) == Font(None, False)


def test_any_installed_font_will_do(tmp_path: Path) -> None:
    assert find_font("一只 猫", folders=[tmp_path, THREE.parent]) == Font(THREE, True)
    assert find_font("一只猫").at(20) is not None  # whatever this machine has


def test_a_known_font_is_preferred_and_rubbish_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "NotoSansCJK-Regular.ttc").write_bytes(b"no font")
    shutil.copy(THREE, tmp_path / "Odd.ttf")
    shutil.copy(THREE, tmp_path / "wqy-microhei.ttf")
    assert find_font("猫", folders=[tmp_path]).path == tmp_path / "wqy-microhei.ttf"


def test_a_font_of_ones_own(tmp_path: Path) -> None:
    assert find_font("猫", THREE) == Font(THREE, True)
    assert find_font("cat", THREE) == Font(THREE, False)
    (tmp_path / "a.ttf").write_bytes(b"no font")
    assert not has_glyphs(tmp_path / "a.ttf", "a")
    with pytest.raises(InputError, match="as a font"):
        find_font("cat", tmp_path / "a.ttf")
