# SPDX-License-Identifier: MIT
"""
Every error gmesh raises on purpose.

Each carries C{reason}, a short stable slug that programs, counters and tests compare
(``"revoked"``), and C{detail}, one sentence for people that says what was refused and
what to do.  Neither ever holds a payload, a key or a token.
"""

from __future__ import annotations

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
