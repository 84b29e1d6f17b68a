# SPDX-License-Identifier: MIT
"""
Room for joins: a bad invite is counted against itself, and where an address sent many bad ones an open one
is still let through.

Only then is the invite looked up beforehand, which costs a read and not a decision.
Tests: C{tests/authority/test_noise.py}.
"""

from __future__ import annotations

from gmesh.authority.auth import Caller
from gmesh.authority.rate_limit import RateLimiter
from gmesh.authority.store import certificates, invites
from gmesh.authority.store.transaction import Reader
from gmesh.authority.store.writer import Store
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.join import JoinRequest
from gmesh.trust.keys import KEY_SIZE, key_id

__all__ = ["JoinGate"]


class JoinGate:
    """Which joins are worth a decision."""

    def __init__(self, store: Store, limiter: RateLimiter) -> None:
        self._store = store
        self._limiter = limiter

    async def admit(self, caller: Caller, body: JoinRequest) -> None:
        """@raise RateLimited: for an invite that failed too often, or one of too many bad ones."""
        invite = _name(body)
        self._limiter.admit_invite(caller.address, invite)
        if self._limiter.failed_addresses.wait(caller.address) and not await self._store.read(
            lambda reader: _open(reader, invite, caller.key_id)
        ):
            self._limiter.invite_failed(caller.address, invite)
            self._limiter.failed(caller.address)

    def refused(self, caller: Caller, body: JoinRequest) -> None:
        """The invite of this join was worth nothing."""
        self._limiter.invite_failed(caller.address, _name(body))


def _name(body: JoinRequest) -> str:
    return key_id(b64url_decode(body.invite_key, KEY_SIZE))


def _open(reader: Reader, name: str, node_id: str) -> bool:
    """Whether this node may get, or get again, a certificate by the invite of this name."""
    invite = invites.get(reader, name)
    if invite is None or invite.revoked_at is not None:
        return False
    if invite.used_serial is None:
        return True
    row = certificates.get(reader, invite.used_serial)
    return row is not None and row.node_id == node_id
