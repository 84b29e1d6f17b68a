# SPDX-License-Identifier: MIT
"""What is dialled: the spelling of a target, its endpoint, and how it is getting on."""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from gmesh.errors import ConfigurationError
from gmesh.mesh.limits import DIAL_DEADLINE
from gmesh.trust.transport_address import FORMS, Transport, read_address

__all__ = ["CERTIFICATE_REFUSALS", "Target", "TargetState", "client_endpoint", "may_help"]

D = TypeVar("D")


def client_endpoint(reactor: object, target: str) -> IStreamClientEndpoint:
    """
    The endpoint for an address: tries all that its host has in parallel (happy eyeballs).

    With C{tls:}, inside TLS, whose certificate must be for that host and of an authority of the system.

    @raise ConfigurationError: if it has no form that is dialled.
    """
    address = read_address(target)
    if address is None:
        raise ConfigurationError("bad-target", f"{target!r} is none of {FORMS}")
    endpoint: IStreamClientEndpoint = HostnameEndpoint(
        reactor, address.host, address.port, timeout=DIAL_DEADLINE
    )
    if address.kind is Transport.TLS:
        endpoint = wrapClientTLS(optionsForClientTLS(address.host), endpoint)
    return endpoint


CERTIFICATE_REFUSALS = frozenset(
    {
        "bad-certificate",
        "bad-genesis",
        "bad-key",
        "bad-signature",
        "expired",
        "handshake-failed",
        "key-mismatch",
        "not-yet-valid",
        "revoked",
        "unknown-key",
        "unspecified",
        "version",
        "wrong-network",
    }
)
"""Reasons that stay until some document changes: asking again at once is of no use."""


def may_help(kind: str, reason: str) -> bool:
    """Whether a change of the documents of this kind makes it worth asking again after that refusal."""
    return reason != "revoked" or kind in ("crl", "certificate")


class TargetState(Enum):
    """What the dialler is doing about a target."""

    WAITING = "waiting"
    QUEUED = "queued"
    DIALLING = "dialling"
    LINKED = "linked"
    REFUSED = "refused"
    OURSELVES = "ourselves"
    SPARE = "spare"
    STOPPED = "stopped"


class Target(Generic[D]):
    """
    One address and what came of it.

    @ivar reason: why the last dial or link ended, for C{gmesh doctor}.
    @ivar handle: of the node that answered last.
    @ivar insist: dial even if there is a link to that node.
    @ivar spare: dial only while there are too few links.
    @ivar news: the kinds of documents that changed since its dial under way began.
    @ivar suite_turn: which of the allowed suites to propose: the first, until a peer hung up on it.
    """

    def __init__(self, address: str, spare: bool = False) -> None:
        self.address = address
        self.spare = spare
        self.suite_turn = 0
        self.state = TargetState.WAITING
        self.reason = ""
        self.handle: bytes | None = None
        self.failures = 0
        self.insist = False
        self.news: set[str] = set()
        self.linked_at = 0.0
        self.timer: IDelayedCall | None = None
        self.dial: D | None = None

    def cancel(self) -> None:
        """Forget the timer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None
