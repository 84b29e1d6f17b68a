# SPDX-License-Identifier: MIT
"""
Streams before they are open: offered to a service here, or on their way to one elsewhere.

Tests: C{tests/streams/test_dialling.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.interfaces import IStreamOffer
from gmesh.stream_errors import StreamCode, dial_refused
from gmesh.streams import limits

if TYPE_CHECKING:
    from gmesh.streams.stream import Stream

__all__ = ["Build", "Lost", "StreamOffer", "StreamOpening", "Take"]

Build = Callable[[MeshAddress], IProtocol | None]
"""Gives the protocol for a stream that the far end has accepted, or None to give up."""

Lost = Callable[[], object]
"""Called once that protocol was told that its connection is lost."""


@implementer(IStreamOffer)
class StreamOffer:
    """
    A stream that a far node has opened.

    @ivar stream: its number, unique on this node.
    @ivar peer: who opened it, and to which service.
    @ivar gone: fires with None if it ends before it is accepted.
    """

    def __init__(self, clock: IReactorTime, stream: Stream) -> None:
        self.stream = stream.stream
        self.peer = stream.getPeer()
        self.gone: Deferred[None] = Deferred()
        self._stream: Stream | None = stream
        self._call: IDelayedCall | None = clock.callLater(limits.OPEN_TIMEOUT, self._late)
        stream.refused = lambda reason, detail: self._over()

    def accept(self, protocol: IProtocol) -> bool:
        """As L{IStreamOffer.accept}."""
        stream = self._settle()
        if stream is None:
            return False
        stream.agree()
        stream.connect(protocol)
        return True

    def refuse(self, reason: str, detail: str = "") -> None:
        """As L{IStreamOffer.refuse}."""
        if self._stream is not None:
            self._stream.reset(reason, detail)

    def _late(self) -> None:
        self._call = None
        self.refuse(StreamCode.TIMED_OUT.slug, f"nobody took it for {limits.OPEN_TIMEOUT:g} s")

    def _settle(self) -> Stream | None:
        """It waits no more. @return: the stream, if it did."""
        stream, self._stream = self._stream, None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        return stream

    def _over(self) -> None:
        if self._settle() is not None:
            self.gone.callback(None)


Take = Callable[[StreamOffer], None]
"""Takes each stream that is opened to a service."""


class StreamOpening:
    """
    A stream that this node opens.

    @param build: gives the protocol.
    @param timeout: seconds, for all of it.
    @param what: completes "nobody answered for ...".
    @param lost: as of L{IStreams.dial<gmesh.interfaces.IStreams.dial>}.
    @ivar result: Deferred of the protocol; fails with L{gmesh.stream_errors.DialRefused}.
    """

    def __init__(
        self, clock: IReactorTime, build: Build, timeout: float, what: str, lost: Lost | None = None
    ) -> None:
        self.result: Deferred[IProtocol] = Deferred(self._cancelled)
        self._build = build
        self._lost = lost
        self._stream: Stream | None = None
        self._over = False
        self._call = clock.callLater(timeout, self._late, f"nobody answered for {what} in {timeout:g} s")

    def begin(self, stream: Stream) -> None:
        """C{stream} is opened for it."""
        self._stream = stream
        stream.accepted = self._accepted
        stream.refused = self.refused
        if self._over:
            stream.reset(StreamCode.ABORTED.slug)

    def refused(self, reason: str, detail: str) -> None:
        """It does not come about."""
        if self._settle():
            self.result.errback(dial_refused(reason, detail))

    def _accepted(self) -> None:
        stream = self._stream
        if stream is None or not self._settle():
            return
        protocol = None
        failure: Failure | None = None
        try:
            protocol = self._build(stream.getPeer())
        except Exception:
            failure = Failure()
        if protocol is None:
            detail = "the program that opened the stream gave up"
            stream.reset(StreamCode.ABORTED.slug, detail)
            self.result.errback(failure or dial_refused(StreamCode.ABORTED.slug, detail))
            return
        if self._lost is not None:
            stream.left = self._lost
        stream.connect(protocol)
        self.result.callback(protocol)

    def _late(self, detail: str) -> None:
        if self._stream is None:
            self.refused(StreamCode.TIMED_OUT.slug, detail)
        else:
            self._stream.reset(StreamCode.TIMED_OUT.slug, detail)

    def _cancelled(self, _: object) -> None:
        if self._settle() and self._stream is not None:
            self._stream.reset(StreamCode.ABORTED.slug, "the program that opened the stream gave up")

    def _settle(self) -> bool:
        """Nobody waits any more. @return: False if nobody did."""
        if self._over:
            return False
        self._over = True
        if self._call.active():
            self._call.cancel()
        return True
