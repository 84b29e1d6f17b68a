# SPDX-License-Identifier: MIT
"""
Every row of one database into another, of whatever engines, and every row compared.

The one mechanism below moving, its way back, backups of a shared database and their restore.
Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any, Protocol

from gmesh.authority.store.migrate import released
from gmesh.authority.store.tables import CopiedTable, tables
from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError

__all__ = ["CopyEnd", "Progress", "check_schema", "copy_rows", "count_rows"]

Row = tuple[Any, ...]
Progress = Callable[[int], object]
"""Told of so many more rows that were copied or compared."""


class CopyEnd(Protocol):
    """
    A database that rows are copied from, or to, in one transaction.

    @ivar shown: where it is, for people, without a password.
    @ivar is_error: whether an exception is the engine's own.
    """

    shown: str

    def begin_source(self, alone: bool) -> Any:
        """
        Begin to read it in one snapshot.

        @param alone: nobody writes from now on, and the caller may, until it commits.
        @return: a cursor.
        @raise StoreError: C{missing}, C{other-schema}; C{in-use}, if daemons serve from it.
        """

    def begin_target(self, now: int) -> Any:
        """
        Make the tables, without rows.

        @return: a cursor.
        @raise StoreError: C{not-empty}, if something is there that is no copy that was cut short.
        """

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """All of a table in the order of its keys."""

    def put(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """Add rows."""

    def commit(self) -> None:
        """Keep what was written."""

    def publish(self) -> None:
        """Let daemons serve from a target that was committed and is complete."""

    def close(self) -> None:
        """Let go of it; what was not committed is as it was before."""

    def explain(self, error: BaseException) -> StoreError | None:
        """What an error means, if it is of this engine."""


def check_schema(reader: Reader, where: str) -> None:
    """@raise StoreError: C{other-schema}, unless the database has this program's tables."""
    done = {row[0] for row in reader.all("SELECT number FROM migration")}
    known = {migration.number for migration in released()}
    if done - known:
        raise StoreError("other-schema", f"{where} was written by a newer program: use the gmesh of that one")
    if max(known) not in done:
        raise StoreError(
            "other-schema", f"{where} was written by an older program: start and stop its authority once"
        )


def count_rows(reader: Reader) -> int:
    """How many rows there are to copy."""
    return sum(reader.value(f"SELECT count(*) FROM {table.source}") for table in tables())


def copy_rows(source: CopyEnd, target: CopyEnd, progress: Progress) -> int:
    """
    Copy all rows, then read both ends once more and compare them.

    @return: how many.
    @raise StoreError: C{copy-differs}, naming the table.
    """
    copied = 0
    known = tables()
    for table in known:
        target.put(table, _told(source.rows(table), progress))
    for table in known:
        pairs = zip_longest(_told(source.rows(table), progress), target.rows(table))
        for there, here in pairs:
            if there != here:
                raise StoreError("copy-differs", f"the copy of table {table.name} differs: nothing was kept")
            copied += 1
    return copied


def _told(rows: Iterator[Row], progress: Progress) -> Iterator[Row]:
    seen = 0
    for row in rows:
        yield row
        seen += 1
        if seen == 1000:
            progress(seen)
            seen = 0
    progress(seen)
