# SPDX-License-Identifier: MIT
"""Joins that wait for an operator: which keys asked with which invite, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["EnrolmentRow", "add", "decide", "get", "page"]

_COLUMNS = "id, node_key, noise_key, requested_at, state, decided_by, decided_at"


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """One request as stored; C{id} is its invite's, C{state} C{pending}, C{approved} or C{rejected}."""

    id: str
    node_key: str
    noise_key: str
    requested_at: int
    state: str
    decided_by: str | None
    decided_at: int | None


def get(reader: Reader, invite_id: str) -> EnrolmentRow | None:
    """The request made with this invite."""
    row = reader.one(f"SELECT {_COLUMNS} FROM enrolment WHERE id = ?", invite_id)
    return None if row is None else EnrolmentRow(*row)


def page(reader: Reader, after: str, limit: int) -> list[tuple[EnrolmentRow, str, str]]:
    """Requests, each with the name and the roles (JSON) its invite gives, by id."""
    columns = ", ".join(f"enrolment.{column}" for column in _COLUMNS.split(", "))
    rows = reader.all(
        f"SELECT {columns}, invite.name, invite.roles FROM enrolment JOIN invite ON invite.id = enrolment.id"
        " WHERE enrolment.id > ? ORDER BY enrolment.id LIMIT ?",
        after,
        limit,
    )
    return [(EnrolmentRow(*row[:-2]), row[-2], row[-1]) for row in rows]


def add(tx: Transaction, invite_id: str, node_key: str, noise_key: str) -> None:
    """Insert a pending one."""
    tx.execute(
        "INSERT INTO enrolment (id, node_key, noise_key, requested_at, state) VALUES (?,?,?,?,'pending')",
        invite_id,
        node_key,
        noise_key,
        tx.now,
    )


def decide(tx: Transaction, invite_id: str, state: str, by: str) -> bool:
    """Approve or reject. @return: False unless it was pending."""
    return bool(
        tx.execute(
            "UPDATE enrolment SET state = ?, decided_by = ?, decided_at = ?"
            " WHERE id = ? AND state = 'pending'",
            state,
            by,
            tx.now,
            invite_id,
        )
    )
