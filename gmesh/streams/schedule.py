# SPDX-License-Identifier: MIT
"""
Whose turn it is: round robin, and who was idle goes first once (RFC 8290, section 4.2, in small). Pure.

Tests: C{tests/streams/test_schedule.py}.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Schedule"]

T = TypeVar("T")


class Schedule(Generic[T]):
    """
    Those that have something to send, each in the queue once.

    Who had its turn stays behind the others even with nothing more to send, and is idle only when its
    next turn finds that so: little things said often give no right to be first always.
    """

    __slots__ = ("_fresh", "_queued", "_turns")

    def __init__(self) -> None:
        self._fresh: deque[T] = deque()
        self._turns: deque[T] = deque()
        self._queued: set[T] = set()

    def __bool__(self) -> bool:
        return bool(self._fresh or self._turns)

    def wake(self, one: T) -> None:
        """C{one} has something to send."""
        if one not in self._queued:
            self._queued.add(one)
            self._fresh.append(one)

    def next(self) -> T | None:
        """Whose turn it is, to be given back with L{again} or L{idle}; None if nobody waits."""
        if self._fresh:
            return self._fresh.popleft()
        return self._turns.popleft() if self._turns else None

    def again(self, one: T) -> None:
        """C{one} had its turn, and waits for the next."""
        self._turns.append(one)

    def first(self, one: T) -> None:
        """C{one} could not use its turn: it is the next again."""
        self._fresh.appendleft(one)

    def idle(self, one: T) -> None:
        """C{one} found nothing to send in its turn."""
        self._queued.discard(one)

    def forget(self, one: T) -> None:
        """C{one} sends nothing any more."""
        if one in self._queued:
            self._queued.discard(one)
            for queue in (self._fresh, self._turns):
                if one in queue:
                    queue.remove(one)
