# SPDX-License-Identifier: MIT
"""
Why a stream was not opened, and why it ended: the codes of the wire, and what programs catch.

What fails to open is a C{ConnectError} and what breaks is a C{ConnectionLost}, so whatever is written for
TCP endpoints treats both as it treats TCP.  Tests: C{tests/test_stream_errors.py}.
"""

from __future__ import annotations

from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,
    NoRouteError,
    TimeoutError,
    UnknownHostError,
)

from gmesh.errors import StreamCode

__all__ = [
    "DialRefused",
    "DialTimedOut",
    "NoRouteToNode",
    "ServiceRefused",
    "StreamCode",
    "StreamLost",
    "UnknownNode",
    "dial_refused",
]


class DialRefused(ConnectError):
    """
    A stream was not opened.

    @ivar reason: a short slug: of L{StreamCode}, C{no-streams}, or of
        L{SendRefused<gmesh.errors.SendRefused>}.
    @ivar detail: one sentence for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(string=detail or reason)
        self.reason = reason
        self.detail = detail or reason

    def __str__(self) -> str:
        return self.detail


class ServiceRefused(DialRefused, ConnectionRefusedError):
    """Nothing serves there: C{no-such-service}, C{refused}."""


class DialTimedOut(DialRefused, TimeoutError):
    """Nobody answered in time: C{timed-out}."""


class UnknownNode(DialRefused, UnknownHostError):
    """No node has this name: C{unknown-node}."""


class NoRouteToNode(DialRefused, NoRouteError):
    """The node is known, and no path to it: C{no-route}."""


_KINDS: dict[str, type[DialRefused]] = {
    "no-such-service": ServiceRefused,
    "refused": ServiceRefused,
    "timed-out": DialTimedOut,
    "unknown-node": UnknownNode,
    "no-route": NoRouteToNode,
}


def dial_refused(reason: str, detail: str = "") -> DialRefused:
    """The error for C{reason}, of the kind that TCP programs expect for it."""
    return _KINDS.get(reason, DialRefused)(reason, detail)


class StreamLost(ConnectionLost):
    """
    A stream broke: what was written may not have arrived, and what was read may not be all.

    @ivar reason: the slug of a L{StreamCode}.
    @ivar detail: one sentence for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail or reason

    def __str__(self) -> str:
        return self.detail
