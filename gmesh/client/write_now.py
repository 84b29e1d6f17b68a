# SPDX-License-Identifier: MIT
"""
Writing in this turn of the reactor: Twisted asks whether a socket has room only in the next one.

Tests: C{tests/client/test_write_now.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor

__all__ = ["write_now"]


def write_now(transport: Any, data: bytes) -> None:
    """
    Write, and give the socket at once what it has room for.  Each call is a system call.

    The reactor writes the rest, and finds out what is wrong if that fails.
    """
    transport.write(data)
    if isinstance(transport, FileDescriptor) and transport.connected and not transport.disconnecting:
        transport.doWrite()
