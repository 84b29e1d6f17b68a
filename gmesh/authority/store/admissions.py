# SPDX-License-Identifier: MIT
"""
Admissions by node key, and who is a member or asks to be one, and so may need one.

Tests: C{tests/authority/test_admissions.py}.
"""

from __future__ import annotations

from gmesh.authority.store.nodes import read_roles
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["get", "page", "put"]

_WHO = (
    "SELECT node_key, name, roles FROM (SELECT node_key, name, roles,"
    " row_number() OVER (PARTITION BY node_key ORDER BY asks DESC, name) AS place FROM ("
    "SELECT node_key, name, roles, 0 AS asks FROM node WHERE barred_at IS NULL"
    " UNION ALL SELECT e.node_key, i.name, i.roles, 1 FROM enrolment AS e JOIN invite AS i ON i.id = e.id"
    " WHERE e.state <> 'rejected' AND i.used_at IS NULL AND i.revoked_at IS NULL"
    ") AS who WHERE node_key > ?) AS placed WHERE place = 1 ORDER BY node_key LIMIT ?"
)
"""What a node asks to become comes before what it is."""


def get(reader: Reader, node_key: str) -> bytes | None:
    """The admission for this node key, in file form."""
    found: bytes | None = reader.value("SELECT document FROM admission_document WHERE node_key = ?", node_key)
    return found


def put(tx: Transaction, node_key: str, document: bytes) -> None:
    """Keep one, in the place of an earlier one for this key."""
    tx.execute(
        "INSERT INTO admission_document (node_key, document) VALUES (?,?)"
        " ON CONFLICT (node_key) DO UPDATE SET document = excluded.document",
        node_key,
        document,
    )


def page(reader: Reader, after: str, limit: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Node key, name and roles of members and of hosts that ask to be one, from the key after C{after}."""
    return [(row[0], row[1], read_roles(row[2])) for row in reader.all(_WHO, after, limit)]
