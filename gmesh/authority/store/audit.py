# SPDX-License-Identifier: MIT
"""The rows of the audit chain in the database; what they mean is in L{gmesh.authority.audit}."""

from __future__ import annotations

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["append", "head", "page"]


def head(reader: Reader) -> tuple[int, bytes]:
    """(sequence number, hash) of the newest row; (0, 32 zero bytes) before the first."""
    row = reader.one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    return (0, bytes(32)) if row is None else (row[0], row[1])


def append(tx: Transaction, seq: int, entry: bytes, digest: bytes) -> None:
    """Insert the next row, and have it mirrored once it is committed."""
    tx.execute("INSERT INTO audit (seq, entry, hash) VALUES (?,?,?)", seq, entry, digest)
    tx.audit_entries.append((seq, entry, digest))


def page(reader: Reader, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Rows from the one after C{after}."""
    rows = reader.all("SELECT seq, entry, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
    return [(row[0], row[1], row[2]) for row in rows]
