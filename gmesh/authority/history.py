# SPDX-License-Identifier: MIT
"""
One authority, one history: what nodes show of what this authority's key signed.

After an older copy of the state was put back, or beside a second authority with the same key, numbers
and serials would be given out twice.  Nodes hold the proof: a status or a certificate that the key of
this authority signed, and that this database never gave out.  A member can only show one, not make one.
Before the alarm the database itself is asked; after it nothing is issued until a restore.
Tests: C{tests/authority/test_history.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import audit
from gmesh.authority.issuer import DocumentIssuer, epoch
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, documents
from gmesh.authority.store.history import another_history, instance, note_another
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, StoreError
from gmesh.trust.documents import Body, Certificate, Document, Status, encoded_digest
from gmesh.trust.verify import authority_keys, verify_signatures

__all__ = ["History"]


class History:
    """
    Weighs what nodes show.

    @ivar trouble: why nothing is issued any more; None while all is well.
    """

    log = Logger()

    def __init__(self, store: Store, issuer: DocumentIssuer) -> None:
        self._store = store
        self._issuer = issuer
        self.trouble: StoreError | None = None

    def found(self, trouble: StoreError) -> None:
        """There is another history: say so once, and write nothing any more."""
        if self.trouble is None:
            self.trouble = self._store.damage = trouble
            self.log.error("ALARM {reason}: {detail}", reason=trouble.reason, detail=trouble.detail)

    def weigh_status(self, shown: Document[Status]) -> Deferred[None]:
        """A node holds this one, and our answer was older or of another database."""

        def weigh(tx: Transaction) -> None:
            if _unpublished(tx, shown):
                self._note(tx, f"status {shown.body.number}")

        return self._weigh(shown, weigh)

    def weigh_certificate(self, shown: Document[Certificate]) -> Deferred[None]:
        """A node presents this one, and it is unknown here."""

        def weigh(tx: Transaction) -> None:
            serial = shown.body.serial
            if serial // SERIALS_PER_EPOCH < epoch(tx):
                return  # of the time before a restore
            row = certificates.get(tx, serial)
            above = serial >= tx.coming_number("serial")
            if above or (row is not None and row.document != shown.encode()):
                self._note(tx, f"certificate {serial}")

        return self._weigh(shown, weigh)

    def _weigh(self, shown: Document[Body], weigh: Callable[[Transaction], None]) -> Deferred[None]:
        """Only a signature of a key of the newest genesis makes it worth a look at the database."""
        if self.trouble is not None or not self._signed(shown):
            return succeed(None)
        done = self._store.decide(weigh)
        return done.addErrback(_unwritten)

    def _signed(self, shown: Document[Body]) -> bool:
        try:
            verify_signatures(shown, authority_keys(self._issuer.genesis.body))
        except DocumentRefused:
            return False
        return getattr(shown.body, "network_id", None) == self._issuer.network_id

    def _note(self, tx: Transaction, what: str) -> None:
        note_another(tx)
        audit.record(tx, "authority", "another-history", what)
        tx.after_commit(self.found, another_history(what))


def _unwritten(failure: Failure) -> None:
    """Nothing can be written, and so nothing is issued either."""
    failure.trap(StoreError)


def _unpublished(tx: Transaction, shown: Document[Status]) -> bool:
    number = shown.body.number
    if number // SERIALS_PER_EPOCH < epoch(tx):
        return False  # of the time before a restore
    if shown.body.instance not in (None, instance(tx)) or number >= tx.coming_number("status"):
        return True
    held = shown.body.audit
    if held.size and audit_rows.hash_of(tx, held.size) != bytes.fromhex(held.head):
        return True  # of a chain that ours has not gone through, whatever the number
    newest = documents.newest_status(tx)
    return (
        newest is not None
        and number == tx.coming_number("status") - 1
        and shown.digest != encoded_digest(newest)
    )
