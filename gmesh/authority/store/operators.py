# SPDX-License-Identifier: MIT
"""The people and programs that may change things."""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = [
    "ROLES",
    "OperatorRow",
    "add",
    "administrators",
    "everyone",
    "forget",
    "forget_revoked",
    "get",
    "may",
    "revoke",
]

ROLES = ("read", "operate", "administer")
_COLUMNS = "key_id, operator_key, role, name, added_at, added_by, revoked_at"


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One operator as stored; C{operator_key} is base64url."""

    key_id: str
    operator_key: str
    role: str
    name: str
    added_at: int
    added_by: str
    revoked_at: int | None = None


def may(role: str, least: str) -> bool:
    """Whether C{role} includes C{least}."""
    return ROLES.index(role) >= ROLES.index(least)


def get(reader: Reader, key_id: str) -> OperatorRow | None:
    """The operator with this key, revoked or not."""
    row = reader.one(f"SELECT {_COLUMNS} FROM operator WHERE key_id = ?", key_id)
    return None if row is None else OperatorRow(*row)


def everyone(reader: Reader) -> list[OperatorRow]:
    """All that are not revoked, by key_id."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM operator WHERE revoked_at IS NULL ORDER BY key_id")
    return [OperatorRow(*row) for row in rows]


def administrators(reader: Reader) -> int:
    """How many may still administer."""
    return int(reader.value("SELECT count(*) FROM operator WHERE role = 'administer' AND revoked_at IS NULL"))


def add(tx: Transaction, operator: OperatorRow) -> bool:
    """Insert. @return: False if the key is known already."""
    return bool(
        tx.execute(
            f"INSERT INTO operator ({_COLUMNS}) VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            operator.key_id,
            operator.operator_key,
            operator.role,
            operator.name,
            operator.added_at,
            operator.added_by,
            operator.revoked_at,
        )
    )


def forget(tx: Transaction, key_id: str) -> None:
    """Delete a row, so that the key may come again in another role."""
    tx.execute("DELETE FROM operator WHERE key_id = ?", key_id)


def forget_revoked(tx: Transaction, key_id: str) -> None:
    """Delete the row of a key that was revoked and is wanted again."""
    tx.execute("DELETE FROM operator WHERE key_id = ? AND revoked_at IS NOT NULL", key_id)


def revoke(tx: Transaction, key_id: str) -> bool:
    """Refuse the key from now on."""
    return bool(
        tx.execute(
            "UPDATE operator SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", tx.now, key_id
        )
    )
