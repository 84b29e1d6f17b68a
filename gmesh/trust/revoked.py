# SPDX-License-Identifier: MIT
"""
Who is revoked: what the CRL in force names or, while none is held, what a lost one is known to name.

Tests: C{tests/trust/test_revoked.py}, C{tests/node/test_revoked_after_restart.py}.
"""

from __future__ import annotations

from collections.abc import Mapping

from gmesh.trust.documents import Crl

__all__ = ["Revoked"]


class Revoked:
    """Serials, nodes and keys, found without a walk through the CRL."""

    def __init__(self) -> None:
        self._held = False
        self._serials: frozenset[int] = frozenset()
        self._below: Mapping[str, int] = {}
        self._keys: frozenset[str] = frozenset()
        self._remembered: Mapping[str, int] = {}

    def follow(self, crl: Crl | None) -> None:
        """This one is in force now, or none is."""
        self._held = crl is not None
        self._serials = frozenset() if crl is None else frozenset(entry[0] for entry in crl.revoked)
        self._below = {} if crl is None else {entry[0]: entry[1] for entry in crl.revoked_nodes}
        self._keys = frozenset() if crl is None else frozenset(entry[0] for entry in crl.revoked_keys)

    def remember(self, serials: Mapping[str, int]) -> None:
        """By node_id, the last serial that a lost CRL named; those before it count as revoked, too."""
        self._remembered = {node_id: serial + 1 for node_id, serial in serials.items()}

    def names(self, serial: int, node_id: str) -> bool:
        """Whether this certificate of this node is revoked: by its serial, with the node, or by the key."""
        below = self._below if self._held else self._remembered
        return serial in self._serials or serial < below.get(node_id, 0) or node_id in self._keys
