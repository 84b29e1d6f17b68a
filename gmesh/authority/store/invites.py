# SPDX-License-Identifier: MIT
"""
Invites, by public key: who may still become what.

They are marked as used by L{gmesh.authority.store.enrolment}, with the certificate that they gave.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.nodes import read_roles, roles_text
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["COLUMNS", "InviteRow", "add", "get", "page", "row_of", "state", "withdraw", "withdraw_all"]

COLUMNS = (
    "id, invite_key, name, roles, lifetime, node_key, approve, created_at, created_by,"
    " expires_at, used_at, used_serial, revoked_at"
)


class InviteRow(msgspec.Struct, frozen=True):
    """One invite as stored."""

    id: str
    invite_key: str
    name: str
    roles: tuple[str, ...]
    lifetime: int | None
    node_key: str | None
    approve: bool
    created_at: int
    created_by: str
    expires_at: int
    used_at: int | None = None
    used_serial: int | None = None
    revoked_at: int | None = None


def row_of(row: tuple) -> InviteRow:  # type: ignore[type-arg]  # a row of COLUMNS
    """The invite in the columns L{COLUMNS} of a row."""
    values = list(row)
    values[3] = read_roles(values[3])
    values[6] = bool(values[6])
    return InviteRow(*values)


def state(invite: InviteRow, now: int) -> str:
    """C{used}, C{revoked}, C{expired} or C{open}."""
    if invite.used_at is not None:
        return "used"
    if invite.revoked_at is not None:
        return "revoked"
    return "expired" if invite.expires_at <= now else "open"


def add(tx: Transaction, invite: InviteRow) -> bool:
    """Insert. @return: False if that key was invited before."""
    return bool(
        tx.execute(
            f"INSERT INTO invite ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            invite.id,
            invite.invite_key,
            invite.name,
            roles_text(invite.roles),
            invite.lifetime,
            invite.node_key,
            int(invite.approve),
            invite.created_at,
            invite.created_by,
            invite.expires_at,
            invite.used_at,
            invite.used_serial,
            invite.revoked_at,
        )
    )


def get(reader: Reader, invite_id: str) -> InviteRow | None:
    """The invite of this id."""
    row = reader.one(f"SELECT {COLUMNS} FROM invite WHERE id = ?", invite_id)
    return None if row is None else row_of(row)


def page(reader: Reader, after: str, limit: int) -> list[InviteRow]:
    """Invites by id, from the one after C{after}."""
    rows = reader.all(f"SELECT {COLUMNS} FROM invite WHERE id > ? ORDER BY id LIMIT ?", after, limit)
    return [row_of(row) for row in rows]


def withdraw_all(tx: Transaction) -> int:
    """Make every open invite worthless. @return: how many."""
    return tx.execute("UPDATE invite SET revoked_at = ? WHERE used_at IS NULL AND revoked_at IS NULL", tx.now)


def withdraw(tx: Transaction, invite_id: str) -> bool:
    """Make it worthless. @return: False if there was nothing left to withdraw."""
    return bool(
        tx.execute(
            "UPDATE invite SET revoked_at = ? WHERE id = ? AND used_at IS NULL AND revoked_at IS NULL",
            tx.now,
            invite_id,
        )
    )
