# SPDX-License-Identifier: MIT
"""
A stream over the local API, for commands: framed, so that an end is told from a break, or raw.

Tests: C{tests/cli/test_connect.py}.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.limits import DIAL_TIMEOUT, NODE_TIMEOUT
from gmesh.errors import ConfigurationError
from gmesh.trust.names import is_name, is_service

if TYPE_CHECKING:
    from gmesh.client.stream_frames import Signal

__all__ = ["FramedSocket", "raw_stream", "stream_names"]

_TIMEOUT = DIAL_TIMEOUT + NODE_TIMEOUT


def stream_names(node: str, service: str) -> tuple[str, str]:
    """
    The name of a node, which may end in C{.gmesh}, and of a service.

    @raise ConfigurationError: for what can be neither.
    """
    node = node.removesuffix(".gmesh")
    if not is_name(node):
        raise ConfigurationError("bad-name", f"{node!r} cannot be the name of a node")
    if not is_service(service):
        raise ConfigurationError("bad-service", f"{service!r} cannot name a service: a-z, 0-9, dashes within")
    return node, service


def raw_stream(where: Endpoint, node: str, service: str) -> socket.socket:
    """
    A connected socket that carries the bytes of a stream from now on; not one of them has been read.

    @raise Unreachable: if the node of this host does not answer.
    @raise HttpRefused: if it refuses.
    """
    head = f"CONNECT {node}:{service} HTTP/1.1\r\nHost: {node}:{service}\r\n\r\n"
    return where.switch(head.encode("ascii"), 200, _TIMEOUT)


class FramedSocket:
    """
    A stream of which the node says how it ended.

    @ivar socket: what it is read and written by.
    @raise Unreachable: if the node of this host does not answer.
    @raise HttpRefused: if it refuses.
    """

    def __init__(self, where: Endpoint, node: str, service: str) -> None:
        from gmesh.client.stream_frames import FrameDecoder

        query = urlencode({"node": node, "service": service})
        lines = (
            f"GET /v1/connect?{query} HTTP/1.1",
            "Host: node",
            "Connection: Upgrade",
            "Upgrade: gmesh-stream",
        )
        self.socket = where.switch("\r\n".join([*lines, "", ""]).encode("ascii"), 101, _TIMEOUT)
        self._where = where.where
        self._decoder = FrameDecoder()

    def read(self) -> list[bytes | Signal]:
        """
        Wait for pieces of the stream, and signals.

        @return: nothing once the node has closed.
        @raise FrameRefused: if it breaks the protocol.
        """
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return []
            found = self._decoder.feed(data)
            if found or not data:
                return found

    def write(self, data: bytes) -> None:
        """Send a piece of the stream, 64 KiB at most."""
        from gmesh.client.stream_frames import data_head

        self.socket.sendall(data_head(len(data)) + data)

    def broken(self, last: Signal | None) -> HttpRefused:
        """
        Why the stream broke, for people.

        @param last: the RESET; None if the node closed without.
        """
        if last is None:
            return HttpRefused(
                "closed", f"{self._where} closed the connection, and the stream broke", 200, {}
            )
        slug = last.code.slug
        detail = f": {last.detail}" if last.detail not in ("", slug) else ""
        return HttpRefused(slug, f"the stream broke ({slug}){detail}", 200, {})
