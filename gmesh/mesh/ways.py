# SPDX-License-Identifier: MIT
"""
Several ways to one address, directly and through a proxy: what worked last first, the next one soon after.

As happy eyeballs (RFC 8305) have it for the addresses of a name.  Which way a dial took is judged by what
came of it: a way that connects and leads to no link is tried last the next time.
Tests: C{tests/mesh/test_ways.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import CarrierRefused
from gmesh.mesh.timers import cancel_calls

__all__ = ["STAGGER", "Experience", "Ways"]

STAGGER = 1.0
"""Seconds until the next way is tried beside one that does not answer: most handshakes end sooner."""
MOST_KEPT = 256
"""Addresses of which it is known how they were reached."""


class Experience:
    """Which way led to a link, for each address and for the last one of all."""

    def __init__(self) -> None:
        self._last = ""
        self._good: OrderedDict[str, str] = OrderedDict()
        self._bad: OrderedDict[str, str] = OrderedDict()

    def order(self, address: str, ways: list[str]) -> list[str]:
        """These ways, the most promising first; else as they are given."""
        good, bad = self._good.get(address, self._last), self._bad.get(address)
        return sorted(ways, key=lambda way: (way == bad, way != good))

    def judge(self, address: str, way: str, good: bool) -> None:
        """A dial by this way led to a link, or to none."""
        kept, other = (self._good, self._bad) if good else (self._bad, self._good)
        kept[address] = way
        kept.move_to_end(address)
        if other.get(address) == way:
            del other[address]
        if good:
            self._last = way
        while len(kept) > MOST_KEPT:
            kept.popitem(last=False)


@implementer(IStreamClientEndpoint)
class Ways:
    """
    Connects by whichever way is first to do so.

    @param ways: endpoints by what people call the way.
    """

    def __init__(
        self,
        clock: IReactorTime,
        address: str,
        ways: Mapping[str, IStreamClientEndpoint],
        experience: Experience,
    ) -> None:
        self._clock = clock
        self._address = address
        self._ways = ways
        self._experience = experience
        self._taken = ""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """@see: C{IStreamClientEndpoint.connect}; fails when all have, with what each said."""
        order = self._experience.order(self._address, list(self._ways))
        return _Race(self, order, protocolFactory).result

    def judge(self, good: bool) -> None:
        """What came of the connection: a link, or none."""
        if self._taken:
            self._experience.judge(self._address, self._taken, good)


class _Race:
    """One connection, begun by each way in turn."""

    def __init__(self, ways: Ways, order: list[str], factory: IProtocolFactory) -> None:
        self._ways = ways
        self._waiting = order
        self._factory = factory
        self._pending: dict[str, Deferred[IProtocol]] = {}
        self._failures: dict[str, Failure] = {}
        self._timer: IDelayedCall | None = None
        self._over = False
        self.result: Deferred[IProtocol] = Deferred(lambda _: self._cancelled())
        self._next()

    def _next(self) -> None:
        self._timer = None
        way = self._waiting.pop(0)
        if self._waiting:
            self._timer = self._ways._clock.callLater(STAGGER, self._next)
        connecting = self._pending[way] = self._ways._ways[way].connect(self._factory)
        connecting.addCallbacks(self._won, self._lost, callbackArgs=(way,), errbackArgs=(way,))

    def _won(self, protocol: IProtocol, way: str) -> None:
        self._ways._taken = way
        self._end()
        self.result.callback(protocol)

    def _lost(self, failure: Failure, way: str) -> None:
        self._pending.pop(way, None)
        self._failures[way] = failure
        if self._over:
            return
        if self._waiting:
            self._stop_timer()
            self._next()
        elif not self._pending:
            self._end()
            self.result.errback(self._all_failed())

    def _all_failed(self) -> Failure:
        said = [f"{way}: {failure.getErrorMessage()}" for way, failure in self._failures.items()]
        refusals = [each.value for each in self._failures.values() if isinstance(each.value, CarrierRefused)]
        reason = refusals[0].reason if refusals else "connect-failed"
        return Failure(CarrierRefused(reason, "; ".join(said)))

    def _end(self) -> None:
        self._over = True
        self._stop_timer()
        for way, connecting in list(self._pending.items()):
            if way != self._ways._taken:
                connecting.cancel()

    def _cancelled(self) -> None:
        self._end()
        if not self.result.called:
            self.result.errback(self._all_failed())

    def _stop_timer(self) -> None:
        cancel_calls(self._timer)
        self._timer = None
