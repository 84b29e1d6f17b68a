# SPDX-License-Identifier: MIT
"""Where links come from: one factory for a node, on any stream endpoint, to listen and to dial."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory

from gmesh.errors import PeerRefused
from gmesh.interfaces import ISecureTransport
from gmesh.mesh.link_context import MeshContext
from gmesh.mesh.link_protocol import MeshProtocol
from gmesh.mesh.neighbours import close_reason
from gmesh.mesh.noise import NoiseFactory
from gmesh.mesh.noise_context import Attempt, NoiseContext
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Close

__all__ = ["MeshContext", "MeshFactory", "MeshProtocol"]


class MeshFactory:
    """
    Builds the links of one node; gives out the Twisted factories that listen and dial.

    @param noise: what its handshakes share.
    """

    def __init__(self, context: MeshContext, noise: NoiseContext) -> None:
        self._context = context
        self._noise = noise

    def accepting(self) -> IProtocolFactory:
        """The factory to listen with, on any number of stream server endpoints."""
        return NoiseFactory(self._noise, self, False)

    def dialling(self, attempt: Attempt | None = None) -> IProtocolFactory:
        """The factory for one dial; C{attempt} hears what became of it."""
        return NoiseFactory(self._noise, self, True, attempt)

    def build_secure(
        self, transport: ISecureTransport, deadline: float, attempt: Attempt | None
    ) -> MeshProtocol:
        """Called by the Noise layer once both ends were judged."""
        return MeshProtocol(self._context, transport, deadline, attempt)

    def farewell(self, error: PeerRefused) -> bytes:
        """The record that tells a refused peer why."""
        return pack_frame(Kind.CLOSE, Close(close_reason(error)).encode())
