# SPDX-License-Identifier: MIT
"""
What each signed document says: one frozen struct per type, with the rules a type cannot state.

Optional fields are C{None} here and left out of the document; a C{null} is refused.
C{check()} holds what goes beyond one field, such as order, uniqueness and the prime order of keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from gmesh.errors import DocumentRefused
from gmesh.trust import limits
from gmesh.trust.keys import decode_public
from gmesh.trust.names import (
    Count,
    Digest,
    Endpoint,
    Identifier,
    Key,
    Name,
    NetworkName,
    Number,
    Positive,
    Role,
    Selector,
    ServiceSelector,
    Signature,
    Slug,
    SoftwareVersion,
    Suite,
    Text,
    Time,
    Url,
    Version,
)

__all__ = [
    "Anchor",
    "AuditHead",
    "AuthorityKey",
    "Body",
    "Certificate",
    "CertificateLife",
    "Command",
    "CommandTarget",
    "Crl",
    "CrlDelta",
    "Genesis",
    "NumberedDigest",
    "Operator",
    "OperatorRole",
    "Policy",
    "PolicyFloor",
    "Receipt",
    "RevocationReason",
    "RevokedKey",
    "RevokedSerial",
    "RootKeys",
    "Rule",
    "SignatureEntry",
    "Status",
    "VersionedDigest",
]

RevokedSerial = tuple[Number, Time, Annotated[int, Meta(ge=0, le=255)]]
"""serial, not_after, reason (a L{RevocationReason})."""

RevokedKey = tuple[Identifier, Time]
"""key_id, not_after of the last certificate for it."""

OperatorRole = Literal["read", "operate", "administer"]
_OPERATOR_RANK = {"read": 0, "operate": 1, "administer": 2}


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
        raise DocumentRefused("invalid-field", f"no such revocation reason; there are {words}")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A piece of a document: an object with exactly its fields."""


class Body(_Part, frozen=True, kw_only=True):
    """The signed part of a document; each subclass says its C{type}."""

    TYPE: ClassVar[str]

    def check(self) -> None:
        """
        Apply the rules that go beyond one field.

        @raise DocumentRefused: C{invalid-field} or C{bad-key}.
        """


class SignatureEntry(_Part, frozen=True):
    """Who signed, and the signature."""

    key_id: Identifier
    signature: Signature


class RootKeys(_Part, frozen=True):
    """The offline keys, and how many of them must sign."""

    keys: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=limits.MAX_ROOT_KEYS)]
    threshold: Positive


class AuthorityKey(_Part, frozen=True):
    """A key of the authority and when it may be believed."""

    key: Key
    valid_from: Time
    valid_to: Time


class Anchor(_Part, frozen=True):
    """A node that is reachable and named in the genesis, so that others find the mesh."""

    name: Name
    endpoint: Endpoint
    node_id: Identifier | None = None


class PolicyFloor(_Part, frozen=True):
    """The least policy version that may be believed under this genesis."""

    version: Number


class Genesis(Body, frozen=True, kw_only=True):
    """What the network is: its root and authority keys, suites and first contacts."""

    TYPE: ClassVar[str] = "genesis"
    type: Literal["genesis"] = "genesis"
    network_id: Identifier | None = None
    version: Version
    issued_at: Time
    expires_at: Time
    network: NetworkName
    root: RootKeys
    authority: Annotated[tuple[AuthorityKey, ...], Meta(min_length=1, max_length=limits.MAX_AUTHORITY_KEYS)]
    suites: Annotated[tuple[Suite, ...], Meta(min_length=1, max_length=4)]
    anchors: Annotated[tuple[Anchor, ...], Meta(max_length=limits.MAX_ANCHORS)]
    authority_urls: Annotated[tuple[Url, ...], Meta(max_length=limits.MAX_URLS)]
    policy: PolicyFloor
    previous: Digest | None = None

    def check(self) -> None:
        """@see: L{Body.check}"""
        first = self.version == 1
        if first != (self.network_id is None) or first != (self.previous is None):
            raise _refused("network_id and previous stand in every genesis but version 1")
        _ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        _distinct(self.root.keys, "root keys")
        if self.root.threshold > len(self.root.keys):
            raise _refused("the root threshold is above the number of root keys")
        _distinct([authority.key for authority in self.authority], "authority keys")
        for authority in self.authority:
            _ordered(authority.valid_from, authority.valid_to, "valid_from", "valid_to")
            decode_public(authority.key)
        for key in self.root.keys:
            decode_public(key)
        if {authority.key for authority in self.authority} & set(self.root.keys):
            raise _refused("a root key must not be an authority key")
        _distinct(self.suites, "suites")
        _distinct([anchor.name for anchor in self.anchors], "anchor names")


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

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.not_before, self.not_after, "not_before", "not_after")
        _distinct(self.roles, "roles")


