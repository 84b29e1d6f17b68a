# SPDX-License-Identifier: MIT
"""
How members are revoked: first barred for good, at a cost that does not depend on how many certificates
they have; then named by a CRL, one for all revocations that are decided together.

A node is one entry there: each of its certificates with a serial below the next one is revoked, and
what it gets when it is admitted again is not.
Tests: C{tests/authority/test_revocations.py}, C{tests/authority/test_flood_of_certificates.py},
C{tests/authority/test_revoked_model.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.members import Members
from gmesh.authority.store import certificates, documents, nodes
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, GmeshError, RequestRefused, StoreError
from gmesh.trust.documents import Crl, Document, RevocationReason
from gmesh.trust.names import Identifier, Name, Number

__all__ = ["CrlMaker", "RevocationBody", "Revocations"]

Json = dict[str, Any]
Reason = Annotated[str, Meta(max_length=limits.REASON_CHARACTERS)]


class RevocationBody(RequestBody, frozen=True):
    """C{POST /admin/revocations}: exactly one of node, serial and key."""

    node: Name | None = None
    serial: Number | None = None
    key: Identifier | None = None
    reason: Reason = "unspecified"


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants revoked, and why."""

    caller: Caller
    body: RevocationBody
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Barred:
    """
    The outcome, except for the CRL.

    @ivar target: a node's name or id, or a serial.
    @ivar serials: what the CRL will name, as are the others.
    @ivar nodes: its node_id, for all certificates it has.
    @ivar keys: its identity key, for ever.
    """

    target: str
    serials: list[int]
    nodes: list[str]
    keys: list[str]


class Revocations:
    """The use case of operators who revoke."""

    ordered: bool = True

    def __init__(self, store: Store, issuer: DocumentIssuer, crl: CrlMaker, members: Members) -> None:
        self._store = store
        self._issuer = issuer
        self._crl = crl
        self._members = members

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
            number = await self._crl.make()
        except GmeshError as error:
            raise StoreError(
                error.reason,
                f"{revoked.target} is revoked and barred here, but nodes do not know yet, for no CRL could"
                f" be made; it is tried again: {error.detail}",
            ) from error
        return {
            "crl_number": number,
            "serials": revoked.serials,
            "nodes": revoked.nodes,
            "keys": revoked.keys,
        }

    def one(self, tx: Transaction, order: Order) -> Barred:
        """Revoke or refuse."""
        order.caller.claim(tx)
        return self._revoke(tx, order)

    def many(self, tx: Transaction, orders: Sequence[Order]) -> list[Barred | None]:
        """Revoke all that can be."""
        answers: list[Barred | None] = [None] * len(orders)
        for place, order in enumerate(orders):
            if order.caller.cast is not None:
                continue  # one that may have to be undone is decided alone
            try:
                revoked = self._revoke(tx, order)
            except RequestRefused:
                continue  # which it said before it changed anything
            order.caller.claim(tx)
            answers[place] = revoked
        return answers

    def _revoke(self, tx: Transaction, order: Order) -> Barred:
        revoked = self._serial(tx, order) if order.body.serial is not None else self._node(tx, order)
        bound: dict[str, Any] = {"below_serial": tx.coming_number("serial")} if revoked.nodes else {}
        audit.record(
            tx,
            order.caller.key_id,
            "revoke",
            revoked.target,
            request_id=order.caller.request_id,
            serials=revoked.serials,
            nodes=revoked.nodes,
            keys=revoked.keys,
            reason=order.reason.slug,
            crl=tx.coming_number("crl"),
            **bound,
        )
        tx.after_commit(self._members.forget)
        tx.after_commit(self._crl.owe)
        return revoked

    def _serial(self, tx: Transaction, order: Order) -> Barred:
        serial = order.body.serial or 0
        row = certificates.get(tx, serial)
        if row is None:
            raise RequestRefused("not-found", "no certificate has this serial")
        tx.speaks_of(serial=serial)
        before = row.revoked_at is not None or certificates.cut_off(tx, row.node_id, serial)
        if before and not self._crl.owed:
            raise RequestRefused("conflict", f"certificate {serial} was already revoked")
        if not before:
            certificates.revoke(tx, serial, order.reason)
        return Barred(str(serial), [serial], [], [])

    def _node(self, tx: Transaction, order: Order) -> Barred:
        body, reason = order.body, order.reason
        row = nodes.by_name(tx, body.node) if body.node is not None else nodes.by_id(tx, body.key or "")
        if row is None and body.node is not None:
            raise RequestRefused("not-found", f"no node is named {body.node}")
        node_id = row.node_id if row is not None else body.key or ""
        tx.speaks_of(node_id=node_id)
        target = row.name if row is not None else node_id
        ends = self._last_end(tx, node_id)
        by_key = body.key is not None or reason is RevocationReason.KEY_COMPROMISE
        changed = nodes.bar(tx, node_id)
        if row is not None and not certificates.cut_off(tx, node_id, row.serial):
            certificates.revoke_node(tx, node_id, tx.coming_number("serial"), ends, reason)
            changed = True
        if by_key:
            changed = certificates.revoke_key(tx, node_id, max(ends, tx.now), reason) or changed
        if not changed and not self._crl.owed:
            raise RequestRefused("conflict", f"{target} was already revoked")
        return Barred(target, [], [] if row is None else [node_id], [node_id] if by_key else [])

    def _last_end(self, tx: Transaction, node_id: str) -> int:
        """When the last certificate of a node ends; a restored database may not know it."""
        restored_at = tx.mark("restored_at")
        unknown = 0 if restored_at is None else restored_at + self._issuer.in_force(tx).body.certificate.max
        return max(certificates.last_end(tx, node_id), unknown)


