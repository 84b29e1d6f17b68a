# SPDX-License-Identifier: MIT
"""
A long answer goes out in pieces, the next when the line has taken the last: what a slow reader has not
taken yet is not copied for them.

Tests: C{tests/authority/test_http.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from gmesh.authority import limits

__all__ = ["PiecewiseBody"]


@implementer(IPushProducer)
class PiecewiseBody:
    """
    Sends one body.

    @param write: takes a piece.
    @param sent: called when all pieces were written.
    """

    def __init__(self, body: bytes, write: Callable[[bytes], None], sent: Callable[[], None]) -> None:
        self._rest = memoryview(body)
        self._write = write
        self._sent = sent
        self._paused = False
        self._writing = False

    def resumeProducing(self) -> None:
        """Write until the transport has enough, or all is written."""
        self._paused = False
        if self._writing:
            return
        self._writing = True
        while self._rest and not self._paused:
            piece, self._rest = self._rest[: limits.SEND_PIECE_BYTES], self._rest[limits.SEND_PIECE_BYTES :]
            self._write(bytes(piece))
            if not self._rest:
                self._sent()
        self._writing = False

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._rest = memoryview(b"")
