# SPDX-License-Identifier: MIT
"""How many handshakes are looked at, before any exchange of keys is computed for them."""

from __future__ import annotations

from gmesh.endtoend import limits
from gmesh.mesh.rates import ClaimGate, Rate

__all__ = ["FloodGate"]

_LINK = Rate(limits.INIT_LINK_RATE, limits.INIT_LINK_BURST)
_SOURCE = Rate(limits.INIT_SOURCE_RATE, limits.INIT_SOURCE_BURST)


class FloodGate:
    """
    For each ingress link a gate of its own: so many handshakes, and fewer from each source claimed over it.

    No neighbour can use up what a node is allowed over another way, nor have that forgotten.
    """

    def __init__(self) -> None:
        self._gates: dict[bytes, ClaimGate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def admits(self, link: bytes, source: bytes, now: float) -> bool:
        """May a handshake that came over C{link}, from C{source} as it says, be looked at?"""
        gate = self._gates.get(link)
        if gate is None:
            if len(self._gates) >= limits.MAX_HANDSHAKE_GATES:
                self._prune(now)
            gate = self._gates[link] = ClaimGate(_LINK, _SOURCE, now)
        return gate.admits(source, now)

    def _prune(self, now: float) -> None:
        self._gates = {link: gate for link, gate in self._gates.items() if not gate.full(now)}
        if len(self._gates) >= limits.MAX_HANDSHAKE_GATES:
            del self._gates[next(iter(self._gates))]
