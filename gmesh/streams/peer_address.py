# SPDX-License-Identifier: MIT
"""
The address of a node as its certificate describes it.

Tests: C{tests/node/test_streams.py}.
"""

from __future__ import annotations

from gmesh.addresses import MeshAddress
from gmesh.mesh.peer_identity import Peer

__all__ = ["address_of"]


def address_of(peer: Peer, service: str) -> MeshAddress:
    """Where C{service} of C{peer} is."""
    return MeshAddress(peer.name, peer.node_id, tuple(peer.roles), peer.serial, service)
