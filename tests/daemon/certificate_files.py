# SPDX-License-Identifier: MIT
"""Self-signed certificates in files, as a tool that renews them leaves them there."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["endpoint_of", "write_certificate"]


def write_certificate(directory: Path, name: str) -> str:
    """Write C{tls.key} and C{tls.pem} for a new key. @return: the certificate, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    (directory / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return certificate.public_bytes(Encoding.PEM).decode()


def endpoint_of(directory: Path, port: int) -> str:
    """The endpoint string that serves them on loopback."""
    return (
        f"ssl:{port}:privateKey={directory / 'tls.key'}:certKey={directory / 'tls.pem'}:interface=127.0.0.1"
    )
