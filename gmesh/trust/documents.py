# SPDX-License-Identifier: MIT
"""
Every signed document by name: the one module others import them from.
"""

from __future__ import annotations

from gmesh.errors import DocumentRefused
from gmesh.trust.body import Body, DocumentFile, SignatureEntry
from gmesh.trust.body_command import Command, CommandReceipt, CommandTarget
from gmesh.trust.body_genesis import AdmissionRule, Anchor, AuthorityKey, Genesis, PolicyFloor, RootKeys
from gmesh.trust.body_member import (
    Admission,
    Certificate,
    CertificateFile,
    Crl,
    CrlDelta,
    RevocationReason,
    RevokedKey,
    RevokedNode,
    RevokedSerial,
)
from gmesh.trust.body_policy import (
    AuditHead,
    CertificateLife,
    NumberedDigest,
    Operator,
    OperatorRole,
    Policy,
    Rule,
    Status,
    VersionedDigest,
)
from gmesh.trust.document import (
    Document,
    add_signature,
    document_from_dict,
    encoded_digest,
    parse_document,
    sign_document,
    sign_documents,
    signature_input,
)
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.restricted_json import parse_json

__all__ = [
    "Admission",
    "AdmissionRule",
    "Anchor",
    "AuditHead",
    "AuthorityKey",
    "Body",
    "Certificate",
    "CertificateFile",
    "CertificateLife",
    "Command",
    "CommandTarget",
    "Crl",
    "CrlDelta",
    "DOCUMENT_TYPES",
    "Document",
    "DocumentFile",
    "Genesis",
    "NumberedDigest",
    "Operator",
    "OperatorRole",
    "Policy",
    "PolicyFloor",
    "CommandReceipt",
    "RevocationReason",
    "RevokedKey",
    "RevokedNode",
    "RevokedSerial",
    "RootKeys",
    "Rule",
    "SignatureEntry",
    "Status",
    "VersionedDigest",
    "add_signature",
    "document_from_dict",
    "encoded_digest",
    "parse_any_document",
    "parse_document",
    "sign_document",
    "sign_documents",
    "signature_input",
]

DOCUMENT_TYPES: dict[str, type[Body]] = {
    body.TYPE: body
    for body in (Genesis, Admission, Certificate, Crl, CrlDelta, Policy, Status, Command, CommandReceipt)
}


def parse_any_document(data: bytes) -> Document[Body]:
    """Read a document of whichever type it says. @raise DocumentRefused: as L{parse_document}."""
    value = parse_json(data, max(DOCUMENT_LIMITS.values()))
    signed = value.get("signed")
    kind = signed.get("type") if isinstance(signed, dict) else None
    struct = DOCUMENT_TYPES.get(kind) if isinstance(kind, str) else None
    if struct is None:
        raise DocumentRefused("wrong-type", "not a document of any known type")
    if len(data) > DOCUMENT_LIMITS[struct.TYPE]:
        raise DocumentRefused("too-large", f"a {struct.TYPE} of {len(data)} bytes")
    return document_from_dict(value, struct)
