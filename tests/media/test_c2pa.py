"""Content Credentials: signed last, read back, tampering seen. The certificates are made here, by openssl's rules."""

from __future__ import annotations

import io
import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from t2i.media.images import load_image, read_metadata, save_image
from t2i.media.record import Record

c2pa = pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
pytest.importorskip("cryptography.x509")

from certificates import write_certificates  # noqa: E402

from t2i.cli.app import run  # noqa: E402
from t2i.errors import InputError  # noqa: E402
from t2i.media.c2pa import Signer, read_credentials  # noqa: E402
from t2i.media.image_file import ImageFile  # noqa: E402
from t2i.media.marks import examine  # noqa: E402

RECORD = Record(
    key="0" * 32, command="sample", prompt="a cat", seed=7, model="small", weights="ab" * 32, size=(64, 64)
)  # fmt: skip


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root.pem, cert.pem with key.pem, and other.pem, another's key: see `write_certificates`."""
    folder = tmp_path_factory.mktemp("certs")
    write_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def signer(certs: Path) -> Signer:
    return Signer.load(certs / "cert.pem", certs / "key.pem")


def picture() -> Image.Image:
    image = Image.radial_gradient("L").resize((64, 64))
    return image.convert("RGB")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_signed_picture_and_the_same_one_tampered_with(
    certs: Path, signer: Signer, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    save_image(picture(), path, RECORD)
    assert read_credentials(ImageFile.read(path)) is None
    save_image(picture(), path, replace(RECORD, signer=signer))
    claim = read_credentials(ImageFile.read(path))
    assert claim is not None
    assert (claim["state"], claim["actions"], claim["problems"]) == (
        "Valid",
        ["c2pa.created"],
        ["signingCredential.untrusted"],
    )
    assert claim["signer"] == "signer, t2i tests"
    assert read_metadata(path)["t2i"] == RECORD.table()  # the other marks are there as well
    assert load_image(path).size == (64, 64)
    with c2pa.Reader(str(path)) as reader:
        said = json.loads(reader.json())
    (assertion,) = said["manifests"][said["active_manifest"]]["assertions"]
    assert assertion["data"]["actions"][0]["digitalSourceType"] == RECORD.source_uri
    trusted = read_credentials(ImageFile.read(path), certs / "root.pem")
    assert trusted is not None
    assert (trusted["state"], trusted["problems"]) == ("Trusted", [])

    data = path.read_bytes()
    at = (
        data.rindex(b"IDAT") + 12 if suffix == "png" else len(data) - 40 if suffix == "jpg" else data.index(b"VP8") + 40
    )
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    broken = read_credentials(ImageFile.read(path))
    assert broken is not None
    assert broken["state"] == "Invalid"


def rewritten(png: bytes, old: bytes, new: bytes) -> bytes:
    """A PNG with other bytes in one of its chunks, and checksums that are right again."""
    png = png.replace(old, new)
    out, at = png[:8], 8
    while at < len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4])
        out += png[at:end] + zlib.crc32(png[at + 4 : end]).to_bytes(4)
        at = end + 4
    return out


