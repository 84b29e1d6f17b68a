# SPDX-License-Identifier: MIT
"""
Two programs and what joins them: one body of tests for every kind of connection.

A rig knows how to connect two protocols, and how to wait until something holds: on a virtual clock by going
to the next event, on the reactor by waiting for the next thing that a protocol is told.
"""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.interfaces import IStreamReader
from gmesh.testing.clock import EventClock
from gmesh.testing.memory_streams import joined
from gmesh.testing.mesh import MemoryMesh

PATIENCE, REAL_PATIENCE = 60.0, 300.0
"""Seconds of either kind of time after which something is taken to never happen: a host may stand still."""
LOOK_EVERY = 0.01
"""Seconds from one look at what nobody tells of to the next."""
SERVICE = "web"
MIB = 1024 * 1024


class Rig:
    """
    @cvar says_broken: the far end of a connection that breaks here can tell that from an end.
    @cvar own: it is a stream, with what L{gmesh.interfaces.IStream} promises beyond a transport.
    """

    says_broken = True
    own = True

    async def connect(self, near: Protocol, far: Protocol) -> None:
        """Have C{near} dial C{far}; both are connected then."""
        raise NotImplementedError

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds."""
        raise NotImplementedError

    def tell(self) -> None:
        """A protocol was told something."""

    async def close(self) -> None:
        """Leave nothing behind."""


class Recorder(Protocol):
    """
    What a program that knows nothing of half closes is told.

    @ivar data: all that it has read.
    @ivar lost: why the connection ended.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.data = bytearray()
        self.lost: Failure | None = None
        self.events: list[str] = []

    def told(self, event: str) -> None:
        """Remember it."""
        self.events.append(event)
        self.rig.tell()

    def connectionMade(self) -> None:
        self.told("made")

    def dataReceived(self, data: bytes) -> None:
        assert self.lost is None
        self.data += data
        if self.events[-1] != "data":
            self.events.append("data")
        self.rig.tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None, "told twice"
        self.lost = reason
        self.told("lost")

    @property
    def clean(self) -> bool:
        """It ended, and well."""
        return self.lost is not None and self.lost.check(ConnectionDone) is not None


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """
    What a program is told that goes on after one half has ended.

    It closes after both have, as a program must on TCP.
    """

    closes = True

    def readConnectionLost(self) -> None:
        self.told("read ended")
        self._close()

    def writeConnectionLost(self) -> None:
        self.told("write ended")
        self._close()

    def _close(self) -> None:
        if self.closes and {"read ended", "write ended"} <= set(self.events):
            assert self.transport is not None
            self.transport.loseConnection()


@implementer(IStreamReader)
class Careful(HalfCloser):
    """What a program is told that also wants to know when nobody reads."""

    def write_stopped(self) -> None:
        self.told("write stopped")


