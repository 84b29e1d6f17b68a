# SPDX-License-Identifier: MIT
"""
Transfers over streams of whole nodes: each byte is known by its place, so all of them can be checked.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.testing.mesh import MemoryMesh

SERVICE = "bulk"
_WRITE = 64 * 1024
_LENGTH = 1_000_003
"""A prime: no piece of a stream repeats at a distance that pieces have."""
_CONTENT = Random(18).randbytes(_LENGTH)
_TWICE = _CONTENT + _CONTENT[: 2 * _WRITE]


def content(offset: int, size: int) -> bytes:
    """What every stream carries from C{offset} on."""
    start = offset % _LENGTH
    if start + size > len(_TWICE):
        return content(offset, _WRITE) + content(offset + _WRITE, size - _WRITE)
    return _TWICE[start : start + size]


def forget_records(mesh: MemoryMesh) -> None:
    """What a simulated node keeps of all that it opened is as much as the transfer."""
    for node in mesh:
        node.opened.clear()


@implementer(IPushProducer)
class Source(Protocol):
    """Writes so many bytes as fast as it may, then ends the stream."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.written = 0
        self.paused = False
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        transport: Any = self.transport
        while not self.paused and self.written < self.size:
            size = min(_WRITE, self.size - self.written)
            self.written += size
            transport.write(content(self.written - size, size))
        if self.written == self.size:
            transport.unregisterProducer()
            transport.loseConnection()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Sink(Protocol):
    """
    Checks what it reads.

    @ivar gaps: the longest time between two pieces, since it was set to 0.
    """

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.got = 0
        self.intact = True
        self.at = mesh.now()
        self.gap = 0.0
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.intact = self.intact and data == content(self.got, len(data))
        self.got += len(data)
        self.gap = max(self.gap, self.mesh.now() - self.at)
        self.at = self.mesh.now()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Transfer:
    """One stream from one node to another, under way."""

    def __init__(self, mesh: MemoryMesh, source: str, target: str, size: int, service: str = SERVICE) -> None:
        self.mesh, self.size = mesh, size
        self.source, self.sink = Source(size), Sink(mesh)
        listening = mesh[target].runtime.streams.listen(service, lambda offer: offer.accept(self.sink))
        mesh.result(mesh[source].runtime.streams.dial(target, service, lambda peer: self.source))
        listening.stopListening()

    @property
    def done(self) -> bool:
        """Both ends were told that it is over."""
        return self.source.lost is not None and self.sink.lost is not None

    @property
    def whole(self) -> bool:
        """All of it has arrived, in order and unharmed, and both ends know."""
        ends = (self.source.lost, self.sink.lost)
        clean = all(end is not None and end.check(ConnectionDone) for end in ends)
        return clean and self.sink.intact and self.sink.got == self.size

    def stalled(self, seconds: float) -> float:
        """Let time pass. @return: for how long nothing arrived in it, at most."""
        self.sink.gap, self.sink.at = 0.0, self.mesh.now()
        self.mesh.run(seconds)
        return max(self.sink.gap, self.mesh.now() - self.sink.at)
