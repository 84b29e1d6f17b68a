# SPDX-License-Identifier: MIT
"""The way out: which path, and onto it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gmesh.interfaces import IRouteEngine
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

__all__ = ["Outlet", "Penalise", "SenderAlong"]

SenderAlong = Callable[[tuple[bytes, ...]], Callable[[bytes, bytes, bytes], bool]]
"""
C{sender(path)(head, flow, rest)}: hand a frame, in two pieces, to the first link of the path; False if
dropped.

What C{sender} gives serves one reactor turn.
"""

Penalise = Callable[[tuple[bytes, ...], float], None]
"""C{penalise(path, now)}: things got lost on this path; prefer another for a while."""


class Outlet:
    """Routing and forwarding, as sessions see them."""

    def __init__(
        self, routes: IRouteEngine, sender: SenderAlong, penalise: Penalise | None, counters: Counter[str]
    ) -> None:
        self._routes = routes
        self.sender = sender
        self._penalise = penalise
        self._counters = counters

    def path(self, handle: bytes, now: float) -> tuple[bytes, ...] | None:
        """The path to a node, first ourselves."""
        path: tuple[bytes, ...] | None = self._routes.path(handle, now)
        return path

    def send(self, path: tuple[bytes, ...], frame: bytes, flow: bytes, rest: bytes = b"") -> bool:
        """Hand over a frame, in two pieces or whole. @return: False if it was dropped."""
        if self.sender(path)(frame, flow, rest):
            return True
        self._counters["queue-full"] += 1
        return False

    def post(self, kind: Kind, header: PathHeader, message: bytes) -> bool:
        """Make a frame of a handshake message, and send it. @return: False if it was dropped."""
        return self.send(
            header.path, pack_path_frame(kind, header, message), header.source + header.destination
        )

    def blame(self, handle: bytes, now: float) -> None:
        """What goes to C{handle} is not answered: avoid the relays on the way for a while."""
        path = self.path(handle, now)
        if path is not None and len(path) > 2 and self._penalise is not None:
            self._counters["blamed"] += 1
            self._penalise(path, now)
