"""Certificates for Content Credentials, made on the spot."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def write_certificates(folder: Path) -> None:
    """root.pem; cert.pem with key.pem, signed by it: ES256, CA:false, digitalSignature, emailProtection; other.pem, the
    key of another certificate."""
    now = datetime.datetime.now(datetime.UTC)
    ca, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def build(name: str, key: ec.EllipticCurvePrivateKey, is_ca: bool) -> x509.Certificate:
        def named(common: str) -> x509.Name:
            pairs = ((NameOID.ORGANIZATION_NAME, "t2i tests"), (NameOID.COMMON_NAME, common))
            return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs])

        uses = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"]
            + ["decipher_only"],
            False,
        )
        usage = x509.KeyUsage(digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, **uses)
        made = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("root"))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1))
        made = made.not_valid_after(now + datetime.timedelta(days=30))
        made = made.add_extension(x509.BasicConstraints(is_ca, None), True).add_extension(usage, True)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        if not is_ca:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return made.sign(ca, hashes.SHA256())

    pem = serialization.Encoding.PEM
    root, cert = build("root", ca, True), build("signer", leaf, False)
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "cert.pem").write_bytes(cert.public_bytes(pem) + root.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / "other.pem").write_bytes(ca.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
