# SPDX-License-Identifier: MIT
"""
TCP ports for daemons that must know theirs beforehand: nobody else is given one meanwhile.

Tests: C{tests/live/test_demo.py}.
"""

from __future__ import annotations

import socket

__all__ = ["Ports"]


class Ports:
    """
    Holds a port of loopback for each daemon, from when it is named until L{close}.

    A socket that is bound with SO_REUSEADDR and does not listen lets another such socket listen there,
    as Twisted's do, and refuses connections until then; the kernel gives its port to nobody who asks for
    any (bind(2) with port 0, connect(2)).
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __call__(self) -> int:
        """A port that nobody listens on, another one each time."""
        holder = socket.socket()
        self._held.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port

    def close(self) -> None:
        """Hold none any more."""
        for holder in self._held:
            holder.close()

    def __enter__(self) -> Ports:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