@implementer(IPushProducer)
class Pump:
    """A push producer that never ends by itself."""

    def __init__(self, consumer: Any, rig: Rig, size: int = 64 * 1024) -> None:
        self.consumer, self.rig, self.size = consumer, rig, size
        self.produced = 0
        self.paused = self.stopped = False
        self.pauses = 0

    def fill(self) -> None:
        """Write until told to pause."""
        while not (self.paused or self.stopped):
            self.consumer.write(bytes([self.produced // self.size % 256]) * self.size)
            self.produced += self.size
            assert self.produced < 64 * MIB, "nobody pauses the producer"

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1
        self.rig.tell()

    def resumeProducing(self) -> None:
        self.paused = False
        self.fill()

    def stopProducing(self) -> None:
        self.stopped = True
        self.rig.tell()

    def expected(self) -> bytes:
        """All that was written."""
        return b"".join(bytes([number % 256]) * self.size for number in range(self.produced // self.size))


class OnClock(Rig):
    """Of virtual time."""

    def __init__(self) -> None:
        self.clock = EventClock()

    async def until(self, holds: Callable[[], Any]) -> None:
        end = self.clock.seconds() + PATIENCE
        while not holds():
            assert self.clock.step(end), "it never happens"


class MemoryRig(OnClock):
    """The double: nodes a and b, joined in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = joined(self.clock, delay=0.01)

    async def connect(self, near: Protocol, far: Protocol) -> None:
        a, b = self.streams
        listening = b.listen(SERVICE, lambda offer: offer.accept(far))
        a.dial("b", SERVICE, lambda peer: near)
        await self.until(lambda: near.connected and far.connected)
        listening.stopListening()

    async def close(self) -> None:
        for node in self.streams:
            node.break_all("stopped")
        self.clock.advance(40)
        assert self.clock.getDelayedCalls() == []


class OnReactor(Rig):
    """Of real sockets."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []
        self._connections: list[Protocol] = []

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            reactor.callLater(0, each.callback, None)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Asked whenever a protocol of this rig hears something, and now and then: a thread tells nothing."""
        looking = LoopingCall(self.tell)
        looking.start(LOOK_EVERY, now=False)
        end = reactor.seconds() + REAL_PATIENCE
        try:
            while not holds():
                each: Deferred[None] = Deferred()
                self._waiting.append(each)
                await each.addTimeout(max(end - reactor.seconds(), 0.0), reactor)
        finally:
            looking.stop()

    async def close(self) -> None:
        for each in self._connections:
            if each.connected and each.transport is not None:
                each.transport.abortConnection()
        await self.until(lambda: all(each.lost is not None for each in self._connections))

    def keep(self, *protocols: Protocol) -> None:
        """Close these at the end."""
        self._connections += protocols

    async def join(self, server: Any, client: Callable[[Any], Any], near: Protocol, far: Protocol) -> None:
        """Connect by endpoints."""
        self.keep(near, far)
        port = await server.listen(Factory.forProtocol(lambda: far))
        await connectProtocol(client(port.getHost()), near)
        await self.until(lambda: near.connected and far.connected)
        await port.stopListening()


class TcpRig(OnReactor):
    """Loopback."""

    own = False

    async def connect(self, near: Protocol, far: Protocol) -> None:
        server = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        await self.join(server, lambda host: TCP4ClientEndpoint(reactor, "127.0.0.1", host.port), near, far)


class UnixRig(OnReactor):
    """A unix socket, which carries no reset."""

    own = False
    says_broken = False

    async def connect(self, near: Protocol, far: Protocol) -> None:
        with TemporaryDirectory() as directory:
            path = f"{directory}/s"
            server = UNIXServerEndpoint(reactor, path)
            await self.join(server, lambda host: UNIXClientEndpoint(reactor, path), near, far)


class MeshRig(OnClock):
    """Whole nodes: a and b at the ends of a line, with a relay between them."""

    def __init__(self) -> None:
        self.mesh = MemoryMesh.line("a", "relay", "b")
        self.clock = self.mesh.clock
        self.mesh.run_until(lambda: self.mesh["a"].reaches("b") and self.mesh["b"].reaches("a"))
        self.streams = self.mesh["a"].runtime.streams, self.mesh["b"].runtime.streams

    async def connect(self, near: Protocol, far: Protocol) -> None:
        a, b = self.streams
        listening = b.listen(SERVICE, lambda offer: offer.accept(far))
        a.dial("b", SERVICE, lambda peer: near)
        await self.until(lambda: near.connected and far.connected)
        listening.stopListening()

    async def close(self) -> None:
        self.mesh.stop()
        assert self.clock.getDelayedCalls() == []


RIGS: dict[str, type[Rig]] = {"memory": MemoryRig, "mesh": MeshRig, "tcp": TcpRig, "unix": UnixRig}
"""Every kind of connection that keeps a transport's promises; a room that has another adds it."""
STREAMS = {name: kind for name, kind in RIGS.items() if kind.own}
"""Those that are streams."""
