# SPDX-License-Identifier: MIT
"""
Messages for programs and scripts without Twisted: one connection, one thing at a time.

Tests: C{tests/client/test_blocking_mesh.py}.
"""

from __future__ import annotations

import json
import socket as sockets
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    pack_text,
    read_failed,
)
from gmesh.client.where import find_socket
from gmesh.errors import SendRefused

__all__ = ["BlockingMesh", "ReceivedMessage"]

_END = b"\r\n\r\n"
_REQUEST = (
    b"GET /v1/messages HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: gmesh-messages\r\n\r\n"
)
MARGIN = 2.0
"""Seconds beyond the time allowed after which the node's own answer is not waited for any more."""
_PIECE = 64 * 1024


class ReceivedMessage:
    """
    A message that is to be dealt with: L{done}, or L{refuse}.

    @ivar source: name of the node that sent it, as certified.
    @ivar data: bytes.
    @ivar key: by which its sender knows it; empty without one.
    @ivar redelivered: it may have been handed over before.
    """

    def __init__(self, mesh: BlockingMesh, tag: int, message: GivenMessage) -> None:
        self._mesh = mesh
        self._tag = tag
        self.source = message.source
        self.source_id = message.source_id
        self.roles = message.roles
        self.data = message.data
        self.key = message.key
        self.redelivered = message.redelivered

    def done(self, answer: bytes = b"") -> None:
        """It is dealt with: its sender hears that, and gets C{answer}."""
        self._mesh.write(MessageFrame(FrameType.DONE, self._tag, answer))

    def refuse(self, why: str) -> None:
        """It is refused: its sender hears C{why}."""
        self._mesh.write(MessageFrame(FrameType.REFUSE, self._tag, why.encode("utf-8", "replace")[:200]))


class BlockingMesh:
    """
    The mesh, as scripts on this host see it.

    @param socket: path of the daemon's socket; where L{find_socket} finds it, if left out.
    @raise OSError: if the daemon cannot be reached.
    """

    def __init__(self, socket: str | None = None) -> None:
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self._reader = MessageFrameReader()
        self._frames: deque[MessageFrame] = deque()
        self._given: deque[MessageFrame] = deque()
        self._tag = 0
        try:
            self._socket.settimeout(MARGIN + 10.0)
            self._socket.connect(find_socket(socket))
            self._socket.sendall(_REQUEST)
            self._upgraded()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> BlockingMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, node: str, service: str, data: bytes, timeout: float = 10.0, key: str = "") -> bytes:
        """
        Send a message, and wait until its receiver has dealt with it.

        @param key: names the message over several calls; acknowledged once, it is never handed over again.
        @return: what the receiver gave back, often nothing.
        @raise SendRefused: with C{reason} and C{detail}, if it was not delivered.
        @raise OSError: if the daemon is gone; whether it was delivered is not known then.
        """
        request = SendRequest(node, service, bytes(data), timeout, key)
        return self._answer(FrameType.SEND, request.encode(), timeout + MARGIN)[4:]

    request = send
    """A question: its answer is what comes back."""

    def nodes(self) -> list[dict[str, Any]]:
        """Every node that is known here: C{name}, C{roles}, C{reachable}, C{services} and more."""
        return list(json.loads(self._answer(FrameType.ASK, b"nodes", MARGIN)))

    def services(self) -> list[dict[str, Any]]:
        """Every service of the mesh, and the C{nodes} that have it now."""
        return list(json.loads(self._answer(FrameType.ASK, b"services", MARGIN)))

    def receive(self, service: str, concurrency: int = 1) -> Iterator[ReceivedMessage]:
        """
        The messages to a service, for ever; what is not dealt with when the program ends comes again.

        @param concurrency: how many of them may be open at a time.
        @raise SendRefused: if it may not be served, before the first message.
        @raise OSError: when the daemon ends.
        """
        body = concurrency.to_bytes(2, "big") + pack_text(service)
        self._answer(FrameType.SERVE, body, MARGIN)
        return self._messages(self._tag)

    def _messages(self, serve: int) -> Iterator[ReceivedMessage]:
        self._socket.settimeout(None)
        while True:
            frame = self._given.popleft() if self._given else self._next()
            if frame.kind is FrameType.MESSAGE:
                message = GivenMessage.decode(frame.body)
                if message.serve == serve:
                    yield ReceivedMessage(self, frame.tag, message)
                    self._socket.settimeout(None)

    def write(self, frame: MessageFrame) -> None:
        """Say something to the daemon."""
        self._socket.sendall(frame.encode())

    def _answer(self, kind: FrameType, body: bytes, timeout: float) -> bytes:
        self._tag += 1
        tag = self._tag
        self._socket.settimeout(timeout)
        self.write(MessageFrame(kind, tag, body))
        while True:
            frame = self._next()
            if frame.kind is FrameType.MESSAGE:
                self._given.append(frame)
            elif frame.tag != tag:
                continue
            elif frame.kind is FrameType.FAILED:
                raise SendRefused(*read_failed(frame.body))
            else:
                return frame.body

    def _next(self) -> MessageFrame:
        while not self._frames:
            self._frames.extend(self._reader.feed(self._read()))
        return self._frames.popleft()

    def _read(self) -> bytes:
        data = self._socket.recv(_PIECE)
        if not data:
            raise ConnectionResetError("the node's daemon hung up")
        return data

    def _upgraded(self) -> None:
        head = b""
        while _END not in head:
            head += self._read()
        head, _, rest = head.partition(_END)
        if not head.startswith(b"HTTP/1.1 101"):
            raise SendRefused("refused", head.partition(b"\r\n")[0].decode("latin-1"))
        self._frames.extend(self._reader.feed(rest))
        while self._next().kind is not FrameType.WELCOME:
            continue
