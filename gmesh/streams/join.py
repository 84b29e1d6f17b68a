# SPDX-License-Identifier: MIT
"""
Two transports joined: what one reads the other writes, with half-close, pauses and breaks both ways.

A break stays a break: the far program never reads a clean end where this one had none.  Over TCP that
is a reset.  Tests: C{tests/streams/test_join.py}.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import RequestRefused
from gmesh.interfaces import ILocalEnd, IStreamReader

__all__ = ["HALF_CLOSED_TIMEOUT", "TransportJoin", "JoinEnd"]

HALF_CLOSED_TIMEOUT = 3600.0
"""Seconds without a byte after which two joined transports are cut, if one of them is half closed."""


class TransportJoin:
    """
    What joins two transports, one for each end; either may be connected first, and waits for the other.

    @param clock: for the cut of what is half closed and silent.
    @param over: called when no end is connected any more, for the first time.
    @param local: for whom, as of L{ILocalEnd}.
    @ivar near: the protocol of one transport.
    @ivar far: the protocol of the other.
    @ivar reaped: whether it was cut because it was half closed and silent.
    """

    def __init__(
        self, clock: IReactorTime, over: Callable[[], object] = lambda: None, local: str = ""
    ) -> None:
        self._clock = clock
        self._over = over
        self.local = local
        self._timer: IDelayedCall | None = None
        self._told = False
        self.reaped = False
        self.near, self.far = JoinEnd(self), JoinEnd(self)
        self.near.other, self.far.other = self.far, self.near

    def abort(self) -> None:
        """Break both ends at once."""
        self.near.abort()
        self.far.abort()

    def active(self) -> None:
        """A byte has passed."""
        if self._timer is not None:
            self._timer.reset(HALF_CLOSED_TIMEOUT)

    def half_closed(self) -> None:
        """An end reads no more: silence counts from now on."""
        if self._timer is None:
            self._timer = self._clock.callLater(HALF_CLOSED_TIMEOUT, self._reap)

    def left(self) -> None:
        """An end is no longer connected."""
        if self.near.connected or self.far.connected:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._told:
            self._told = True
            self._over()

    def _reap(self) -> None:
        self._timer = None
        self.reaped = True
        self.abort()


@implementer(IHalfCloseableProtocol, ILocalEnd, IPushProducer, IStreamReader)
class JoinEnd(Protocol):
    """
    The protocol of one of the two transports, and the producer of the other.

    @ivar other: the other end.
    """

    transport: Any
    other: JoinEnd

    def __init__(self, join: TransportJoin) -> None:
        self._join = join
        self._early: list[bytes] = []
        self._paused = False
        self._read = False  # all that will ever be read has been
        self._closed = False  # the transport was told that all is written
        self._written = False  # the transport says that all is written
        self._refused = False  # the peer of this transport takes no more
        self._lost = False
        self._clean = False  # it was lost, and nothing with it
        self._local = False  # it is a unix socket

    @property
    def local(self) -> str:
        """As L{ILocalEnd} has it."""
        return self._join.local

    # IProtocol

    def connectionMade(self) -> None:
        """Join the other end, or wait for it."""
        self._local = isinstance(self.transport.getHost(), UNIXAddress)
        if (tcp := ITCPTransport(self.transport, None)) is not None:
            tcp.setTcpNoDelay(True)
            tcp.setTcpKeepAlive(True)
            self._linger(True)
        if self.other._lost:
            self.abort()
        elif not self.other.connected:
            self.transport.pauseProducing()
        else:
            self.transport.registerProducer(self.other, True)
            self.other.transport.registerProducer(self, True)
            self.other._joined()
            self._joined()

    def _joined(self) -> None:
        """The other end is there: hand over what came before."""
        early, self._early = self._early, []
        for data in early:
            self.other.write(data)
        if self._read:
            self.other.finish()
        elif not self._paused and self.connected:
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Write it to the other end."""
        if self.other.connected:
            self.other.write(data)
        elif not self.other._lost:
            self._early.append(data)
        elif self._written:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A clean end has been told already; a break goes on to the other end."""
        self.connected = 0
        self._lost = True
        over = self._read and (self._closed or self._refused)
        # The kernel says of a unix socket that it hung up, even if all that is left is to close it.
        hung_up = self._local and reason.check(ConnectionLost)
        self._clean = over and bool(hung_up or reason.check(ConnectionDone))
        self._early.clear()
        if not self._clean:
            self.other.abort()
        self._join.left()

    # IHalfCloseableProtocol and IStreamReader

    def readConnectionLost(self) -> None:
        """The peer has written all: tell the other end."""
        if self._read:
            return
        self._read = True
        self._join.half_closed()
        if self.other.connected:
            self.other.finish()
        self._end_if_over()

    def writeConnectionLost(self) -> None:
        """All that the other end read has been written."""
        self._written = True

    def write_stopped(self) -> None:
        """The peer takes no more: what the other end still reads is dropped, so that it need not wait."""
        if self._refused:
            return
        self._refused = True
        self._join.half_closed()
        if self.other.connected:
            self.transport.unregisterProducer()
            self.other.resumeProducing()

    # IPushProducer, for the transport of the other end

    def pauseProducing(self) -> None:
        """The other end is written to faster than it can take."""
        self._paused = True
        if self.connected:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other end can take more."""
        self._paused = False
        if self.connected and not self._read:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other end is lost, and says so itself."""

    # What the other end calls

    def write(self, data: bytes) -> None:
        """Write to the transport, unless its peer takes no more."""
        if not self._refused:
            self._join.active()
            self.transport.write(data)
        elif self._read and self.other._written:
            # The peer has closed and its last word is out: TCP answers with a reset to who goes on writing.
            self.other.abort()

    def finish(self) -> None:
        """Half-close: all that the other end read is written."""
        self._closed = True
        if not self._refused:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        self._end_if_over()

    def forbidden(self, error: RequestRefused) -> None:
        """Whose connection this is may not have it any more."""
        self._join.abort()

    def give_up(self) -> None:
        """There will be no connection here: break the other end, now or as soon as it is there."""
        self._lost = True
        self.other.abort()

    def abort(self) -> None:
        """Break the connection, if there is one."""
        if self.connected:
            self.transport.abortConnection()

    def _end_if_over(self) -> None:
        if not self.connected or not self._read:
            return
        if self._closed:
            self._linger(False)
            self.transport.loseConnection()
        elif self.other._lost:
            self.abort()

    def _linger(self, breaks: bool) -> None:
        """
        Have the kernel break the connection of TCP if this process dies, and not end it.

        @param breaks: False once it may end.
        """
        handle = getattr(self.transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", breaks, 0))
