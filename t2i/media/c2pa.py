"""Content Credentials (C2PA 2.x): sign a finished picture file, and check the signature of one.

Needs the extra `t2i[c2pa]`. Nothing goes over the network: no time stamps, no fetched certificates.

The first action of a created picture is c2pa.created; of an edited one c2pa.opened, with the source as its parent
ingredient. Pictures that a model took as input are inputTo ingredients. A certificate that does not chain to a root
known to the reader is reported as `signingCredential.untrusted`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i import __version__
from t2i.errors import InputError, UnavailableError
from t2i.files import explain_os_error, read_bytes
from t2i.media.parts import chunks

if TYPE_CHECKING:
    from t2i.media.image_file import ImageFile
    from t2i.media.record import Record

MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""C2PA's signing algorithm by elliptic curve."""

UNTRUSTED = "signingCredential.untrusted"
DAMAGED = {"activeManifest": {"success": [], "informational": [], "failure": [{"code": "general.error"}]}}
"""The result of checking credentials that the library cannot parse."""
LISTS = ("actions", "source_types", "ingredients", "problems", "ingredient_problems")
"""What is said of credentials in lists, see `read_credentials`."""

Ingredient = tuple[dict[str, Any], bytes, str]
"""What C2PA calls it, the file, and its format."""