class CrlMaker:
    """
    Makes the CRL that names what was revoked and is on none yet; tries again after a failure or a crash.

    It is made after the decision to revoke is durable, one for all that wait for it, so that neither its
    length nor its failure keeps anybody from being barred.

    @param changed: called with each CRL made, once it is durable.
    """

    log = Logger()
    ordered: bool = False

    def __init__(
        self,
        store: Store,
        issuer: DocumentIssuer,
        clock: IReactorTime,
        changed: Callable[[Document[Crl]], None],
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._changed = changed
        self._retry_at: float | None = clock.seconds()

    async def make(self) -> int:
        """
        Have all that is revoked on a CRL.

        @return: the number of the CRL in force then.
        @raise DocumentRefused: C{too-large}.
        @raise StoreError: if none can be signed or written now.
        """
        try:
            made = await self._store.decide_in_bulk(self, None)
            if isinstance(made, GmeshError):
                raise made
        except GmeshError as error:
            self._retry_at = self._clock.seconds() + limits.CRL_RETRY_SECONDS
            if not self._store.told(error):
                self.log.error("revoked, but on no CRL yet: {error}", error=error.detail)
            raise
        return made

    @property
    def owed(self) -> bool:
        """Whether the last attempt failed, or none was made since the start or a revocation."""
        return self._retry_at is not None

    def owe(self) -> None:
        """Something is revoked: whoever asked for it has it made next, unless they were given up before."""
        if self._retry_at is None:
            self._retry_at = self._clock.seconds()

    def _owe_nothing(self) -> None:
        """All that was revoked is listed; what is decided after this has its L{owe} after it."""
        self._retry_at = None

    def again(self) -> None:
        """Called now and then: make what a failure, or the end of an earlier process, left to be made."""
        now = self._clock.seconds()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = now + limits.CRL_RETRY_SECONDS
            Deferred.fromCoroutine(self.make()).addErrback(lambda failure: failure.trap(GmeshError) and None)

    def one(self, tx: Transaction, item: None) -> int | GmeshError:
        """The number of the CRL; a failure has changed nothing, and is given to all who wait."""
        if not certificates.unlisted(tx):
            tx.after_commit(self._owe_nothing)
            mark = documents.newest_crl_mark(tx)
            return 0 if mark is None else mark[0]
        try:
            crl = self._issuer.crl(tx)
        except (DocumentRefused, StoreError) as error:
            return error
        tx.after_commit(self._owe_nothing)
        tx.after_commit(self._changed, crl)
        return crl.body.number

    def many(self, tx: Transaction, items: Sequence[None]) -> list[int | GmeshError]:
        """One for all."""
        return [self.one(tx, None)] * len(items)
