# SPDX-License-Identifier: MIT
"""
Invites: who may join, under which name, until when; at most once each.

That an invite is used once only is decided where it is used, in L{gmesh.authority.enrolment}, and once
more by the database (C{store/migrations/0006_admission.sql}).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.store import invites, nodes
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import MAX_ROLES
from gmesh.trust.names import Key, Name, Role

__all__ = ["InviteBody", "Invites"]

Json = dict[str, Any]
Seconds = Annotated[int, Meta(ge=1, le=limits.INVITE_SECONDS_MAX_APPROVED)]


class InviteBody(RequestBody, frozen=True):
    """C{POST /admin/invites}: who may join with this key."""

    invite_key: Key
    name: Name
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=MAX_ROLES)]
    ttl: Seconds = limits.INVITE_SECONDS
    lifetime: Seconds | None = None
    node_key: Key | None = None
    approve: bool = False


class Invites:
    """The use cases of operators who invite."""

    def __init__(self, store: Store, issuer: DocumentIssuer, clock: SteadyClock) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock

    def create(self, caller: Caller, body: InviteBody) -> Deferred[Json]:
        """
        Let the holder of a key join, once.

        Whether the name is free is judged when it joins: an appliance may be invited before it replaces one.
        @raise RequestRefused: C{conflict} for a key that was invited before.
        """
        invite_id = key_id(decode_public(body.invite_key))
        if body.node_key is not None:
            decode_public(body.node_key)
        longest = limits.INVITE_SECONDS_MAX_APPROVED if body.approve else limits.INVITE_SECONDS_MAX
        if body.ttl > longest:
            advice = "" if body.approve else "; one that waits for approval may last a year"
            raise RequestRefused(
                "invalid-field", f"ttl is at most {longest // 86_400} days for such an invite{advice}"
            )
        if len(set(body.roles)) != len(body.roles):
            raise RequestRefused("invalid-field", "a role stands twice in roles")

        def insert(tx: Transaction) -> Json:
            caller.claim(tx)
            longest_life = self._issuer.in_force(tx).body.certificate.max
            if body.lifetime is not None and not (
                limits.CERTIFICATE_SECONDS_MIN <= body.lifetime <= longest_life
            ):
                raise RequestRefused(
                    "invalid-field",
                    f"lifetime lies between {limits.CERTIFICATE_SECONDS_MIN} and {longest_life} s",
                )
            holder = nodes.by_name(tx, body.name)
            tx.speaks_of(node_id="" if holder is None else holder.node_id)
            row = invites.InviteRow(
                id=invite_id,
                invite_key=body.invite_key,
                name=body.name,
                roles=body.roles,
                lifetime=body.lifetime,
                node_key=body.node_key,
                approve=body.approve,
                created_at=tx.now,
                created_by=caller.key_id,
                expires_at=tx.now + body.ttl,
            )
            if not invites.add(tx, row):
                raise RequestRefused(
                    "conflict", "this invite key was used for an invite before: make a new one"
                )
            audit.record(
                tx,
                caller.key_id,
                "invite",
                body.name,
                request_id=caller.request_id,
                invite=invite_id,
                roles=list(body.roles),
            )
            return {"id": invite_id, "name": body.name, "expires_at": row.expires_at}

        return self._store.decide(insert)

    def withdraw(self, caller: Caller, invite_id: str) -> Deferred[None]:
        """Make an invite worthless. @raise RequestRefused: C{not-found}, C{conflict}."""

        def withdraw(tx: Transaction) -> None:
            caller.claim(tx)
            row = invites.get(tx, invite_id)
            if row is None:
                raise RequestRefused("not-found", "no invite has this id")
            if not invites.withdraw(tx, invite_id):
                raise RequestRefused("conflict", f"this invite is already {invites.state(row, tx.now)}")
            audit.record(
                tx, caller.key_id, "withdraw-invite", row.name, request_id=caller.request_id, invite=invite_id
            )

        return self._store.decide(withdraw)

    def page(self, after: str, limit: int) -> Deferred[Json]:
        """A page of invites."""

        def page(reader: Reader) -> Json:
            rows = invites.page(reader, after, limit)
            now = self._clock.now()
            listed = [
                {
                    "id": row.id,
                    "name": row.name,
                    "roles": list(row.roles),
                    "state": invites.state(row, now),
                    "expires_at": row.expires_at,
                    "created_by": row.created_by,
                    "used_serial": row.used_serial,
                }
                for row in rows
            ]
            return {"invites": listed, "next": rows[-1].id if len(rows) == limit else None}

        return self._store.read(page)