@dataclass(frozen=True)
class Signer:
    """A certificate with its key, and the ingredients of the picture to be signed.

    certificates: PEM chain, the signer's own first. key: its private key, PEM. algorithm: C2PA's name, such as es256.
    parent: (file, format) of the picture that was edited. inputs: (file, format) of the pictures that a model took as
    input.
    """

    certificates: bytes
    key: bytes
    algorithm: str
    parent: tuple[bytes, str] | None = None
    inputs: tuple[tuple[bytes, str], ...] = ()

    @classmethod
    def load(cls, certificates: Path, key: Path) -> Signer:
        """Read a certificate chain and its private key, and try them on a picture of one pixel.

        Raises UnavailableError (code `dependency`) without the extra, InputError for files that cannot sign.
        """
        library()
        chain, secret = _read(certificates), _read(key)
        try:
            signer = cls(chain, secret, _algorithm(secret))
        except Exception as error:  # the library raises nearly anything
            hint = "It is a PEM file without a password: EC, RSA or Ed25519."
            raise InputError(f"{key} holds no private key that can sign.", hint) from error
        from PIL import Image

        pixel = io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        try:
            signer.sign(pixel.getvalue(), "PNG", None)
        except InputError as error:
            what = f"{certificates} and {key} cannot sign together"
            raise InputError(f"{what}: {error.message}", error.hint) from error
        return signer

    def with_parent(self, parent: bytes, kind: str) -> Signer:
        """The signer for a picture that was edited from `parent`, a file of format `kind`."""
        return replace(self, parent=(parent, kind))

    def with_inputs(self, *inputs: tuple[bytes, str]) -> Signer:
        """The signer for a picture that a model drew from others, each a file and its format."""
        return replace(self, inputs=inputs)

    def sign(self, data: bytes, kind: str, record: Record | None) -> bytes:
        """The signed file. data: a file of format `kind`. Raises InputError if the library refuses.

        The credentials of ingredients travel along. Where they are so damaged that the library cannot take them in, the
        ingredients go without: a picture that was drawn is not lost for the fault of another file.
        """
        c2pa = library()
        try:
            try:
                return self._sign(data, kind, record, self._ingredients())
            except c2pa.C2paError:
                if self.parent is None and not self.inputs:
                    raise
                return self._sign(data, kind, record, self._ingredients(without_credentials=True))
        except c2pa.C2paError as error:
            hint = "A certificate for C2PA has CA:false, digitalSignature and emailProtection."
            raise InputError(f"the picture cannot be signed: {' '.join(str(error).split())[:300]}.", hint) from error

    def _sign(self, data: bytes, kind: str, record: Record | None, ingredients: list[Ingredient]) -> bytes:
        c2pa = library()
        signed = io.BytesIO()
        context = c2pa.Context(c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}}))
        # None: no time stamp server
        info = c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None)
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(self._manifest(record), context) as builder:
            for table, data_of, its_kind in ingredients:
                builder.add_ingredient(json.dumps(table), MIME[its_kind], io.BytesIO(data_of))
            builder.sign(signer, MIME[kind], io.BytesIO(data), signed)
        return signed.getvalue()

    def _ingredients(self, without_credentials: bool = False) -> list[Ingredient]:
        """without_credentials: of pictures written anew, which say that their credentials could not be taken along."""
        out: list[Ingredient] = []
        if self.parent is not None:
            table = {"relationship": "parentOf", "instance_id": "parent", "title": "the picture edited"}
            out.append((table, *self.parent))
        for i, given in enumerate(self.inputs):
            table = {"relationship": "inputTo", "instance_id": f"input{i}", "title": "a picture the model was shown"}
            out.append((table, *given))
        if without_credentials:
            return [({**table, "validation_results": DAMAGED}, _pixels_of(data), "PNG") for table, data, _ in out]
        return out

    def _manifest(self, record: Record | None) -> dict[str, Any]:
        from t2i.media.record import GENERATED, SOURCE_TYPES

        kind = {"digitalSourceType": record.source_uri if record is not None else SOURCE_TYPES + GENERATED}
        actions: list[dict[str, Any]] = [{"action": "c2pa.created", **kind}]
        if self.inputs:
            actions[0]["parameters"] = {"ingredientIds": [f"input{i}" for i in range(len(self.inputs))]}
        if self.parent is not None:
            opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
            actions = [opened, {"action": "c2pa.edited", **kind}]
        return {
            "claim_generator_info": [{"name": "t2i", "version": __version__}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        }


def library() -> Any:
    """The module c2pa. Raises UnavailableError (code `dependency`)."""
    try:
        import c2pa
    except ImportError as error:
        what = "signing needs the library c2pa, which is not installed."
        raise UnavailableError(what, "pip install 't2i[c2pa]'", "dependency") from error
    return c2pa


def read_credentials(file: ImageFile, trust: Path | None = None) -> dict[str, Any] | None:
    """The Content Credentials of a picture and whether they hold; None if it has none.

    Keys: state (Trusted, Valid, Invalid, or "not checked" without the extra), signer, generator, actions, source_types
    (short names, those of the actions, or where they have none of what was edited), ingredients (their relationships),
    problems, ingredient_problems (why credentials of ingredients were broken). trust: PEM file of trusted roots.
    Raises InputError if that cannot be used, UnavailableError if there is none of the library to use it.
    """
    context = None if trust is None else _context(trust)
    if not _is_signed(file):
        return None
    said: dict[str, Any] = {"signer": None, "generator": None}
    said |= {name: [] for name in LISTS}
    try:
        c2pa = library()
    except UnavailableError:
        return {"state": "not checked", **said}
    context = context or _context(None)
    try:
        with c2pa.Reader(MIME[file.format], io.BytesIO(file.data), context=context) as reader:
            table, state = json.loads(reader.json()), reader.get_validation_state()
    except (c2pa.C2paError, ValueError) as error:
        return {"state": "Invalid", **said, "problems": [" ".join(str(error).split())[:300]]}
    manifests = table.get("manifests", {})
    active = manifests.get(table.get("active_manifest"), {})
    signature, generators = active.get("signature_info", {}), active.get("claim_generator_info") or [{}]
    names = [signature.get("common_name"), signature.get("issuer")]
    return {
        "state": state or "Invalid",
        "signer": ", ".join(name for name in names if name) or None,
        "generator": f"{generators[0].get('name', '')} {generators[0].get('version', '')}".strip() or None,
        "actions": [str(action.get("action")) for action in _actions(active)],
        "source_types": _source_types(manifests, active),
        "ingredients": [used.get("relationship") for used in active.get("ingredients", [])],
        "ingredient_problems": _ingredient_problems(active),
        "problems": [status.get("code") for status in table.get("validation_status", [])],
    }


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    lists = [
        assertion["data"].get("actions", [])
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label")).startswith("c2pa.actions") and isinstance(assertion.get("data"), dict)
    ]
    return [action for part in lists if isinstance(part, list) for action in part if isinstance(action, dict)]


def _source_types(manifests: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    """The source types of a manifest's actions. A program that only converts a picture signs without one: then those of
    its parent, and so on."""
    for _ in manifests:
        types = [str(action["digitalSourceType"]) for action in _actions(manifest) if "digitalSourceType" in action]
        if types:
            return [name.rsplit("/", 1)[-1] for name in types]
        parents = [used for used in manifest.get("ingredients", []) if used.get("relationship") == "parentOf"]
        manifest = manifests.get(parents[0].get("active_manifest"), {}) if parents else {}
    return []


def _ingredient_problems(manifest: dict[str, Any]) -> list[str]:
    """What was wrong with the credentials of a manifest's ingredients when it was signed, besides unknown signers."""
    codes: list[str] = []
    for used in manifest.get("ingredients", []):
        results = (used.get("validation_results") or {}).get("activeManifest") or {}
        codes += [str(status.get("code")) for status in results.get("failure") or used.get("validation_status") or []]
    return [code for code in dict.fromkeys(codes) if code != UNTRUSTED]


def _context(trust: Path | None) -> Any:
    """The library's settings for reading: nothing is fetched. trust: PEM file of trusted roots."""
    c2pa = library()
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    fault = InputError(f"{trust} holds no certificates.", "It is a PEM file of root certificates.")
    if trust is not None:
        text = _read(trust).decode("utf-8", "replace")
        if "-----BEGIN CERTIFICATE-----" not in text:  # which the library would pass over
            raise fault
        settings["trust"] = {"trust_anchors": text}
        settings["verify"]["verify_trust"] = True
    try:
        return c2pa.Context(c2pa.Settings.from_dict(settings))
    except (c2pa.C2paError, ValueError) as error:
        raise fault from error


def _is_signed(file: ImageFile) -> bool:
    """Whether there are credentials: a PNG chunk caBX, a WebP chunk C2PA, or JPEG segments APP11 with a JUMBF box."""
    parts = chunks(file.data, file.format)
    if file.format == "JPEG":
        return any(name == b"\xeb" and b"jumb" in data and b"c2pa" in data for name, data in parts)
    return any(name == (b"caBX" if file.format == "PNG" else b"C2PA") for name, _ in parts)


def _pixels_of(data: bytes) -> bytes:
    """A picture file written anew as a PNG, without anything but its pixels."""
    from t2i.media.image_file import ImageFile

    file = io.BytesIO()
    ImageFile.of(data, "the source").decode().image.save(file, "PNG")
    return file.getvalue()


def _algorithm(key: bytes) -> str:
    """C2PA's signing algorithm for a private key in PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = load_pem_private_key(key, password=None)
    if isinstance(secret, ec.EllipticCurvePrivateKey):
        return CURVES[secret.curve.name]
    if isinstance(secret, rsa.RSAPrivateKey):
        return "ps256"
    assert isinstance(secret, ed25519.Ed25519PrivateKey)
    return "ed25519"


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {explain_os_error(error)}.") from error
