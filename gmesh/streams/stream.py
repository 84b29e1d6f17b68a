# SPDX-License-Identifier: MIT
"""
One stream as an application sees it: a Twisted transport.

A stream that breaks never ends cleanly: C{connectionLost} gets C{ConnectionDone} only when all that was
written is acknowledged, and all that the far end wrote was read or was not wanted any more.
Tests: C{tests/streams/test_stream_manners.py}, C{tests/streams/test_twisted_mixins.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.interfaces import ILocalEnd, IStream, IStreamReader
from gmesh.stream_errors import StreamCode, StreamLost
from gmesh.streams import limits
from gmesh.streams.budget import CreditWindow
from gmesh.streams.state import StreamHome, StreamState

__all__ = ["Stream"]


def _nothing() -> None:
    """Nobody waits."""


def _unchanging(data: Any) -> bytes | memoryview:
    """What is written, or a copy of it if that may still change."""
    if isinstance(data, str):
        raise TypeError("Data must not be str")
    view = memoryview(data)
    return view.cast("B") if isinstance(view.obj, bytes) and view.c_contiguous else view.tobytes()


def _own_prefix(protocol: IProtocol) -> str | None:
    """How C{protocol} wants what it logs to be marked, if it says so and is not marked by its class alone."""
    prefix = getattr(protocol, "logPrefix", None)
    if prefix is None or getattr(type(protocol), "logPrefix", None) is Protocol.logPrefix:
        return None
    return str(prefix())


def _ignore(reason: str, detail: str) -> None:
    """Nobody waits."""


@implementer(IStream, ITransport, IConsumer, IPushProducer)
class Stream(StreamState):
    """
    A stream, with its protocol once that is there.

    @param stream: unique on this node.
    @param host: this node.
    @param peer: the far one.
    @ivar accepted: called once the far end has agreed to a stream that this end opened.
    @ivar refused: called with a slug and a sentence if the stream ends before there is a protocol.
    @ivar left: called once the protocol was told that it is over.
    """

    __slots__ = (
        "_aborted",
        "_close_call",
        "_fin_said",
        "_host",
        "_log_prefix",
        "_paused",
        "_peer",
        "_producer",
        "_producer_paused",
        "_read_call",
        "_streaming",
        "_unread",
        "accepted",
        "disconnecting",
        "left",
        "protocol",
        "refused",
        "since",
        "stream",
    )

    _log = Logger()

    def __init__(
        self,
        home: StreamHome,
        number: int,
        stream: int,
        opened: bool,
        host: MeshAddress,
        peer: MeshAddress,
        credit: CreditWindow,
    ) -> None:
        super().__init__(home, number, peer.service, opened, credit)
        self.stream = stream
        self.since = home.clock.seconds()
        self.protocol: IProtocol | None = None
        self.disconnecting = False
        self.accepted: Callable[[], None] = _nothing
        self.refused: Callable[[str, str], None] = _ignore
        self.left: Callable[[], object] = _nothing
        self._host = host
        self._peer = peer
        self._unread: deque[bytes] | None = None
        self._paused = False
        self._read_call: IDelayedCall | None = None
        self._fin_said = False
        self._aborted = False
        self._log_prefix: str | None = None
        self._producer: IProducer | None = None
        self._streaming = False
        self._producer_paused = False
        self._close_call: IDelayedCall | None = None

    # IStream

    @property
    def sent(self) -> int:
        """Bytes that the far end has acknowledged."""
        return self.sending.acknowledged

    @property
    def received(self) -> int:
        """Bytes handed to the protocol."""
        return self.credit.consumed

    @property
    def local(self) -> str:
        """As L{IStream} has it."""
        return str(getattr(ILocalEnd(self.protocol, None), "local", ""))

    @property
    def state(self) -> str:
        """C{opening}, C{open}, C{half-closed} or C{closing}."""
        if self.protocol is None:
            return "opening"
        if self.disconnecting or self.over:
            return "closing"
        half = self.sending.ended or self._stopped or self._read_over
        return "half-closed" if half else "open"

    def connect(self, protocol: IProtocol) -> None:
        """Let C{protocol} have it from now on, with what came already."""
        self.protocol = protocol
        self._log_prefix = _own_prefix(protocol)
        try:
            protocol.makeConnection(self)
        except Exception:
            self._failed("connectionMade")
        if self._stopped and not self.over:
            self._write_stopped()
        self._flow()
        self._read_soon()

    def reset(self, reason: str, detail: str = "") -> None:
        """Break it at once, for both ends."""
        if not self.over:
            self.home.say_reset(self.number, StreamCode.of_slug(reason), detail)
            self.finish(reason, detail or reason)

    def stop_reading(self) -> None:
        """Read no more: what comes is dropped, and the far end is told to write no more."""
        unread, self._unread = bool(self._unread), None
        self.end_reading(unread)

    # ITransport

    def write(self, data: bytes | memoryview) -> None:
        """Send C{data} behind what was written before."""
        if not isinstance(data, bytes):
            data = _unchanging(data)
        sending = self.sending
        if not data or self.over or sending.ended:
            return
        if self._stopped:
            self._not_read()
            return
        sending.write(data)
        self.home.wake(self)
        if (
            sending.unsent > limits.HIGH_WATER
            and self._streaming
            and not self._producer_paused
            and self._producer is not None
        ):
            self._producer_paused = True
            self._produce("pauseProducing")

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of these."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        End it once all that was written has arrived; read no more.

        With a producer registered, the end waits until that is unregistered.
        """
        if self.over or self.disconnecting:
            return
        self.disconnecting = True
        self.stop_reading()
        if self._producer is None:
            self._lose_write()

    def loseWriteConnection(self) -> None:
        """Write no more, once all that was written is sent; go on reading."""
        self.end_writing()

    def abortConnection(self) -> None:
        """Break it at once, for both ends."""
        if not self.over:
            self.home.say_reset(self.number, StreamCode.ABORTED, "")
            self._aborted = True
            self.finish(StreamCode.ABORTED.slug, "")

    def getPeer(self) -> MeshAddress:
        """The far node, verified."""
        return self._peer

    def getHost(self) -> MeshAddress:
        """This node."""
        return self._host

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Pause and resume C{producer}, push or pull, from now on.

        @raise RuntimeError: if there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered, and was not unregistered")
        if self.over or self._stopped:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            self._produce("resumeProducing")

    def unregisterProducer(self) -> None:
        """It has written its last."""
        self._producer = None
        if self.disconnecting:
            self._lose_write()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Hand over nothing until L{resumeProducing}."""
        self._paused = True
        self.flowing = False

    def resumeProducing(self) -> None:
        """Hand over what comes, in the next turn."""
        if self._paused:
            self._paused = False
            self._flow()
            self._read_soon()

    def stopProducing(self) -> None:
        """As L{loseConnection}."""
        self.loseConnection()

    # what happens to it

    def sent_some(self) -> None:
        """Something has left: there is room for more, or this was the last."""
        producer = self._producer
        if producer is None:
            if self.sending.ended:
                self._say_fin()
        elif self.sending.unsent <= limits.HIGH_WATER // 2 and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._produce("resumeProducing")

    def _connected(self) -> None:
        self.accepted()

    def _flow(self) -> None:
        """Does what comes next go straight to the protocol?"""
        self.flowing = not (self._paused or self._unread or self._read_over or self.over)

    def _readable(self, data: list[bytes]) -> None:
        waits = bool(self._unread or self._paused or self.protocol is None)
        self._keep(data)
        if not waits:
            self._hand_over()

    def _keep(self, data: list[bytes]) -> None:
        """Hold this behind what waits; small pieces in one, for each costs memory that is no one's credit."""
        unread = self._unread
        if unread is None:
            unread = self._unread = deque()
        for each in data:
            if unread and len(unread[-1]) + len(each) <= limits.SMALLEST_PIECE:
                unread[-1] += each
            else:
                unread.append(each)

    def _read_soon(self) -> None:
        """Hand over what waits, in a turn of its own."""
        if self._read_call is None and (self._unread or self.receiving.complete):
            self._read_call = self.home.clock.callLater(0, self._read_on)

    def _read_on(self) -> None:
        self._read_call = None
        self._hand_over()
        self._flow()

    def _hand_over(self) -> None:
        """What waits, until the protocol pauses, or reads no more: then the rest was not read."""
        while self._unread and not self._paused and not self.over:
            self._hand(self._unread.popleft())
        self._look_for_end()

    def _hand(self, data: bytes) -> None:
        protocol = self.protocol
        assert protocol is not None
        try:
            if self._log_prefix is None:
                protocol.dataReceived(data)
            else:
                callWithContext({"system": self._log_prefix}, protocol.dataReceived, data)
        except Exception:
            self._failed("dataReceived")
            return
        self.consumed(len(data))

    def _look_for_end(self) -> None:
        """Is all read that the far end wrote?"""
        if self._unread or self._paused or self._read_over or self.over or not self.receiving.complete:
            return
        protocol = self.protocol
        if protocol is None:
            return
        if IHalfCloseableProtocol.providedBy(protocol):
            self._call(protocol.readConnectionLost)
            self.end_reading(False)
        else:
            self.end_reading(False)
            self.loseConnection()

    def _write_stopped(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._call(producer.stopProducing)
        if IStreamReader.providedBy(self.protocol):
            self._call(self.protocol.write_stopped)
        if self.disconnecting:
            self.end_writing()

    def _lose_write(self) -> None:
        """The last byte is written: the far end has so long to acknowledge it, once it was sent."""
        self.end_writing()
        if not self.over and self._close_call is None and not self.sending.unsent:
            self._close_call = self.home.clock.callLater(limits.CLOSE_TIMEOUT, self._close_timed_out)

    def _close_timed_out(self) -> None:
        self._close_call = None
        self.reset(StreamCode.TIMED_OUT.slug, "the end of the stream was not acknowledged in time")

    def _say_fin(self) -> None:
        """All is sent: the protocol hears that its half is closed, and a closed stream waits no longer."""
        if not self.sending.ended or self.sending.unsent or self._fin_said or self.over:
            return
        self._fin_said = True
        if self.disconnecting:
            self._lose_write()
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.writeConnectionLost)

    def _ended(self, reason: str, detail: str) -> None:
        self._unread = None
        for call in (self._close_call, self._read_call):
            if call is not None and call.active():
                call.cancel()
        self._close_call = self._read_call = None
        refused = self.refused
        self.accepted, self.refused = _nothing, _ignore
        if self.protocol is None:
            refused(reason, detail)
            return
        if reason == StreamCode.DONE.slug:
            failure = Failure(ConnectionDone())
        elif self._aborted:
            failure = Failure(ConnectionAborted())
        else:
            failure = Failure(StreamLost(reason, detail))
        self.home.clock.callLater(0, self._tell, failure)

    def _tell(self, failure: Failure) -> None:
        """In a turn of its own, as of any transport."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._call(producer.stopProducing)
        protocol = self.protocol
        if protocol is not None:
            self._call(protocol.connectionLost, failure)
        self._call(self.left)

    def _produce(self, what: str) -> None:
        try:
            getattr(self._producer, what)()
        except Exception:
            self._failed(what)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception:
            self._failed(getattr(method, "__name__", "a method"))

    def _failed(self, what: str) -> None:
        """The application raised: that costs it this stream, and nobody else anything."""
        home = self.home
        home.lines.write(
            self._log.failure,
            home.clock.seconds(),
            "application-failed",
            self.service,
            "{what} of the application on stream {stream}, {service}, failed",
            what=what,
            stream=self.stream,
            service=self.service,
        )
        self.reset(StreamCode.ABORTED.slug, "the program at the other end failed")
