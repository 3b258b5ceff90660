"""Which marks a picture has and whether they hold: what `t2i info` says of any file, and its exit codes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from t2i.cli.app import run
from t2i.media.c2pa import read_credentials
from t2i.media.image_file import ImageFile
from t2i.media.images import load_image, read_metadata, save_image
from t2i.media.marks import examine
from t2i.media.record import Record, carried

RECORD = Record(
    key="1" * 32, command="sample", prompt="a cat", seed=7, model="small", weights="ab" * 32, size=(40, 40)
)  # fmt: skip
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmpMM:InstanceID="xmp.iid:a&amp;b" '
    'Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>'
)
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def picture() -> Image.Image:
    return Image.radial_gradient("L").resize((40, 40)).convert("RGB")


def states(path: Path) -> tuple[str, str, str]:
    marks = examine(path).marks
    return marks["record"].state, marks["source_type"].state, marks["c2pa"].state


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_ours_is_marked_until_another_program_saves_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save_image(picture(), path, RECORD)
    assert states(path) == ("valid", "valid", "absent")
    assert examine(path).synthetic is True
    load_image(path).save(path)
    assert states(path) == ("absent", "absent", "absent")
    assert examine(path).synthetic is None


def with_chunks_of(path: Path, image: Image.Image) -> None:
    """Save other pixels with all text chunks of a picture, as careful editors do."""
    info = PngInfo()
    with Image.open(path) as before:
        for name, text in before.text.items():  # type: ignore[attr-defined]
            info.add_itxt(name, text)
    image.save(path, pnginfo=info)


def test_a_record_belongs_to_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_image(picture(), path, RECORD)
    with_chunks_of(path, picture())  # written anew, the same pixels
    assert states(path)[0] == "valid"
    image = picture()
    image.putpixel((3, 3), (1, 2, 3))
    with_chunks_of(path, image)
    found = examine(path)
    assert states(path) == ("broken", "valid", "absent")
    assert "changed" in found.marks["record"].says
    assert found.synthetic is True  # the other mark still says so


@pytest.mark.parametrize(
    ("term", "state", "synthetic"),
    [
        (TERMS + "digitalCapture", "valid", False),
        (TERMS + "compositeWithTrainedAlgorithmicMedia", "valid", True),
        ("trainedAlgorithmicMedia", "valid", True),
        (TERMS + "drawnByElves", "broken", None),
    ],
)
def test_pictures_of_others(tmp_path: Path, term: str, state: str, synthetic: bool | None) -> None:
    picture().save(tmp_path / "x.jpg", xmp=XMP.format(term).encode())
    assert states(tmp_path / "x.jpg") == ("absent", state, "absent")
    assert examine(tmp_path / "x.jpg").synthetic is synthetic


RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<r:Description r:about="" xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:p="http://ns.adobe.com/xap/1.0/mm/">{}</r:Description></r:RDF></x:xmpmeta>'
)
TERM = TERMS + "trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        (f"<i:DigitalSourceType>\n {TERM}\n</i:DigitalSourceType>", True),
        (f'<i:DigitalSourceType r:resource="{TERM}"/>', True),
        (f'<DigitalSourceType xmlns="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">{TERM}</DigitalSourceType>', True),
        (f"<i:DigitalSourceType><r:Bag><r:li>{TERM}</r:li></r:Bag></i:DigitalSourceType>", True),
        (f'<i:DigitalSourceType r:parseType="Resource"><r:value>{TERM}</r:value></i:DigitalSourceType>', True),
        (f'<i:DigitalSourceType><r:Description r:value="{TERM}"/></i:DigitalSourceType>', True),
        (f"<j:DigitalSourceType xmlns:j='urn:other'>{TERM}</j:DigitalSourceType>", False),
        (f"<!-- <i:DigitalSourceType>{TERM}</i:DigitalSourceType> -->", False),
        # the XMP of a picture that this one was made of
        (f'<p:Pantry><r:Bag><r:li i:DigitalSourceType="{TERM}"/></r:Bag></p:Pantry>', False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_xmp_is_read_by_namespace_in_any_form(tmp_path: Path, suffix: str, inside: str, found: bool) -> None:
    path, xmp = tmp_path / f"x.{suffix}", RDF.format(inside)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    picture().save(path, **({"pnginfo": info} if suffix == "png" else {"xmp": xmp.encode()}))
    assert states(path)[1] == ("valid" if found else "absent")


BOMB = '<!DOCTYPE x [<!ENTITY a "' + "a" * 9999 + '"><!ENTITY b "' + "&a;" * 9999 + '">]>'


@pytest.mark.parametrize("xmp", ["<x", BOMB + RDF.format("&b;"), "<?xml version='1.0' encoding='nonsense'?><x/>"])
def test_xmp_that_cannot_be_read_is_broken(tmp_path: Path, xmp: str) -> None:
    picture().save(tmp_path / "x.webp", xmp=xmp.encode())
    assert states(tmp_path / "x.webp") == ("absent", "broken", "absent")


def test_images_that_were_added_are_not_covered(tmp_path: Path) -> None:
    path, info = tmp_path / "x.png", PngInfo()
    save_image(picture(), path, RECORD)
    with Image.open(path) as before:
        for name, text in before.text.items():  # type: ignore[attr-defined]
            info.add_itxt(name, text)
    picture().save(path, pnginfo=info, save_all=True, append_images=[picture().rotate(90)])
    found = examine(path)
    assert found.marks["record"].state == "broken"
    assert "images were added" in found.marks["record"].says


HEADS = {"png": b"IHDR....", "jpg": b"\xff\xc0....", "webp": b"VP8 ...."}  # then comes how large it is


@pytest.mark.parametrize(("suffix", "damage"), [("png", "cut"), ("jpg", "cut"), *((s, "head") for s in HEADS)])
def test_a_damaged_picture_says_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, damage: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    save_image(picture(), path, RECORD)
    data = path.read_bytes()
    at = data.index(HEADS[suffix][:-4]) + len(HEADS[suffix])
    path.write_bytes(data[:-40] if damage == "cut" else data[:at] + b"\xff" * 8 + data[at + 8 :])
    assert run(["info", str(path)]) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}: {path.suffix[1:].upper().replace('JPG', 'JPEG')}")
    assert ("None" not in out, ", 40x40" in out, "damaged or cut short" in err) == (True, damage == "cut", True)
    code = run(["info", str(path), "--json"])
    (line, envelope) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (code, envelope["error"]["code"]) == (3, "image")
    assert line["t2i"]["prompt"] == "a cat"
    assert line["marks"]["source_type"]["state"] == "valid" and line["synthetic"] is True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": "7"}, "seed is '7', not a whole number"),
        ({"size": [40]}, "size is [40], not such a list"),
        ({"settings": None}, "settings is None, not a table"),
        ({"files": {"base": 3}}, "files.base is 3, not a text"),
        ({"seed": -1}, "seed is -1, not from 0"),
        ({"prompt": 7}, "prompt is 7, not a text"),
    ],
)
def test_a_record_of_other_types_is_broken(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    info = PngInfo()
    info.add_itxt("t2i", json.dumps({**RECORD.table(), **change}))
    picture().save(tmp_path / "x.png", pnginfo=info)
    mark = examine(tmp_path / "x.png").marks["record"]
    assert mark.state == "broken" and says in mark.says


def test_marks_that_contradict_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    info = PngInfo()
    info.add_itxt("t2i", json.dumps(RECORD.table()))
    info.add_itxt("XML:com.adobe.xmp", XMP.format(TERMS + "digitalCapture"))
    picture().save(path, pnginfo=info)
    assert states(path) == ("valid", "broken", "absent")
    assert "the record says trainedAlgorithmicMedia" in examine(path).marks["source_type"].says


@pytest.mark.parametrize("value", [None, 7, ["a"], {"a": 1}, "\u0000"])
def test_a_record_may_say_anything(tmp_path: Path, value: Any) -> None:
    info = PngInfo()
    info.add_itxt("t2i", json.dumps({**RECORD.table(), "source_type": value}))
    picture().save(tmp_path / "x.png", pnginfo=info)
    assert examine(tmp_path / "x.png").synthetic is None


def test_what_is_left_names_what_was_stripped(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for kept, states_, mark in (
        ("t2i", ("valid", "absent", "absent"), "source_type"),
        ("parameters", ("absent", "absent", "absent"), "record"),
    ):
        save_image(picture(), path, replace(RECORD, settings={"stages": {"base": {"steps": 3}}}))
        with Image.open(path) as before:
            info = PngInfo()
            info.add_itxt(kept, before.text[kept])  # type: ignore[attr-defined]
        picture().save(path, pnginfo=info)
        assert states(path) == states_
        assert "t2i" in examine(path).marks[mark].says


def test_letters_among_the_pixels_are_no_credentials(tmp_path: Path) -> None:
    """A search of the whole file would find the name of C2PA's chunk in what is only compressed noise, or text."""
    for suffix, save in (("png", {"pnginfo": _text("caBX C2PA jumb c2pa")}), ("webp", {"exif": _exif()}), ("jpg", {})):
        path = tmp_path / f"x.{suffix}"
        picture().save(path, **save)
        path.write_bytes(path.read_bytes() + b"caBX C2PA jumb c2pa")
        assert read_credentials(ImageFile.read(path)) is None


