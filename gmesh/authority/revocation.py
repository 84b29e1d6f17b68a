# SPDX-License-Identifier: MIT
"""
How members are revoked: first barred for good, at a cost that does not depend on how many certificates
they got themselves; then named by a CRL, one for all revocations that come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller
from gmesh.authority.bodies import RevocationBody
from gmesh.authority.issuer import Issuer
from gmesh.authority.listing import Listing
from gmesh.authority.membership import Membership
from gmesh.authority.store import certificates, nodes
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import GmeshError, RequestRefused, StoreError
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
    @ivar serials: what the CRL shall name.
    @ivar keys: the identity key, if it shall name that; no serial need stand beside it.
    """

    target: str
    serials: list[int]
    keys: list[str]


class Revocation:
    """The use case of operators who revoke."""

    def __init__(self, store: Store, issuer: Issuer, listing: Listing, membership: Membership) -> None:
        self._store = store
        self._issuer = issuer
        self._listing = listing
        self._membership = membership

    async def revoke(self, caller: Caller, body: RevocationBody) -> Json:
        """
        Revoke a node, one certificate or an identity key, and make the CRL that says so.

        @raise RequestRefused: C{not-found}, C{conflict} when nothing is left to revoke.
        @raise StoreError: when it is revoked here, but no CRL could be made yet, with the reason for that.
        """
        if [body.node, body.serial, body.key].count(None) != 2:
            raise RequestRefused("invalid-field", "name exactly one of node, serial and key")
        order = Order(caller, body, RevocationReason.from_slug(body.reason))
        revoked = await self._store.decide_in_bulk(self, order)
        try:
            number = await self._listing.make()
        except GmeshError as error:
            raise StoreError(
                error.reason,
                f"{revoked.target} is revoked and barred here, but nodes are not told yet, for no CRL could"
                f" be made; it is tried again: {error.detail}",
            ) from error
        return {"crl_number": number, "serials": revoked.serials, "keys": revoked.keys}

    def one(self, tx: Transaction, order: Order) -> Revoked:
        """Revoke or refuse."""
        order.caller.claim(tx)
        return self._revoke(tx, order)

    def many(self, tx: Transaction, orders: Sequence[Order]) -> list[Revoked | None]:
        """Revoke all that can be."""
        answers: list[Revoked | None] = [None] * len(orders)
        for place, order in enumerate(orders):
            try:
                revoked = self._revoke(tx, order)
            except RequestRefused:
                continue  # which it said before it changed anything
            order.caller.claim(tx)
            answers[place] = revoked
        return answers

    def _revoke(self, tx: Transaction, order: Order) -> Revoked:
        revoked = self._serial(tx, order) if order.body.serial is not None else self._node(tx, order)
        audit.record(
            tx,
            order.caller.key_id,
            "revoke",
            revoked.target,
            request_id=order.caller.request_id,
            serials=revoked.serials,
            keys=revoked.keys,
            reason=order.reason.slug,
            crl=tx.coming_number("crl"),
        )
        tx.after_commit(self._membership.forget_members)
        return revoked

    def _serial(self, tx: Transaction, order: Order) -> Revoked:
        serial = order.body.serial or 0
        if certificates.get(tx, serial) is None:
            raise RequestRefused("not-found", "no certificate has this serial")
        if not certificates.revoke(tx, serial, order.reason) and not self._listing.owed:
            raise RequestRefused("conflict", f"certificate {serial} was already revoked")
        return Revoked(str(serial), [serial], [])

    def _node(self, tx: Transaction, order: Order) -> Revoked:
        body, reason = order.body, order.reason
        row = nodes.by_name(tx, body.node) if body.node is not None else nodes.by_id(tx, body.key or "")
        if row is None and body.node is not None:
            raise RequestRefused("not-found", f"no node is named {body.node}")
        node_id = row.node_id if row is not None else body.key or ""
        target = row.name if row is not None else node_id
        ended_after = tx.now - self._issuer.grace()
        serials = certificates.revocable(tx, node_id, ended_after, limits.CRL_ENTRIES_A_NODE + 1)
        many = len(serials) > limits.CRL_ENTRIES_A_NODE
        if many:
            serials = []
        elif serials:
            certificates.revoke_node(tx, node_id, ended_after, reason)
        changed = nodes.bar(tx, node_id) or bool(serials)
        by_key = many or body.key is not None or reason is RevocationReason.KEY_COMPROMISE
        if by_key:
            ends = certificates.last_end(tx, node_id)
            changed = certificates.revoke_key(tx, node_id, max(ends, tx.now), reason) or changed
        if not changed and not self._listing.owed:
            raise RequestRefused("conflict", f"{target} was already revoked")
        return Revoked(target, serials, [node_id] if by_key else [])
