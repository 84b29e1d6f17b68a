# SPDX-License-Identifier: MIT
"""
Signed documents: one file form, one signature input, for every type.

A L{Document} is well formed by construction and says nothing about who signed it; that is
the business of L{gmesh.trust.verify}.  A certificate may have an admission beside its signatures, a document
too, which the authority does not sign.
Tests: C{tests/trust/test_documents.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust.body import Body, SignatureEntry
from gmesh.trust.body_member import Admission, Certificate, Crl, CrlDelta
from gmesh.trust.canonical import canonical, digest_of
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.json_rows import collector_paused, plain_table
from gmesh.trust.keys import SIGNATURE_SIZE
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_SIGNATURES
from gmesh.trust.names import human_error
from gmesh.trust.restricted_json import check_restricted, parse_json

__all__ = [
    "Document",
    "add_signature",
    "document_from_dict",
    "encoded_digest",
    "parse_document",
    "sign_document",
    "sign_documents",
    "signature_input",
]

B = TypeVar("B", bound=Body, covariant=True)
Made = TypeVar("Made", bound=Body)

_SIGNED = b',"signed":'
_PREFIX = b"gmesh-signature-v1\0"
_MEMBERS = {"signed", "signatures"}
_BESIDE: dict[type[Body], set[str]] = {Certificate: {"admission"}}
"""What else a document of this type may have."""
_NULL_FREE = (Crl, CrlDelta)
"""Types without an optional field or free arguments: a null never passes their struct."""
_FORMS: dict[type[Body], Any] = {
    body: msgspec.defstruct(
        f"{body.__name__}File",
        [("signatures", Annotated[list[SignatureEntry], Meta(max_length=MAX_SIGNATURES)]), ("signed", body)],
        frozen=True,
        forbid_unknown_fields=True,
    )
    for body in _NULL_FREE
}


class Document(Generic[B]):
    """
    A well-formed document and the signatures it carries, unverified.

    @ivar body: the signed part as a struct.
    @ivar signed: the signed part as received.
    @ivar signatures: pairs of key_id and signature, each key_id once.
    @ivar admission: of a certificate, what admits its node; None where there is none.
    """

    __slots__ = ("_canonical", "_digest", "_encoded", "admission", "body", "signatures", "signed")

    def __init__(
        self,
        body: B,
        signed: dict[str, Any],
        signatures: tuple[tuple[str, bytes], ...],
        admission: Document[Admission] | None = None,
    ) -> None:
        self.body = body
        self.signed = signed
        self.signatures = signatures
        self.admission = admission
        self._canonical: bytes | None = None
        self._digest: str | None = None
        self._encoded: bytes | None = None

    def __repr__(self) -> str:
        return f"<Document {self.type} {self.digest[:12]}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return (self.signatures, self.signed, self.admission) == (
            other.signatures,
            other.signed,
            other.admission,
        )

    def __hash__(self) -> int:
        return hash((self.digest, self.signatures))

    @property
    def type(self) -> str:
        """The type of the document, as in its C{type} field."""
        return self.body.TYPE

    @property
    def canonical(self) -> bytes:
        """The RFC 8785 form of the signed part."""
        if self._canonical is None:
            self._canonical = canonical(self.signed)
        return self._canonical

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical signed part, hex: how other documents name this one."""
        if self._digest is None:
            self._digest = digest_of(self.canonical)
        return self._digest

    @property
    def signature_input(self) -> bytes:
        """The bytes its signatures are over."""
        return b"".join((_PREFIX, self.type.encode("ascii"), b"\0", self.canonical))

    def with_signature(self, key_id: str, signature: bytes) -> Document[B]:
        """The same with one more signature, in place of an earlier one by the same key."""
        others = tuple(entry for entry in self.signatures if entry[0] != key_id)
        result = Document(self.body, self.signed, (*others, (key_id, signature)), self.admission)
        result._canonical = self._canonical
        return result

    def with_admission(self, admission: Document[Admission] | None) -> Document[B]:
        """A certificate with this admission beside it, or none."""
        result = Document(self.body, self.signed, self.signatures, admission)
        result._canonical = self._canonical
        return result

    def as_dict(self) -> dict[str, Any]:
        """The file form as a value, to be put inside another JSON text."""
        beside = {} if self.admission is None else {"admission": self.admission.as_dict()}
        return {**beside, "signed": self.signed, "signatures": _signature_dicts(self.signatures)}

    def encode(self) -> bytes:
        """The file form, in canonical JSON."""
        if self._encoded is None:
            entries = ",".join(
                f'{{"key_id":"{key_id}","signature":"{b64url_encode(signature)}"}}'
                for key_id, signature in self.signatures
            )
            beside = b"" if self.admission is None else b'"admission":%s,' % self.admission.encode()
            signatures = f'"signatures":[{entries}]'.encode("ascii")
            self._encoded = b"".join((b"{", beside, signatures, _SIGNED, self.canonical, b"}"))
        return self._encoded


def encoded_digest(data: bytes) -> str:
    """
    The digest of a document whose bytes L{Document.encode} made, found without reading it.

    @param data: without an admission.
    """
    return digest_of(data[data.index(_SIGNED) + len(_SIGNED) : -1])


def signature_input(document_type: str, signed: dict[str, Any]) -> bytes:
    """What is signed for C{signed} as this type: a signature serves one purpose only."""
    return b"".join((_PREFIX, document_type.encode("ascii"), b"\0", canonical(signed)))