def _text(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("comment", text)
    return info


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "C2PA"
    return exif.tobytes()


def xmp_of(path: Path) -> ElementTree.Element:
    with Image.open(path) as image:
        xmp = image.info.get("XML:com.adobe.xmp") or image.info["xmp"]
    return ElementTree.fromstring(xmp if isinstance(xmp, str) else xmp.decode())


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_xmp_says_what_a_picture_was_derived_from(tmp_path: Path, suffix: str) -> None:
    ours, photo, path = tmp_path / f"a.{suffix}", tmp_path / "b.jpg", tmp_path / f"x.{suffix}"
    save_image(picture(), ours, RECORD)
    picture().save(photo, xmp=XMP.format(TERMS + "digitalCapture").encode())
    own, derived = "{http://ns.adobe.com/xap/1.0/mm/}InstanceID", "{http://ns.adobe.com/xap/1.0/mm/}DerivedFrom"
    assert xmp_of(ours).findtext(f".//{own}") == "urn:t2i:picture:" + "1" * 32
    assert xmp_of(ours).find(f".//{derived}") is None
    for source, name in ((ours, "urn:t2i:picture:" + "1" * 32), (photo, "xmp.iid:a&b")):
        save_image(picture(), path, replace(RECORD, key="2" * 32, source=carried(read_metadata(source))))
        (reference,) = xmp_of(path).findall(f".//{derived}/*")
        assert (reference.tag.rsplit("}")[-1], reference.text) == ("instanceID", name)


def bare(path: Path) -> None:
    picture().save(path)


def marked(path: Path) -> None:
    save_image(picture(), path, RECORD)


def edited(path: Path) -> None:
    marked(path)
    with_chunks_of(path, picture().rotate(90))


def cut(path: Path) -> None:
    marked(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"IDAT") + 20])


