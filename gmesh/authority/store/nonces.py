# SPDX-License-Identifier: MIT
"""Nonces already used, so that a request counts once, across restarts, until its time is long over."""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.errors import RequestRefused

__all__ = ["claim", "claimed_since", "prune"]


def claim(tx: Transaction, key_id: str, nonce: str, created: int) -> None:
    """
    Use up a nonce, in the transaction of its effect.

    @raise RequestRefused: C{replayed}, or C{stale} for one so old that its nonce may be forgotten.
    """
    if created < (tx.mark("high_water") or 0) - limits.NONCE_KEPT_SECONDS:
        raise RequestRefused(
            "stale", "the request was signed too long ago: check the clock and sign it again"
        )
    restored_at = tx.mark("restored_at")
    if restored_at is not None and created <= restored_at:
        raise RequestRefused("stale", "the request is older than the restored authority: sign it again")
    if not tx.execute(
        "INSERT INTO nonce (key_id, nonce, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        key_id,
        nonce,
        created,
    ):
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