def parse_document(data: bytes, struct: type[Made]) -> Document[Made]:
    """
    Read the file form of a document of type C{struct}; signatures are not verified.

    @raise DocumentRefused: C{too-large}, C{invalid-json}, C{wrong-type}, C{invalid-field},
        C{bad-encoding} or C{bad-key}; nothing else comes out.
    """
    if struct in _NULL_FREE and len(data) <= DOCUMENT_LIMITS[struct.TYPE]:
        with collector_paused():
            document = _read_canonical(data, struct)
        if document is not None:
            return document
    return document_from_dict(parse_json(data, DOCUMENT_LIMITS[struct.TYPE]), struct)


def _read_canonical(data: bytes, struct: type[Made]) -> Document[Made] | None:
    """
    A CRL or delta in the very bytes that L{Document.encode} makes: read in C, for there are long ones.

    That the same bytes come out again shows that no reader could see anything else in them.
    @return: None for any other bytes, good or bad.
    """
    if not data.isascii() or b"\\" in data or b"\x7f" in data:
        return None
    try:
        read = msgspec.json.decode(data, type=_FORMS[struct])
    except (msgspec.DecodeError, RecursionError):
        return None
    signed = _plain(msgspec.to_builtins(read.signed))
    signatures = tuple(
        (entry.key_id, b64url_decode(entry.signature, SIGNATURE_SIZE)) for entry in read.signatures
    )
    document = Document(read.signed, signed, signatures)
    if document.encode() != data or len(dict(signatures)) != len(signatures):
        return None
    read.signed.check()
    return document


def document_from_dict(value: Any, struct: type[Made]) -> Document[Made]:
    """
    A document of type C{struct} from its file form as parsed by L{gmesh.trust.restricted_json.parse_json}.

    @raise DocumentRefused: C{wrong-type}, C{invalid-field}, C{bad-encoding} or C{bad-key}.
    """
    if not isinstance(value, dict) or value.keys() - _BESIDE.get(struct, set()) != _MEMBERS:
        raise DocumentRefused("invalid-field", "a document has the members signed and signatures only")
    signed = value["signed"]
    body, signatures = _read_body(signed, struct), _read_signatures(value["signatures"])
    admission = document_from_dict(value["admission"], Admission) if "admission" in value else None
    return Document(body, signed, signatures, admission)


def _read_body(signed: Any, struct: type[Made]) -> Made:
    if not isinstance(signed, dict) or signed.get("type") != struct.TYPE:
        raise DocumentRefused("wrong-type", f"not a document of type {struct.TYPE}")
    if struct not in _NULL_FREE and _has_null(signed):
        raise DocumentRefused("invalid-field", "null is not a value: leave the field out")
    try:
        body = msgspec.convert(signed, struct, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DocumentRefused("invalid-field", f"{struct.TYPE}: {human_error(error, struct)}") from error
    body.check()
    return body


def sign_document(body: Made, signers: Iterable[ISigner]) -> Document[Made]:
    """
    C{body} as a document signed by each of C{signers} (none: to be signed later).

    @raise DocumentRefused: if the body breaks a rule that readers would refuse.
    """
    return sign_documents([body], signers)[0]


def sign_documents(bodies: Iterable[Made], signers: Iterable[ISigner]) -> list[Document[Made]]:
    """
    Many, as L{sign_document} makes one.

    What is signed is made ready before: while one is signed other threads run, and between two signatures
    the interpreter is needed for a moment only.
    """
    documents = [_unsigned(body) for body in bodies]
    for signer in signers:
        documents = _add_signatures(documents, signer)
    for document in documents:
        if len(document.encode()) > DOCUMENT_LIMITS[document.type]:
            raise DocumentRefused("too-large", f"the {document.type} is larger than readers accept")
    return documents


def add_signature(document: Document[Made], signer: ISigner) -> Document[Made]:
    """The same document with one more signature, in place of an earlier one by the same key."""
    return _add_signatures([document], signer)[0]


def _unsigned(body: Made) -> Document[Made]:
    signed = _plain(msgspec.to_builtins(body))
    check_restricted(signed)
    return Document(_read_body(signed, type(body)), signed, ())


def _add_signatures(documents: Sequence[Document[Made]], signer: ISigner) -> list[Document[Made]]:
    ready = [document.signature_input for document in documents]
    signatures = [signer.sign(data) for data in ready]
    return [
        document.with_signature(signer.key_id, signature)
        for document, signature in zip(documents, signatures, strict=True)
    ]


def _read_signatures(value: Any) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, list) or len(value) > MAX_SIGNATURES:
        raise DocumentRefused("invalid-field", f"signatures is a list of at most {MAX_SIGNATURES}")
    try:
        entries = msgspec.convert(value, list[SignatureEntry], strict=True)
    except msgspec.ValidationError as error:
        raise DocumentRefused("invalid-field", f"signatures: {human_error(error)}") from error
    if len({entry.key_id for entry in entries}) != len(entries):
        raise DocumentRefused("invalid-field", "signatures names the same key twice")
    return tuple((entry.key_id, b64url_decode(entry.signature, SIGNATURE_SIZE)) for entry in entries)


def _signature_dicts(signatures: tuple[tuple[str, bytes], ...]) -> list[dict[str, str]]:
    return [{"key_id": key_id, "signature": b64url_encode(signature)} for key_id, signature in signatures]


def _has_null(value: dict[str, Any] | list[Any]) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return None in items or any(_has_null(item) for item in items if isinstance(item, (dict, list)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        table = plain_table(value)
        return [_plain(item) for item in value] if table is None else table
    return value
