# SPDX-License-Identifier: MIT
"""
Stream connections in memory on one clock: delay, rate, chunks, back-pressure, cuts, silence.

The endpoints are Twisted's own interfaces, so the factories that run on TCP run here unchanged.
A transport keeps Twisted's promises: writes go out at the end of the turn, a producer is paused
above 64 KiB and resumed when the buffer is empty, C{loseConnection} waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IProducer,
    IProtocol,
    IPullProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.testing.pipe import Pipe, PipeEnd, Wire

__all__ = ["BUFFER_SIZE", "MemoryConnection", "MemoryTransport", "Wire"]

BUFFER_SIZE = 64 * 1024


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport(PipeEnd):
    """One end of a connection."""

    log = Logger()
    disconnecting = False

    def __init__(
        self, clock: IReactorTime, outbound: Pipe, inbound: Pipe, host: IPv4Address, peer: IPv4Address
    ):
        self._clock = clock
        self._outbound = outbound
        self._inbound = inbound
        self._host = host
        self._peer = peer
        self._buffer: list[bytes] = []
        self._size = 0
        self._call: IDelayedCall | None = None
        self._aborting: IDelayedCall | None = None
        self._producer: IProducer | None = None
        self._streaming = False
        self._paused = False
        self._closing = self._closed = False  # the half that writes
        self._no_delay = self._keep_alive = False
        self.connected = True
        self.reading = False
        self.protocol: IProtocol | None = None
        self.writes = 0
        outbound.writer = self
        inbound.reader = self

    @property
    def buffered(self) -> int:
        """Bytes written and not yet under way."""
        return self._size

    def attach(self, protocol: IProtocol) -> None:
        """Connect C{protocol} to this end."""
        self.protocol = protocol
        self.reading = True
        protocol.makeConnection(self)
        self._inbound.wake()

    # ITCPTransport

    def write(self, data: bytes) -> None:
        """Send at the end of the turn."""
        if not isinstance(data, bytes):
            raise TypeError("data must be bytes")
        if not self.connected or self._closing or not data:
            return
        self.writes += 1
        self._buffer.append(data)
        self._size += len(data)
        if self._streaming and self._size > BUFFER_SIZE and not self._paused:
            self._paused = True
            cast(IPushProducer, self._producer).pauseProducing()
        self.pump_soon()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send at the end of the turn."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once all was sent, unless a producer is registered."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.reading = False
            self.pump_soon()

    def loseWriteConnection(self) -> None:
        """Write no more once all was sent; the far end closes on that, unless it does before."""
        if self.connected and not self._closing:
            self._closing = True
            self.pump_soon()

    def abortConnection(self) -> None:
        """Close now; what was not sent is lost."""
        if self.connected and self._aborting is None:
            self.disconnecting = True
            self.reading = False
            self._drop_buffer()
            self._outbound.send(Failure(ConnectionLost()))
            self._aborting = self._clock.callLater(0, self.lost, Failure(ConnectionAborted()))

    def getPeer(self) -> IPv4Address:
        """The other end."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """This end."""
        return self._host

    def getTcpNoDelay(self) -> bool:
        """As it was set."""
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remembered, without effect."""
        self._no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        """As it was set."""
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remembered, without effect."""
        self._keep_alive = enabled

    # IConsumer and IPushProducer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As C{twisted.internet.abstract.FileDescriptor.registerProducer}."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._paused = producer, streaming, False
        if not streaming:
            cast(IPullProducer, producer).resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        if self.connected and self.disconnecting:
            self.pump_soon()

    def pauseProducing(self) -> None:
        """Read nothing."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting:
            self.reading = True
            self._inbound.wake()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # between pipe and protocol

    def pump_soon(self) -> None:
        """Something may go out: at the end of this turn."""
        if self.connected and self._call is None and (self._buffer or self.disconnecting or self._closing):
            self._call = self._clock.callLater(0, self._pump)

    def received(self, data: bytes) -> None:
        """Bytes arrived; a protocol that fails loses its connection, as under the reactor."""
        assert self.protocol is not None
        try:
            self.protocol.dataReceived(data)
        except Exception:
            failure = Failure()
            self.log.failure("A protocol failed on received bytes", failure)
            self._outbound.send(Failure(ConnectionLost()))
            self.lost(failure)

    def ended(self, reason: Failure) -> None:
        """The far end writes no more: close, as a protocol that is not half-closeable does on TCP."""
        if self.connected:
            self._outbound.send(Failure(ConnectionDone()))
        self.lost(reason)

    def lost(self, reason: Failure) -> None:
        """The connection is gone; told exactly once."""
        if not self.connected:
            return
        self.connected = self.reading = False
        self._drop_buffer()
        self._inbound.clear()
        for call in (self._call, self._aborting):
            if call is not None and call.active():
                call.cancel()
        self._call = self._aborting = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if self.protocol is not None:
            self.protocol.connectionLost(reason)

    def _drop_buffer(self) -> None:
        self._buffer = []
        self._size = 0

    def _pump(self) -> None:
        self._call = None
        if self._size and self._outbound.room:
            data = b"".join(self._buffer)
            sent, kept = data[: self._outbound.room], data[self._outbound.room :]
            self._buffer = [kept] if kept else []
            self._size = len(kept)
            self._outbound.send(sent)
        if self._size:
            return
        producer = self._producer
        if producer is not None:
            if not self._streaming or self._paused:
                self._paused = False
                cast(IPushProducer, producer).resumeProducing()
        elif self.disconnecting and self._aborting is None:
            self._outbound.send(Failure(ConnectionDone()))
            self.lost(Failure(ConnectionDone()))
        elif self._closing and not self._closed:
            self._closed = True
            self._outbound.send(Failure(ConnectionDone()))


class MemoryConnection:
    """
    Both ends of one connection, and what may happen to it.

    @ivar client: the end that connected.
    @ivar server: the end that accepted.
    """

    def __init__(
        self, clock: IReactorTime, random: Random, wire: Wire, client: IPv4Address, server: IPv4Address
    ) -> None:
        self._forth = Pipe(clock, random, wire)
        self._back = Pipe(clock, random, wire)
        self.client = MemoryTransport(clock, self._forth, self._back, client, server)
        self.server = MemoryTransport(clock, self._back, self._forth, server, client)

    @property
    def open(self) -> bool:
        """True while either end is connected."""
        return self.client.connected or self.server.connected

    def cut(self) -> None:
        """The connection breaks: both ends notice now."""
        for end in (self.client, self.server):
            end.lost(Failure(ConnectionLost()))

    def vanish(self, host: str) -> None:
        """The host at one end dies: its protocol goes, the other end hears nothing more."""
        self.silence()
        for end in (self.client, self.server):
            if end.getHost().host == host:
                end.lost(Failure(ConnectionLost()))

    def set_rate(self, rate: float | None) -> None:
        """So many bytes a second each way from now on; None for no limit."""
        for pipe in (self._forth, self._back):
            pipe.wire = replace(pipe.wire, rate=rate)

    def set_delay(self, delay: float) -> None:
        """What is sent from now on takes so many seconds one way."""
        for pipe in (self._forth, self._back):
            pipe.wire = replace(pipe.wire, delay=delay)

    def silence(self, forth: bool = True, back: bool = True) -> None:
        """From now on nothing arrives (from the client, from the server), and nobody is told."""
        self._forth.stalled = self._forth.stalled or forth
        self._back.stalled = self._back.stalled or back

    def heal(self) -> None:
        """What was held back arrives."""
        for pipe in (self._forth, self._back):
            pipe.stalled = False
            pipe.wake()
