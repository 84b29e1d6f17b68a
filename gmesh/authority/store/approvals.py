# SPDX-License-Identifier: MIT
"""Requests that wait for more operators to ask for the same, who did, and the rules that say which wait."""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.authority.store.operators import ROLES
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = [
    "ApprovalRow",
    "VoteRow",
    "forget",
    "forget_all",
    "forget_expired",
    "get",
    "keep_rules",
    "page",
    "propose",
    "proposed_by",
    "rules",
    "vote",
    "votes",
]

_COLUMNS = "id, method, target, body, expires_at, proposed_by, facts"


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """
    One request as proposed.

    @ivar body: canonical JSON, with the signatures in it.
    @ivar facts: what it spoke of when it was proposed, by name; canonical JSON.
    """

    id: str
    method: str
    target: str
    body: bytes
    expires_at: int
    proposed_by: str
    facts: bytes


@dataclass(frozen=True, slots=True)
class VoteRow:
    """One operator who asked for it."""

    key_id: str
    name: str
    voted_at: int


def propose(tx: Transaction, row: ApprovalRow) -> None:
    """Insert."""
    tx.execute(
        f"INSERT INTO approval ({_COLUMNS}) VALUES (?,?,?,?,?,?,?)",
        row.id,
        row.method,
        row.target,
        row.body,
        row.expires_at,
        row.proposed_by,
        row.facts,
    )


def proposed_by(reader: Reader, key_id: str) -> int:
    """How many of an operator's proposals wait."""
    return int(reader.value("SELECT count(*) FROM approval WHERE proposed_by = ?", key_id))


def get(reader: Reader, approval_id: str) -> ApprovalRow | None:
    """The request of this id."""
    row = reader.one(f"SELECT {_COLUMNS} FROM approval WHERE id = ?", approval_id)
    return None if row is None else ApprovalRow(*row)


def page(reader: Reader, after: str, now: int, limit: int) -> list[ApprovalRow]:
    """What waits, by id, from the one after C{after}."""
    rows = reader.all(
        f"SELECT {_COLUMNS} FROM approval WHERE id > ? AND expires_at > ? ORDER BY id LIMIT ?",
        after,
        now,
        limit,
    )
    return [ApprovalRow(*row) for row in rows]


def vote(tx: Transaction, approval_id: str, key_id: str) -> bool:
    """Note that an operator asks for it. @return: False if they did before."""
    return bool(
        tx.execute(
            "INSERT INTO approval_vote (approval_id, key_id, voted_at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            approval_id,
            key_id,
            tx.now,
        )
    )


def votes(reader: Reader, approval_id: str, least: str) -> list[VoteRow]:
    """The votes of those who are operators still, in a role that includes C{least}."""
    roles = ROLES[ROLES.index(least) :]
    rows = reader.all(
        "SELECT operator.key_id, operator.name, approval_vote.voted_at FROM approval_vote"
        " JOIN operator ON operator.key_id = approval_vote.key_id"
        " WHERE approval_vote.approval_id = ? AND operator.revoked_at IS NULL"
        f" AND operator.role IN ({','.join('?' * len(roles))}) ORDER BY voted_at, operator.key_id",
        approval_id,
        *roles,
    )
    return [VoteRow(*row) for row in rows]


def forget(tx: Transaction, approval_id: str) -> bool:
    """Delete one with its votes. @return: False if it was gone."""
    return bool(tx.execute("DELETE FROM approval WHERE id = ?", approval_id))


def forget_all(tx: Transaction) -> None:
    """Delete what waits: a backup's may have been decided or withdrawn since."""
    tx.execute("DELETE FROM approval")


def forget_expired(tx: Transaction) -> None:
    """Delete what nobody completed in time."""
    tx.execute("DELETE FROM approval WHERE expires_at <= ?", tx.now)


def rules(reader: Reader) -> tuple[bytes | None, bytes | None]:
    """The rules that hold, and weaker ones that were refused last; canonical JSON."""
    row = reader.one("SELECT rules, refused FROM approval_rules")
    return (None, None) if row is None else (row[0], row[1])


def keep_rules(tx: Transaction, held: bytes, refused: bytes | None) -> None:
    """Replace what L{rules} gives."""
    tx.execute("DELETE FROM approval_rules")
    tx.execute("INSERT INTO approval_rules (id, rules, refused) VALUES (1,?,?)", held, refused)
