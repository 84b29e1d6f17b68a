# SPDX-License-Identifier: MIT
"""
The rules every node applies, and the status that says which documents are the newest.

Tests: C{tests/trust/test_documents.py}, C{tests/trust/test_policy.py}.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gmesh.trust import limits
from gmesh.trust.body import Body, Part, check_distinct, check_ordered, invalid_field
from gmesh.trust.keys import decode_public
from gmesh.trust.names import (
    Count,
    Digest,
    Epoch,
    Grace,
    Identifier,
    Key,
    Life,
    Number,
    Selector,
    ServiceSelector,
    SoftwareVersion,
    Time,
    Version,
)

__all__ = [
    "AuditHead",
    "CertificateLife",
    "NumberedDigest",
    "Operator",
    "OperatorRole",
    "POLICY_TEXT_FIELDS",
    "Policy",
    "Rule",
    "Status",
    "VersionedDigest",
]

OperatorRole = Literal["read", "operate", "administer"]
POLICY_TEXT_FIELDS = (
    "min_version",
    "certificate",
    "max_hops",
    "max_nodes",
    "target_degree",
    "rules",
    "control",
    "stale_grace",
)
"""What people write of a policy; the authority adds the rest."""
_OPERATOR_RANK = {"read": 0, "operate": 1, "administer": 2}


class CertificateLife(Part, frozen=True):
    """How long certificates live, in seconds, and how long after their end they may be renewed."""

    default: Life
    max: Life
    renew_grace: Grace


class Rule(Part, frozen=True):
    """Who may or may not reach which services of which nodes."""

    effect: Literal["allow", "deny"]
    sources: Annotated[tuple[Selector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)] = (
        msgspec.field(name="from")
    )
    to: Annotated[tuple[Selector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)]
    services: Annotated[tuple[ServiceSelector, ...], Meta(min_length=1, max_length=limits.MAX_SELECTORS)]


class Operator(Part, frozen=True):
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
    stale_grace: Grace
    target_degree: Annotated[int, Meta(ge=2, le=16)] | None = None

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        if self.certificate.default > self.certificate.max:
            raise invalid_field("certificate.default is above certificate.max")
        check_distinct([operator.key for operator in self.operators], "operator keys")
        for operator in self.operators:
            decode_public(operator.key)

    def may_command(self, role: str | None, command: str) -> bool:
        """True if an operator of this role may give this command."""
        least = self.control.get(command.replace("-", "_"))
        if least is None or role is None:
            return False
        return _OPERATOR_RANK[role] >= _OPERATOR_RANK[least]


class VersionedDigest(Part, frozen=True):
    """A genesis or policy, by version and digest."""

    version: Version
    digest: Digest


class NumberedDigest(Part, frozen=True):
    """A CRL or the newest command, by number and digest."""

    number: Number
    digest: Digest


class AuditHead(Part, frozen=True):
    """Where the authority's audit chain stands."""

    epoch: Epoch
    size: Count
    head: Digest


class Status(Body, frozen=True, kw_only=True):
    """
    What the authority holds right now: a node that lacks it knows that it does.

    @ivar instance: a random number of the database that it is from; a restored one has another.
    """

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
    instance: Number | None = None

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
