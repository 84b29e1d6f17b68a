# SPDX-License-Identifier: MIT
"""
Why a stream was not opened, and why it ended: the codes of the wire, and what programs catch.

What fails to open is a C{ConnectError} and what breaks is a C{ConnectionLost}, so whatever is written for
TCP endpoints treats both as it treats TCP.  Tests: C{tests/test_stream_errors.py}.
"""

from __future__ import annotations

from enum import IntEnum

from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,
    NoRouteError,
    TimeoutError,
    UnknownHostError,
)

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


class StreamCode(IntEnum):
    """Why a stream is refused, stopped or reset; an unknown number reads as C{REFUSED}."""

    DONE = 0
    NO_SUCH_SERVICE = 1
    DENIED = 2
    BUSY = 3
    REFUSED = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    ABORTED = 7
    STOPPED = 8
    REVOKED = 9
    EXPIRED = 10
    STALE = 11
    PROTOCOL = 12
    RESTARTED = 13
    UNKNOWN_STREAM = 14

    @property
    def slug(self) -> str:
        """C{no-such-service}: what programs compare."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def read(cls, number: int) -> StreamCode:
        """The code with this number."""
        return cls(number) if number in cls._value2member_map_ else cls.REFUSED

    @classmethod
    def of_slug(cls, slug: str) -> StreamCode:
        """The code that says C{slug}; C{REFUSED} for one that no code says."""
        return cls.__members__.get(slug.replace("-", "_").upper(), cls.REFUSED)


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
