# SPDX-License-Identifier: MIT
"""
How much the connection of a program may move in a turn of the reactor, and so hold of a stream.

What a connection has taken of a stream is not in the stream's credit any more, so it is bounded here:
Twisted's 64 KiB for each connection, and for so many that move much L{WIDE_LEG}.
Tests: C{tests/node/api/test_stream_legs.py}.
"""

from __future__ import annotations

from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor

from gmesh.node.limits import WIDE_LEG, WIDE_LEGS

__all__ = ["LegRoom"]


class LegRoom:
    """
    Room for the connections of a node.

    @ivar left: so many more may be wide.
    """

    def __init__(self, left: int = WIDE_LEGS) -> None:
        self.left = left

    def take(self, transport: object) -> bool:
        """Let C{transport} move L{WIDE_LEG} a turn. @return: whether it may: to be given back then."""
        if self.left <= 0 or not isinstance(transport, FileDescriptor):
            return False
        self.left -= 1
        transport.bufferSize = transport.SEND_LIMIT = WIDE_LEG
        cast(Any, transport).getHandle().setsockopt(SOL_SOCKET, SO_SNDBUF, WIDE_LEG)
        return True

    def give_back(self) -> None:
        """One of them is gone."""
        self.left += 1
