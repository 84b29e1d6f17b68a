# SPDX-License-Identifier: MIT
"""
How many connections programs may have to the local API, whatever they do with them.

Tests: C{tests/node/api/test_entrance.py}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.api.access import peer_credentials
from gmesh.node.limits import MAX_LOCAL_CONNECTIONS

__all__ = ["LocalConnections"]

_LOOK_EVERY = 1.0
"""Seconds between two looks for connections that are closed and not yet forgotten."""


class LocalConnections:
    """
    Those that are open.  A connection goes from protocol to protocol, so its transport is what is counted.

    @param count: counts a cause.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, count: Callable[[str], object] = lambda cause: None) -> None:
        self._clock = clock
        self._count = count
        self._open: WeakSet[Any] = WeakSet()
        self._looked = float("-inf")
        self._lines = SpacedLog()

    def takes(self, transport: Any) -> bool:
        """
        Whether there is room for a new connection; there always is for root and the daemon's own user, who
        may have to see what is wrong.
        """
        if len(self._open) >= MAX_LOCAL_CONNECTIONS:
            self._look()
        if len(self._open) >= MAX_LOCAL_CONNECTIONS:
            credentials = peer_credentials(transport)
            if credentials is None or credentials.uid not in (0, os.geteuid()):
                self._full()
                return False
        self._open.add(transport)
        return True

    def _look(self) -> None:
        now = self._clock.seconds()
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            for transport in [each for each in self._open if getattr(each, "disconnected", False)]:
                self._open.discard(transport)

    def _full(self) -> None:
        self._count("local-connections-full")
        self._lines.write(
            self._log.warn,
            self._clock.seconds(),
            "full",
            None,
            "programs have {number} connections to the local API: no more are taken",
            number=len(self._open),
        )
