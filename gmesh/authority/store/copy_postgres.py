# SPDX-License-Identifier: MIT
"""
One end of a copy: a database of a PostgreSQL server.

Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from gmesh.authority import limits
from gmesh.authority.store.copy import Row, check_schema
from gmesh.authority.store.moved import moved_to, unmark_moved
from gmesh.authority.store.postgres_schema import check_filled, has_tables
from gmesh.authority.store.tables import CopiedTable, tables
from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError

__all__ = ["PostgresEnd"]

_TYPES = {"INTEGER": "int8", "TEXT": "text", "BLOB": "bytea"}
_NO_LIMITS = (
    "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0;"
    " SET LOCAL lock_timeout = '15s'; "
)
_BEGIN = f"BEGIN ISOLATION LEVEL REPEATABLE READ; {_NO_LIMITS}"
_ALONE = "LOCK TABLE ordering IN EXCLUSIVE MODE"
"""Whoever decides waits; and no snapshot is taken before it is had, as by a question for the row."""


class PostgresEnd:
    """
    A database.

    @param engine: L{gmesh.authority.interfaces.IEngine} of it.
    @param replace: a target may be full: its rows go in the transaction in which the others come.
    """

    def __init__(self, engine: Any, replace: bool = False) -> None:
        self._engine = engine
        self._replace = replace
        self.shown: str = engine.name
        self.directory: Path | None = None
        self._connection: Any = None

    def begin_source(self, alone: bool) -> Any:
        """@see: L{gmesh.authority.store.copy.CopyEnd.begin_source}"""
        cursor = self._connect()
        check_filled(cursor, self.shown)
        cursor.several(f"{_BEGIN}{_ALONE}" if alone else _BEGIN)
        if alone:
            _check_nobody(cursor, self.shown)
        check_schema(Reader(cursor), self.shown)
        return cursor

    def begin_target(self, now: int) -> Any:
        """@see: L{gmesh.authority.store.copy.CopyEnd.begin_target}"""
        cursor = self._connect()
        if has_tables(cursor):
            cursor.several(f"{_BEGIN}{_ALONE}")
            _check_nobody(cursor, self.shown)
            reader = Reader(cursor)
            if moved_to(reader) != "" and not self._replace:
                raise StoreError("not-empty", f"{self.shown} is not empty: name another database")
            check_schema(reader, self.shown)
        else:
            self._engine.fill(self._connection, cursor, now)
            cursor.several(_NO_LIMITS)
        unmark_moved(cursor)
        cursor.several(f"TRUNCATE {', '.join(table.name for table in tables())}")
        return cursor

    def _connect(self) -> Any:
        self._connection = self._engine.connect()
        return self._connection.cursor()

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """@see: L{gmesh.authority.store.copy.CopyEnd.rows}"""
        with self._connection.cursor(name=f"rows_{table.name}", binary=True) as cursor:
            cursor.itersize = table.at_once
            yield from cursor.execute(table.select())

    def put(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.put}"""
        names = ", ".join(table.columns)
        with (
            psycopg.Cursor(self._connection) as cursor,
            cursor.copy(sql.SQL(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)")) as copy,
        ):
            copy.set_types([_TYPES[name] for name in table.types])
            for row in rows:
                copy.write_row(row)

    def commit(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.commit}"""
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('lost_certificate', 'id'), coalesce(max(id), 0) + 1, false)"
            " FROM lost_certificate"
        )
        self._connection.commit()

    def publish(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.publish}"""
        unmark_moved(self._connection.cursor())
        self._connection.execute("ANALYZE")

    def close(self) -> None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.close}"""
        if self._connection is not None:
            self._connection.close()

    def explain(self, error: BaseException) -> StoreError | None:
        """@see: L{gmesh.authority.store.copy.CopyEnd.explain}"""
        return self._engine.explain(error) if self._engine.is_error(error) else None


def _check_nobody(cursor: Any, where: str) -> None:
    """@raise StoreError: C{in-use}."""
    cursor.execute(
        "SELECT name FROM replica WHERE seen_at > extract(epoch FROM clock_timestamp()) - ? LIMIT 1",
        (limits.REPLICA_LIVE_SECONDS,),
    )
    found = cursor.fetchone()
    if found is not None:
        raise StoreError(
            "in-use",
            f"the authority of {found[0]} serves from {where}: stop all first (one that was killed counts for"
            f" {limits.REPLICA_LIVE_SECONDS} s)",
        )
