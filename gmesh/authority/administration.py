# SPDX-License-Identifier: MIT
"""What operators ask for: invites, approvals, backups. Each change is one transaction with its audit row."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller
from gmesh.authority.backup import make_backup
from gmesh.authority.bodies import EnrolmentBody, InviteBody
from gmesh.authority.issuer import Issuer
from gmesh.authority.store import enrolments, invites
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import GmeshError, RequestRefused
from gmesh.trust.keys import decode_public, key_id

__all__ = ["Administration"]

Json = dict[str, Any]


class Administration:
    """The use cases of operators."""

    def __init__(self, store: Store, issuer: Issuer) -> None:
        self._store = store
        self._issuer = issuer

    def refused(self, caller: Caller, action: str, target: str, error: GmeshError) -> Deferred[None]:
        """Note in the audit that a known operator was refused something."""
        outcome = f"refused: {error.reason}"

        def note(tx: Transaction) -> None:
            caller.claim(tx, effect=False)
            audit.record(tx, caller.key_id, action, audit.printable(target), outcome, caller.request_id)

        return self._store.decide(note)

    # Invites.

    def invite(self, caller: Caller, body: InviteBody) -> Deferred[Json]:
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
        life = self._issuer.policy.body.certificate
        if body.lifetime is not None and not limits.CERTIFICATE_SECONDS_MIN <= body.lifetime <= life.max:
            raise RequestRefused(
                "invalid-field", f"lifetime lies between {limits.CERTIFICATE_SECONDS_MIN} and {life.max} s"
            )

        def insert(tx: Transaction) -> Json:
            caller.claim(tx)
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

    # Backup.

    async def backup(self, caller: Caller) -> Json:
        """Copy the database into C{backups/} of the state directory; the name is made here."""

        def begin(tx: Transaction) -> int:
            caller.claim(tx)
            audit.record(tx, caller.key_id, "backup", "", request_id=caller.request_id)
            return tx.now

        now = await self._store.decide(begin)
        database = self._store.path
        target = database.parent / "backups" / f"authority-{now}-{caller.request_id}.sqlite"
        return await self._store.in_thread(lambda: make_backup(database, target, now))

    # Enrolments.

    def decide_enrolment(self, caller: Caller, invite_id: str, body: EnrolmentBody) -> Deferred[Json]:
        """
        Approve or reject a join that waits; the host gets its certificate when it asks again.

        @raise RequestRefused: C{not-found}, C{conflict} when it was decided before.
        """
        state = {"approve": "approved", "reject": "rejected"}[body.decision]

        def decide(tx: Transaction) -> Json:
            caller.claim(tx)
            row, invite = enrolments.get(tx, invite_id), invites.get(tx, invite_id)
            if row is None or invite is None:
                raise RequestRefused("not-found", "no join waits under this id")
            if not enrolments.decide(tx, invite_id, state, caller.key_id):
                raise RequestRefused("conflict", f"this join was already {row.state}")
            audit.record(
                tx,
                caller.key_id,
                f"{body.decision}-enrolment",
                invite.name,
                request_id=caller.request_id,
                invite=invite_id,
            )
            return {"id": invite_id, "name": invite.name, "state": state}

        return self._store.decide(decide)
