# SPDX-License-Identifier: MIT
"""
Nonces of signed reads, where daemons share a database: noted outside the order, for a read decides nothing.

Tests: C{tests/authority/test_replicas.py}.
"""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.store.transaction import Notes, Transaction

__all__ = ["claim", "prune"]


def claim(notes: Notes, name: tuple[str, str, int]) -> bool:
    """
    Use one up.

    @param name: key_id, nonce and when the read was signed.
    @return: False if it was used up before.
    """
    return bool(
        notes.execute(
            "INSERT INTO read_nonce (key_id, nonce, created) VALUES (?,?,?) ON CONFLICT DO NOTHING", *name
        )
    )


def prune(tx: Transaction) -> int:
    """
    Forget those that are so old that no read could use them any more, by the time that all decide by.

    @return: how many.
    """
    return tx.execute("DELETE FROM read_nonce WHERE created < ?", tx.now - limits.NONCE_KEPT_SECONDS)
