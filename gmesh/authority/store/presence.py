# SPDX-License-Identifier: MIT
"""
When members were last heard of, and what they had applied: written in batches, outside the order.

A row only ever gives way to a later heartbeat, so one that is played again at another daemon has no effect.
Tests: C{tests/authority/test_presence.py}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gmesh.authority.store.transaction import Notes, Reader

__all__ = ["ROWS_A_NOTE", "HeardRow", "forget", "heard_since", "of", "write"]

ROWS_A_NOTE = 500
"""As many as one statement takes, so that no decision waits long behind it."""
_WRITE = "INSERT INTO presence (node_id, sent_ms, last_seen, numbers) VALUES {rows}"
_NEWER = (
    " ON CONFLICT (node_id) DO UPDATE SET sent_ms = excluded.sent_ms, last_seen = excluded.last_seen,"
    " numbers = excluded.numbers WHERE excluded.sent_ms > presence.sent_ms"
)


class HeardRow(msgspec.Struct, frozen=True):
    """
    The newest heartbeat of a member.

    @ivar sent_ms: when it was sent, milliseconds by the node's clock.
    @ivar last_seen: when it came, seconds.
    @ivar numbers: what it said, JSON.
    """

    node_id: str
    sent_ms: int
    last_seen: int
    numbers: str


def write(notes: Notes, rows: Sequence[HeardRow]) -> None:
    """
    Note those that are newer than what is known.

    @param rows: at most C{ROWS_A_NOTE}; written in the order of their keys, so that no two daemons wait for
        each other.
    """
    some = sorted(rows, key=lambda row: row.node_id)
    values = [value for row in some for value in msgspec.structs.astuple(row)]
    notes.execute(_WRITE.format(rows=",".join(["(?,?,?,?)"] * len(some))) + _NEWER, *values)


def of(reader: Reader, node_ids: Sequence[str]) -> dict[str, HeardRow]:
    """What is known of these, by node_id; at most a page of them."""
    if not node_ids:
        return {}
    places = ",".join("?" * len(node_ids))
    rows = reader.all(
        f"SELECT node_id, sent_ms, last_seen, numbers FROM presence WHERE node_id IN ({places})", *node_ids
    )
    return {row[0]: HeardRow(*row) for row in rows}


def heard_since(reader: Reader, moment: int) -> bool:
    """Whether any member was heard of at that second or later."""
    return reader.one("SELECT 1 FROM presence WHERE last_seen >= ? LIMIT 1", moment) is not None


def forget(notes: Notes, before: int) -> int:
    """Delete what is known of who is no member any more and was last heard of before. @return: how many."""
    return notes.execute(
        "DELETE FROM presence WHERE last_seen < ?"
        " AND NOT EXISTS (SELECT 1 FROM node WHERE node.node_id = presence.node_id)",
        before,
    )
