# SPDX-License-Identifier: MIT
"""
The deltas to the CRL in force, for whoever holds one of the last few before it.

Anybody may ask from any number, so each delta is made once and kept as long as the CRL is in force.
There is none from numbers of long ago, nor one that would save less than half: all other askers get the
CRL itself, which is there anyway.
Tests: C{tests/authority/test_crl_deltas.py}, C{tests/authority/test_published.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.trust.documents import Crl, CrlDelta, Document

__all__ = ["CrlDeltas"]

Delta = tuple[bytes, str] | None
"""File form and digest."""


class CrlDeltas:
    """
    Each delta once.

    @param make: makes the delta to this CRL from one of that number, or None.
    """

    log = Logger()

    def __init__(self, make: Callable[[Document[Crl], int], Deferred[Document[CrlDelta] | None]]) -> None:
        self._make = make
        self._kept: dict[int, tuple[bytes, str]] = {}
        self._waiting: dict[int, list[Deferred[Delta]]] = {}

    def follow(self, crl: Document[Crl]) -> None:
        """This CRL is in force from now on."""
        number = crl.body.number
        first = max(number - limits.DELTAS_KEPT, number // SERIALS_PER_EPOCH * SERIALS_PER_EPOCH + 1)
        self._crl = crl
        self._from = range(first, number)
        self._kept = {}
        self._answer_all()

    async def delta(self, since: int) -> Delta:
        """What turns CRL C{since} into the one in force; None if only the whole one will do."""
        if since not in self._from:
            return None
        if since in self._kept:
            return self._kept[since]
        begun = since in self._waiting
        mine: Deferred[Delta] = Deferred()
        self._waiting.setdefault(since, []).append(mine)
        if not begun:
            made = self._make(self._crl, since)
            made.addCallbacks(self._made, self._failed, (self._crl, since), errbackArgs=(self._crl, since))
        return await mine

    def _made(self, document: Document[CrlDelta] | None, crl: Document[Crl], since: int) -> None:
        if crl is not self._crl:
            return
        if document is None or 2 * len(document.encode()) > len(crl.encode()):
            # From before that it would be longer still.
            self._from = range(max(since + 1, self._from.start), self._from.stop)
            self._answer(since, None)
        else:
            delta = self._kept[since] = document.encode(), document.digest
            self._answer(since, delta)

    def _failed(self, failure: Failure, crl: Document[Crl], since: int) -> None:
        self.log.error("no CRL delta: {error}", error=failure.getErrorMessage())
        if crl is self._crl:
            self._answer(since, None)

    def _answer_all(self) -> None:
        for since in list(self._waiting):
            self._answer(since, None)

    def _answer(self, since: int, delta: Delta) -> None:
        for waiting in self._waiting.pop(since, []):
            if not waiting.called:
                waiting.callback(delta)
