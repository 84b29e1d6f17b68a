# SPDX-License-Identifier: MIT
"""
A program's end of a stream in frames, so that it can tell an end from a break.

L{gmesh.client.stream_frames} says what is a frame and how a stream ends.  A connection is a stream: its
back-pressure is that of the socket.  Tests: C{tests/node/api/test_stream_legs.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

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
from gmesh.errors import FrameRefused, RequestRefused
from gmesh.interfaces import ILocalEnd, IStreamReader
from gmesh.node.api.leg_room import LegRoom
from gmesh.stream_errors import StreamCode, StreamLost

__all__ = ["FramedLeg", "FramedStream"]

CLOSE_PATIENCE = 5.0
"""Seconds in which a program closes that was told how its stream ended."""
SMALL_PIECE = 8 * 1024
"""Bytes of DATA on average, below which a copy of all costs less than many views of it."""
GONE = "the program at the far end went away"
FORBIDDEN = "the program at the far end may not go on"


@implementer(IPushProducer)
class _Pauses:
    """Lets one transport pause and resume another, and never close it."""

    def __init__(self, transport: Any) -> None:
        self.pauseProducing = transport.pauseProducing
        self.resumeProducing = transport.resumeProducing

    def stopProducing(self) -> None:
        """The consumer is lost, and says so itself."""


class FramedLeg(Protocol):
    """The connection of the program, once the stream is there."""

    transport: Any

    def __init__(self, stream: Any, room: LegRoom, clock: IReactorTime) -> None:
        self._stream = stream
        self._room = room
        self._clock = clock
        self._decoder = FrameDecoder()
        self._told = {FrameKind.FIN: False, FrameKind.STOP: False}  # what the program has said
        self._over = False  # the program has been told how it ended, or is gone
        self._wide = False
        self._gathered: list[bytes] = []  # for one DATA
        self._size = 0
        self._call: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Each side's buffer pauses the other side."""
        self.transport.registerProducer(_Pauses(self._stream), True)
        self._stream.registerProducer(_Pauses(self.transport), True)

    def dataReceived(self, data: bytes) -> None:
        """Frames of the program."""
        if self._over:
            return
        if len(data) >= MAX_DATA:
            self._moves_much()
        try:
            found = self._decoder.cut(data)
        except FrameRefused as error:
            self._stream.reset(StreamCode.ABORTED.slug, GONE)
            self._end(reset_frame(StreamCode.PROTOCOL, error.detail))
            return
        for item in found:
            if isinstance(item, Signal):
                self._signal(item)
            elif len(item) * SMALL_PIECE > len(data):
                self._stream.write(b"".join(item))
            else:
                for view in item:
                    self._stream.write(view)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The program has gone; before it ended both halves, that is an abort."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._wide:
            self._wide = False
            self._room.give_back()
        if not self._over:
            self._over = True
            if not all(self._told.values()):
                self._stream.reset(StreamCode.ABORTED.slug, GONE)

    def forbidden(self, error: RequestRefused) -> None:
        """Its user may not have this stream any more: the program hears why, the far end not."""
        if not self._over:
            self._end(reset_frame(StreamCode.of_slug(error.reason), error.detail))
            self._stream.reset(StreamCode.ABORTED.slug, FORBIDDEN)

    def _signal(self, signal: Signal) -> None:
        if signal.kind is FrameKind.RESET:
            broken = StreamCode.ABORTED if signal.code is StreamCode.DONE else signal.code
            self._stream.reset(broken.slug, signal.detail)
            return
        self._told[signal.kind] = True
        if signal.kind is FrameKind.FIN:
            self._written()
            self._stream.loseWriteConnection()
        else:
            self._stream.stop_reading()

    def _written(self) -> None:
        """Nothing will be written to the stream: nothing of the program needs to wait for it."""
        self._stream.unregisterProducer()
        self.transport.resumeProducing()

    # what the stream says

    def put(self, data: bytes) -> None:
        """
        Bytes of the far program: those of one turn of the reactor share a frame.

        That delays nothing: the socket is written to in the next turn.
        """
        size = len(data)
        if self._over:
            return
        if self._size + size > MAX_DATA:
            self._flush()
        if size > MAX_DATA:
            for begin in range(0, size, MAX_DATA):
                self._frame([data[begin : begin + MAX_DATA]])
            return
        self._gathered.append(data)
        self._size += size
        if self._call is None:
            self._call = self._clock.callLater(0, self._turn_over)

    def put_end(self) -> None:
        """The far program writes no more."""
        self._flush()
        self.transport.write(FIN)

    def put_stop(self) -> None:
        """The far program reads no more."""
        self._flush()
        self._written()
        self.transport.write(stop_frame())

    def _turn_over(self) -> None:
        self._call = None
        self._flush()

    def _flush(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            gathered, self._gathered, self._size = self._gathered, [], 0
            self._frame(gathered)

    def _frame(self, pieces: Sequence[bytes]) -> None:
        """One DATA."""
        size = sum(map(len, pieces))
        if size > MAX_DATA // 2:
            self._moves_much()
        self.transport.writeSequence((data_head(size), *pieces))

    def _moves_much(self) -> None:
        """Take room for more in a turn, if there is some."""
        if not self._wide:
            self._wide = self._room.take(self.transport)

    def stream_over(self, reason: Failure) -> None:
        """The stream is no more: say whether it ended or broke."""
        if self._over:
            return
        error = reason.value
        if isinstance(error, StreamLost):
            code = StreamCode.of_slug(error.reason)
            self._end(reset_frame(StreamCode.ABORTED if code is StreamCode.DONE else code, error.detail))
        elif isinstance(error, ConnectionDone):
            self._end(reset_frame(StreamCode.DONE))
        else:
            self._end(reset_frame(StreamCode.ABORTED))

    def _end(self, last: bytes) -> None:
        """
        Say how it ended; the program closes then.

        A unix socket that is closed over bytes that nobody read takes back what it had still to say, so what
        the program has not ended is read, and dropped, until it closes.
        """
        self._over = True
        self._flush()
        self.transport.write(last)
        self.transport.unregisterProducer()
        if all(self._told.values()):
            self.transport.loseConnection()
            return
        if self._call is not None:
            self._call.cancel()
        self._call = self._clock.callLater(CLOSE_PATIENCE, self._lose)
        self.transport.resumeProducing()
        self.transport.loseWriteConnection()

    def _lose(self) -> None:
        self._call = None
        self.transport.abortConnection()


@implementer(IHalfCloseableProtocol, ILocalEnd, IStreamReader)
class FramedStream(Protocol):
    """
    The protocol of the stream.

    @param begin: called with the L{FramedLeg} once there is a stream: gives it the connection of the program.
    @param room: for all such connections of the node.
    @param local: the program, as of L{ILocalEnd}.
    """

    transport: Any
    _leg: FramedLeg

    def __init__(
        self,
        begin: Callable[[FramedLeg, Any], None],
        room: LegRoom,
        clock: IReactorTime,
        local: str = "",
    ) -> None:
        self.local = local
        self._begin = begin
        self._room = room
        self._clock = clock

    def connectionMade(self) -> None:
        """The stream is there."""
        self._leg = FramedLeg(self.transport, self._room, self._clock)
        self._begin(self._leg, self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the far program."""
        self._leg.put(data)

    def readConnectionLost(self) -> None:
        """The far program writes no more."""
        self._leg.put_end()

    def writeConnectionLost(self) -> None:
        """The program knows: it said so."""

    def write_stopped(self) -> None:
        """The far program reads no more."""
        self._leg.put_stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream is no more."""
        self._leg.stream_over(reason)
