# SPDX-License-Identifier: MIT
"""
A table of the node as a stream of JSON lines: first what is there, then each change as it happens.

A reader that does not read costs nothing: while its transport is full nobody looks, and what
changed meanwhile is told as one change.  Tests: C{tests/node/test_local_views.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

__all__ = ["Follower", "Rows"]

Rows = Mapping[str, Mapping[str, Any]]
"""What is told, by what tells one row from another."""


@implementer(IPushProducer)
class Follower:
    """
    One reader of one table.

    Lines are C{{"at": UNIX SECONDS, "event": "present" | "added" | "changed" | "gone", ...ROW}}.

    @param look: the rows as they are now, without what changes all the time.
    @param wall: Unix seconds.
    """

    def __init__(self, request: Request, look: Callable[[], Rows], wall: Callable[[], float]) -> None:
        self._request = request
        self._look = look
        self._wall = wall
        self._told: dict[str, Mapping[str, Any]] = {}
        self._paused = False

    def begin(self) -> None:
        """Send the headers and what is there."""
        self._request.setHeader(b"content-type", b"application/jsonl")
        self._request.registerProducer(self, True)
        self._request.write(b"")
        self._tell("present")

    def look(self) -> None:
        """Tell what has changed since the last time."""
        if not self._paused:
            self._tell("added")

    def end(self) -> None:
        """The reader has gone, and its transport with it."""
        self._paused = True

    def _tell(self, new: str) -> None:
        rows, told = self._look(), self._told
        self._told = dict(rows)
        for key in told.keys() - rows.keys():
            self._write("gone", told[key])
        for key, row in rows.items():
            if key not in told:
                self._write(new, row)
            elif row != told[key]:
                self._write("changed", row)

    def _write(self, event: str, row: Mapping[str, Any]) -> None:
        line = {"at": round(self._wall(), 3), "event": event, **row}
        self._request.write(json.dumps(line, separators=(",", ":")).encode("utf-8") + b"\n")

    def pauseProducing(self) -> None:
        """The reader's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The reader reads again."""
        self._paused = False
        self.look()

    def stopProducing(self) -> None:
        """The connection is gone; Klein cancels the handler, which ends the stream."""
        self._paused = True