def test_words_that_were_changed_are_seen(signer: Signer, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_image(picture(), path, replace(RECORD, signer=signer))
    path.write_bytes(rewritten(path.read_bytes(), b'"prompt": "a cat"', b'"prompt": "a dog"'))
    claim = read_credentials(ImageFile.read(path))
    assert claim is not None
    assert claim["state"] == "Invalid"


def test_an_edited_picture_names_its_parent(signer: Signer, tmp_path: Path) -> None:
    parent, path = tmp_path / "parent.webp", tmp_path / "x.png"
    save_image(picture(), parent, replace(RECORD, signer=signer))
    record = replace(RECORD, command="inpaint", source_type="compositeWithTrainedAlgorithmicMedia")
    save_image(picture(), path, replace(record, signer=signer.with_parent(parent.read_bytes(), "WEBP")))
    claim = read_credentials(ImageFile.read(path))
    assert claim is not None
    assert (claim["state"], claim["actions"]) == ("Valid", ["c2pa.opened", "c2pa.edited"])


def test_a_source_with_damaged_credentials_is_named_without_them(signer: Signer, tmp_path: Path) -> None:
    """The library refuses to take in what it cannot parse. The new picture must not be lost for that."""
    parent, path = tmp_path / "parent.png", tmp_path / "x.png"
    save_image(picture(), parent, replace(RECORD, signer=signer))
    for old, new in ((b"c2pa.actions", b"c2pa.\xff\xff\xff\xff\xff\xff\xff"), (b"jumd", b"juno"), (b"jumb", b"tomb")):
        data = rewritten(parent.read_bytes(), old, new)
        for its_signer in (signer.with_parent(data, "PNG"), signer.with_inputs((data, "PNG"))):
            save_image(picture(), path, replace(RECORD, signer=its_signer))
            claim = read_credentials(ImageFile.read(path))
            assert claim is not None and claim["state"] == "Valid"
            assert len(claim["ingredients"]) == 1
            assert claim["ingredient_problems"] == ["general.error"]


def bare_but_signed(path: Path, signer: Signer, kind: str, record: Record = RECORD) -> bytes:
    """A picture whose only mark is its credentials, as many programs write it; -> its bytes."""
    save_image(picture().resize((32, 32)), path)
    path.write_bytes(signer.sign(path.read_bytes(), kind, record))
    return path.read_bytes()


@pytest.mark.parametrize("command", [["upscale", "--to", "40"], ["inpaint", "--box", "4,4,20,20", "a cat"]])
def test_a_mark_that_is_in_credentials_alone_is_kept_in_xmp(
    command: list[str],
    signer: Signer,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The new picture is not signed, so its XMP has to say what the credentials of its source said."""
    monkeypatch.chdir(tmp_path)
    name, *options = command
    common = ["--seed", "1", "--model", str(tiny), "--device", "cpu", "-o", "out", "--overwrite"]
    data = bare_but_signed(Path("a.jpg"), signer, "JPEG")
    assert read_metadata("a.jpg")["digital_source_type"] is None
    assert run([name, "a.jpg", *options, *common]) == 0
    out, err = capsys.readouterr()
    facts = read_metadata(out.strip())
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert facts["t2i"]["source"]["c2pa"] == {"state": "Valid", "signer": "signer, t2i tests"}
    assert "Content Credentials" not in err
    # broken ones: the mark stays, and both the run and the record say that they were broken
    Path("a.jpg").write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    assert run([name, "a.jpg", *options, *common]) == 0
    out, err = capsys.readouterr()
    facts = read_metadata(out.strip())
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert facts["t2i"]["source"]["c2pa"]["state"] == "Invalid"
    assert "the Content Credentials of a.jpg are broken" in err
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "c2pa", None)
        assert run([name, "a.jpg", *options, *common]) == 0
    assert "a.jpg has Content Credentials; what they say is lost" in capsys.readouterr().err


def test_what_a_signed_picture_says_of_a_source_that_was_tampered_with(
    signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bare_but_signed(tmp_path / "a.jpg", signer, "JPEG")
    data = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    save_image(picture(), tmp_path / "x.png", replace(RECORD, signer=signer.with_parent(data, "JPEG")))
    claim = read_credentials(ImageFile.read(tmp_path / "x.png"))
    assert claim is not None
    assert (claim["state"], claim["ingredient_problems"]) == ("Valid", ["assertion.dataHash.mismatch"])
    assert run(["info", str(tmp_path / "x.png")]) == 0
    assert "credentials of what it was made from were broken: assertion.dataHash" in capsys.readouterr().out


def test_a_picture_that_was_only_converted_says_what_its_parent_said(signer: Signer, tmp_path: Path) -> None:
    """Programs that convert a picture sign it without a source type of their own."""
    parent, path = bare_but_signed(tmp_path / "a.jpg", signer, "JPEG"), tmp_path / "x.png"
    save_image(picture(), path)
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [opened, {"action": "c2pa.converted"}]}}
    manifest = {"claim_generator_info": [{"name": "converter"}], "assertions": [actions]}
    info = c2pa.C2paSignerInfo(signer.algorithm, signer.certificates, signer.key, None)
    signed = io.BytesIO()
    with c2pa.Signer.from_info(info) as its_signer, c2pa.Builder(manifest) as builder:
        table = {"relationship": "parentOf", "instance_id": "parent"}
        builder.add_ingredient(json.dumps(table), "image/jpeg", io.BytesIO(parent))
        builder.sign(its_signer, "image/png", io.BytesIO(path.read_bytes()), signed)
    path.write_bytes(signed.getvalue())
    found = examine(path)
    assert found.facts["c2pa"]["actions"] == ["c2pa.opened", "c2pa.converted"]
    assert found.facts["c2pa"]["source_types"] == ["trainedAlgorithmicMedia"]
    assert found.synthetic is True


def test_keys_that_cannot_sign(certs: Path, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("no key")
    for cert, key, sentence in (
        (certs / "cert.pem", tmp_path / "none.pem", "holds no private key"),
        (tmp_path / "none.pem", certs / "key.pem", "cannot sign together"),
        (certs / "cert.pem", certs / "other.pem", "cannot sign together"),
        (certs / "cert.pem", tmp_path / "nowhere.pem", "cannot read"),
    ):
        with pytest.raises(InputError, match=sentence):
            Signer.load(cert, key)


def test_signing_from_the_command_line(
    certs: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = ["--sign-cert", str(certs / "cert.pem"), "--sign-key", str(certs / "key.pem")]
    common = ["sample", "a cat", "--seed", "1", "--size", "16", "--model", str(tiny), "--device", "cpu"]
    assert run([*common, *keys, "-o", "x.png"]) == 0
    capsys.readouterr()
    assert run(["info", "x.png", "--json", "--trust", str(certs / "root.pem")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["c2pa"]["state"] == "Trusted"
    assert run(["info", "x.png"]) == 0
    out = capsys.readouterr().out
    assert "Content Credentials (C2PA): valid" in out and "the signer is not known" in out
    assert run(["info", "x.png", "--trust", "nowhere.pem"]) == 3
    assert run(["info", "x.png", "--trust", str(certs / "key.pem")]) == 3
    assert "holds no certificates" in capsys.readouterr().err
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "c2pa", None)
        assert run(["info", "x.png"]) == 0
        assert "Content Credentials (C2PA): unchecked; needs the library c2pa" in capsys.readouterr().out
        assert run(["info", "x.png", "--trust", str(certs / "root.pem")]) == 4
    Path("x.png").write_bytes(rewritten(Path("x.png").read_bytes(), b'"seed": 1', b'"seed": 2'))
    assert run(["info", "x.png"]) == 3
    assert "broken mark: Content Credentials" in capsys.readouterr().err
    assert run([*common, "--sign-cert", str(certs / "cert.pem")]) == 2
    assert run([*common, "--sign-cert", "no.pem", "--sign-key", "no.pem", "-o", "y.png"]) == 3
    assert not Path("y.png").exists()


def ingredients(path: Path) -> tuple[list[str], list[dict[str, object]]]:
    """The actions of a signed picture and its ingredients, as the library reads them."""
    with c2pa.Reader(str(path)) as reader:
        said = json.loads(reader.json())
    active = said["manifests"][said["active_manifest"]]
    actions = [a for part in active["assertions"] if "actions" in part["label"] for a in part["data"]["actions"]]
    return [action["action"] for action in actions], active.get("ingredients", [])


EDITED = ["c2pa.opened", "c2pa.edited"]


@pytest.mark.parametrize(
    ("args", "actions", "relations"),
    [
        (["inpaint", "a.png", "a cat", "--box", "4,4,20,20", "--seed", "1"], EDITED, ["parentOf"]),
        (["upscale", "a.png", "--to", "64"], EDITED, ["parentOf"]),
        (["sample", "a cat", "--init", "a.png", "--seed", "1"], EDITED, ["parentOf"]),
        (["vary", "a.png", "--seed", "1"], ["c2pa.created"], ["inputTo"]),
        (["vary", "a.png", "--to", "b.jpg", "--frames", "2", "--seed", "1"], ["c2pa.created"], ["inputTo"] * 2),
    ],
    ids=["inpaint", "upscale", "init", "like", "blend"],
)
def test_what_is_made_of_a_picture_names_it(
    args: list[str],
    actions: list[str],
    relations: list[str],
    certs: Path,
    signer: Signer,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(picture().resize((32, 32)), Path("a.png"), replace(RECORD, signer=signer))
    save_image(picture().resize((32, 32)).rotate(90), Path("b.jpg"))
    keys = ["--sign-cert", str(certs / "cert.pem"), "--sign-key", str(certs / "key.pem")]
    assert run([*args, *keys, "--model", str(tiny), "--device", "cpu", "-o", "out", "--quiet"]) == 0
    path = Path(capsys.readouterr().out.splitlines()[0])
    done, used = ingredients(path)
    assert (done, [one["relationship"] for one in used]) == (actions, relations)
    claim = read_credentials(ImageFile.read(path), certs / "root.pem")
    assert claim is not None and claim["state"] == "Trusted" and not claim["problems"]
    # the parent's own credentials travel along
    assert used[0].get("active_manifest") and not any(one.get("active_manifest") for one in used[1:])
