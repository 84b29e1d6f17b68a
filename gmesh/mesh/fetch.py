# SPDX-License-Identifier: MIT
"""
Asking one neighbour for many things: each once, in batches, the next when the last came.

Used alike for records and for certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.network_limits import ASK_AGAIN, ASK_STALL, MAX_WANTED

__all__ = ["Fetcher"]

K = TypeVar("K")


class Fetcher(Generic[K]):
    """
    What is wanted of one neighbour.

    @param ask: sends a request for a batch of keys.
    """

    def __init__(self, clock: IReactorTime, ask: Callable[[list[K]], None], batch: int) -> None:
        self._clock = clock
        self._ask = ask
        self._batch = batch
        self._wanted: dict[K, None] = {}
        self._outstanding: set[K] = set()
        self._asked: dict[K, float] = {}
        self._timer: IDelayedCall | None = None
        self._pump: IDelayedCall | None = None
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Nothing is wanted, nothing is on its way."""
        return not self._wanted and not self._outstanding

    def want(self, key: K) -> bool:
        """Ask for C{key} soon, unless that was done lately. @return: False if too much is wanted already."""
        asked = self._asked.get(key)
        if self._stopped or (asked is not None and self._clock.seconds() - asked < ASK_AGAIN):
            return True
        if len(self._wanted) >= MAX_WANTED:
            return False
        self._wanted[key] = None
        if self._pump is None and not self._outstanding:
            self._pump = self._clock.callLater(0, self._next)
        return True

    def came(self, key: K) -> None:
        """It is here, from wherever."""
        self._wanted.pop(key, None)
        self._asked.pop(key, None)
        if key in self._outstanding:
            self._outstanding.discard(key)
            if not self._outstanding:
                self._next()
            elif self._timer is not None:
                self._timer.reset(ASK_STALL)

    def stop(self) -> None:
        """The neighbour is gone."""
        self._stopped = True
        self._wanted.clear()
        self._outstanding.clear()
        for call in (self._timer, self._pump):
            if call is not None and call.active():
                call.cancel()

    def _stalled(self) -> None:
        """What was asked for last does not come: it may be asked for again later, the rest goes on."""
        self._timer = None
        self._outstanding.clear()
        self._next()

    def _next(self) -> None:
        if self._pump is not None and self._pump.active():
            self._pump.cancel()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._pump = self._timer = None
        if not self._wanted or self._stopped:
            return
        now = self._clock.seconds()
        self._asked = {key: when for key, when in self._asked.items() if now - when < ASK_AGAIN}
        batch = [key for key, _ in zip(self._wanted, range(self._batch), strict=False)]
        for key in batch:
            del self._wanted[key]
            self._asked[key] = now
        self._outstanding.update(batch)
        self._timer = self._clock.callLater(ASK_STALL, self._stalled)
        self._ask(batch)
