# SPDX-License-Identifier: MIT
"""
One clock for a whole world: Twisted's C{Clock} with a heap behind it, for tens of thousands of timers.

C{task.Clock} sorts every pending call at every new one; here that costs a logarithm.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

__all__ = ["EventClock"]

MAX_CALLS_AT_ONCE = 1_000_000
"""Calls at one instant after which time is taken to stand still."""


class EventClock(Clock):
    """
    Virtual time that goes from event to event; equal times run in the order in which they were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()
        self._at_once = 0

    def callLater(self, when: float, what: Callable[..., Any], *a: Any, **kw: Any) -> DelayedCall:  # type: ignore[override]  # names as in Clock
        """As C{twisted.internet.interfaces.IReactorTime.callLater}."""
        call = DelayedCall(self.rightNow + when, what, a, kw, lambda _: None, self._push, self.seconds)
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """As C{twisted.internet.interfaces.IReactorTime.getDelayedCalls}."""
        return [
            call
            for _, _, call in {id(item[2]): item for item in sorted(self._heap)}.values()
            if call.active()
        ]

    def next_time(self) -> float | None:
        """When the next call is due, or None."""
        while self._heap:
            time, _, call = self._heap[0]
            if not call.active():
                heapq.heappop(self._heap)
            elif call.getTime() > time:
                heapq.heappop(self._heap)
                self._push(call)
            else:
                return time
        return None

    def step(self, until: float) -> bool:
        """
        Go to the next event at or before C{until} and let it happen.

        @return: False if there is none; the time is then as it was.
        @raise AssertionError: when one instant has no end.
        """
        due = self.next_time()
        if due is None or due > until:
            return False
        self._at_once = self._at_once + 1 if due <= self.rightNow else 0
        assert self._at_once < MAX_CALLS_AT_ONCE, f"time stands still at {self.rightNow}"
        self.rightNow = max(self.rightNow, due)
        call = heapq.heappop(self._heap)[2]
        call.called = 1
        call.func(*call.args, **call.kw)
        return True

    def advance(self, amount: float) -> None:
        """Let time pass, each thing at its own instant."""
        end = self.rightNow + amount
        while self.step(end):
            pass
        self.rightNow = max(self.rightNow, end)

    def _push(self, call: DelayedCall) -> None:
        heapq.heappush(self._heap, (call.getTime(), next(self._order), call))
