# SPDX-License-Identifier: MIT
"""
The tables that this program's migrations make, asked of SQLite: those of every engine are the same.

Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from gmesh.authority.store.identity import IDENTITY_MARKS
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.sqlite import Connection

__all__ = ["CopiedTable", "tables"]

OF_THE_PLACE = frozenset({"migration", "moved", "replica"})
"""What says something of a database, and nothing of the authority."""
ROWS_AT_ONCE = 1000
LONG_ROWS_AT_ONCE = 8
_LONG = frozenset({"crl"})
"""Whose rows may have megabytes each."""


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """
    One whose rows are the authority's.

    @ivar columns: in the order of the definition.
    @ivar types: SQLite's name of each one's: INTEGER, TEXT, BLOB.
    @ivar keys: the columns that tell a row from the others.
    """

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    keys: Sequence[str]

    @property
    def at_once(self) -> int:
        """How many rows are fetched at a time."""
        return LONG_ROWS_AT_ONCE if self.name in _LONG else ROWS_AT_ONCE

    @property
    def source(self) -> str:
        """What follows FROM in a statement that reads its rows, but for those that are of the place."""
        marks = ", ".join(f"'{name}'" for name in IDENTITY_MARKS)
        return f"meta WHERE name NOT IN ({marks})" if self.name == "meta" else self.name

    def select(self) -> str:
        """The statement that reads all rows in the order of their keys."""
        return f"SELECT {', '.join(self.columns)} FROM {self.source} ORDER BY {', '.join(self.keys)}"


def tables() -> list[CopiedTable]:
    """All of them, each after those that it refers to."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    try:
        migrate(connection, 0)
        found, needs = {}, {}
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (name,) in names:
            if name in OF_THE_PLACE:
                continue
            rows = connection.execute(
                "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", (name,)
            ).fetchall()
            keys = [column for _, column in sorted((pk, column) for column, _, pk in rows if pk)]
            found[name] = CopiedTable(name, [row[0] for row in rows], [row[1] for row in rows], keys)
            needs[name] = [
                row[0]
                for row in connection.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (name,))
            ]
        return [found[name] for name in TopologicalSorter(needs).static_order()]
    finally:
        connection.close()
