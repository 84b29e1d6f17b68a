# SPDX-License-Identifier: MIT
"""
The daemons that serve from one database: each has a row, which every group that it commits writes anew, and
which says now and then how this daemon is.

So a daemon that never heard whether its commit was done finds its answer there, and operators see all.
Tests: C{tests/authority/test_outage.py}, C{tests/authority/test_replica_reports.py}.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gmesh.authority.store.transaction import Notes, Reader, Transaction

__all__ = ["Replica", "ReplicaReport", "forget", "leave", "live", "page", "report", "sign_off", "turn_of"]

_COLUMNS = "boot, name, version, schema, keys, rules, started_at, seen_at, numbers, ready"

# The turn is that of the order, and is raised by whoever holds it.
_SIGN_OFF = (
    "WITH next AS (UPDATE ordering SET turn = turn + 1 WHERE id = 1 RETURNING turn)"
    " INSERT INTO replica (boot, name, version, schema, keys, rules, started_at, seen_at, turn)"
    " SELECT ?, ?, ?, ?, ?, ?, ?, ?, next.turn FROM next ON CONFLICT (boot) DO UPDATE SET"
    " keys = excluded.keys, rules = excluded.rules, seen_at = excluded.seen_at, turn = excluded.turn"
    " RETURNING turn"
)


class Replica(msgspec.Struct, frozen=True):
    """
    One daemon, from its start to its end.

    @ivar boot: of this start alone.
    @ivar name: of its host.
    @ivar schema: the newest migration that it knows.
    @ivar keys: ids of the signing keys that it holds, with spaces between.
    @ivar rules: how many operators its rules of approval ask for.
    """

    boot: str
    name: str
    version: str
    schema: int
    keys: str
    rules: int
    started_at: int


class ReplicaReport(Replica, frozen=True):
    """
    What one says of itself.

    @ivar seen_at: when it wrote last, in Unix seconds.
    @ivar numbers: of what it serves, JSON.
    @ivar ready: whether it can decide, 0 or 1.
    """

    seen_at: int
    numbers: str
    ready: int


def sign_off(cursor: Any, replica: Replica, now: int) -> int:
    """Note that a group of this daemon ends. @return: its turn, if it is committed."""
    cursor.execute(_SIGN_OFF, (*msgspec.structs.astuple(replica), now))
    turn: int = cursor.fetchone()[0]
    return turn


def forget(tx: Transaction, before: int) -> None:
    """Delete the rows of daemons that have decided nothing since."""
    tx.execute("DELETE FROM replica WHERE seen_at < ?", before)


def turn_of(cursor: Any, boot: str) -> int:
    """The turn of the last group that a daemon committed; 0 before the first."""
    row = cursor.execute("SELECT turn FROM replica WHERE boot = ?", (boot,)).fetchone()
    return 0 if row is None else int(row[0])


def report(tx: Transaction, replica: Replica, numbers: str, ready: bool) -> None:
    """Write one's own, with the time of the database, by which others judge it."""
    tx.execute(
        f"INSERT INTO replica ({_COLUMNS}, turn) VALUES (?,?,?,?,?,?,?,?,?,?,0)"
        " ON CONFLICT (boot) DO UPDATE SET keys = excluded.keys, rules = excluded.rules,"
        " seen_at = excluded.seen_at, numbers = excluded.numbers, ready = excluded.ready",
        *msgspec.structs.astuple(replica),
        tx.now,
        numbers,
        int(ready),
    )


def leave(notes: Notes, boot: str) -> None:
    """Delete one's own: this daemon ends."""
    notes.execute("DELETE FROM replica WHERE boot = ?", boot)


def live(reader: Reader, since: int) -> list[ReplicaReport]:
    """Of the daemons that have written since; in the order of their names."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM replica WHERE seen_at >= ? ORDER BY name, boot", since)
    return [ReplicaReport(*row) for row in rows]


def page(reader: Reader, after: str, limit: int) -> list[ReplicaReport]:
    """All that are known, from the one after this boot."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM replica WHERE boot > ? ORDER BY boot LIMIT ?", after, limit)
    return [ReplicaReport(*row) for row in rows]
