# SPDX-License-Identifier: MIT
"""The streams of a node that knows only itself, on any reactor."""

from __future__ import annotations

from random import Random
from typing import Any

from trust.network import Network
from twisted.internet.defer import Deferred, succeed

from gmesh.errors import SendRefused
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.streams.peer_address import address_of
from gmesh.streams.streams import Streams


class Alone:
    """
    What L{Streams} asks of associations and authorization, where there is one node.

    @ivar refusal: why it may not open a stream to itself, or None.
    """

    def __init__(self, clock: Any) -> None:
        self.own: Peer = peer_of(Network().certificate("a", serial=1))
        self.refusal: SendRefused | None = None
        self.is_lapsed = False
        self.advertised: list[list[str]] = []
        self.streams = Streams(self, self, clock, Random(0), lambda peer: ("", 0), self._advertise)

    def address(self, service: str) -> Any:
        """Of a service here."""
        return address_of(self.own, service)

    def _advertise(self) -> None:
        self.advertised.append(self.streams.listeners.names)

    def serve(self, factory: object) -> None:
        """Nobody else is there."""

    def seek(self, node: str) -> Deferred[None]:
        """All is known."""
        return succeed(None)

    def admit(self, node: str, service: str) -> Peer:
        """Only this node."""
        if node != self.own.name:
            raise SendRefused("unknown-node", f"no node called {node}")
        if self.refusal is not None:
            raise self.refusal
        return self.own

    def judge(self, peer: Peer, service: str, opened: bool) -> SendRefused | None:
        """The same for what is open."""
        return self.refusal

    def lapsed(self) -> bool:
        """Out of touch with the authority."""
        return self.is_lapsed

    def close(self) -> None:
        """Leave nothing on the clock."""
        self.streams.stop()
