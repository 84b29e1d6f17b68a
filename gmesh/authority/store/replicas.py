# SPDX-License-Identifier: MIT
"""
The daemons that serve from one database: each has a row, which every group that it commits writes anew.

So a daemon that never heard whether its commit was done finds its answer there.
Tests: C{tests/authority/test_outage.py}, C{tests/authority/test_replica_reports.py}.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gmesh.authority.store.transaction import Transaction

__all__ = ["Replica", "forget", "sign_off", "turn_of"]

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
