# SPDX-License-Identifier: MIT
"""
A stream for programs and scripts without Twisted, which tell an end from a break.

Tests: C{tests/client/test_blocking_stream.py}.
"""

from __future__ import annotations

import socket as sockets
from collections import deque
from select import select
from types import TracebackType

from gmesh.client.answers import LocalAnswer, plain_node, upgrade_request
from gmesh.client.blocking import open_upgraded
from gmesh.client.stream_frames import FIN, MAX_DATA, FrameDecoder, FrameKind, Signal, data_head, stop_frame
from gmesh.errors import FrameRefused, GmeshError, StreamCode

__all__ = ["BlockingStream", "StreamBroken", "accept_stream", "open_stream"]

_PIECE = 64 * 1024
_UNREAD = 16
"""Pieces that are kept while the program writes."""


class StreamBroken(GmeshError, ConnectionError):
    """
    A stream broke: what was written may not have arrived, and what was read may not be all.

    A C{ConnectionError}, and so an C{OSError}, with C{reason} and C{detail}.
    """

    def __str__(self) -> str:
        return self.detail


class BlockingStream:
    """
    Bytes both ways, in order; C{shutil.copyfileobj} reads and writes it.

    A C{with} block that ends waits until all that was written has arrived; one that fails breaks the stream.

    @ivar peer: name of the far node, as certified.
    @ivar peer_id: its node_id.
    @ivar roles: its roles.
    """

    def __init__(self, socket: sockets.socket, answer: LocalAnswer) -> None:
        described = answer.described("gmesh-peer")
        self.peer = str(described.get("name", ""))
        self.peer_id = str(described.get("node_id", ""))
        self.roles = tuple(map(str, described.get("roles", ())))
        self._socket = socket
        self._decoder = FrameDecoder()
        self._unread: deque[bytes] = deque()
        self._all_read = self._all_written = self._stopped = self._over = False

    def __enter__(self) -> BlockingStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def read(self, size: int = -1) -> bytes:
        """
        What has come, at most C{size} bytes, as soon as there is any; without C{size} all up to the end.

        @return: nothing at the end.
        @raise StreamBroken: if it breaks.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE), b""))
        while not self._unread and not self._all_read and not self._over:
            self._hear()
        if not self._unread or size == 0:
            return b""
        piece = self._unread.popleft()
        if len(piece) > size:
            self._unread.appendleft(piece[size:])
        return piece[:size]

    def write(self, data: bytes) -> int:
        """
        Send; waits while the far program does not keep up.

        @raise StreamBroken: if it has broken, or the far program reads no more.
        @raise ValueError: after L{end}.
        """
        if self._all_written:
            raise ValueError("the end of this stream is written")
        view = memoryview(data)
        for begin in range(0, len(view), MAX_DATA):
            self._glance()
            if self._stopped or self._over:
                raise StreamBroken("stopped", "the far program reads no more")
            piece = view[begin : begin + MAX_DATA]
            self._say(data_head(len(piece)) + piece)
        return len(view)

    def end(self) -> None:
        """Write no more; the far program reads to the end."""
        if not self._all_written and not self._over:
            self._all_written = True
            self._say(FIN)

    def close(self) -> None:
        """
        End both halves, and wait until all that was written has arrived.

        @raise StreamBroken: if it has not.
        """
        try:
            if not self._over:
                self.end()
                if not self._all_read:
                    self._all_read = True
                    self._say(stop_frame())
                while not self._over:
                    self._hear()
        finally:
            self._socket.close()

    def abort(self) -> None:
        """Break it for both ends."""
        self._over = True
        self._socket.close()

    def _say(self, frame: bytes) -> None:
        try:
            self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            while not self._over:  # the daemon has said why before it closed
                self._hear()
            raise StreamBroken("aborted", "the stream is over") from None

    def _glance(self) -> None:
        """Hear what is there already, so that a program that only writes knows that nobody reads."""
        while not self._over and len(self._unread) < _UNREAD and select([self._socket], [], [], 0)[0]:
            self._hear()

    def _hear(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
            found = self._decoder.feed(data)
        except (ConnectionResetError, FrameRefused):
            data, found = b"", []
        for each in found:
            if isinstance(each, Signal):
                self._heard(each)
            elif not self._all_read:
                self._unread.append(each)
        if not data and not self._over:
            self._over = True
            raise StreamBroken("stopped", "the node's daemon ended, and the stream with it")

    def _heard(self, signal: Signal) -> None:
        if signal.kind is FrameKind.FIN:
            self._all_read = True
        elif signal.kind is FrameKind.RESET:
            self._over = True
            if signal.code is not StreamCode.DONE:
                raise StreamBroken(signal.code.slug, signal.detail or f"the stream broke: {signal.code.slug}")
        else:
            self._stopped = True


def open_stream(node: str, service: str, socket: str | None = None, timeout: float = 30.0) -> BlockingStream:
    """
    Open a stream to a service of a node.

    @param timeout: seconds within which the far end must have accepted, 60 at most.
    @raise SocketRefused: if it is refused.
    @raise OSError: if the daemon cannot be reached.
    """
    asked = upgrade_request("/v1/connect", node=plain_node(node), service=service, timeout=f"{timeout:g}")
    return BlockingStream(*open_upgraded(asked, 101, socket, timeout + 2.0))


def accept_stream(service: str, socket: str | None = None) -> BlockingStream:
    """
    Wait for a stream to a service of this node.

    @raise SocketRefused: if this program may not have it.
    @raise OSError: if the daemon cannot be reached, or ends.
    """
    return BlockingStream(*open_upgraded(upgrade_request("/v1/accept", service=service), 101, socket, None))
