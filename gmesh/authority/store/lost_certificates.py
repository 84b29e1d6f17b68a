# SPDX-License-Identifier: MIT
"""
Certificates that were given out after the backup, as far as audits told the restore of them.

Tests: C{tests/authority/test_lost_days.py}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["LostCertificate", "add", "forget_before", "get", "joined_since"]

ROWS_AT_ONCE = 64


class LostCertificate(msgspec.Struct, frozen=True):
    """
    One of them.

    @ivar digest: SHA-256 of its file form, hexadecimal; None where nothing vouches for what it said.
    @ivar joined: by an invite, which may have given other roles than before.
    """

    serial: int
    node_id: str
    name: str
    digest: str | None
    joined: bool
    issued_at: int


def add(tx: Transaction, lost: Sequence[LostCertificate]) -> None:
    """Insert, in their order."""
    for start in range(0, len(lost), ROWS_AT_ONCE):
        some = lost[start : start + ROWS_AT_ONCE]
        tx.execute(
            "INSERT INTO lost_certificate (serial, node_id, name, digest, joined, issued_at) VALUES "
            + ",".join(["(?,?,?,?,?,?)"] * len(some)),
            *(value for each in some for value in msgspec.structs.astuple(each)),
        )


def forget_before(tx: Transaction, issued_at: int) -> None:
    """Delete those that were given out earlier."""
    tx.execute("DELETE FROM lost_certificate WHERE issued_at < ?", issued_at)


def get(reader: Reader, serial: int, node_id: str, name: str) -> list[str | None]:
    """The digests of a node's certificates of this serial; of several histories there may be several."""
    rows = reader.all(
        "SELECT digest FROM lost_certificate WHERE serial = ? AND node_id = ? AND name = ? LIMIT 64",
        serial,
        node_id,
        name,
    )
    return [row[0] for row in rows]


def joined_since(reader: Reader, node_id: str, serial: int) -> bool:
    """Whether a node joined anew after it got the certificate of this serial."""
    asked = "SELECT 1 FROM lost_certificate WHERE joined <> 0 AND node_id = ? AND serial > ? LIMIT 1"
    return reader.one(asked, node_id, serial) is not None