def bad_checksum(path: Path) -> None:
    marked(path)
    path.write_bytes(path.read_bytes().replace(b"a cat", b"a dog"))


def automatic1111(path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a cat\nSteps: 3, Seed: 7")
    picture().save(path, pnginfo=info)


def a_bitmap(path: Path) -> None:
    file = io.BytesIO()
    picture().save(file, "BMP")
    path.write_bytes(file.getvalue())


MAKERS: list[tuple[Callable[[Path], Any], int, str]] = [
    (bare, 0, "Content Credentials (C2PA): absent"),
    (marked, 0, "record of t2i: valid"),
    (edited, 3, "broken mark: record of t2i"),
    (cut, 3, "damaged"),
    (bad_checksum, 3, "damaged"),
    (automatic1111, 0, "tool: AUTOMATIC1111"),
    (a_bitmap, 3, "not a PNG"),
    (lambda path: path.write_text("no picture"), 3, "not a PNG"),
    (lambda path: path.write_bytes(b""), 3, "empty"),
    (os.mkfifo, 3, "a pipe"),
    (Path.mkdir, 3, "directory"),
    (lambda path: path.symlink_to("/dev/zero"), 3, "a device"),
    (lambda path: path.symlink_to("nowhere"), 3, "No such file"),
]


@pytest.mark.parametrize(("make", "code", "words"), MAKERS)
def test_any_file_has_a_documented_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Any], code: int, words: str
) -> None:
    path = tmp_path / "x.png"
    make(path)
    assert run(["info", str(path)]) == code
    out, err = capsys.readouterr()
    assert words in out + err
    assert run(["info", str(path), "--json"]) == code
    *records, envelope = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert envelope["ok"] is (code == 0)
    for record in records:
        broken = [mark["state"] for mark in record["marks"].values()].count("broken")
        assert not broken or code == 3


def test_the_source_type_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("png", "jpg"):
        path = tmp_path / f"x.{suffix}"
        marked(path)
        assert run(["info", str(path)]) == 0
        assert capsys.readouterr().out.count("trainedAlgorithmicMedia") == 1
