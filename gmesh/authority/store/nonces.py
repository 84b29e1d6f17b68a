# SPDX-License-Identifier: MIT
"""
Nonces already used, so that a request counts once, across restarts, until its time is long over.

Tests: C{tests/authority/test_replay.py}.
"""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.errors import RequestRefused

__all__ = ["claim", "claimed_since", "prune"]


def claim(tx: Transaction, *claims: tuple[str, str, int]) -> None:
    """
    Use up nonces, in the transaction of their effect.

    @param claims: key_id, nonce and when it was signed.
    @raise RequestRefused: C{replayed}, or C{stale} for one so old that its nonce may be forgotten.
    """
    oldest = min(created for _, _, created in claims)
    if oldest < (tx.mark("high_water") or 0) - limits.NONCE_KEPT_SECONDS:
        raise RequestRefused(
            "stale", "the request was signed too long ago: check the clock and sign it again"
        )
    restored_at = tx.mark("restored_at")
    if restored_at is not None and oldest <= restored_at:
        raise RequestRefused("stale", "the request is older than the restored authority: sign it again")
    places = ",".join(["(?,?,?)"] * len(claims))
    values = [value for claim in claims for value in claim]
    claimed = tx.execute(
        f"INSERT INTO nonce (key_id, nonce, created) VALUES {places} ON CONFLICT DO NOTHING", *values
    )
    if claimed < len(claims):
        raise RequestRefused("replayed", "this request was already accepted once: sign a new one")


def claimed_since(reader: Reader, created: int) -> frozenset[tuple[str, str]]:
    """(key_id, nonce) of what was signed at C{created} or later and is used up."""
    return frozenset(
        (row[0], row[1]) for row in reader.all("SELECT key_id, nonce FROM nonce WHERE created >= ?", created)
    )


def prune(tx: Transaction) -> int:
    """Forget some nonces that no request could use any more. @return: how many."""
    return tx.execute(
        "DELETE FROM nonce WHERE (key_id, nonce) IN"
        " (SELECT key_id, nonce FROM nonce WHERE created < ? LIMIT ?)",
        (tx.mark("high_water") or 0) - limits.NONCE_KEPT_SECONDS,
        limits.PRUNE_ROWS,
    )
