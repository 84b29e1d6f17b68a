# SPDX-License-Identifier: MIT
"""
The words only PostgreSQL understands: connections to it, the order of decisions, and what its errors mean.

All settings are made in the text that begins a transaction, so that a pool between us and the server may
give each transaction another session. Imported only where a database is named by URL.
Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus
from twisted.enterprise import adbapi
from zope.interface import implementer

from gmesh.authority.store.migrate import released
from gmesh.errors import StoreError
from gmesh.interfaces import IEngine

__all__ = ["PostgresEngine", "connect", "fill"]

READERS = 4
_DEFAULTS = {
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "application_name": "gmesh-authority",
}
"""What libpq is told unless the URL says otherwise: a host that went away is noticed within seconds."""

_LIMITS = (
    "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL statement_timeout = '10s';"
    " SET LOCAL lock_timeout = '15s'; "
)
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LIMITS}SELECT turn FROM ordering WHERE id = 1 FOR UPDATE;"
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LIMITS}"


@lru_cache(maxsize=1024)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class _Cursor(psycopg.Cursor[Any]):
    """Takes statements as SQLite's does, with C{?} for each value."""

    def execute(self, query: Any, params: Any = (), **more: Any) -> _Cursor:
        """@see: C{psycopg.Cursor.execute}"""
        return super().execute(_translated(query), params, **more)

    def several(self, text: str) -> None:
        """Run statements without values in one round."""
        super().execute(text)


class PostgresConnection(psycopg.Connection[Any]):
    """One to PostgreSQL, with the words that every engine's has."""

    @property
    def in_transaction(self) -> bool:
        """Whether one is open and no statement of it has failed."""
        return self.info.transaction_status == TransactionStatus.INTRANS

    def begin(self, cursor: _Cursor) -> int:
        """
        Begin to write, after everybody else who does: what follows reads what they left.

        @return: the server's time then, in Unix seconds, which all who decide here go by.
        """
        cursor.several(_BEGIN)
        row = cursor.execute("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint").fetchone()
        return int(row[0]) if row else 0

    def begin_read(self, cursor: _Cursor) -> None:
        """Begin to read, in one snapshot."""
        cursor.several(_BEGIN_READ)


def connect(url: str) -> PostgresConnection:
    """A connection; transactions begin when they are asked for. @raise psycopg.Error: if there is none."""
    given = conninfo.conninfo_to_dict(url)
    missing = {name: value for name, value in _DEFAULTS.items() if name not in given}
    dsn = conninfo.make_conninfo(url, **missing)
    return PostgresConnection.connect(dsn, autocommit=True, prepare_threshold=None, cursor_factory=_Cursor)


def fill(connection: PostgresConnection, now: int) -> None:
    """
    Make the tables in an empty database, whole or not at all.

    @raise StoreError: C{not-empty}.
    """
    cursor: Any = connection.cursor()
    with connection.transaction(), cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace LIMIT 1"
        )
        if cursor.fetchone() is not None:
            raise StoreError("not-empty", "the database is not empty: make another for the authority")
        cursor.several(
            "CREATE TABLE migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL,"
            " digest TEXT NOT NULL, applied_at BIGINT NOT NULL)"
        )
        for migration in released("migrations/postgres"):
            cursor.several(migration.sql)
            cursor.execute(
                "INSERT INTO migration (number, name, digest, applied_at) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, migration.digest, now),
            )


class _Pooled(adbapi.Connection):
    """One that is given up where it broke, so that the next work of its thread makes another."""

    def rollback(self) -> None:
        """Take back what was begun."""
        connection: Any = self._connection
        with suppress(psycopg.Error):
            connection.rollback()
        if connection.closed:
            self._pool.disconnect(connection)
            self._connection = None


class _Pool(adbapi.ConnectionPool):
    connectionFactory = _Pooled


@implementer(IEngine)
class PostgresEngine:
    """
    A database of a PostgreSQL server.

    @param url: for libpq, as it is.
    """

    path = None

    def __init__(self, url: str) -> None:
        self._url = url

    def connect(self) -> PostgresConnection:
        """@see: L{IEngine.connect}"""
        return connect(self._url)

    def writer_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.writer_pool}"""
        return self._pool(reactor, 1)

    def reader_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.reader_pool}"""
        return self._pool(reactor, READERS)

    def _pool(self, reactor: Any, size: int) -> adbapi.ConnectionPool:
        return _Pool(__name__, self._url, cp_min=1, cp_max=size, cp_noisy=False, cp_reactor=reactor)

    def is_error(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_error}"""
        return isinstance(error, psycopg.Error)

    def is_locked(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_locked}"""
        return False

    def explain(self, error: Any) -> StoreError:
        """@see: L{IEngine.explain}"""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return StoreError("read-only", "the database is a standby, which cannot be written")
        return StoreError("unavailable", f"the database failed: {error.sqlstate or type(error).__name__}")

    def log_size(self) -> int:
        """@see: L{IEngine.log_size}"""
        return 0

    def log_held(self, connection: Any) -> int:
        """@see: L{IEngine.log_held}"""
        return 0

    def check(self, given_up: Callable[[], bool] | None = None) -> None:
        """@see: L{IEngine.check}"""

    def closed(self) -> None:
        """@see: L{IEngine.closed}"""
