# SPDX-License-Identifier: MIT
"""What a handshake is given: who dialled, what stands above, and what all handshakes of a node share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Shape

from twisted.internet.interfaces import IReactorTime

from gmesh.errors import PeerRefused
from gmesh.interfaces import INoiseSession, IPeerVerifier, ISecureTransport
from gmesh.mesh.counters import Refusals
from gmesh.mesh.gate import HandshakeGate
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.noise import NoiseSession, StaticKey
from gmesh.wire.preamble import hop_prologue
from gmesh.wire.suites import Suite

__all__ = ["Attempt", "NoiseContext", "RecordProtocol", "RecordProtocolFactory"]


class Attempt(Shape):
    """Who dialled, and wants to know what came of it."""

    @property
    def suite_turn(self) -> int:
        """Which of the allowed suites to propose, from 0, wrapping around."""

    def linked(self, peer: Peer) -> None:
        """The link exists for routing."""

    def ended(self, reason: str, peer: Peer | None) -> None:
        """The connection is gone; called exactly once if it was made at all."""


class RecordProtocol(Shape):
    """What stands on a L{NoiseProtocol}: L{gmesh.mesh.link.MeshProtocol}."""

    def secure_connection_made(self) -> None:
        """Both ends of the handshake are known; records may be sent."""

    def record_received(self, record: bytes) -> None:
        """One opened record."""

    def records_ended(self) -> None:
        """All that arrived at once was handed over."""

    def secure_connection_lost(self, reason: str) -> None:
        """No more records. C{reason} is a slug."""


class RecordProtocolFactory(Shape):
    """Builds the protocol for each judged peer: L{gmesh.mesh.link.MeshFactory}."""

    def build_secure(
        self, transport: ISecureTransport, deadline: float, attempt: Attempt | None
    ) -> RecordProtocol:
        """@param deadline: the time on the clock by which the link must exist."""

    def farewell(self, error: PeerRefused) -> bytes:
        """The record that tells a refused peer why."""


@dataclass
class NoiseContext:
    """
    What every handshake of this node shares.

    @ivar static_private: the X25519 private key that the current own certificate names, 32 bytes or a
        L{gmesh.wire.noise.StaticKey}.
    @ivar suites: those the genesis allows, in its order; the first is proposed.
    @ivar session: builds the XX session: suite, initiator, static private key, prologue.
    """

    clock: IReactorTime
    network_id: str
    static_private: Callable[[], Any]
    suites: Callable[[], Sequence[Suite]]
    verifier: IPeerVerifier
    gate: HandshakeGate
    refusals: Refusals
    session: Callable[[Suite, bool, Any, bytes], INoiseSession] = lambda suite, initiator, static, prologue: (
        NoiseSession("XX", suite, initiator, static, prologue)
    )

    _static: tuple[bytes, StaticKey] | None = None

    def new_session(self, suite: Suite, initiator: bool) -> INoiseSession:
        """A session for one connection; the key object is made once for a key: that costs an exchange."""
        private = self.static_private()
        if not isinstance(private, StaticKey):
            if self._static is None or self._static[0] != private:
                self._static = (private, StaticKey(private))
            private = self._static[1]
        return self.session(suite, initiator, private, hop_prologue(suite, self.network_id))