class Crl(Body, frozen=True, kw_only=True):
    """Every certificate and key that is revoked and could otherwise still be believed."""

    TYPE: ClassVar[str] = "crl"
    type: Literal["crl"] = "crl"
    network_id: Identifier
    number: Number
    issued_at: Time
    next_update: Time
    revoked: tuple[RevokedSerial, ...]
    revoked_keys: tuple[RevokedKey, ...]

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.issued_at, self.next_update, "issued_at", "next_update")
        _ascending([entry[0] for entry in self.revoked], "revoked")
        _ascending([entry[0] for entry in self.revoked_keys], "revoked_keys")


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
    added_keys: tuple[RevokedKey, ...]
    drop_expired_before: Time
    result_signatures: Annotated[
        tuple[SignatureEntry, ...], Meta(min_length=1, max_length=limits.MAX_SIGNATURES)
    ]

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.from_number, self.number, "from_number", "number")
        _ordered(self.issued_at, self.next_update, "issued_at", "next_update")
        _ascending([entry[0] for entry in self.added], "added")
        _ascending([entry[0] for entry in self.added_keys], "added_keys")
        _distinct([entry.key_id for entry in self.result_signatures], "result_signatures")


class CertificateLife(_Part, frozen=True):
    """How long certificates live, in seconds, and how long after their end they may be renewed."""

    default: Positive
    max: Positive
    renew_grace: Count


class Rule(_Part, frozen=True):
    """Who may or may not reach which services of whom."""

    effect: Literal["allow", "deny"]
    sources: Annotated[tuple[Selector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)] = (
        msgspec.field(name="from")
    )
    to: Annotated[tuple[Selector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)]
    services: Annotated[tuple[ServiceSelector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)]


class Operator(_Part, frozen=True):
    """A person's key and what it may do."""

    key: Key
    role: OperatorRole


class Policy(Body, frozen=True, kw_only=True):
    """The rules every node applies."""

    TYPE: ClassVar[str] = "policy"
    type: Literal["policy"] = "policy"
    network_id: Identifier
    version: Version
    issued_at: Time
    expires_at: Time
    min_version: SoftwareVersion | None = None
    certificate: CertificateLife
    max_hops: Annotated[int, Meta(ge=1, le=32)]
    max_nodes: Annotated[int, Meta(ge=1, le=1_000_000)]
    rules: Annotated[tuple[Rule, ...], Meta(max_length=limits.MAX_RULES)]
    operators: Annotated[tuple[Operator, ...], Meta(max_length=limits.MAX_OPERATORS)]
    control: dict[str, OperatorRole]
    stale_grace: Count

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        if self.certificate.default > self.certificate.max:
            raise _refused("certificate.default is above certificate.max")
        _distinct([operator.key for operator in self.operators], "operator keys")
        for operator in self.operators:
            decode_public(operator.key)

    def may_command(self, role: str | None, command: str) -> bool:
        """True if an operator of this role may give this command."""
        least = self.control.get(command.replace("-", "_"))
        if least is None or role is None:
            return False
        return _OPERATOR_RANK[role] >= _OPERATOR_RANK[least]


class VersionedDigest(_Part, frozen=True):
    """A genesis or policy, by version and digest."""

    version: Version
    digest: Digest


class NumberedDigest(_Part, frozen=True):
    """A CRL or the newest command, by number and digest."""

    number: Number
    digest: Digest


class AuditHead(_Part, frozen=True):
    """Where the authority's audit chain stands."""

    epoch: Number
    size: Count
    head: Digest


class Status(Body, frozen=True, kw_only=True):
    """What the authority holds right now: a node that lacks it knows that it does."""

    TYPE: ClassVar[str] = "status"
    type: Literal["status"] = "status"
    network_id: Identifier
    number: Number
    issued_at: Time
    expires_at: Time
    genesis: VersionedDigest
    policy: VersionedDigest
    crl: NumberedDigest
    commands: NumberedDigest
    audit: AuditHead

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")


class CommandTarget(_Part, frozen=True):
    """Exactly one of: every node, the nodes of a role, one node."""

    all: Literal[True] | None = None
    role: Role | None = None
    node: Name | None = None


class Command(Body, frozen=True, kw_only=True):
    """An operator asks nodes to do something, once, before it expires."""

    TYPE: ClassVar[str] = "command"
    type: Literal["command"] = "command"
    network_id: Identifier
    id: Identifier
    number: Number
    command: Slug
    target: CommandTarget
    arguments: dict[str, Any]
    issued_at: Time
    expires_at: Time

    def check(self) -> None:
        """@see: L{Body.check}"""
        _ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        if [self.target.all, self.target.role, self.target.node].count(None) != 2:
            raise _refused("a target is exactly one of all, role and node")

    def concerns(self, name: str, roles: Iterable[str]) -> bool:
        """True if a node of this name and these roles is a target."""
        target = self.target
        return target.all is True or target.node == name or (target.role is not None and target.role in roles)


class Receipt(Body, frozen=True, kw_only=True):
    """A node says what became of a command."""

    TYPE: ClassVar[str] = "receipt"
    type: Literal["receipt"] = "receipt"
    network_id: Identifier
    command: Identifier
    outcome: Literal["done", "refused", "failed"]
    detail: Text
    at: Time


def _refused(detail: str) -> DocumentRefused:
    return DocumentRefused("invalid-field", detail)


def _ordered(first: int, second: int, first_name: str, second_name: str) -> None:
    if first >= second:
        raise _refused(f"{second_name} must lie after {first_name}")


def _distinct(values: Iterable[str], what: str) -> None:
    values = list(values)
    if len(set(values)) != len(values):
        raise _refused(f"the {what} must be distinct")


def _ascending(values: list[Any], what: str) -> None:
    if values != sorted(set(values)):
        raise _refused(f"the entries of {what} must ascend, each once")
