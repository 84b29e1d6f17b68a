# SPDX-License-Identifier: MIT
"""
Who is a member and who no longer is: admission, certificate, CRL and the difference of two CRLs.

Tests: C{tests/trust/test_documents.py}.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gmesh.trust import limits
from gmesh.trust.body import (
    Body,
    DocumentFile,
    SignatureEntry,
    check_ascending,
    check_distinct,
    check_ordered,
    invalid_field,
)
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_SIZE, key_id
from gmesh.trust.names import Identifier, Key, Name, Number, Role, Time

__all__ = [
    "Admission",
    "Certificate",
    "CertificateFile",
    "Crl",
    "CrlDelta",
    "RevocationReason",
    "RevokedKey",
    "RevokedNode",
    "RevokedSerial",
]

_Reason = Annotated[int, Meta(ge=0, le=255)]
RevokedSerial = tuple[Number, Time, _Reason]
"""serial, not_after, reason (a L{RevocationReason})."""

RevokedNode = tuple[Identifier, Number, Time, _Reason]
"""node_id, below_serial, not_after of the last certificate of those with a lower serial, reason."""

RevokedKey = tuple[Identifier, Time]
"""key_id, not_after of the last certificate for it."""


class RevocationReason(IntEnum):
    """Why a certificate was revoked; numbers and words of RFC 5280 section 5.3.1."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9

    @property
    def slug(self) -> str:
        """The word people write: C{key-compromise}."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_slug(cls, slug: str) -> RevocationReason:
        """
        The reason people write as C{slug}.

        @raise DocumentRefused: C{invalid-field}, naming the words there are.
        """
        for reason in cls:
            if reason.slug == slug:
                return reason
        words = ", ".join(reason.slug for reason in cls)
        raise invalid_field(f"no such revocation reason; there are {words}")


class Admission(Body, frozen=True, kw_only=True):
    """
    A key that the genesis names lets this node be a member: under this name, with these roles at most.

    It travels beside the node's certificates, each of which it is good for until it ends.
    """

    TYPE: ClassVar[str] = "admission"
    type: Literal["admission"] = "admission"
    network_id: Identifier
    name: Name
    node_key: Key
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=limits.MAX_ROLES)]
    not_after: Time

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_distinct(self.roles, "roles")


class Certificate(Body, frozen=True, kw_only=True):
    """A node is a member, under this name, with these keys and roles, for this long."""

    TYPE: ClassVar[str] = "certificate"
    type: Literal["certificate"] = "certificate"
    network_id: Identifier
    serial: Number
    name: Name
    node_key: Key
    noise_key: Key
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=limits.MAX_ROLES)]
    not_before: Time
    not_after: Time
    issued_at: Time

    @property
    def node_public(self) -> bytes:
        """The raw identity key."""
        return b64url_decode(self.node_key, KEY_SIZE)

    @property
    def noise_public(self) -> bytes:
        """The raw Noise key."""
        return b64url_decode(self.noise_key, KEY_SIZE)

    @property
    def node_id(self) -> str:
        """The name of the identity key, 32 hex characters."""
        return key_id(self.node_public)

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.not_before, self.not_after, "not_before", "not_after")
        check_distinct(self.roles, "roles")


class CertificateFile(DocumentFile[Certificate], frozen=True, kw_only=True):
    """The file form of a certificate: an admission may stand beside its signatures."""

    admission: DocumentFile[Admission] | None = None


class Crl(Body, frozen=True, kw_only=True):
    """
    Every certificate, node and key that is revoked and could otherwise still be believed.

    A node is one entry, whatever number of certificates it has: each of them with a serial below
    C{below_serial} is revoked.
    """

    TYPE: ClassVar[str] = "crl"
    type: Literal["crl"] = "crl"
    network_id: Identifier
    number: Number
    issued_at: Time
    next_update: Time
    revoked: tuple[RevokedSerial, ...]
    revoked_nodes: tuple[RevokedNode, ...]
    revoked_keys: tuple[RevokedKey, ...]

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.issued_at, self.next_update, "issued_at", "next_update")
        check_ascending([entry[0] for entry in self.revoked], "revoked")
        check_ascending([entry[0] for entry in self.revoked_nodes], "revoked_nodes")
        check_ascending([entry[0] for entry in self.revoked_keys], "revoked_keys")


class CrlDelta(Body, frozen=True, kw_only=True):
    """What turns CRL C{from_number} into CRL C{number}, and the signatures of the latter."""

    TYPE: ClassVar[str] = "crl-delta"
    type: Literal["crl-delta"] = "crl-delta"
    network_id: Identifier
    from_number: Number
    number: Number
    issued_at: Time
    next_update: Time
    added: tuple[RevokedSerial, ...]
    added_nodes: tuple[RevokedNode, ...]
    added_keys: tuple[RevokedKey, ...]
    drop_expired_before: Time
    result_signatures: Annotated[
        tuple[SignatureEntry, ...], Meta(min_length=1, max_length=limits.MAX_SIGNATURES)
    ]

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.from_number, self.number, "from_number", "number")
        check_ordered(self.issued_at, self.next_update, "issued_at", "next_update")
        check_ascending([entry[0] for entry in self.added], "added")
        check_ascending([entry[0] for entry in self.added_nodes], "added_nodes")
        check_ascending([entry[0] for entry in self.added_keys], "added_keys")
        check_distinct([entry.key_id for entry in self.result_signatures], "result_signatures")
