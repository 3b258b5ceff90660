"""What reads a stranger's bytes, texts and sizes, for any input: hypothesis looks for a counterexample."""

from __future__ import annotations

import json
import string
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from t2i.edit.masks import MAX_WINDOWS, bounds, windows
from t2i.errors import InputError, T2IError, UsageError
from t2i.jobs.masks import boxes_mask, parse_box, parse_outpaint
from t2i.jobs.parsing import parse_seeds, parse_thresholds
from t2i.jobs.upscale import enlarged_size
from t2i.jsonl import strict_json
from t2i.media.image_file import ImageFile
from t2i.media.images import load_image, read_metadata, save_image
from t2i.media.metadata import read_tags
from t2i.media.other_tools import read_comfy, read_parameters
from t2i.media.record import Record, carried, parse_record
from t2i.media.xmp import IPTC, Packet
from t2i.prompts import MAX_EXPANSION, expand
from t2i.score.suite import read_suite

settings.register_profile(
    "t2i", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("t2i")

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**25), 2**63, 1e308])
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "a\udfff", "\0", "\u2028", "<&>\"'", "NaN"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.fixed_dictionaries(
    {"schema": st.just(1) | VALUES},
    optional=dict.fromkeys(("key", "prompt", "seed", "settings", "size", "weights", "source", "cut", "model"), VALUES),
)


def written(value: Any) -> str:
    """JSON as a careless program writes it: NaN, infinities and half characters included."""
    return json.dumps(value)


@given(
    st.text() | st.binary() | VALUES.map(written) | st.sampled_from(["[" * 100_000, "1e999", "9" * 5000, '"\\ud800'])
)
def test_json_that_is_read_can_be_written(text: str | bytes) -> None:
    try:
        value = strict_json(text)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@given(RECORDS | VALUES)
def test_any_record_can_be_carried_into_any_file(table: Any) -> None:
    """What a picture says is either no record of ours, or goes into the next picture as PNG, JPEG and WebP."""
    tags = {"t2i": parse_record(written(table)), "generator": read_comfy(written(table))}
    record = Record("0" * 32, "upscale", "a cat", 7, "m", "0" * 64, (4, 4), source=carried(tags))
    for ending in ("png", "jpg", "webp"):
        path = Path(f"{FOLDER}/a.{ending}")
        save_image(Image.new("RGB", (4, 4)), path, record)
        assert (read_metadata(path)["t2i"] or {}).get("key") == "0" * 32


@given(st.text(st.characters(), max_size=300) | st.text(string.ascii_letters + ':,"\\ \n()', max_size=300))
def test_any_parameters_are_read_or_left(text: str) -> None:
    for tail in (text, f"a cat\nSteps: 3, {text}"):
        json.dumps(read_parameters(tail), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")


GRAPHS = st.dictionaries(
    st.sampled_from("12345"),
    st.fixed_dictionaries(
        {
            "class_type": TEXTS,
            "inputs": st.dictionaries(
                st.sampled_from(
                    ["positive", "negative", "seed", "cfg", "steps", "text", "conditioning", "latent_image"]
                ),
                VALUES | st.tuples(st.sampled_from("12345"), st.integers()),
            ),
        }
    ),
)


@given(GRAPHS | VALUES)
def test_any_graph_is_read_or_left(graph: Any) -> None:
    json.dumps(read_comfy(written(graph)), ensure_ascii=False, allow_nan=False).encode()


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("fuzz")
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\nSteps: 3, Seed: 7")
    record = Record("0" * 32, "sample", "a cat", 7, "m", "0" * 64, (9, 7))
    for ending in ("png", "jpg", "webp"):
        save_image(Image.effect_noise((9, 7), 80).convert("RGB"), FOLDER / f"whole.{ending}", record)


FOLDER = Path()


@given(
    st.sampled_from(["png", "jpg", "webp"]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=8)), max_size=4),
    st.integers(0, 2000),
)
@settings(max_examples=150)
def test_any_damage_to_a_picture_is_an_error_of_the_picture(
    ending: str, changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray((FOLDER / f"whole.{ending}").read_bytes())
    for at, new in changes:
        data[at % len(data) : at % len(data) + len(new)] = new
    data = data[: length % len(data) if length % 3 == 0 else len(data)]
    for read in (ImageFile.metadata, ImageFile.decode, lambda file: file.decode(verify=False)):
        try:
            read(ImageFile.of(bytes(data), "x"))
        except InputError:
            continue


TAGS = st.sampled_from(
    ["<r:RDF>", "</r:RDF>", "<r:Description ", "</r:Description>", "<i:DigitalSourceType>", "</i:DigitalSourceType>"]
    + ['r:resource="a"', 'i:AISystemUsed="', "<r:li>", ">", "/>", "&lt;", "&#0;", "&e;", "<!DOCTYPE x [", "<![CDATA["]
)


@given(st.binary() | st.lists(TAGS | st.text(max_size=5), max_size=12))
def test_any_xmp_is_read_or_left(inside: bytes | list[str]) -> None:
    data = inside if isinstance(inside, bytes) else "".join(inside).encode()
    head = b'<x xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:i="' + IPTC.encode() + b'">'
    for packet in (Packet(data), Packet(head + data + b"</x>")):
        found = packet.get(IPTC, "DigitalSourceType")
        assert packet.readable or found is None
        json.dumps(found, ensure_ascii=False).encode()


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.binary(max_size=200))
def test_any_parts_are_read_or_left(kind: str, data: bytes) -> None:
    head = {"PNG": b"\0\0\0\x80iTXtt2i\0\1\0\0\0", "JPEG": b"\xff\xe1\0\x80Exif\0\0", "WEBP": b"EXIF\x80\0\0\0"}[kind]
    far = b"II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\x64\0\0\0\0\x10\0\0"  # EXIF with a text that lies outside of it
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for rest in (data, head + data, head + far + data):
            read_tags(bytes(12 if kind == "WEBP" else 8 if kind == "PNG" else 2) + rest, kind)
    assert not seen  # they would come out between the messages


