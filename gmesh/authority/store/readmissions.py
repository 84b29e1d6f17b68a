# SPDX-License-Identifier: MIT
"""
Members that came back after a restore, and about whom an operator has to decide; one request a node.

Tests: C{tests/authority/test_lost_days.py}.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["ReadmissionRow", "decide", "get", "of_node", "put"]

_COLUMNS = (
    "id, node_id, name, roles, node_key, noise_key, serial, requested_at, state, decided_by, decided_at"
)


class ReadmissionRow(msgspec.Struct, frozen=True):
    """
    One request as stored.

    @ivar id: the first half of the certificate's SHA-256, hexadecimal: it stands for these very bytes.
    @ivar roles: a JSON list, as L{gmesh.authority.store.nodes.roles_text} makes it.
    @ivar state: C{pending}, C{approved} or C{rejected}.
    """

    id: str
    node_id: str
    name: str
    roles: str
    node_key: str
    noise_key: str
    serial: int
    requested_at: int
    state: str = "pending"
    decided_by: str | None = None
    decided_at: int | None = None


def get(reader: Reader, id: str) -> ReadmissionRow | None:
    """The request of this id."""
    return _row(reader, "id", id)


def of_node(reader: Reader, node_id: str) -> ReadmissionRow | None:
    """The request of this node."""
    return _row(reader, "node_id", node_id)


def _row(reader: Reader, column: str, value: str) -> ReadmissionRow | None:
    row = reader.one(f"SELECT {_COLUMNS} FROM readmission WHERE {column} = ?", value)
    return None if row is None else ReadmissionRow(*row)


def put(tx: Transaction, row: ReadmissionRow) -> None:
    """Insert, in the place of an earlier one of the node."""
    tx.execute("DELETE FROM readmission WHERE node_id = ?", row.node_id)
    places = ",".join("?" * len(msgspec.structs.fields(row)))
    tx.execute(f"INSERT INTO readmission ({_COLUMNS}) VALUES ({places})", *msgspec.structs.astuple(row))


def decide(tx: Transaction, id: str, state: str, by: str) -> bool:
    """Approve or reject. @return: False unless it was pending."""
    return bool(
        tx.execute(
            "UPDATE readmission SET state = ?, decided_by = ?, decided_at = ?"
            " WHERE id = ? AND state = 'pending'",
            state,
            by,
            tx.now,
            id,
        )
    )
