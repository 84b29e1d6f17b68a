# SPDX-License-Identifier: MIT
"""
One end of a copy: a file of SQLite.

Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gmesh.authority.store import sqlite
from gmesh.authority.store.copy import Row, check_schema
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.moved import unmark_moved
from gmesh.authority.store.tables import CopiedTable, tables
from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError
from gmesh.files import give_to_owner

__all__ = ["SqliteEnd"]


class SqliteEnd:
    """
    A file. What a target gets lies beside it until it is complete.

    @param path: the file; for a target it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".copying")
        self.shown = str(path.absolute())
        self.directory: Path | None = path.absolute().parent
        self._connection: Any = None

    def begin_source(self, alone: bool) -> Any:
        """@see: L{gmesh.authority.store.copy.CopyEnd.begin_source}"""
        if not self._path.is_file():
            raise StoreError("missing", f"{self._path} does not exist")
        self._connection = sqlite.connect(self._path)
        cursor = self._connection.cursor()
        if alone:
            self._connection.begin(cursor)
        else:
            self._connection.begin_read(cursor)
        check_schema(Reader(cursor), self.shown)
        return cursor

    def begin_target(self, now: int) -> Any:
        """@see: L{gmesh.authority.store.copy.CopyEnd.begin_target}"""
        if self._path.exists():
            raise StoreError("not-empty", f"{self._path} exists: move it away first")
        self._remove_part()
        self._part.touch(0o600)
        self._connection = sqlite.connect(self._part)
        migrate(self._connection, now)
        cursor = self._connection.cursor()
        self._connection.begin(cursor)
        for table in reversed(tables()):
            cursor.execute(f"DELETE FROM {table.name}")
        return cursor

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """@see: L{gmesh.authority.store.copy.CopyEnd.rows}"""
        cursor = self._connection.execute(table.select())
        while some := cursor.fetchmany(table.at_once):
            yield from some

    def put(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.put}"""
        places = ",".join("?" * len(table.columns))
        self._connection.executemany(
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})", rows
        )

    def commit(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.commit}"""
        self._connection.commit()

    def publish(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.publish}"""
        unmark_moved(self._connection)
        self._connection.close()
        sqlite.sync(self._part)
        give_to_owner(self._part)
        os.rename(self._part, self._path)
        sqlite.sync(self._path.parent)

    def close(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.close}"""
        if self._connection is not None:
            self._connection.close()
        self._remove_part()

    def _remove_part(self) -> None:
        for leftover in self._part.parent.glob(self._part.name + "*"):
            leftover.unlink()

    def explain(self, error: BaseException) -> StoreError | None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.explain}"""
        return sqlite.explain(error, self._path) if isinstance(error, sqlite.EngineError) else None
