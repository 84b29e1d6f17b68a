# SPDX-License-Identifier: MIT
"""
What a use case sees of the database: a few verbs on a cursor, its time, and what must follow the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["SERIALS_PER_EPOCH", "Reader", "Transaction"]

SERIALS_PER_EPOCH = 2**40

Row = tuple[Any, ...]


class Reader:
    """Questions to the database. Lives as long as one call, in a database thread."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def one(self, sql: str, *values: object) -> Row | None:
        """The first row, or None."""
        self._cursor.execute(sql, values)
        row: Row | None = self._cursor.fetchone()
        return row

    def all(self, sql: str, *values: object) -> list[Row]:
        """Every row; the statement carries its own LIMIT."""
        self._cursor.execute(sql, values)
        rows: list[Row] = self._cursor.fetchall()
        return rows

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, *values)
        return None if row is None else row[0]


class Transaction(Reader):
    """
    One write decision.

    @ivar now: whole seconds, the same for the decisions of one group.
    @ivar audit_entries: rows of the audit chain this decision appended.
    """

    __slots__ = ("_hooks", "audit_entries", "now")

    def __init__(self, cursor: Any, now: int) -> None:
        super().__init__(cursor)
        self.now = now
        self.audit_entries: list[tuple[int, bytes, bytes]] = []
        self._hooks: list[Callable[[], None]] = []

    def execute(self, sql: str, *values: object) -> int:
        """Change something. @return: how many rows."""
        self._cursor.execute(sql, values)
        count: int = self._cursor.rowcount
        return count

    def next_number(self, name: str) -> int:
        """The next number of a counter in this epoch: epoch * 2^40 + n."""
        n = self.value("UPDATE counter SET n = n + 1 WHERE name = ? RETURNING n", name)
        epoch = self.value("SELECT value FROM meta WHERE name = 'epoch'")
        return int(epoch) * SERIALS_PER_EPOCH + int(n)

    def after_commit(self, function: Callable[..., None], *arguments: object) -> None:
        """Have C{function} called in the reactor thread once this is durable, whoever still listens."""
        self._hooks.append(lambda: function(*arguments))

    def committed(self) -> None:
        """Run the hooks; called by the writer alone."""
        for hook in self._hooks:
            hook()
