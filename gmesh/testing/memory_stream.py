# SPDX-License-Identifier: MIT
"""
One end of a stream in memory, with the manners that L{gmesh.interfaces.IStream} promises.

Nothing is lost on the way, so there is nothing to repeat: what is left is order, credit, half closes, and who
is told what.  Tests: C{tests/streams/test_stream_manners.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPullProducer,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.interfaces import ILocalEnd, IStream, IStreamReader
from gmesh.stream_errors import StreamLost

__all__ = ["BUFFER", "CREDIT", "MemoryStream", "Way"]

BUFFER = 64 * 1024
"""Bytes unsent above which a producer is paused, as on TCP."""
CREDIT = 256 * 1024
"""Bytes that may be under way or unread at the far end."""
PIECE = 16 * 1024
"""The most that is handed over at once."""


class Way:
    """What one end says to the other: all of it, in order, each after the same delay."""

    def __init__(self, clock: IReactorTime, delay: float) -> None:
        self._clock = clock
        self._delay = delay
        self._queue: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()
        self._call: IDelayedCall | None = None

    def say(self, heard: Callable[..., None], *arguments: Any) -> None:
        """Have C{heard} called at the far end."""
        self._queue.append((self._clock.seconds() + self._delay, heard, arguments))
        if self._call is None:
            self._call = self._clock.callLater(self._delay, self._arrive)

    def _arrive(self) -> None:
        while self._queue and self._queue[0][0] <= self._clock.seconds():
            _, heard, arguments = self._queue.popleft()
            heard(*arguments)
        self._call = None
        if self._queue:
            left = self._queue[0][0] - self._clock.seconds()
            self._call = self._clock.callLater(max(0.0, left), self._arrive)


@implementer(IStream, ITransport, IConsumer, IPushProducer)
class MemoryStream:
    """
    One end.

    @ivar far: the other end; set by who makes both.
    @ivar gone: fires with None when this end is no more.
    @ivar left: called once the protocol was told that it is over.
    @ivar why: then, why it ended: slug and one sentence; C{("done", "")} after a clean end.
    """

    _log = Logger()
    disconnecting = False

    def __init__(
        self,
        number: int,
        opened: bool,
        host: MeshAddress,
        peer: MeshAddress,
        clock: IReactorTime,
        delay: float,
    ) -> None:
        self.stream = number
        self.opened = opened
        self.sent = self.received = 0
        self.since = clock.seconds()
        self.gone: Deferred[None] = Deferred()
        self.left: Callable[[], object] = lambda: None
        self.why = ("", "")
        self.far: MemoryStream
        self.connected = False
        self._over = False
        self._host, self._peer = host, peer
        self._clock = clock
        self.way = Way(clock, delay)
        self._protocol: IProtocol | None = None
        # the half that writes
        self._unsent = bytearray()
        self._credit = CREDIT
        self._unacknowledged = 0
        self._ending = self._fin_sent = self._fin_acknowledged = self._stopped = self._cut_short = False
        self._pumping: IDelayedCall | None = None
        self._producer: IProducer | None = None
        self._streaming = self._paused = False
        # the half that reads
        self._unread: deque[bytes] = deque()
        self._reading = True
        self._handing_over = False
        self._fin_heard = self._read_over = False

    @property
    def local(self) -> str:
        """As L{IStream} has it."""
        return str(getattr(ILocalEnd(self._protocol, None), "local", ""))

    @property
    def state(self) -> str:
        """As L{IStream} has it."""
        if not self.connected:
            return "opening"
        if self.disconnecting:
            return "closing"
        return "half-closed" if self._ending or self._stopped or self._read_over else "open"

    def connect(self, protocol: IProtocol) -> None:
        """Both ends have agreed: C{protocol} is connected."""
        self.connected = True
        self._protocol = protocol
        protocol.makeConnection(self)
        self._hand_over()

    def getPeer(self) -> MeshAddress:
        """The far node, and the service."""
        return self._peer

    def getHost(self) -> MeshAddress:
        """This node, and the service."""
        return self._host

    # ITransport, and half of it

    def write(self, data: bytes) -> None:
        """Send at the end of the turn."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        self._cut_short = self._cut_short or (self._stopped and bool(data))
        if self._over or self._fin_sent or self._stopped:
            return
        self._unsent += data
        if self._producer is not None and self._streaming and len(self._unsent) > BUFFER and not self._paused:
            self._paused = True
            cast(IPushProducer, self._producer).pauseProducing()
        self._pump_soon()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send at the end of the turn."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """End this half once all is sent."""
        if not self._over and not self._ending:
            self._ending = True
            self._pump_soon()

    def loseConnection(self) -> None:
        """End both halves once all is sent; nothing more is read."""
        if self._over or self.disconnecting:
            return
        self.disconnecting = self._ending = True
        self._drop_unread()
        if self._fin_sent:
            self.way.say(self.far.heard_stop)
        self._pump_soon()
        self._maybe_done()

    def abortConnection(self) -> None:
        """Break it at once, for both ends."""
        if not self._over:
            self._reset("aborted", "the far program aborted the stream", ConnectionAborted())

    def reset(self, reason: str, detail: str = "") -> None:
        """As L{IStream} has it."""
        if not self._over:
            self._reset(reason, detail, StreamLost(reason, detail))

    def stop_reading(self) -> None:
        """As L{IStream} has it."""
        if not self._over and not self._read_over:
            self._drop_unread()
            self.way.say(self.far.heard_stop)
            self._maybe_done()

    # IConsumer, IPushProducer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As C{twisted.internet.abstract.FileDescriptor.registerProducer}."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._over:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._paused = producer, streaming, False
        if not streaming:
            cast(IPullProducer, producer).resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._pump_soon()

    def pauseProducing(self) -> None:
        """Hand nothing over."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Hand over again."""
        self._reading = True
        self._hand_over()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # what the far end says

    def heard_data(self, data: bytes) -> None:
        """A piece came: it is acknowledged, and kept until it is read."""
        if self._over:
            return
        self.way.say(self.far.heard_acknowledgement, len(data))
        if self._read_over:
            self.way.say(self.far.heard_credit, len(data))
        else:
            self._unread.append(data)
            self._hand_over()

    def heard_fin(self) -> None:
        """The far end writes no more."""
        self.way.say(self.far.heard_fin_acknowledged)
        if self._over:
            return
        self._fin_heard = True
        self._hand_over()

    def heard_acknowledgement(self, size: int) -> None:
        """So many bytes are at the far end."""
        self.sent += size
        self._unacknowledged -= size

    def heard_credit(self, size: int) -> None:
        """So many bytes were read there."""
        self._credit += size
        self._pump_soon()

    def heard_fin_acknowledged(self) -> None:
        """The far end has everything."""
        self._fin_acknowledged = True
        self._maybe_done()

    def heard_stop(self) -> None:
        """The far end reads no more."""
        if self._over or self._stopped or self._fin_acknowledged:
            return
        self._cut_short = bool(self._unsent or self._unacknowledged)
        self._stopped = True
        self._unsent.clear()
        if IStreamReader.providedBy(self._protocol):
            cast(Any, self._protocol).write_stopped()
        if not self._fin_sent:
            self._fin_sent = True
            self.way.say(self.far.heard_fin)
        if self._producer is not None and not IStreamReader.providedBy(self._protocol):
            producer, self._producer = self._producer, None
            producer.stopProducing()
        self._maybe_done()

    def heard_reset(self, reason: str, detail: str) -> None:
        """The far end broke it."""
        self.end(StreamLost(reason, detail))

    # inside

    def end(self, error: Exception) -> None:
        """This end is over; its protocol is told once."""
        if self._over:
            return
        self._over = self.disconnecting = True
        self._unsent.clear()
        self._unread.clear()
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.why = _why(error)
        self.gone.callback(None)
        if self._protocol is not None:
            self._protocol.connectionLost(Failure(error))
            self.left()

    def _reset(self, reason: str, detail: str, error: Exception) -> None:
        self.way.say(self.far.heard_reset, reason, detail)
        self._stopped = self._read_over = self.disconnecting = True
        self._unsent.clear()
        self._unread.clear()
        self._clock.callLater(0, self.end, error)

    def _drop_unread(self) -> None:
        for data in self._unread:
            self.way.say(self.far.heard_credit, len(data))
        self._unread.clear()
        self._read_over = True

    def _hand_over(self) -> None:
        if self._handing_over or not self.connected:
            return
        self._handing_over = True
        try:
            while self._unread and self._reading and not self._over:
                data = self._unread.popleft()
                self.received += len(data)
                self.way.say(self.far.heard_credit, len(data))
                cast(IProtocol, self._protocol).dataReceived(data)
        except Exception:
            self._log.failure("a protocol failed on received bytes")
            self.abortConnection()
        finally:
            self._handing_over = False
        if self._fin_heard and self._reading and not (self._unread or self._read_over or self._over):
            self._read_over = True
            self._told_end()
            self._maybe_done()

    def _told_end(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._protocol):
            cast(IHalfCloseableProtocol, self._protocol).readConnectionLost()
        else:
            self.loseConnection()

    def _pump_soon(self) -> None:
        if self._pumping is None and not self._over and self.connected:
            self._pumping = self._clock.callLater(0, self._pump)

    def _pump(self) -> None:
        self._pumping = None
        while self._unsent and self._credit and not self._stopped:
            data = bytes(self._unsent[: min(PIECE, self._credit)])
            del self._unsent[: len(data)]
            self._credit -= len(data)
            self._unacknowledged += len(data)
            self.way.say(self.far.heard_data, data)
        if self._unsent or self._over:
            return
        if self._producer is not None:
            if not self._stopped and (not self._streaming or self._paused):
                self._paused = False
                cast(IPushProducer, self._producer).resumeProducing()
        elif self._ending and not self._fin_sent:
            self._fin_sent = True
            self.way.say(self.far.heard_fin)
            if self.disconnecting:
                self.way.say(self.far.heard_stop)
            elif IHalfCloseableProtocol.providedBy(self._protocol):
                cast(IHalfCloseableProtocol, self._protocol).writeConnectionLost()

    def _maybe_done(self) -> None:
        if self._read_over and self._fin_acknowledged and not self._over:
            self._clock.callLater(0, self._done)

    def _done(self) -> None:
        stopped = "the far program read no more, and did not take all that was written"
        self.end(StreamLost("stopped", stopped) if self._cut_short else ConnectionDone())


def _why(error: Exception) -> tuple[str, str]:
    if isinstance(error, StreamLost):
        return error.reason, error.detail
    return ("done", "") if isinstance(error, ConnectionDone) else ("aborted", "aborted here")
