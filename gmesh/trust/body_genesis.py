# SPDX-License-Identifier: MIT
"""
The genesis: what a network is.

Tests: C{tests/trust/test_documents.py}.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from gmesh.trust import limits
from gmesh.trust.body import Body, Part, check_distinct, check_ordered, invalid_field
from gmesh.trust.keys import decode_public
from gmesh.trust.names import (
    Digest,
    Endpoint,
    Identifier,
    Key,
    Name,
    NetworkName,
    Number,
    Suite,
    Threshold,
    Time,
    Url,
    Version,
)

__all__ = ["AdmissionRule", "Anchor", "AuthorityKey", "Genesis", "PolicyFloor", "RootKeys"]


class RootKeys(Part, frozen=True):
    """The offline keys, and how many of them must sign."""

    keys: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=limits.MAX_ROOT_KEYS)]
    threshold: Threshold


class AuthorityKey(Part, frozen=True):
    """A key of the authority and when it may be believed."""

    key: Key
    valid_from: Time
    valid_to: Time


class AdmissionRule(Part, frozen=True):
    """
    The keys that admit members beside the authority, and since when a certificate needs that.

    Before C{required_from} the members that there are get their admissions.
    """

    keys: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=limits.MAX_ADMISSION_KEYS)]
    required_from: Time


class Anchor(Part, frozen=True):
    """A node that is reachable and named in the genesis, so that others find the mesh."""

    name: Name
    endpoint: Endpoint
    node_id: Identifier | None = None


class PolicyFloor(Part, frozen=True):
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
    admission: AdmissionRule | None = None

    def check(self) -> None:
        """@see: L{Body.check}"""
        first = self.version == 1
        if first != (self.network_id is None) or first != (self.previous is None):
            raise invalid_field("network_id and previous stand in every genesis but version 1")
        check_ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        check_distinct(self.root.keys, "root keys")
        if self.root.threshold > len(self.root.keys):
            raise invalid_field("the root threshold is above the number of root keys")
        check_distinct([authority.key for authority in self.authority], "authority keys")
        for authority in self.authority:
            check_ordered(authority.valid_from, authority.valid_to, "valid_from", "valid_to")
            decode_public(authority.key)
        for key in self.root.keys:
            decode_public(key)
        if {authority.key for authority in self.authority} & set(self.root.keys):
            raise invalid_field("a root key must not be an authority key")
        if self.admission is not None:
            self._check_admission(self.admission)
        check_distinct(self.suites, "suites")
        check_distinct([anchor.name for anchor in self.anchors], "anchor names")

    def _check_admission(self, rule: AdmissionRule) -> None:
        check_distinct(rule.keys, "admission keys")
        for key in rule.keys:
            decode_public(key)
        if set(rule.keys) & {*self.root.keys, *(authority.key for authority in self.authority)}:
            raise invalid_field("an admission key must be neither a root key nor an authority key")
