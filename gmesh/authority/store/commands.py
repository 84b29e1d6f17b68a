# SPDX-License-Identifier: MIT
"""Commands by number, and what each node they were meant for made of them."""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.trust.documents import CommandTarget

__all__ = [
    "CommandRow",
    "NodeAnswer",
    "add",
    "add_receipt",
    "answered",
    "answers",
    "by_id",
    "counts",
    "page",
    "since",
]

_COLUMNS = "number, id, document, created_by, expires_at"
_ANSWERED = " FROM node LEFT JOIN receipt ON receipt.command_id = ? AND receipt.node_id = node.node_id WHERE "
_STATE = (
    "coalesce(receipt.outcome, CASE WHEN node.barred_at IS NULL THEN 'no-answer' ELSE 'revoked' END) AS state"
)


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command as stored; C{document} is its file form."""

    number: int
    id: str
    document: bytes
    created_by: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """One node a command concerns: C{done}, C{refused}, C{failed}, C{revoked} or C{no-answer}."""

    name: str
    node_id: str
    state: str
    detail: str | None
    answered_at: int | None


def add(tx: Transaction, command: CommandRow) -> None:
    """Insert."""
    tx.execute(
        f"INSERT INTO command ({_COLUMNS}) VALUES (?,?,?,?,?)",
        command.number,
        command.id,
        command.document,
        command.created_by,
        command.expires_at,
    )


def by_id(reader: Reader, command_id: str) -> CommandRow | None:
    """The command of this id."""
    row = reader.one(f"SELECT {_COLUMNS} FROM command WHERE id = ?", command_id)
    return None if row is None else CommandRow(*row)


def since(reader: Reader, number: int, now: int, limit: int) -> list[CommandRow]:
    """Commands after C{number} that have not expired, ascending."""
    rows = reader.all(
        f"SELECT {_COLUMNS} FROM command WHERE number > ? AND expires_at > ? ORDER BY number LIMIT ?",
        number,
        now,
        limit,
    )
    return [CommandRow(*row) for row in rows]


def page(reader: Reader, before: int, limit: int) -> list[CommandRow]:
    """Commands below C{before}, newest first."""
    rows = reader.all(
        f"SELECT {_COLUMNS} FROM command WHERE number < ? ORDER BY number DESC LIMIT ?", before, limit
    )
    return [CommandRow(*row) for row in rows]


def add_receipt(
    tx: Transaction, command_id: str, node_id: str, outcome: str, detail: str, at: int, document: bytes
) -> bool:
    """Insert. @return: False if this node answered before."""
    return bool(
        tx.execute(
            "INSERT INTO receipt (command_id, node_id, outcome, detail, answered_at, document)"
            " VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            command_id,
            node_id,
            outcome,
            detail,
            at,
            document,
        )
    )


def answered(reader: Reader, command_id: str, node_id: str) -> bool:
    """Whether there is a receipt of this node for this command."""
    row = reader.one("SELECT 1 FROM receipt WHERE command_id = ? AND node_id = ?", command_id, node_id)
    return row is not None


def answers(
    reader: Reader, command_id: str, target: CommandTarget, after: str, limit: int
) -> list[NodeAnswer]:
    """The members the target names, by name, from the one after C{after}."""
    condition, value = _concerned(target)
    rows = reader.all(
        f"SELECT node.name, node.node_id, {_STATE}, receipt.detail, receipt.answered_at{_ANSWERED}{condition}"
        " AND node.name > ? ORDER BY node.name LIMIT ?",
        command_id,
        value,
        after,
        limit,
    )
    return [NodeAnswer(*row) for row in rows]


def counts(reader: Reader, command_id: str, target: CommandTarget) -> dict[str, int]:
    """How many members the target names are in each state."""
    condition, value = _concerned(target)
    rows = reader.all(f"SELECT {_STATE}, count(*){_ANSWERED}{condition} GROUP BY state", command_id, value)
    return {row[0]: row[1] for row in rows}


def _concerned(target: CommandTarget) -> tuple[str, str]:
    """A condition on node with one value; a role's spelling has no wildcard and roles are JSON."""
    if target.node is not None:
        return "node.name = ?", target.node
    return "node.roles LIKE ?", "%" if target.role is None else f'%"{target.role}"%'
