# SPDX-License-Identifier: MIT
"""
Every error gmesh raises on purpose.

Each carries C{reason}, a short stable slug that programs, counters and tests compare
(``"revoked"``), and C{detail}, one sentence for people that says what was refused and
what to do.  Neither ever holds a payload, a key or a token.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "AdmissionRefused",
    "CarrierRefused",
    "ConfigurationError",
    "DocumentRefused",
    "FrameRefused",
    "GmeshError",
    "PeerRefused",
    "RequestRefused",
    "SendRefused",
    "StoreError",
    "StreamCode",
]


class GmeshError(Exception):
    """
    Something was refused or failed, for a reason that can be given.

    @param reason: a short slug, C{[a-z0-9-]+}.
    @param detail: one sentence for people; the slug when left out.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail or reason


class DocumentRefused(GmeshError):
    """A signed document, key, invite or piece of JSON is not to be believed."""


class AdmissionRefused(GmeshError):
    """The authority will not admit, renew or serve this node."""


class RequestRefused(GmeshError):
    """An HTTP request is malformed, unsigned, replayed or not allowed."""


class PeerRefused(GmeshError):
    """The other end of a handshake is not a member we may talk to."""


class CarrierRefused(GmeshError):
    """What should carry a connection does not: a proxy, a web server, TLS with a wrong certificate."""


class FrameRefused(GmeshError):
    """Bytes on a link break the protocol; the link that carried them is closed."""


class SendRefused(GmeshError):
    """A message could not be delivered: no route, no such service, timed out, denied."""


class StoreError(GmeshError):
    """Durable state cannot be read or written."""


class ConfigurationError(GmeshError):
    """An option, file or directory given by the user cannot be used."""


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
