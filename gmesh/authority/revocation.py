# SPDX-License-Identifier: MIT
"""
How members are revoked, and the CRL made that says so: one for all revocations that come together, since
a long one takes long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from gmesh.authority import audit
from gmesh.authority.auth import Caller
from gmesh.authority.bodies import RevocationBody
from gmesh.authority.issuer import Issuer
from gmesh.authority.membership import Membership
from gmesh.authority.publisher import Publisher
from gmesh.authority.store import certificates, nodes
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.trust.documents import RevocationReason

__all__ = ["Revocation"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """Whom somebody wants revoked, and why."""

    caller: Caller
    body: RevocationBody
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Revoked:
    """
    What came of it, but for the CRL.

    @ivar target: a node's name or id, or a serial.
    """

    order: Order
    target: str
    serials: list[int]


class Revocation:
    """The use case of operators who revoke."""

    def __init__(self, store: Store, issuer: Issuer, publisher: Publisher, membership: Membership) -> None:
        self._store = store
        self._issuer = issuer
        self._publisher = publisher
        self._membership = membership

    def revoke(self, caller: Caller, body: RevocationBody) -> Deferred[Json]:
        """
        Revoke a node, one certificate or an identity key, and make the CRL that says so.

        @raise RequestRefused: C{not-found}, C{conflict} when nothing is left to revoke.
        """
        if [body.node, body.serial, body.key].count(None) != 2:
            raise RequestRefused("invalid-field", "name exactly one of node, serial and key")
        return self._store.decide_in_bulk(self, Order(caller, body, RevocationReason.from_slug(body.reason)))

    def one(self, tx: Transaction, order: Order) -> Json:
        """Revoke or refuse."""
        order.caller.claim(tx)
        return self._publish(tx, [self._revoke(tx, order)])[0]

    def many(self, tx: Transaction, orders: Sequence[Order]) -> list[Json | None]:
        """Revoke all that can be, under one CRL."""
        answers: list[Json | None] = [None] * len(orders)
        done: dict[int, Revoked] = {}
        for place, order in enumerate(orders):
            try:
                done[place] = self._revoke(tx, order)
            except RequestRefused:
                continue  # which it said before it changed anything
            order.caller.claim(tx)
        if done:
            for place, answer in zip(done, self._publish(tx, list(done.values())), strict=True):
                answers[place] = answer
        return answers

    def _publish(self, tx: Transaction, revoked: Sequence[Revoked]) -> list[Json]:
        crl = self._issuer.crl(tx)
        for each in revoked:
            caller = each.order.caller
            audit.record(
                tx,
                caller.key_id,
                "revoke",
                each.target,
                request_id=caller.request_id,
                serials=each.serials,
                reason=each.order.reason.slug,
                crl=crl.body.number,
            )
        tx.after_commit(self._membership.forget_members)
        tx.after_commit(self._publisher.crl_changed, crl)
        return [{"crl_number": crl.body.number, "serials": each.serials} for each in revoked]

    def _revoke(self, tx: Transaction, order: Order) -> Revoked:
        body, reason = order.body, order.reason
        if body.serial is not None:
            if certificates.get(tx, body.serial) is None:
                raise RequestRefused("not-found", "no certificate has this serial")
            if not certificates.revoke(tx, body.serial, reason):
                raise RequestRefused("conflict", f"certificate {body.serial} was already revoked")
            return Revoked(order, str(body.serial), [body.serial])
        row = nodes.by_name(tx, body.node) if body.node is not None else nodes.by_id(tx, body.key or "")
        if row is None and body.node is not None:
            raise RequestRefused("not-found", f"no node is named {body.node}")
        node_id = row.node_id if row is not None else body.key or ""
        target = row.name if row is not None else node_id
        serials = certificates.revocable(tx, node_id, tx.now - self._issuer.grace())
        for serial in serials:
            certificates.revoke(tx, serial, reason)
        changed = nodes.bar(tx, node_id) or bool(serials)
        if body.key is not None or reason is RevocationReason.KEY_COMPROMISE:
            ends = certificates.last_end(tx, node_id)
            changed = certificates.revoke_key(tx, node_id, max(ends, tx.now), reason) or changed
        if not changed:
            raise RequestRefused("conflict", f"{target} was already revoked")
        return Revoked(order, target, serials)
