# SPDX-License-Identifier: MIT
"""
Asking neighbours for many things: each thing of one of them, in batches, the next when the last came.

A neighbour that does not answer delays nothing for long: what did not come within half a second is asked of
all others that offered it.  Used alike for records and for certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.limits import ASK_AGAIN, ASK_ELSEWHERE, ASK_STALL, MAX_WANTED, TICK
from gmesh.mesh.timers import cancel_calls

__all__ = ["Asked", "Fetcher"]

K = TypeVar("K")


class Asked(Generic[K]):
    """
    What all neighbours together were asked for.

    @param lacks: (key, number) -> whether what was offered under this number is still news here.
    """

    def __init__(
        self, clock: IReactorTime, lacks: Callable[[K, int], bool] = lambda key, number: True
    ) -> None:
        self.lacks = lacks
        self._clock = clock
        self._asked: dict[K, dict[Fetcher[K], tuple[int, float]]] = {}
        self._fetchers: dict[Fetcher[K], None] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def free_at(self, key: K) -> float:
        """When another neighbour may be asked for it: only the first one asked is waited for."""
        for _, when in self._asked.get(key, {}).values():
            return when + ASK_ELSEWHERE
        return -inf

    def number(self, key: K, fetcher: Fetcher[K]) -> int:
        """The number under which this neighbour was asked for it, or -1."""
        return self._asked.get(key, {}).get(fetcher, (-1, -inf))[0]

    def lately(self, key: K, fetcher: Fetcher[K], number: int) -> bool:
        """Whether this neighbour was asked for that or newer, and not long ago."""
        known, when = self._asked.get(key, {}).get(fetcher, (-1, -inf))
        return number <= known and self._clock.seconds() - when < ASK_AGAIN

    def note(self, key: K, fetcher: Fetcher[K], number: int) -> None:
        """This neighbour is asked now; of more keys than C{MAX_WANTED} the oldest are forgotten."""
        if key not in self._asked and len(self._asked) >= MAX_WANTED:
            del self._asked[next(iter(self._asked))]
        self._asked.setdefault(key, {})[fetcher] = number, self._clock.seconds()

    def settled(self, key: K) -> None:
        """It is here, from wherever: no neighbour has to send it any more."""
        for fetcher in self._asked.pop(key, ()):
            fetcher.came(key)

    def join(self, fetcher: Fetcher[K]) -> None:
        """One more neighbour."""
        self._fetchers[fetcher] = None

    def leave(self, fetcher: Fetcher[K]) -> None:
        """A neighbour is gone: what was asked of it may be asked of others at once."""
        self._fetchers.pop(fetcher, None)
        for key in [key for key, askers in self._asked.items() if fetcher in askers]:
            del self._asked[key][fetcher]
            if not self._asked[key]:
                del self._asked[key]
        for other in self._fetchers:
            other.wake()

    def forget_old(self) -> None:
        """Forget what no neighbour answered; call it now and then."""
        old = self._clock.seconds() - ASK_AGAIN
        for key, askers in list(self._asked.items()):
            if all(when <= old for _, when in askers.values()):
                del self._asked[key]


class Fetcher(Generic[K]):
    """
    What is wanted of one neighbour.

    @param ask: sends a request for a batch of keys.
    @param asked: shared by all neighbours; one that has none to share with may leave it out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[list[K]], None],
        batch: int,
        asked: Asked[K] | None = None,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._batch = batch
        self._asked: Asked[K] = asked if asked is not None else Asked(clock)
        self._wanted: dict[K, int] = {}
        self._outstanding: set[K] = set()
        self._timer: IDelayedCall | None = None
        self._pump: IDelayedCall | None = None
        self._stopped = False
        self._asked.join(self)

    @property
    def idle(self) -> bool:
        """Nothing is wanted and nothing was asked for."""
        return not self._wanted and not self._outstanding

    def want(self, key: K, number: int = 0) -> bool:
        """
        Ask for C{key} soon, unless that was done lately.

        @param number: which one of this key is offered; a higher one is asked for again.
        @return: False if too much is wanted already.
        """
        if self._stopped or self._asked.lately(key, self, number):
            return True
        if key not in self._wanted and len(self._wanted) >= MAX_WANTED:
            return False
        self._wanted[key] = max(number, self._wanted.get(key, 0))
        self.wake()
        return True

    def offered(self, key: K) -> int:
        """The number under which this neighbour offered what has not come yet, or -1."""
        return max(self._wanted.get(key, -1), self._asked.number(key, self))

    def wake(self) -> None:
        """Something may be asked for now."""
        if self._stopped or self._outstanding or not self._wanted:
            return
        if self._pump is not None and self._pump.active():
            self._pump.reset(0)
        else:
            self._pump = self._clock.callLater(0, self._next)

    def came(self, key: K) -> None:
        """This neighbour need not send it any more."""
        self._wanted.pop(key, None)
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
        self._cancel()
        self._asked.leave(self)

    def _cancel(self) -> None:
        cancel_calls(self._timer, self._pump)
        self._timer = self._pump = None

    def _stalled(self) -> None:
        """What was asked for last does not come: it may be asked for again later, the rest goes on."""
        self._outstanding.clear()
        self._next()

    def _next(self) -> None:
        self._cancel()
        if self._stopped:
            return
        now, soonest = self._clock.seconds(), inf
        batch: list[K] = []
        for key, number in list(self._wanted.items()):
            free_at = self._asked.free_at(key)
            if not self._asked.lacks(key, number):
                del self._wanted[key]
            elif free_at > now:
                soonest = min(soonest, free_at)
            else:
                del self._wanted[key]
                self._asked.note(key, self, number)
                batch.append(key)
                if len(batch) == self._batch:
                    break
        if batch:
            self._outstanding.update(batch)
            self._timer = self._clock.callLater(ASK_STALL, self._stalled)
            self._ask(batch)
        elif self._wanted:
            self._pump = self._clock.callLater(soonest - now + TICK, self._next)
