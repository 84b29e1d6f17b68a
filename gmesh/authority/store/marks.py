# SPDX-License-Identifier: MIT
"""
What every decision asks and most change: marks, counters and the head of the audit.

It is read once per group and written once, before its commit.  Each decision works on a copy of its
own, from which the next one starts unless it was refused; that there is one writer makes it safe.
Tests: C{tests/authority/test_store.py}, C{tests/authority/test_state.py}.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MOVED_MARK", "Marks", "read_audit_head", "write_mark"]

MOVED_MARK = "moved"
_SET_MARK = (
    "INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_SET_COUNTER = "UPDATE counter SET n = ? WHERE name = ?"
NO_AUDIT = (0, bytes(32))


class Marks:
    """
    One state of it.

    @ivar values: the table C{meta}: C{epoch}, C{high_water}, C{nodes} and the like.
    @ivar counters: what was given out in this epoch, by name.
    @ivar audit_head: sequence number and hash of the newest audit row.
    """

    __slots__ = ("audit_head", "counters", "values")

    def __init__(
        self, values: dict[str, int], counters: dict[str, int], audit_head: tuple[int, bytes]
    ) -> None:
        self.values = values
        self.counters = counters
        self.audit_head = audit_head

    @classmethod
    def read(cls, cursor: Any) -> Marks:
        """As the database has it."""
        values = dict(cursor.execute("SELECT name, value FROM meta").fetchall())
        counters = dict(cursor.execute("SELECT name, n FROM counter").fetchall())
        return cls(values, counters, read_audit_head(cursor))

    def copy(self) -> Marks:
        """One to change, and to drop if what changed it is refused."""
        return Marks(self.values.copy(), self.counters.copy(), self.audit_head)

    def write(self, cursor: Any, before: Marks) -> None:
        """Write what differs from C{before}, which L{read} found; audit rows are written apart."""
        for name, value in self.values.items():
            if before.values.get(name) != value:
                cursor.execute(_SET_MARK, (name, value))
        for name, n in self.counters.items():
            if before.counters.get(name) != n:
                cursor.execute(_SET_COUNTER, (n, name))


def write_mark(notes: Any, name: str, value: int) -> None:
    """Write one outside the order of decisions; one that is made meanwhile writes only what it changes."""
    notes.execute(_SET_MARK, name, value)


def read_audit_head(cursor: Any) -> tuple[int, bytes]:
    """(sequence number, hash) of the newest row; (0, 32 zero bytes) before the first."""
    row = cursor.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return NO_AUDIT if row is None else (row[0], row[1])
