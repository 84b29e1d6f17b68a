# SPDX-License-Identifier: MIT
"""The far end of C{send} and C{receive}: a node that speaks messages in frames, as the manual has them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    failed_body,
)

F = FrameType


class LegEnd:
    """
    Answers each SEND as told, hands its messages to whoever serves, and hangs up after the last is ended.

    @ivar refusal: slug and detail for every SEND.
    @ivar answer: what the receiver gives back.
    @ivar sent: every SEND that came.
    @ivar ended: what came for each message, in their order.
    @ivar stay: called before it hangs up.
    @ivar over: set once the command has hung up, or was hung up on.
    """

    def __init__(self, *messages: GivenMessage) -> None:
        self.messages = messages
        self.refusal: tuple[str, str] | None = None
        self.answer = b""
        self.sent: list[SendRequest] = []
        self.served: list[bytes] = []
        self.ended: list[tuple[FrameType, int]] = []
        self.stay: Callable[[], object] = lambda: None
        self.over = threading.Event()

    def __call__(self, handler: Any) -> None:
        """As a function of L{cli.conftest.FarEnd.answers}."""
        handler.send_response(101)
        handler.end_headers()
        handler.close_connection = True
        self._write = handler.wfile.write
        self._say(F.WELCOME, 0, bytes(8) + b"{}")
        try:
            self._listen(handler.connection)
        finally:
            self.over.set()

    def _listen(self, connection: Any) -> None:
        reader = MessageFrameReader()
        while (data := connection.recv(65536)) != b"":
            for frame in reader.feed(data):
                self._heard(frame)
                if self.messages and len(self.ended) == len(self.messages):
                    self.stay()
                    return

    def _say(self, kind: FrameType, tag: int, body: bytes = b"") -> None:
        self._write(MessageFrame(kind, tag, body).encode())

    def _heard(self, frame: MessageFrame) -> None:
        if frame.kind is F.SEND:
            self.sent.append(SendRequest.decode(frame.body))
            if self.refusal is None:
                self._say(F.SENT, frame.tag, bytes(4) + self.answer)
            else:
                self._say(F.FAILED, frame.tag, failed_body(*self.refusal))
        elif frame.kind is F.SERVE:
            self.served.append(frame.body)
            given = [
                MessageFrame(F.MESSAGE, 100 + number, frame.tag.to_bytes(4, "big") + message.encode()[4:])
                for number, message in enumerate(self.messages)
            ]
            # At once, for who has had enough of them hangs up.
            self._write(b"".join(each.encode() for each in (MessageFrame(F.SERVING, frame.tag, b""), *given)))
        elif frame.kind in (F.DONE, F.REFUSE):
            self.ended.append((frame.kind, frame.tag))
