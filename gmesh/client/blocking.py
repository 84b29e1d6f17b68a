# SPDX-License-Identifier: MIT
"""
A stream as a socket, for programs without Twisted.

Tests: C{tests/client/test_blocking.py}.
"""

from __future__ import annotations

import socket as sockets
import time

from gmesh.client.answers import MAX_BODY, MAX_HEAD, LocalAnswer, connect_request, plain_node, read_head
from gmesh.client.where import CROWD, find_socket
from gmesh.errors import FrameRefused, GmeshError

__all__ = ["SocketRefused", "open_socket", "open_upgraded"]

_END = b"\r\n\r\n"


class SocketRefused(GmeshError, ConnectionError):
    """
    The stream was not opened: a C{ConnectionError}, and so an C{OSError}, with C{reason} and C{detail}.
    """

    def __str__(self) -> str:
        return self.detail


def open_socket(
    node: str, service: str, socket: str | None = None, timeout: float | None = 30.0
) -> sockets.socket:
    """
    Open a stream to C{service} of C{node}.

    The bytes are the stream's, with nothing around them, and C{shutdown(SHUT_WR)} is a half-close.  Such a
    socket cannot tell a stream that broke from one that ended: let what is sent through it say where it ends.

    @param socket: the path of the daemon's socket; where L{find_socket} finds it, if left out.
    @param timeout: seconds within which the far end must have accepted; None waits for ever.
    @return: a connected socket that blocks.
    @raise SocketRefused: if it is refused.
    @raise OSError: if the daemon cannot be reached; C{TimeoutError} if it does not answer in time.
    """
    return open_upgraded(connect_request(plain_node(node), service), 200, socket, timeout)[0]


def open_upgraded(
    request: bytes, status: int, socket: str | None, timeout: float | None
) -> tuple[sockets.socket, LocalAnswer]:
    """
    A connection that has left HTTP behind, and the answer with which it did; nothing behind that is read.

    @param status: of that answer; C{1xx} before it are passed over, any other is a refusal.
    @param socket: as of L{open_socket}.
    @param timeout: seconds that it may take; None waits for ever.
    @raise SocketRefused: if it is refused.
    @raise OSError: if the daemon cannot be reached; C{TimeoutError} if it does not answer in time.
    """
    opened = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        _connect(opened, find_socket(socket))
        opened.sendall(request)
        answer = _accepted(opened, status)
        opened.settimeout(None)
    except BaseException:
        opened.close()
        raise
    return opened, answer


def _connect(opened: sockets.socket, path: str) -> None:
    """Connect; while more ask at once than the socket lets wait, try again, as long as it may take."""
    timeout = opened.gettimeout()
    end = time.monotonic() + (0.0 if timeout is None else timeout)
    while True:
        try:
            opened.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"too many wait for the node's daemon at {path}") from None
            time.sleep(CROWD)


def _accepted(opened: sockets.socket, status: int) -> LocalAnswer:
    """Read the answer, and not a byte of what is behind it. @raise SocketRefused: if it is a refusal."""
    while True:
        answer = _head(opened)
        if answer.status == status:
            return answer
        if answer.status >= 200 or answer.status == 101:
            refusal = LocalAnswer(answer.status, answer.fields, _body(opened, answer)).refusal()
            raise SocketRefused(refusal.reason, refusal.detail)


def _head(opened: sockets.socket) -> LocalAnswer:
    head = b""
    while not head.endswith(_END):
        seen = opened.recv(MAX_HEAD, sockets.MSG_PEEK)
        if not seen or len(head) > MAX_HEAD:
            raise SocketRefused("bad-answer", "the node's daemon hung up before it had answered")
        end = (head + seen).find(_END)
        head += opened.recv(len(seen) if end < 0 else end + len(_END) - len(head))
    try:
        return read_head(head)
    except FrameRefused as error:
        raise SocketRefused(error.reason, error.detail) from error


def _body(opened: sockets.socket, answer: LocalAnswer) -> bytes:
    size = answer.fields.get("content-length", "")
    limit = min(MAX_BODY, int(size)) if size.isdecimal() else MAX_BODY
    body = b""
    while len(body) < limit and (piece := opened.recv(limit - len(body))):
        body += piece
    return body
