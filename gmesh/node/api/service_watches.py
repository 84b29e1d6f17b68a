# SPDX-License-Identifier: MIT
"""
Who offers a service now, for programs that want to hear of each change.

The table is made once a look, however many watch; a program that does not read is told of what changed
meanwhile as of one change.  Tests: C{tests/node/api/test_service_watches.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmesh.errors import RequestRefused
from gmesh.node.limits import MAX_LEG_SERVICES

__all__ = ["Follow", "ServiceFeed", "ServiceWatches"]

Table = list[dict[str, Any]]
Follow = Callable[[Callable[[], object]], Callable[[], None]]
"""Has a function called when something may have changed; returns what stops it."""


class ServiceFeed:
    """
    The services of the mesh, made once for all that watch them.

    @param rows: makes the table.
    """

    def __init__(self, rows: Callable[[], Table], follow: Follow) -> None:
        self.rows = rows
        self._follow = follow
        self._watching: dict[ServiceWatches, None] = {}
        self._stop: Callable[[], None] | None = None

    def begin(self, watches: ServiceWatches) -> None:
        """Tell it of each look from now on."""
        self._watching[watches] = None
        if self._stop is None:
            self._stop = self._follow(self._look)

    def end(self, watches: ServiceWatches) -> None:
        """Tell it no more."""
        self._watching.pop(watches, None)
        if not self._watching and self._stop is not None:
            stop, self._stop = self._stop, None
            stop()

    def _look(self) -> None:
        rows = self.rows()
        for watches in tuple(self._watching):
            watches.look(rows)


class ServiceWatches:
    """
    What one program watches.

    @param answer: tells it the rows for a tag.
    """

    def __init__(self, feed: ServiceFeed, answer: Callable[[int, Table], object]) -> None:
        self._feed = feed
        self._answer = answer
        self._told: dict[int, tuple[str, Table]] = {}
        self._paused = False

    def begin(self, tag: int, service: str) -> None:
        """
        Tell what is there, and from now on what changes.

        @param service: empty for all.
        @raise RequestRefused: C{busy}, or C{bad-request} if the tag has a watch.
        """
        if tag in self._told:
            raise RequestRefused("bad-request", f"the tag {tag} watches already")
        if len(self._told) >= MAX_LEG_SERVICES:
            raise RequestRefused("busy", f"a connection watches at most {MAX_LEG_SERVICES} services")
        rows = _of(service, self._feed.rows())
        self._told[tag] = service, rows
        self._feed.begin(self)
        self._answer(tag, rows)

    def end(self, tag: int) -> None:
        """Tell no more."""
        self._told.pop(tag, None)
        if not self._told:
            self.stop()

    def stop(self) -> None:
        """The program has gone, or watches nothing any more."""
        self._told.clear()
        self._feed.end(self)

    def look(self, rows: Table) -> None:
        """Something may have changed."""
        if self._paused:
            return
        for tag, (service, told) in list(self._told.items()):
            found = _of(service, rows)
            if found != told:
                self._told[tag] = service, found
                self._answer(tag, found)

    def pauseProducing(self) -> None:
        """The program does not read."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It reads again."""
        self._paused = False
        if self._told:
            self.look(self._feed.rows())


def _of(service: str, rows: Table) -> Table:
    return [row for row in rows if not service or row["service"] == service]
