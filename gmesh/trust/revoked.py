# SPDX-License-Identifier: MIT
"""
Who is revoked: what the CRL in force names or, while none is held, what a lost one is known to name.

Tests: C{tests/trust/test_state.py}, C{tests/node/test_revoked_after_restart.py}.
"""

from __future__ import annotations

from collections.abc import Iterable

from gmesh.trust.documents import Crl

__all__ = ["Revoked"]


class Revoked:
    """Serials and keys, found without a walk through the CRL."""

    def __init__(self) -> None:
        self._serials: frozenset[int] | None = None
        self._keys: frozenset[str] = frozenset()
        self._remembered: frozenset[int] = frozenset()

    def follow(self, crl: Crl | None) -> None:
        """This one is in force now, or none is."""
        self._serials = None if crl is None else frozenset(entry[0] for entry in crl.revoked)
        self._keys = frozenset() if crl is None else frozenset(entry[0] for entry in crl.revoked_keys)

    def remember(self, serials: Iterable[int]) -> None:
        """These were on a CRL that is lost."""
        self._remembered = frozenset(serials)

    def names(self, serial: int, node_id: str) -> bool:
        """Whether this certificate or the key of this node is revoked."""
        serials = self._remembered if self._serials is None else self._serials
        return serial in serials or node_id in self._keys
