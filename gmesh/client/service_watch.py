# SPDX-License-Identifier: MIT
"""
Who offers a service, for C{async for}: those that are there first, then each that joins or leaves.

Tests: C{tests/client/test_mesh.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from gmesh.client.service_events import ServiceChanges, ServiceEvent
from gmesh.errors import GmeshError

__all__ = ["ServiceWatch"]


class ServiceWatch:
    """
    An iterator of L{ServiceEvent} for one coroutine, until L{stop}.

    It goes on when the daemon was restarted, and holds no more than who is there, however seldom it is asked.

    @ivar service: empty for all.
    """

    def __init__(self, service: str, stop: Callable[[ServiceWatch], None]) -> None:
        self.service = service
        self._changes = ServiceChanges()
        self._stop = stop
        self._waiting: Deferred[None] | None = None
        self._error: GmeshError | None = None
        self._over = False

    def __aiter__(self) -> ServiceWatch:
        return self

    async def __anext__(self) -> ServiceEvent:
        while not self._over:
            event = self._changes.next()
            if event is not None:
                return event
            if self._error is not None:
                raise self._error
            self._waiting = Deferred()
            await self._waiting
        raise StopAsyncIteration

    def stop(self) -> None:
        """End: nothing more is told."""
        if not self._over:
            self._over = True
            self._stop(self)
            self._wake()

    def hear(self, rows: list[Mapping[str, Any]]) -> None:
        """The table as it is now."""
        self._changes.hear(rows)
        self._wake()

    def fail(self, error: GmeshError) -> None:
        """The daemon does not tell."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
