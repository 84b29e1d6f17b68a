# SPDX-License-Identifier: MIT
"""
What the daemons of one database say of themselves, each in its own row, beside the decisions.

Tests: C{tests/authority/test_replica_reports.py}.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.transaction import Notes, Reader, Transaction

__all__ = ["ReplicaReport", "leave", "live", "page", "report"]

_COLUMNS = "boot, name, version, schema, keys, rules, started_at, seen_at, numbers, ready"


class ReplicaReport(msgspec.Struct, frozen=True):
    """
    One daemon.

    @ivar seen_at: when it wrote last, in Unix seconds.
    @ivar numbers: of what it serves, JSON.
    @ivar ready: whether it can decide, 0 or 1.
    """

    boot: str
    name: str
    version: str
    schema: int
    keys: str
    rules: int
    started_at: int
    seen_at: int
    numbers: str
    ready: int


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
