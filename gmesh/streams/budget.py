# SPDX-License-Identifier: MIT
"""
Credit: how much the far end of a stream may send, out of what a node can hold. Pure.

Credit is memory that others may fill, so all of it is counted: as granted, until it is consumed.  A stream is
granted twice what its reader consumed in a round trip, so that the credit for the next bytes is there before
they are (dynamic right-sizing; M. Fisk and W. Feng, 2001).
Tests: C{tests/streams/test_budget.py}.
"""

from __future__ import annotations

from gmesh.streams import limits

__all__ = ["CreditBudget", "CreditWindow", "SendBudget"]


class CreditBudget:
    """
    What may be granted: by a node in all, or, with C{whole}, to one of its peers.

    @param limit: bytes.
    @param whole: the budget that this one is a part of.
    @ivar used: bytes granted and not consumed.
    """

    __slots__ = ("_whole", "limit", "used")

    def __init__(self, limit: int = limits.NODE_CREDIT, whole: CreditBudget | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._whole = whole

    @property
    def share(self) -> float:
        """How much of it is used, of 1; that of the whole, if that is more."""
        own = self.used / self.limit
        return own if self._whole is None else max(own, self._whole.share)

    def first(self) -> int:
        """How much a new stream gets; 0 if there is nothing left."""
        share = self.share
        if share < 0.25:
            return limits.FIRST_CREDIT
        if share < 0.5:
            return limits.SPARE_CREDIT
        return limits.LAST_CREDIT if self.left >= limits.LAST_CREDIT else 0

    @property
    def left(self) -> int:
        """How much may be granted."""
        own = max(0, self.limit - self.used)
        return own if self._whole is None else min(own, self._whole.left)

    def change(self, size: int) -> None:
        """So much more is granted, or less."""
        self.used += size
        if self._whole is not None:
            self._whole.change(size)


class CreditWindow:
    """
    The credit of one stream.

    @param first: bytes granted at first.
    @ivar limit: so far the other end may write.
    @ivar consumed: bytes read, which the reader counts here.
    @ivar due: when so many are, it is time for L{grant}.
    @ivar window: how far ahead of its reader the other end may be.
    """

    __slots__ = ("_began", "_booked", "_budget", "_then", "consumed", "due", "limit", "window")

    def __init__(self, budget: CreditBudget, first: int, now: float) -> None:
        self.limit = self.window = first
        self.consumed = 0
        self._budget = budget
        self._booked = first
        self.due = first - first // limits.TOLD_PER_WINDOW * (limits.TOLD_PER_WINDOW - 1)
        self._began = now
        self._then = 0
        budget.change(first)

    def grant(self, now: float, rtt: float | None) -> bool:
        """
        Allow more.

        @param rtt: a round trip, if one was measured.
        @return: True if the limit is higher than before.
        """
        elapsed = now - self._began
        taken = self.consumed - self._then
        trip = max(limits.MIN_CREDIT_RTT, limits.INITIAL_RTT if rtt is None else rtt)
        if elapsed >= limits.CREDIT_IDLE:
            self.window = min(self.window, limits.FIRST_CREDIT)
        if elapsed >= trip or taken >= self.window:
            wanted = int(2 * taken * trip / max(elapsed, trip))
            self.window = max(self.window, min(limits.MAX_CREDIT, wanted))
            self._began, self._then = now, self.consumed
        ahead = self.limit - self.consumed
        self._budget.change(ahead - self._booked)  # what was consumed is free again
        more = min(self.consumed + self.window - self.limit, self._budget.left)
        self._booked = ahead
        if more > 0:
            self.limit += more
            self._booked += more
            self._budget.change(more)
        self.due = self.limit - self.window // limits.TOLD_PER_WINDOW * (limits.TOLD_PER_WINDOW - 1)
        return more > 0

    def close(self) -> None:
        """Nothing more may come."""
        self._budget.change(-self._booked)
        self._booked = 0


class SendBudget:
    """
    What may be under way: by a node in all, and, with C{whole}, to one of its peers.

    @ivar used: bytes sent and not acknowledged.
    """

    __slots__ = ("_whole", "used")

    def __init__(self, whole: SendBudget | None = None) -> None:
        self.used = 0
        self._whole = whole

    def allows(self) -> bool:
        """True if this peer may have more under way."""
        whole = self._whole
        return (
            whole is None or whole.used < limits.NODE_UNACKNOWLEDGED or self.used < limits.PEER_UNACKNOWLEDGED
        )

    def change(self, size: int) -> None:
        """So much more is under way, or less."""
        self.used += size
        whole = self._whole
        if whole is not None:
            whole.used += size
