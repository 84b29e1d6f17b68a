# SPDX-License-Identifier: MIT
"""
Nodes that were members here until their certificate was revoked or ended: what to tell of them.

Nothing is decided by it: who may be believed is for L{gmesh.trust.state.TrustState} alone.
Tests: C{tests/node/test_departed.py}.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmesh.mesh.network_limits import MAX_DEPARTED
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState

__all__ = ["Departed", "Departures"]


@dataclass(frozen=True, slots=True)
class Departed:
    """
    A node as its last certificate described it; times in Unix seconds.

    @ivar node_id: 32 hex characters.
    @ivar known_at: when this host knew that it is no member any more.
    @ivar crl_number: of the CRL by which it was revoked; 0 for one whose certificate ended.
    """

    node_id: str
    serial: int
    roles: tuple[str, ...]
    issued_at: int
    not_before: int
    not_after: int
    known_at: int
    crl_number: int = 0


class Departures:
    """
    By name, who is no member any more.

    @ivar nodes: the last to go at the end; outlives a restart where its owner keeps it.
    """

    def __init__(self, trust: TrustState) -> None:
        self.nodes: dict[str, Departed] = {}
        self._trust = trust

    def gone(self, peer: Peer, now: float) -> None:
        """No certificate of this node is believed any more."""
        body = peer.certificate.body
        revoked = self._trust.revoked(peer.serial, peer.node_id)
        self.back(peer.name)
        self.nodes[peer.name] = Departed(
            node_id=peer.node_id,
            serial=peer.serial,
            roles=peer.roles,
            issued_at=body.issued_at,
            not_before=body.not_before,
            not_after=body.not_after,
            known_at=int(now),
            crl_number=self._number() if revoked else 0,
        )
        while len(self.nodes) > MAX_DEPARTED:
            del self.nodes[next(iter(self.nodes))]

    def back(self, name: str) -> None:
        """The node of this name is a member again."""
        self.nodes.pop(name, None)

    def ended(self, name: str, now: float) -> bool:
        """Whether the node of this name is missing because its certificate came to its end."""
        node = self.nodes.get(name)
        return node is not None and now > node.not_after

    def crl_changed(self, now: float) -> None:
        """Some whose certificate had ended may be revoked now."""
        for name, node in self.nodes.items():
            if not node.crl_number and self._trust.revoked(node.serial, node.node_id):
                self.nodes[name] = replace(node, crl_number=self._number(), known_at=int(now))

    def _number(self) -> int:
        return self._trust.crl.body.number if self._trust.crl is not None else 0
