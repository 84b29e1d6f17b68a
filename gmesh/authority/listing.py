# SPDX-License-Identifier: MIT
"""
The CRL that names what was revoked and is on none yet.

It is made after the decision to revoke is durable, one for all that wait for it, so that neither its
length nor its failure keeps anybody from being barred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.authority import limits
from gmesh.authority.issuer import Issuer
from gmesh.authority.store import certificates, documents
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, GmeshError, StoreError
from gmesh.trust.documents import Crl, Document

__all__ = ["Listing"]


class Listing:
    """
    Makes it, and tries again after a failure or a crash.

    @param changed: called with each CRL made, once it is durable.
    """

    log = Logger()

    def __init__(
        self, store: Store, issuer: Issuer, clock: IReactorTime, changed: Callable[[Document[Crl]], None]
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
            self.log.error("revoked, but on no CRL yet: {error}", error=error.detail)
            raise
        self._retry_at = None
        return made

    @property
    def owed(self) -> bool:
        """Whether the last attempt failed, or none was made since the start."""
        return self._retry_at is not None

    def again(self) -> None:
        """Called now and then: make what a failure, or the end of an earlier process, left to be made."""
        now = self._clock.seconds()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = now + limits.CRL_RETRY_SECONDS
            Deferred.fromCoroutine(self.make()).addErrback(lambda failure: failure.trap(GmeshError) and None)

    def one(self, tx: Transaction, item: None) -> int | GmeshError:
        """The number of the CRL; a failure has changed nothing, and is given to all who wait."""
        if not certificates.unlisted(tx):
            mark = documents.newest_crl_mark(tx)
            return 0 if mark is None else mark[0]
        try:
            crl = self._issuer.crl(tx)
        except (DocumentRefused, StoreError) as error:
            return error
        tx.after_commit(self._changed, crl)
        return crl.body.number

    def many(self, tx: Transaction, items: Sequence[None]) -> list[int | GmeshError]:
        """One for all."""
        return [self.one(tx, None)] * len(items)
