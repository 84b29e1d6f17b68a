# SPDX-License-Identifier: MIT
"""
Who waits for news: members in room of their own, and answered before all others.

An anchor that hears of a revocation late keeps a link that it should cut.  Strangers may wait too, but few
of them, fewer from one address, and their answers come in small shares, so that nobody waits for these.
Tests: C{tests/authority/test_long_polls.py}.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.authority import limits
from gmesh.errors import RequestRefused

__all__ = ["LongPolls"]


class LongPolls:
    """Deferreds that fire together, or when they have waited long enough; to cancel one is to leave."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._members: dict[str, Deferred[None]] = {}
        self._strangers: Counter[str] = Counter()
        self._polls: dict[Deferred[None], tuple[str, bool, IDelayedCall]] = {}
        self._due: dict[Deferred[None], None] = {}
        self._sharing: IDelayedCall | None = None
        self._ended = False

    def __len__(self) -> int:
        return len(self._polls)

    def of_member(self, key_id: str) -> Deferred[None]:
        """
        Wait as the owner of this key, who waits once: an earlier poll of theirs ends.

        @raise RequestRefused: C{unavailable}, when too many members wait.
        """
        if self._ended:
            return succeed(None)
        earlier = self._members.get(key_id)
        if earlier is not None:
            self._fire(earlier)
        if len(self._members) >= limits.LONG_POLLS:
            raise _too_many()
        waiter = self._members[key_id] = self._wait(key_id, True)
        return waiter

    def of_stranger(self, address: str) -> Deferred[None]:
        """
        Wait as anybody at this address.

        @raise RequestRefused: C{unavailable}, when too many wait there, or altogether.
        """
        here = self._strangers[address]
        if self._ended:
            return succeed(None)
        if here >= limits.STRANGER_POLLS_AN_ADDRESS or self._strangers.total() >= limits.STRANGER_POLLS:
            raise _too_many()
        self._strangers[address] += 1
        return self._wait(address, False)

    def wake(self) -> None:
        """There is news: members hear of it now, all others in the next turns of the reactor."""
        for waiter in list(self._members.values()):
            self._fire(waiter)
        self._due.update({waiter: None for waiter, (_, member, _) in self._polls.items() if not member})
        self._share_soon()

    def stop(self) -> None:
        """Let every waiter go."""
        if self._sharing is not None:
            self._sharing.cancel()
            self._sharing = None
        for waiter in list(self._polls):
            self._fire(waiter)

    def _share(self) -> None:
        self._sharing = None
        for waiter in list(self._due)[: limits.STRANGERS_A_TURN]:
            self._fire(waiter)
        self._share_soon()

    def _share_soon(self) -> None:
        if self._due and self._sharing is None:
            self._sharing = self._clock.callLater(0, self._share)

    def end(self) -> None:
        """Let every waiter go, and nobody wait any more: the daemon is about to stop."""
        self._ended = True
        self.stop()

    def _wait(self, name: str, member: bool) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._forget)
        timer = self._clock.callLater(limits.LONG_POLL_SECONDS, self._fire, waiter)
        self._polls[waiter] = name, member, timer
        return waiter

    def _fire(self, waiter: Deferred[None]) -> None:
        if waiter in self._polls:
            self._forget(waiter)
            waiter.callback(None)

    def _forget(self, waiter: Deferred[None]) -> None:
        name, member, timer = self._polls.pop(waiter)
        self._due.pop(waiter, None)
        if timer.active():
            timer.cancel()
        if member:
            del self._members[name]
        else:
            self._strangers[name] -= 1
            if not self._strangers[name]:
                del self._strangers[name]


def _too_many() -> RequestRefused:
    return RequestRefused("unavailable", "too many wait for news: ask without after=")
