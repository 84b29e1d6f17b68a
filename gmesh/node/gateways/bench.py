# SPDX-License-Identifier: MIT
"""
The far end of C{gmesh bench}: a service of every node, which the policy governs as it does any other.

A stream begins with 16 bytes that all streams of one run have in common, and one that says what to do:
C{e} sends back what comes, C{u} drops it and says at its end how many bytes it was (u64, big-endian), C{d}
sends zeros until nobody reads them.  A peer may have one run at a time, so that nobody measures two as one.
Tests: C{tests/node/gateways/test_bench.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.interfaces import ILocalEnd, IStreamOffer, IStreamReader
from gmesh.stream_errors import StreamCode

__all__ = ["MAX_SECONDS", "MAX_STREAMS", "RUN", "BenchService"]

RUN: Final = 16
"""Bytes that name a run."""
MAX_STREAMS: Final = 16
"""Streams of one run at a time."""
MAX_SECONDS: Final = 120.0
"""Seconds that a stream of one may take."""
_HEAD_SECONDS: Final = 10.0
_COUNT: Final = struct.Struct(">Q")
_PIECES_A_TURN: Final = 16
"""Of zeros, before others have the reactor: a transport need not pause who writes faster than it sends."""


@cache
def _zeros() -> bytes:
    """What is sent, once somebody asks for it: a node of which nobody does can spare it."""
    return bytes(64 * 1024)


class BenchService(Service):
    """
    Serves it.

    @param listen: takes a function that is called with each L{IStreamOffer}, as
        L{gmesh.interfaces.IStreams.listen} does for a service of gmesh itself.
    """

    def __init__(self, clock: IReactorTime, listen: Callable[[Callable[[IStreamOffer], None]], Any]) -> None:
        self.clock = clock
        self._listen = listen
        self._listening: Any = None
        self._runs: dict[str, dict[_Bench, bytes]] = {}

    def startService(self) -> None:
        """Take what is opened."""
        super().startService()
        self._listening = self._listen(self._take)

    def stopService(self) -> None:
        """Take nothing more."""
        super().stopService()
        self._listening.stopListening()

    def begin(self, bench: _Bench, peer: str, run: bytes) -> bool:
        """Whether a stream may go on: no other run of that peer is under way."""
        running = self._runs[peer]
        if any(other and other != run for other in running.values()):
            return False
        running[bench] = run
        return True

    def over(self, bench: _Bench, peer: str) -> None:
        """A stream has ended."""
        del self._runs[peer][bench]
        if not self._runs[peer]:
            del self._runs[peer]

    def _take(self, offer: IStreamOffer) -> None:
        peer: str = offer.peer.node_id
        running = self._runs.setdefault(peer, {})
        if len(running) >= MAX_STREAMS:
            offer.refuse(StreamCode.BUSY.slug, f"{offer.peer.name} measures already")
            return
        bench = _Bench(self, peer)
        running[bench] = b""
        if not offer.accept(bench):
            self.over(bench, peer)


@implementer(IHalfCloseableProtocol, ILocalEnd, IPushProducer, IStreamReader)
class _Bench(Protocol):
    """One stream."""

    transport: Any
    local = "gmesh bench"

    def __init__(self, service: BenchService, peer: str) -> None:
        self._service = service
        self._peer = peer
        self._head = b""
        self._act = b""
        self._count = 0
        self._going = False
        self._timer: IDelayedCall | None = None
        self._more: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self._service.clock.callLater(_HEAD_SECONDS, self._late)

    def dataReceived(self, data: bytes) -> None:
        if not self._act:
            self._head += data
            if len(self._head) <= RUN:
                return
            data = self._begin()
        self._count += len(data)
        if self._act == b"e":
            self.transport.write(data)

    def _begin(self) -> bytes:
        run, self._act, rest = self._head[:RUN], self._head[RUN : RUN + 1], self._head[RUN + 1 :]
        self._head = b""
        if self._act not in (b"e", b"u", b"d"):
            self.transport.reset(StreamCode.PROTOCOL.slug, "that cannot be measured")
        elif not self._service.begin(self, self._peer, run):
            self.transport.reset(StreamCode.BUSY.slug, "a run of this node is under way: wait for its end")
        else:
            if self._timer is not None:
                self._timer.reset(MAX_SECONDS)
            if self._act != b"u":
                self.transport.registerProducer(self, True)
                self.resumeProducing()
        return rest

    def readConnectionLost(self) -> None:
        if self._act == b"u":
            self.transport.write(_COUNT.pack(self._count))
        if self._act != b"d":
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """All is said."""

    def write_stopped(self) -> None:
        self._going = False
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._going = False
        for call in (self._timer, self._more):
            if call is not None and call.active():
                call.cancel()
        self._service.over(self, self._peer)

    def resumeProducing(self) -> None:
        """The far end reads: send zeros until it does not for now, or what it has sent."""
        self._going = True
        if self._act == b"e":
            self.transport.resumeProducing()
        if self._act == b"d" and self._more is None:
            self._send()

    def _send(self) -> None:
        self._more = None
        for _ in range(_PIECES_A_TURN):
            if not self._going:
                return
            self.transport.write(_zeros())
        self._more = self._service.clock.callLater(0, self._send)

    def pauseProducing(self) -> None:
        """The far end does not read for now: take no more of what would be sent back."""
        self._going = False
        if self._act == b"e":
            self.transport.pauseProducing()

    def stopProducing(self) -> None:
        self._going = False

    def _late(self) -> None:
        self.transport.reset(StreamCode.TIMED_OUT.slug, "it took too long")
