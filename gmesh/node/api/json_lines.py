# SPDX-License-Identifier: MIT
"""
Answers that go on as JSON lines until their reader hangs up, or may not go on: changes of a table, messages
of a service (L{gmesh.node.api.message_lines}).

A reader that does not keep up is known by its transport's pause.  A table is not looked at meanwhile, and
what changed is reported as one change.
Tests: C{tests/node/api/test_message_lines.py}, C{tests/node/api/test_views.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

from gmesh.errors import RequestRefused

__all__ = ["JsonLines", "Rows", "TableLines", "json_line"]

Rows = Mapping[str, Mapping[str, Any]]
"""Rows to report, by their key."""


@implementer(IPushProducer)
class JsonLines:
    """
    Writes lines to an HTTP response while its reader keeps up.

    @ivar over: fires with None once its reader may not go on.
    """

    def __init__(self, request: Request) -> None:
        self.over: Deferred[None] = Deferred()
        self._request = request
        self._paused = self._ended = False

    def begin(self) -> None:
        """Send the headers, so that the reader knows what it asked for has begun."""
        self._request.setHeader(b"content-type", b"application/jsonl")
        self._request.registerProducer(self, True)
        self._request.write(b"")

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one line, whether or not the reader keeps up."""
        self._request.write(json_line(row))

    def end(self) -> None:
        """The reader has gone, and its transport with it; or the answer is over."""
        self._paused = self._ended = True

    def close(self) -> None:
        """The answer is over, before its reader has gone."""
        self._request.unregisterProducer()

    def forbidden(self, error: RequestRefused) -> None:
        """The user whose program reads may not any more: the last line says why."""
        if not self._ended:
            self.write({"ended_by": error.detail})
            self.close()
            self.over.callback(None)

    def pauseProducing(self) -> None:
        """The reader's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The reader reads again."""
        self._paused = False

    def stopProducing(self) -> None:
        """The connection is gone; Klein cancels the handler, which ends the answer."""
        self.end()


class TableLines(JsonLines):
    """
    A table: first what is there, then each change as it happens.

    Lines are C{{"at": UNIX SECONDS, "event": "present" | "added" | "changed" | "gone", ...ROW}}.

    @param table: the rows as they are now, without what changes all the time.
    @param wall: Unix seconds.
    """

    def __init__(self, request: Request, table: Callable[[], Rows], wall: Callable[[], float]) -> None:
        super().__init__(request)
        self._table = table
        self._wall = wall
        self._reported: dict[str, Mapping[str, Any]] = {}

    def begin(self) -> None:
        """Send the headers and what is there."""
        super().begin()
        self._report("present")

    def look(self) -> None:
        """Report what has changed since the last time."""
        if not self._paused:
            self._report("added")

    def resumeProducing(self) -> None:
        """Report what has changed meanwhile."""
        super().resumeProducing()
        self.look()

    def _report(self, new: str) -> None:
        rows, reported = self._table(), self._reported
        self._reported = dict(rows)
        for key in reported.keys() - rows.keys():
            self._write("gone", reported[key])
        for key, row in rows.items():
            if key not in reported:
                self._write(new, row)
            elif row != reported[key]:
                self._write("changed", row)

    def _write(self, event: str, row: Mapping[str, Any]) -> None:
        self._request.write(json_line({"at": round(self._wall(), 3), "event": event, **row}))


_compact = json.JSONEncoder(separators=(",", ":")).encode


def json_line(value: object) -> bytes:
    """A row, or another value, as it is written."""
    return _compact(value).encode("utf-8") + b"\n"
