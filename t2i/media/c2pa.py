"""Content Credentials (C2PA): sign a picture as the last thing that happens to it, and read what a picture claims.

Needs the extra ``t2i[c2pa]``. Nothing is sent anywhere: no time stamp server is asked, no certificate is fetched.
C2PA 2.x: a created asset begins with the action c2pa.created, an edited one with c2pa.opened and its parent as an
ingredient; pictures that a model was shown are ingredients of what it created, as inputs. A certificate that chains to
no root the reader knows shows as ``signingCredential.untrusted``.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i import __version__
from t2i.errors import InputError, UnavailableError
from t2i.files import explain_os_error

if TYPE_CHECKING:
    from t2i.media.record import Record

MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
UNTRUSTED = "signingCredential.untrusted"
#: key of the certificate -> the algorithm that signs with it
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Seal:
    """Who signs. ``certificates`` is a PEM chain, the signer's own first; ``parent`` the file and format of the
    picture that an edited one was made from, ``inputs`` those of the pictures that a created one was drawn after."""

    certificates: bytes
    key: bytes
    algorithm: str
    parent: tuple[bytes, str] | None = None
    inputs: tuple[tuple[bytes, str], ...] = ()

    @classmethod
    def load(cls, certificates: Path, key: Path) -> Seal:
        """Read a certificate chain and its private key, and sign a picture of one pixel to see that they fit.

        Raises UnavailableError (code ``dependency``) without the extra, InputError for files that cannot sign.
        """
        library()
        chain, secret = _read(certificates), _read(key)
        try:
            seal = cls(chain, secret, _algorithm(secret))
        except Exception as error:  # the library raises many things for what is no key
            hint = "It is a PEM file without a password: EC, RSA or Ed25519."
            raise InputError(f"{key} holds no private key that can sign.", hint) from error
        from PIL import Image

        pixel = io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        try:
            seal.apply(pixel.getvalue(), "PNG", None)
        except InputError as error:
            what = f"{certificates} and {key} cannot sign together"
            raise InputError(f"{what}: {error.message}", error.hint) from error
        return seal

    def of(self, parent: bytes, kind: str) -> Seal:
        """The seal for a picture made from ``parent``, a file of format ``kind``."""
        return replace(self, parent=(parent, kind))

    def shown(self, *inputs: tuple[bytes, str]) -> Seal:
        """The seal for a picture that a model drew after others, each a file and its format."""
        return replace(self, inputs=inputs)

    def apply(self, data: bytes, kind: str, record: Record | None) -> bytes:
        """The file ``data`` of format ``kind``, signed. Raises InputError when the library refuses."""
        c2pa = library()
        signed = io.BytesIO()
        try:
            context = c2pa.Context(c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}}))
            # None: no time stamp server
            info = c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(self._claim(record), context) as builder:
                for table, data_of, its_kind in self._ingredients():
                    builder.add_ingredient(json.dumps(table), MIME[its_kind], io.BytesIO(data_of))
                builder.sign(signer, MIME[kind], io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            hint = "A certificate for C2PA has CA:false, digitalSignature and emailProtection."
            raise InputError(f"the picture cannot be signed: {' '.join(str(error).split())[:300]}.", hint) from error
        return signed.getvalue()

    def _ingredients(self) -> list[tuple[dict[str, str], bytes, str]]:
        out = []
        if self.parent is not None:
            table = {"relationship": "parentOf", "instance_id": "parent", "title": "the picture edited"}
            out.append((table, *self.parent))
        for i, given in enumerate(self.inputs):
            table = {"relationship": "inputTo", "instance_id": f"input{i}", "title": "a picture the model was shown"}
            out.append((table, *given))
        return out

    def _claim(self, record: Record | None) -> dict[str, Any]:
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
    """The module c2pa. Raises UnavailableError (code ``dependency``)."""
    try:
        import c2pa
    except ImportError as error:
        what = "signing needs the library c2pa, which is not installed."
        raise UnavailableError(what, "pip install 't2i[c2pa]'", "dependency") from error
    return c2pa


def read_claim(path: Path, kind: str, trust: Path | None = None) -> dict[str, Any] | None:
    """What a picture's Content Credentials say and whether they hold; None where there are none.

    Keys: state (Trusted, Valid, Invalid, or "not checked" without the extra), signer, generator, actions, problems.
    ``trust`` is a PEM file of roots that are believed. Raises InputError when that cannot be read.
    """
    data = path.read_bytes()
    if not _is_signed(data, kind):
        return None
    try:
        c2pa = library()
    except UnavailableError:
        return {"state": "not checked", "signer": None, "generator": None, "actions": [], "problems": []}
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if trust is not None:
        settings["trust"] = {"trust_anchors": _read(trust).decode("utf-8", "replace")}
        settings["verify"]["verify_trust"] = True
    try:
        with c2pa.Reader(
            MIME[kind], io.BytesIO(data), context=c2pa.Context(c2pa.Settings.from_dict(settings))
        ) as reader:
            table, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        return {"state": "Invalid", "signer": None, "generator": None, "actions": [], "problems": [str(error)]}
    active = table.get("manifests", {}).get(table.get("active_manifest"), {})
    signature, generators = active.get("signature_info", {}), active.get("claim_generator_info") or [{}]
    names = [signature.get("common_name"), signature.get("issuer")]
    actions = [
        action.get("action")
        for assertion in active.get("assertions", [])
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    return {
        "state": state or "Invalid",
        "signer": ", ".join(name for name in names if name) or None,
        "generator": f"{generators[0].get('name', '')} {generators[0].get('version', '')}".strip() or None,
        "actions": actions,
        "problems": [status.get("code") for status in table.get("validation_status", [])],
    }


def _is_signed(data: bytes, kind: str) -> bool:
    """Whether there are credentials at all: PNG chunk caBX, WebP chunk C2PA, JPEG segments APP11 with a JUMBF box."""
    if kind == "JPEG":
        return b"jumb" in data and b"c2pa" in data
    return (b"caBX" if kind == "PNG" else b"C2PA") in data


def _algorithm(key: bytes) -> str:
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
        return path.read_bytes()
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else "no such file"
        raise InputError(f"cannot read {path}: {what}.") from error
