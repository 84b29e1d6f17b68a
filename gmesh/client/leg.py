# SPDX-License-Identifier: MIT
"""
The transport of a stream in a program: frames on a unix socket below, what Twisted promises of TCP above.

What is written goes straight into the socket, and its producer is the socket's own: both directions are held
back by the socket alone.  Closing is said in frames, and heard in frames (L{gmesh.client.stream_frames}).
Tests: C{tests/client/test_leg.py}, C{tests/streams/test_stream_manners.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.client.stream_frames import (
    FIN,
    MAX_DATA,
    FrameDecoder,
    FrameKind,
    Signal,
    data_head,
    reset_frame,
    stop_frame,
)
from gmesh.errors import FrameRefused
from gmesh.interfaces import IStreamReader
from gmesh.stream_errors import StreamCode, StreamLost

__all__ = ["StreamLeg"]

#: Bytes read from the socket at once, given to it at once, and written ahead of it.
BUFFER = 512 * 1024
#: Seconds that a RESET may take to leave before the socket is closed without it.
RESET_PATIENCE = 1.0


def _widen(transport: Any) -> None:
    """
    Let a turn of the reactor move much: a program that is woken for each 64 KiB spends its time on waking.

    What it writes is held by this program alone, and its node reads it when it can.
    """
    if isinstance(transport, FileDescriptor):
        transport.bufferSize = transport.SEND_LIMIT = BUFFER
        handle = cast(Any, transport).getHandle()
        handle.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER)


@implementer(IPushProducer)
class _Source:
    """A push producer, of whom is known whether it is paused."""

    def __init__(self, producer: IPushProducer, resumed: Any) -> None:
        self._producer = producer
        self._resumed = resumed
        self.paused = False

    def pauseProducing(self) -> None:
        """The socket is full; it says so at each write."""
        if not self.paused:
            self.paused = True
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """It has room."""
        self.paused = False
        self._producer.resumeProducing()
        self._resumed()

    def stopProducing(self) -> None:
        """It has closed."""
        self._producer.stopProducing()


@implementer(ITransport, IConsumer, IPushProducer)
class StreamLeg:
    """
    The program's end of a stream.

    @param socket: the transport of the unix socket, on which nothing but frames follows.
    @param host: who this node is.
    @param peer: who is at the other end, and which service is talked to.
    @ivar connected: the protocol has not been told of the end.
    @ivar disconnecting: C{loseConnection} was called.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, socket: Any, host: MeshAddress, peer: MeshAddress) -> None:
        self._reactor = reactor
        self._socket = socket
        _widen(socket)
        self._host, self._peer = host, peer
        self._protocol: IProtocol | None = None
        self._decoder = FrameDecoder()
        self._error: Exception | None = None  # why it ended
        self._calls: set[IDelayedCall] = set()
        self.connected = False
        self.disconnecting = False
        # the half that reads
        self._unread: list[bytes | Signal] = []
        self._reading = True
        self._held = False  # the socket is paused
        self._read_over = self._handing_over = False
        # the half that writes
        self._producer: IProducer | None = None
        self._ending = self._fin_sent = self._stopped = self._cut_short = False

    def start(self, protocol: IProtocol) -> None:
        """Connect C{protocol}."""
        self._protocol = protocol
        self.connected = True
        protocol.makeConnection(self)

    def getPeer(self) -> MeshAddress:
        """The far node, as the authority certified it, and the service."""
        return self._peer

    def getHost(self) -> MeshAddress:
        """This node, and the service."""
        return self._host

    # ITransport

    def write(self, data: bytes) -> None:
        """Send; as on TCP, nothing is sent once the end has been."""
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if self._open_to(len(data)):
            for begin in range(0, len(data), MAX_DATA):
                piece = data[begin : begin + MAX_DATA]  # itself, if it is not longer
                self._socket.writeSequence((data_head(len(piece)), piece))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of it."""
        pieces = list(data)
        if not all(isinstance(piece, bytes) for piece in pieces):
            raise TypeError("Data must be bytes")
        size = sum(map(len, pieces))
        if size > MAX_DATA:
            self.write(b"".join(pieces))
        elif self._open_to(size):
            self._socket.writeSequence((data_head(size), *pieces))

    def _open_to(self, size: int) -> bool:
        """Whether so many bytes can be sent: some, and before the end."""
        if self._stopped:
            self._cut_short = self._cut_short or size > 0
        return size > 0 and not (self._fin_sent or self._stopped or self._error is not None)

    def loseWriteConnection(self) -> None:
        """Write no more; what was written still goes."""
        self._ending = True
        self._end_writing()

    def loseConnection(self) -> None:
        """Write no more, and read no more; what was written still goes."""
        if not self.disconnecting and self._error is None:
            self.disconnecting = self._ending = True
            self._end_writing()
            self.stop_reading()

    def abortConnection(self) -> None:
        """Break it for both ends; the protocol is told in a later turn."""
        self._break(ConnectionAborted())

    def reset(self, reason: str, detail: str = "") -> None:
        """
        Break it for both ends, and say why.

        @param reason: the slug of a L{StreamCode}.
        @param detail: a line for people at the far end, 200 bytes at most.
        """
        if self._error is None and self.connected:
            self._error = StreamLost(reason, detail)
            self.disconnecting = True
            self._unread.clear()
            self._socket.unregisterProducer()
            self._socket.write(reset_frame(StreamCode.of_slug(reason), detail))
            self._socket.loseConnection()
            self._later(RESET_PATIENCE, self._socket.abortConnection)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Have C{producer} paused and resumed as the socket has room, or asked for more if it pulls."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._error is not None or self._stopped or not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        if streaming:
            self._producer = _Source(cast(IPushProducer, producer), self._end_writing)
        self._socket.registerProducer(self._producer, streaming)

    def unregisterProducer(self) -> None:
        """It produces no more; what waited for it goes on."""
        if self._producer is not None:
            self._producer = None
            self._socket.unregisterProducer()
            self._end_writing()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Hand nothing to the protocol until L{resumeProducing}; the far end waits in the end."""
        if not self._read_over:
            self._reading = False
            self._held = True
            self._socket.pauseProducing()

    def resumeProducing(self) -> None:
        """Hand over again."""
        if not self._reading:
            self._reading = True
            if self._unread and not self._handing_over:
                self._later(0, self._give)
            else:
                self._release()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # what programs written for a socket of Twisted's also call
    stopReading = pauseProducing
    startReading = resumeProducing

    def stop_reading(self) -> None:
        """Read no more: what comes is dropped, and the far end is told to write no more."""
        if self._error is None and self.connected and not self._read_over:
            self._read_over = True
            self._socket.write(stop_frame())
            self._unread = [each for each in self._unread if isinstance(each, Signal)]
            self.resumeProducing()

    # what the socket says

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self._error is not None:
            return
        try:
            self._unread += self._decoder.feed(data)
        except FrameRefused as refusal:
            self._break(StreamLost(StreamCode.PROTOCOL.slug, refusal.detail))
            return
        self._give()

    def lost(self, reason: Failure) -> None:
        """The socket has closed. @param reason: also what a protocol or a producer raised."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        self._unread.clear()
        protocol, self._protocol, self._producer = self._protocol, None, None
        self.connected = False
        if reason.check(ConnectionDone, ConnectionLost):
            gone = StreamLost(StreamCode.STOPPED.slug, "the node of this host is gone")
            reason = Failure(self._error or gone)
        self._error = self._error or ConnectionDone()  # whatever comes now comes too late
        if protocol is not None:
            protocol.connectionLost(reason)

    # inside

    def _later(self, seconds: float, function: Any) -> None:
        def run() -> None:
            self._calls.discard(call)
            function()

        call = self._reactor.callLater(seconds, run)
        self._calls.add(call)

    def _break(self, error: Exception) -> None:
        """Close the socket; the protocol is told why in a later turn."""
        if self._error is None and self.connected:
            self._error = error
            self.disconnecting = True
            self._unread.clear()
            self._socket.abortConnection()

    def _release(self) -> None:
        """Read the socket again, once nothing waits for the protocol."""
        if self._held and self._reading and not self._handing_over and self._error is None:
            self._held = False
            self._socket.resumeProducing()

    def _give(self) -> None:
        """Hand over what is there until the protocol pauses."""
        self._handing_over = True
        protocol = cast(IProtocol, self._protocol)
        try:
            while self._unread and self._reading and self._error is None:
                each = self._unread.pop(0)
                if isinstance(each, Signal):
                    self._heard(each)
                elif not self._read_over:
                    protocol.dataReceived(each)
        except Exception as error:
            self._log.failure("a protocol failed on what it received")
            self._break(error)
        finally:
            self._handing_over = False
        self._release()

    def _heard(self, signal: Signal) -> None:
        if signal.kind is FrameKind.FIN:
            self._heard_fin()
        elif signal.kind is FrameKind.STOP:
            self._heard_stop()
        elif signal.code is not StreamCode.DONE:
            self._break(StreamLost(signal.code.slug, signal.detail))
        elif self._cut_short:
            self._break(StreamLost(StreamCode.STOPPED.slug, "the far end did not read all that was written"))
        else:
            self._break(ConnectionDone())

    def _heard_fin(self) -> None:
        if self._read_over:
            return
        self._read_over = True
        if IHalfCloseableProtocol.providedBy(self._protocol):
            cast(IHalfCloseableProtocol, self._protocol).readConnectionLost()
        else:
            self.loseConnection()

    def _heard_stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if IStreamReader.providedBy(self._protocol):
            cast(Any, self._protocol).write_stopped()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._socket.unregisterProducer()
            producer.stopProducing()
        self._end_writing()

    def _end_writing(self) -> None:
        """Say the end, if it was asked for and nobody is to write before it."""
        if not self._ending or self._fin_sent or self._error is not None or not self.connected:
            return
        producer = self._producer
        if isinstance(producer, _Source) and not producer.paused:
            producer = None  # as on TCP: who was not held back has written what it had
        if producer is not None:
            return
        self._fin_sent = True
        self._socket.write(FIN)
        if IHalfCloseableProtocol.providedBy(self._protocol) and not self.disconnecting:
            self._later(0, cast(IHalfCloseableProtocol, self._protocol).writeConnectionLost)
