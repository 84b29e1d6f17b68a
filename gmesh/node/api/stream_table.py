# SPDX-License-Identifier: MIT
"""
The open streams of the node as programs see them, and the end of one at their word.

Tests: C{tests/node/api/test_stream_table.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmesh.errors import RequestRefused

__all__ = ["StreamTable"]

ENDED = "a program of this node ended the stream"


class StreamTable:
    """
    @param streams: gives the L{gmesh.interfaces.IStream}s of now.
    @param now: seconds on the clock of L{gmesh.interfaces.IStream}'s C{since}.
    """

    def __init__(self, streams: Callable[[], list[Any]], now: Callable[[], float]) -> None:
        self._streams = streams
        self._now = now

    def rows(self) -> list[dict[str, Any]]:
        """Each stream, and how much went through it, in the order of their numbers."""
        now = self._now()
        return [
            {
                "id": stream.stream,
                **_unchanging(stream),
                "state": stream.state,
                "sent": stream.sent,
                "received": stream.received,
                "age": round(now - stream.since, 3),
            }
            for stream in sorted(self._streams(), key=lambda stream: int(stream.stream))
        ]

    def followed(self) -> dict[str, dict[str, Any]]:
        """What does not change all the time, by the number of the stream."""
        return {
            str(stream.stream): {"id": stream.stream, **_unchanging(stream), "state": stream.state}
            for stream in self._streams()
        }

    def end(self, number: int) -> None:
        """
        Break a stream, for both ends.

        @raise RequestRefused: C{unknown-stream}.
        """
        for stream in self._streams():
            if stream.stream == number:
                stream.reset("aborted", ENDED)
                return
        raise RequestRefused("unknown-stream", f"no stream here has the number {number}")


def _unchanging(stream: Any) -> dict[str, Any]:
    peer = stream.getPeer()
    return {
        "peer": peer.name,
        "node_id": peer.node_id,
        "service": peer.service,
        "direction": "out" if stream.opened else "in",
        "local": stream.local or None,
    }
