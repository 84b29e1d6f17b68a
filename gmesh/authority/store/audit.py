# SPDX-License-Identifier: MIT
"""The rows of the audit chain in the database; what they mean is in L{gmesh.authority.audit}."""

from __future__ import annotations

from gmesh.authority.store.transaction import Reader

__all__ = ["hash_of", "page"]


def hash_of(reader: Reader, seq: int) -> bytes | None:
    """The hash of a row; None if there is none of this number."""
    found: bytes | None = reader.value("SELECT hash FROM audit WHERE seq = ?", seq)
    return found


def has_hash(reader: Reader, digest: bytes) -> bool:
    """Whether there is a row with this hash; looked for from the newest on."""
    return reader.one("SELECT 1 FROM audit WHERE hash = ? ORDER BY seq DESC LIMIT 1", digest) is not None


def page(reader: Reader, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Rows from the one after C{after}."""
    rows = reader.all("SELECT seq, entry, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
    return [(row[0], row[1], row[2]) for row in rows]
