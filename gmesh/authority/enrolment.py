# SPDX-License-Identifier: MIT
"""
How a host becomes a member: by an invite, and where it says so by an operator's approval; where the genesis
says so, by an admission as well.

Whatever is wrong with an invite has the same answer, and a refusal leaves nothing behind.
That an invite is used once only is asked here, and once more by the database itself
(C{store/migrations/0006_admission.sql}).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, RequestBody, enrolment_refused
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import DocumentIssuer, Wanted
from gmesh.authority.store import certificates, enrolment, invites, nodes, nonces, readmissions
from gmesh.authority.store.enrolment import JoinFacts
from gmesh.authority.store.invites import InviteRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import AdmissionRefused, RequestRefused
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.join import JoinRequest
from gmesh.trust.keys import KEY_SIZE, key_id
from gmesh.trust.names import Identifier

__all__ = ["Admitted", "Enrolment", "EnrolmentBody"]

Json = dict[str, Any]


class EnrolmentBody(RequestBody, frozen=True):
    """C{POST /admin/enrolments/<id>}: what becomes of the host of this node_id, which waits."""

    decision: Literal["approve", "reject"]
    node_id: Identifier


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    The outcome of a join that was not refused.

    @ivar certificate: its file form; None while an operator must decide, or admit it.
    @ivar new: whether it was made now.
    """

    invite_id: str
    certificate: bytes | None
    new: bool


@dataclass(frozen=True, slots=True)
class JoinItem:
    """
    Somebody who asks to be admitted.

    @ivar names: the invite's id, the node_id and the Noise key.
    """

    caller: Caller
    body: JoinRequest
    names: tuple[str, str, str]


