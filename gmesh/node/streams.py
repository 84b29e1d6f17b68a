# SPDX-License-Identifier: MIT
"""
Messages of one service as JSON lines to one local reader, with a bound on what waits for it.

A reader that does not read is told apart by its transport's pause: then messages wait here up
to a cap, and beyond it they are refused, so that no sender is told "delivered" for nothing.
Tests: C{tests/node/test_local_api.py}.
"""

from __future__ import annotations

import base64
import json
from collections import deque

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

from gmesh.errors import SendRefused
from gmesh.node.limits import RECEIVE_QUEUE_BYTES

__all__ = ["MessageStream"]


@implementer(IPushProducer)
class MessageStream:
    """Writes messages to an HTTP response while its reader keeps up."""

    def __init__(self, request: Request, service: str) -> None:
        self._request = request
        self._service = service
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False

    def begin(self) -> None:
        """Send the headers, so that the reader knows its service is registered."""
        self._request.setHeader(b"content-type", b"application/jsonl")
        self._request.registerProducer(self, True)
        self._request.write(b"")

    def end(self) -> None:
        """The reader has gone, and its transport with it."""
        self._paused = True
        self._waiting.clear()

    def message(self, source: str, data: bytes) -> None:
        """
        Hand one message to the reader.

        @raise SendRefused: when the reader does not keep up.
        """
        record = {"from": source, "service": self._service, "data": base64.b64encode(data).decode("ascii")}
        line = json.dumps(record, separators=(",", ":")).encode("utf-8") + b"\n"
        if not self._paused:
            self._request.write(line)
        elif self._bytes + len(line) <= RECEIVE_QUEUE_BYTES:
            self._waiting.append(line)
            self._bytes += len(line)
        else:
            raise SendRefused("busy", f"the receiver of {self._service} does not keep up")

    def pauseProducing(self) -> None:
        """The reader's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The reader reads again: write what waited, until the next pause."""
        self._paused = False
        while self._waiting and not self._paused:
            line = self._waiting.popleft()
            self._bytes -= len(line)
            self._request.write(line)

    def stopProducing(self) -> None:
        """The connection is gone; Klein cancels the handler, which ends the stream."""
        self._paused = True
        self._waiting.clear()
