# SPDX-License-Identifier: MIT
"""The JSON bodies of requests, as structs: what a field may hold is said here once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gmesh.authority import limits
from gmesh.trust.limits import MAX_INTEGER, MAX_ROLES
from gmesh.trust.names import Identifier, Key, Name, Number, Role

__all__ = [
    "CommandBody",
    "EnrolmentBody",
    "GenesisBody",
    "HeartbeatBody",
    "InviteBody",
    "Numbers",
    "OperatorBody",
    "OperatorKeyBody",
    "PolicyBody",
    "RenewBody",
    "RevocationBody",
]

Reason = Annotated[str, Meta(max_length=limits.REASON_CHARACTERS)]
Seconds = Annotated[int, Meta(ge=1, le=limits.INVITE_SECONDS_MAX_APPROVED)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An object with exactly its fields."""


class RenewBody(_Body, frozen=True):
    """C{POST /renew}: the certificate held, and the Noise key to certify next."""

    certificate: dict[str, Any]
    noise_key: Key


class Numbers(_Body, frozen=True):
    """What a node has applied."""

    genesis: Number = 0
    policy: Number = 0
    crl: Number = 0
    status: Number = 0


class HeartbeatBody(_Body, frozen=True):
    """C{POST /heartbeat}: the certificate held, the node's time, what it has applied."""

    certificate: dict[str, Any]
    sent_ms: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    numbers: Numbers = Numbers()
    receipts: Annotated[tuple[dict[str, Any], ...], Meta(max_length=64)] = ()


class InviteBody(_Body, frozen=True):
    """C{POST /admin/invites}: who may join with this key."""

    invite_key: Key
    name: Name
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=MAX_ROLES)]
    ttl: Seconds = limits.INVITE_SECONDS
    lifetime: Seconds | None = None
    node_key: Key | None = None
    approve: bool = False


class EnrolmentBody(_Body, frozen=True):
    """C{POST /admin/enrolments/<id>}: what becomes of a join that waits."""

    decision: Literal["approve", "reject"]


class PolicyBody(_Body, frozen=True):
    """C{POST /admin/policies}: a new text, or an earlier version to return to."""

    text: dict[str, Any] | None = None
    version: Number | None = None
    expected_version: Number | None = None
    dry_run: bool = False


class GenesisBody(_Body, frozen=True):
    """C{POST /admin/genesis}: the next version, signed by the root keys."""

    genesis: dict[str, Any]


class CommandBody(_Body, frozen=True):
    """C{POST /admin/commands}: a command, signed by the operator who gives it."""

    command: dict[str, Any]


class OperatorBody(_Body, frozen=True):
    """C{POST /admin/operators}: a key and what it may do."""

    key: Key
    role: Literal["read", "operate", "administer"]
    name: Annotated[str, Meta(max_length=limits.REASON_CHARACTERS)] = ""


class OperatorKeyBody(_Body, frozen=True):
    """C{POST /admin/operators/<key_id>}: the key that takes its place."""

    key: Key


class RevocationBody(_Body, frozen=True):
    """C{POST /admin/revocations}: exactly one of node, serial and key."""

    node: Name | None = None
    serial: Number | None = None
    key: Identifier | None = None
    reason: Reason = "unspecified"