class Enrolment:
    """The use cases of hosts that hold an invite, and of operators who let them in."""

    ordered: bool = False

    def __init__(self, store: Store, issuer: DocumentIssuer, clock: SteadyClock) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock

    def admit(self, caller: Caller, body: JoinRequest) -> Deferred[Admitted]:
        """
        Turn an invite into a certificate.

        @raise RequestRefused: C{enrolment-refused} for anything wrong with the invite.
        @raise AdmissionRefused: C{name-taken}, C{key-taken}, C{network-full}.
        """
        self._clock.check()
        if body.network_id != self._issuer.network_id:
            raise enrolment_refused()
        names = (key_id(b64url_decode(body.invite_key, KEY_SIZE)), caller.key_id, body.noise_key)
        return self._store.decide_in_bulk(self, JoinItem(caller, body, names))

    def one(self, tx: Transaction, join: JoinItem) -> Admitted:
        """Admit or refuse."""
        caller, body = join.caller, join.body
        caller.claim(tx)
        (found,) = enrolment.lookup_joins(tx, [join.names])
        if (
            found is None
            or not caller.vouched
            or found.invite.revoked_at is not None
            or found.invite.node_key not in (None, body.node_key)
        ):
            raise enrolment_refused()
        invite = found.invite
        if invite.used_serial is not None:
            return Admitted(invite.id, self._same_again(tx, invite, body), False)
        gated = invite.approve or self._issuer.asks_admission(tx)
        request = enrolment.get(tx, invite.id) if gated else None
        if invite.expires_at <= tx.now and request is None:
            raise enrolment_refused()
        self._check_free(tx, found, caller.key_id)
        if gated and not self._let_in(tx, caller, found, request, body):
            return Admitted(invite.id, None, False)
        self._check_noise_key(found, caller.key_id)
        return self._issue(tx, [(join, found)])[0]

    def many(self, tx: Transaction, joins: Sequence[JoinItem]) -> list[Admitted | None]:
        """Admit those of which nothing is known but an open invite, each with its own: as nearly all are."""
        answers: list[Admitted | None] = [None] * len(joins)
        if self._issuer.asks_admission(tx):
            return answers
        plain: dict[int, tuple[JoinItem, JoinFacts]] = {}
        taken: set[str] = set()
        for place, found in enumerate(enrolment.lookup_joins(tx, [join.names for join in joins])):
            join = joins[place]
            if found is not None and self._plain(join, found, tx.now):
                names = {*join.names, found.invite.name}
                if taken.isdisjoint(names):
                    taken |= names
                    plain[place] = join, found
        if plain and nodes.room_for(tx, len(plain), self._issuer.in_force(tx).body.max_nodes):
            signed = [join.caller.signed for join, _ in plain.values()]
            nonces.claim(tx, *((each.keyid, each.nonce, each.created) for each in signed))
            for place, admitted in zip(plain, self._issue(tx, list(plain.values())), strict=True):
                answers[place] = admitted
        return answers

    def _plain(self, join: JoinItem, found: JoinFacts, now: int) -> bool:
        invite = found.invite
        return (
            join.caller.vouched
            and invite.used_serial is None
            and invite.revoked_at is None
            and invite.node_key in (None, join.body.node_key)
            and not invite.approve
            and now < invite.expires_at
            and not found.key_revoked
            and found.noise_key_owner is None
            and found.named is None
            and found.keyed is None
        )

    def _issue(self, tx: Transaction, joins: Sequence[tuple[JoinItem, JoinFacts]]) -> list[Admitted]:
        """Certificates for those who were found to be entitled."""
        wanted = [
            Wanted(
                found.invite.name,
                join.caller.key_id,
                join.body.node_key,
                join.body.noise_key,
                found.invite.roles,
                found.invite.lifetime,
            )
            for join, found in joins
        ]
        rows = self._issuer.certificates(tx, wanted)
        for (join, found), row in zip(joins, rows, strict=True):
            audit.record(
                tx,
                row.node_id,
                "join",
                row.name,
                request_id=join.caller.request_id,
                invite=found.invite.id,
                invited_by=found.invite.created_by,
                serial=row.serial,
                certificate=audit.certificate_digest(row.document),
            )
        issued = [(found, join.body.node_key, row) for (join, found), row in zip(joins, rows, strict=True)]
        enrolment.admit(tx, issued)
        return [Admitted(found.invite.id, row.document, True) for found, _, row in issued]

    def _let_in(
        self,
        tx: Transaction,
        caller: Caller,
        found: JoinFacts,
        request: enrolment.EnrolmentRow | None,
        body: JoinRequest,
    ) -> bool:
        """
        Whether an operator said yes to these keys, if the invite wants that, and they are admitted; the first
        to ask with the invite waits for that.
        """
        invite = found.invite
        admitted = self._issuer.admits(tx, invite.name, body.node_key, invite.roles)
        if request is None:
            if admitted and not invite.approve:
                return True
            self._check_noise_key(found, caller.key_id)
            enrolment.add(
                tx, invite.id, body.node_key, body.noise_key, "pending" if invite.approve else "approved"
            )
            audit.record(
                tx,
                caller.key_id,
                "request-enrolment",
                invite.name,
                request_id=caller.request_id,
                invite=invite.id,
                node_id=caller.key_id,
            )
            return False
        if (request.node_key, request.noise_key) != (
            body.node_key,
            body.noise_key,
        ) or request.state == "rejected":
            raise enrolment_refused()
        return request.state == "approved" and admitted

    def _same_again(self, tx: Transaction, invite: InviteRow, body: JoinRequest) -> bytes:
        """The answer was lost on its way: the same request gets the same certificate."""
        row = certificates.get(tx, invite.used_serial or 0)
        if (
            row is None
            or row.revoked_at is not None
            or row.node_id != key_id(b64url_decode(body.node_key, KEY_SIZE))
            or row.noise_key != body.noise_key
            or tx.now > max(invite.expires_at, invite.used_at or 0) + limits.JOIN_RETRY_SECONDS
            or certificates.cut_off(tx, row.node_id, row.serial)
        ):
            raise enrolment_refused()
        return row.document

    def _check_free(self, tx: Transaction, found: JoinFacts, node_id: str) -> None:
        if found.key_revoked:
            raise AdmissionRefused("cert-revoked", "this node key was revoked as compromised: make a new one")
        name, named, keyed = found.invite.name, found.named, found.keyed
        if named is not None and named.node_id != node_id and self._issuer.keeps_name(tx, named):
            raise AdmissionRefused(
                "name-taken", f"{name} is another node: an operator must revoke it before it is replaced"
            )
        if keyed is not None and keyed.name != name:
            if self._issuer.keeps_name(tx, keyed):
                raise AdmissionRefused("key-taken", f"this node key is already a member, as {keyed.name}")
            nodes.remove(tx, keyed.name)
        more = named is None or named.barred_at is not None
        if more and not nodes.room_for(tx, 1, self._issuer.in_force(tx).body.max_nodes):
            raise AdmissionRefused("network-full", "the policy's max_nodes is reached")

    def _check_noise_key(self, found: JoinFacts, node_id: str) -> None:
        if found.noise_key_owner not in (None, node_id):
            raise AdmissionRefused("key-taken", "this Noise key belongs to another node: make a new one")

    # Operators.

    def decide(self, caller: Caller, invite_id: str, body: EnrolmentBody) -> Deferred[Json]:
        """
        Approve or reject a join that waits; the host gets its certificate when it asks again.

        @raise RequestRefused: C{not-found}, C{conflict} when another host waits, or it was decided before.
        """
        state = {"approve": "approved", "reject": "rejected"}[body.decision]

        def settle(tx: Transaction) -> Json:
            caller.claim(tx)
            back = readmissions.get(tx, invite_id)
            row = back or enrolment.get(tx, invite_id)
            found = back or invites.get(tx, invite_id)
            if row is None or found is None:
                raise RequestRefused("not-found", "no join waits under this id")
            if row.node_id != body.node_id:
                raise RequestRefused("conflict", f"the host that waits has another node id: {row.node_id}")
            if isinstance(found, InviteRow):
                if found.revoked_at is not None:
                    raise RequestRefused("conflict", "its invite was withdrawn: the host needs another")
                tx.speaks_of(name=found.name, node_key=row.node_key, noise_key=row.noise_key)
            settled = enrolment.decide if back is None else readmissions.decide
            if not settled(tx, invite_id, state, caller.key_id):
                raise RequestRefused("conflict", f"this join was already {row.state}")
            audit.record(
                tx,
                caller.key_id,
                f"{body.decision}-{'enrolment' if back is None else 'readmission'}",
                found.name,
                request_id=caller.request_id,
                node_id=row.node_id,
                **({"invite": invite_id} if back is None else {"serial": back.serial}),
            )
            return {"id": invite_id, "name": found.name, "node_id": row.node_id, "state": state}

        return self._store.decide(settle)

    def page(self, after: str, limit: int) -> Deferred[Json]:
        """A page of joins by invites that need approval, and of members that came back after a restore."""

        def page(reader: Reader) -> Json:
            rows = enrolment.page(reader, after, limit)
            listed = [
                {
                    "id": row.id,
                    "name": name,
                    "roles": json.loads(roles),
                    "node_id": row.node_id,
                    "node_key": row.node_key,
                    "state": row.state,
                    "requested_at": row.requested_at,
                    "decided_by": row.decided_by,
                    "decided_at": row.decided_at,
                    "serial": serial,
                }
                for row, name, roles, serial in rows
            ]
            return {"enrolments": listed, "next": rows[-1][0].id if len(rows) == limit else None}

        return self._store.read(page)