@given(st.text(max_size=80) | st.text("{|}\\ ab", max_size=80))
def test_any_prompt_expands_or_is_refused(text: str) -> None:
    try:
        assert 1 <= len(expand(text)) <= MAX_EXPANSION
    except UsageError:
        return


@given(
    st.text(max_size=30) | st.text("0123456789,.= %pxlefttoprightall-+einfna", max_size=30),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_any_option_is_read_or_refused(text: str, width: int, height: int) -> None:
    size = (width, height)
    for read in (
        lambda: parse_seeds(text, None),
        lambda: parse_thresholds(text),
        lambda: boxes_mask(size, [parse_box(text)]),
        lambda: parse_outpaint(text, size),
    ):
        try:
            read()
        except UsageError:
            continue


SIDES = st.integers(1, 40) | st.sampled_from([599, 6_000])


@given(SIDES, SIDES.filter(lambda side: side < 41), st.data())
def test_windows_cover_any_mask_of_any_picture(long: int, short: int, data: st.DataObject) -> None:
    """Squares inside the picture, all of the mask, in pictures from 1x1 on, however narrow."""
    height, width = data.draw(st.sampled_from([(long, short), (short, long)]))
    mask = torch.zeros(1, height, width)
    for _ in range(data.draw(st.integers(1, 3))):
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        mask[0, y : y + data.draw(st.integers(1, 50)), x : x + data.draw(st.integers(1, 50))] = 1
    try:
        squares = windows(mask, data.draw(st.sampled_from([1, 16, 64])))
    except UsageError:
        assert max(height, width) > MAX_WINDOWS / 2 * min(height, width)
        return
    covered = torch.zeros_like(mask)
    for box in squares:
        assert 0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width
        assert box.bottom - box.top == box.right - box.left
        covered[box.slices] = 1
    assert bool((covered >= mask).all())
    around = bounds(mask)
    assert bool(mask[around.slices].amax()) and float(mask.sum()) == float(mask[around.slices].sum())


@given(SIDES, SIDES, st.none() | st.integers(1, 32_000), st.floats(1, 64), st.lists(st.integers(2, 4), max_size=2))
def test_any_size_is_enlarged_or_refused(
    width: int, height: int, to: int | None, scale: float, factors: list[int]
) -> None:
    try:
        w, h = enlarged_size(width, height, to, None if to else scale, factors)
    except InputError:
        return
    assert w >= 1 and h >= 1


@given(VALUES, st.sampled_from(["jsonl", "csv", "tsv", "txt"]))
def test_any_suite_is_read_or_refused(value: Any, ending: str) -> None:
    path = FOLDER / f"suite.{ending}"
    text = written({"prompt": "a cat", "expect": value}) if ending == "jsonl" else f"prompt\n{written(value)}"
    path.write_text(text + "\n", "utf-8")
    try:
        assert read_suite(path)
    except T2IError:
        return


def test_the_whole_pictures_are_whole() -> None:
    for ending in ("png", "jpg", "webp"):
        assert load_image(FOLDER / f"whole.{ending}").size == (9, 7)
