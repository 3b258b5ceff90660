"""The library in two calls."""

from __future__ import annotations

from pathlib import Path

import pytest

import t2i


def test_pictures_from_python(tiny: Path) -> None:
    model = t2i.load(str(tiny))
    pictures = model.sample(["a cat in the snow", "一只猫"], n=2, seed=5, size=16, steps={"base": 2})
    assert [picture.size for picture in pictures] == [(16, 16)] * 4
    assert len({picture.tobytes() for picture in pictures}) == 4
    alone = model.sample("一只猫", seed=6, size=16, steps={"base": 2})[0]
    far = max(abs(a - b) for a, b in zip(alone.tobytes(), pictures[3].tobytes(), strict=True))
    assert far <= 4


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        (" ", {}, "is empty"),
        ("a\0cat", {}, "NUL"),
        ("a cat", {"n": 0}, "n=0 asks for no picture"),
        ("a cat", {"size": 63}, "no pictures of 63 pixels"),
        ("a cat", {"stepz": {"base": 2}}, "no setting 'stepz'"),
        ("a cat", {"sampler": "eular"}, "no sampler 'eular'"),
    ],
)
def test_mistakes_are_sentences(tiny: Path, prompt: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(t2i.UsageError, match=sentence):
        t2i.load(str(tiny)).sample(prompt, **settings)  # type: ignore[arg-type]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(t2i.UnavailableError, match="there is no model"):
        t2i.load("smoll")
    with pytest.raises(t2i.InputError, match="it has no bundle"):
        t2i.load(str(tmp_path))
