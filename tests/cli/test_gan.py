"""The commands on a bundle whose pictures a generator makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def t2i(gan: Path, studio: Path, tmp_path: Path, command: Draw) -> Draw:
    shutil.copytree(gan, tmp_path / "home" / "models" / "forger")
    return partial(command, model="forger")


def test_sample_and_replay(t2i: Draw) -> None:
    (plain,), _ = t2i("sample", CAT, "--seed", "7")
    assert load_image(plain).size == (64, 64)
    assert list(read_metadata(plain)["t2i"]["settings"]["stages"]) == ["gan", "upsampler64"]
    (calm,), _ = t2i("sample", CAT, "--seed", "7", "--temperature", "0.5")
    assert read_metadata(calm)["t2i"]["settings"]["stages"]["gan"] == {"temperature": 0.5}
    assert load_image(calm).tobytes() != load_image(plain).tobytes()
    for path in (plain, calm):
        assert "identical" in t2i("sample", "--replay", path, "--device", "cpu", model="")[0][-1]
    made, _ = t2i("sample", CAT, "--seed", "8,9", "--size", "16", "--temperature", "0", "-o", "sure")
    assert len({load_image(path).tobytes() for path in made}) == 1  # without noise the seed has no say


def test_a_batch_is_its_pictures(t2i: Draw) -> None:
    Path("two.txt").write_text(f"{CAT}\na dog\n")
    together, _ = t2i("sample", "-f", "two.txt", "--seed", "1,2", "--size", "16", "-o", "all")
    (alone,), _ = t2i("sample", "a dog", "--seed", "2", "--size", "16", "-o", "one")
    (same,) = [path for path in together if read_metadata(path)["t2i"]["prompt"] == "a dog" and "2" in Path(path).name]
    assert load_image(same).tobytes() == load_image(alone).tobytes()


def test_the_best_of_several_and_a_dtype(t2i: Draw) -> None:
    assert t2i("sample", CAT, "--rerank", "3", "--size", "16")[0]
    (coarse,), _ = t2i("sample", CAT, "--dtype", "bfloat16", "-o", "bf16")
    assert load_image(coarse).size == (64, 64)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--negative", "snow"), "does not draw by diffusion"),
        (("--top-k", "3"), "None of this model's stages takes it"),
        (("--sampler", "heun"), "none of this model's stages takes it"),
        (("--steps", "4"), "has no stage 'base'"),
    ],
)
def test_what_it_cannot_do_is_said(t2i: Draw, args: tuple[str, ...], words: str) -> None:
    assert words in t2i("sample", CAT, *args, code=2)[1]
