# SPDX-License-Identifier: MIT
"""
The words only PostgreSQL understands: connections to it, the order of decisions, and what its errors mean.

All settings are made in the text that begins a transaction, so that a pool between us and the server may
give each transaction another session. Imported only where a database is named by URL.
Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from twisted.enterprise import adbapi
from zope.interface import implementer

from gmesh.authority.interfaces import IEngine
from gmesh.authority.store import postgres_schema
from gmesh.authority.store.identity import ServerIdentity
from gmesh.authority.store.migrate import Migration
from gmesh.authority.store.postgres_pool import PostgresPool
from gmesh.authority.store.replicas import Replica, sign_off, turn_of
from gmesh.errors import ConfigurationError, StoreError

__all__ = ["PostgresConnection", "PostgresEngine", "url_parts"]

READERS = 4
REASON_CHARACTERS = 300
"""Of what the server or libpq said, in a message of ours."""
_DEFAULTS = {
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "application_name": "gmesh-authority",
    "target_session_attrs": "read-write",
}
"""
What libpq is told unless the URL says otherwise: a host that went away is noticed within seconds, and of
several hosts the one that can be written is taken.
"""

_PASSING = ("08", "25006", "25P03", "40", "53300", "55P03", "57")
"""
SQLSTATEs of connections lost, standbys, standing still, deadlocks, too many connections, locks and
statements that took too long, and a server that ends or begins (PostgreSQL, appendix A).
"""
_BUSY = ("53300", "55P03", "57014")
"""Those of them that say nothing of others: too many connections, locks and statements that took too long."""
_FULL = ("too many clients", "too many connections", "remaining connection slots", "no more connections")
"""How PostgreSQL and PgBouncer say the first of these to who connects, where libpq gives no code."""
_NOT_REACHED = "08"
"""Class of SQLSTATEs about connections, by which a pool says why there is none."""
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
)
"""What a server says that no waiting mends; libpq gives no code for it (PQerrorMessage)."""

_LIMIT = "SET LOCAL statement_timeout = '10s'; "
_LIMITS = f"SET LOCAL idle_in_transaction_session_timeout = '5s'; {_LIMIT}SET LOCAL lock_timeout = '15s'; "
_BEGIN_WRITE = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LIMITS}"
_BEGIN_NOTE = f"{_BEGIN_WRITE}SET LOCAL synchronous_commit = off; "
"""Without the wait for a disk or a standby: a server that crashes may lose those of a second."""
_NOW = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint"
_ORDER = "SELECT turn FROM ordering WHERE id = 1 FOR UPDATE"
_IDENTITY = (
    "SELECT ARRAY[(SELECT system_identifier FROM pg_control_system()),"
    " ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint,"
    " (current_setting('synchronous_standby_names') <> '')::int]"
)
"""Of L{ServerIdentity}; after a promotion the control file has the old timeline for a while, the log not."""
_BEGIN = f"{_BEGIN_WRITE}{_NOW}; {_ORDER}; {_NOW}; {_IDENTITY}"
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LIMITS}"


@lru_cache(maxsize=1024)
def _translated(sql: str) -> bytes:
    """In the server's own words: what psycopg would make of C{%s} it makes anew for each long statement."""
    first, *others = sql.encode().split(b"?")
    return first + b"".join(b"$%d%b" % numbered for numbered in enumerate(others, 1))


class _Cursor(psycopg.RawCursor[Any]):
    """Takes statements as SQLite's does, with C{?} for each value."""

    def execute(self, query: Any, params: Any = (), **more: Any) -> _Cursor:
        """@see: C{psycopg.Cursor.execute}"""
        return super().execute(_translated(query), params, **more)

    def several(self, text: str) -> list[Any]:
        """Run statements without values in one round. @return: the first value of each that has one."""
        super().execute(text)
        found = []
        while True:
            if self.description is not None:
                found += [row[0] for row in self.fetchall()[:1]]
            if not self.nextset():
                return found


class _OneQuestion(psycopg.ClientCursor[Any]):
    """Asks a question that is a transaction by itself: it begins, and ends, in the round that answers it."""

    def execute(self, query: Any, params: Any = (), **more: Any) -> _OneQuestion:
        """@see: C{psycopg.Cursor.execute}; values stand in the text, since several statements take none."""
        super().execute(f"{_LIMIT}{query.replace('?', '%s')}".encode(), params, **more)
        while self.nextset():  # to the last
            pass
        return self


class UnknownOutcome(psycopg.OperationalError):
    """
    A commit was sent, and its answer never came.

    @ivar turn: of the group.
    """

    def __init__(self, turn: int) -> None:
        super().__init__("the connection was lost before the answer to COMMIT")
        self.turn = turn


class PostgresConnection(psycopg.Connection[Any]):
    """
    One to PostgreSQL, with the words that every engine's has.

    @ivar identity: the server, as the last L{begin} found it.
    """

    identity: ServerIdentity | None = None

    def __init__(self, pgconn: PGconn, *more: Any) -> None:
        super().__init__(pgconn, *more)
        self._spare = socket.socket(fileno=os.dup(pgconn.socket))
        self._turn: int | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether one is open and no statement of it has failed."""
        return self.info.transaction_status == TransactionStatus.INTRANS

    def begin(self, cursor: _Cursor) -> tuple[int, int]:
        """
        Begin to write, after everybody else who does: what follows reads what they left.

        @return: the server's time in Unix seconds, when it was asked and when the others were done; all who
            decide here go by it.
        """
        asked, _, now, identity = cursor.several(_BEGIN)
        self.identity = ServerIdentity(*identity)
        return asked, now

    def begin_note(self, cursor: _Cursor, lasting: bool) -> None:
        """Begin a small write, beside those who decide. @param lasting: whether a crash must not lose it."""
        cursor.several(_BEGIN_WRITE if lasting else _BEGIN_NOTE)

    def begin_read(self, cursor: _Cursor) -> None:
        """Begin to read, in one snapshot."""
        cursor.several(_BEGIN_READ)

    def one_question(self) -> _OneQuestion:
        """A cursor for a single statement that reads, without L{begin_read}."""
        return _OneQuestion(self)

    def begin_schema(self, cursor: _Cursor) -> None:
        """Begin to change tables, after everybody else who does or decides."""
        cursor.several(postgres_schema.BEGIN)
        postgres_schema.check_filled(cursor, self.info.dbname)
        cursor.several(f"{_ORDER}; {postgres_schema.BRIEFLY}")

    def sign_off(self, cursor: _Cursor, replica: Replica | None, now: int) -> None:
        """A group ends: note it, so that L{outcome} knows it if it is committed."""
        self._turn = None if replica is None else sign_off(cursor, replica, now)

    def commit(self) -> None:
        """
        Make what was begun durable.

        @raise UnknownOutcome: if the connection is lost meanwhile.
        """
        turn, self._turn = self._turn, None
        try:
            super().commit()
        except psycopg.Error as error:
            if turn is not None and self.closed:
                raise UnknownOutcome(turn) from error
            raise

    def outcome(self, boot: str, turn: int) -> bool:
        """Whether a daemon committed its group of this turn; waits until the server has done with it."""
        cursor: Any = self.cursor()
        cursor.several(_BEGIN)
        committed = turn_of(cursor, boot) >= turn
        cursor.close()
        self.rollback()
        return committed

    def sever(self) -> None:
        """Have whoever waits for the server hear that it is lost; called in another thread than theirs."""
        with suppress(OSError):
            self._spare.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._spare.close()
        super().close()

    def run_script(self, cursor: _Cursor, migration: Migration) -> None:
        """Run every statement of a file."""
        cursor.several(migration.sql)


def url_parts(url: str) -> dict[str, Any]:
    """
    The parameters of a URL, by libpq's names.

    @raise ConfigurationError: C{bad-database}; what it says never holds any of the URL.
    """
    try:
        return dict(conninfo.conninfo_to_dict(url))
    except psycopg.Error:
        raise ConfigurationError(
            "bad-database",
            "the URL of the database is none that libpq reads: postgresql://USER@HOST/NAME is one",
        ) from None


@implementer(IEngine)
class PostgresEngine:
    """
    A database of a PostgreSQL server.

    @param url: for libpq, as it is.
    @raise ConfigurationError: C{bad-database}.
    """

    path = None
    shared = True
    connection = PostgresConnection

    def __init__(self, url: str) -> None:
        given = url_parts(url)
        missing = {name: value for name, value in _DEFAULTS.items() if name not in given}
        self._dsn = conninfo.make_conninfo(url, **missing)
        self._hidden = [given[name] for name in ("password", "sslpassword") if given.get(name)]
        self.name = f"database {given.get('dbname', '')} of {given.get('host', 'this host')}"

    def connect(self) -> PostgresConnection:
        """@see: L{IEngine.connect}; transactions begin when they are asked for."""
        return self.connection.connect(
            self._dsn, autocommit=True, prepare_threshold=None, cursor_factory=_Cursor
        )

    def open(self, now: int) -> tuple[PostgresConnection, bool]:
        """@see: L{IEngine.open}"""
        connection = self.connect()
        try:
            postgres_schema.check_settings(connection)
            postgres_schema.bring_up_to_date(connection, now)
        except BaseException:
            connection.close()
            raise
        return connection, True

    def fill(self, connection: PostgresConnection, cursor: _Cursor, now: int) -> tuple[int, int]:
        """@see: L{IEngine.fill}"""
        postgres_schema.check_settings(connection)
        postgres_schema.fill(connection, cursor, now)
        (begun,) = cursor.several(_NOW)
        return begun, begun

    def writer_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.writer_pool}"""
        return PostgresPool(self, reactor, 1)

    def reader_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.reader_pool}"""
        return PostgresPool(self, reactor, READERS)

    def is_error(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_error}"""
        return isinstance(error, psycopg.Error)

    def is_locked(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_locked}"""
        return False

    def is_passing(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_passing}"""
        if not isinstance(error, psycopg.Error):
            return False
        if error.sqlstate is None:
            return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return error.sqlstate.startswith(_PASSING)

    def is_busy(self, error: BaseException | None) -> bool:
        """@see: L{IEngine.is_busy}"""
        if not isinstance(error, psycopg.OperationalError):
            return False
        if error.sqlstate is None:
            return any(words in str(error) for words in _FULL)
        return error.sqlstate in _BUSY

    def unknown_turn(self, error: BaseException | None) -> int | None:
        """@see: L{IEngine.unknown_turn}"""
        return error.turn if isinstance(error, UnknownOutcome) else None

    def explain(self, error: Any) -> StoreError:
        """@see: L{IEngine.explain}"""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return StoreError("read-only", f"{self.name} is a standby, which cannot be written")
        lost = error.sqlstate is None or error.sqlstate.startswith(_NOT_REACHED)
        if not lost or not isinstance(error, psycopg.OperationalError):
            return StoreError("unavailable", f"{self.name} failed: {error.sqlstate or type(error).__name__}")
        said = " ".join(str(error).split())
        for secret in self._hidden:
            said = said.replace(secret, "...")
        said = said[:REASON_CHARACTERS]
        if any(words in said for words in _REFUSALS):
            return StoreError("refused-database", f"{self.name} cannot be used: {said}")
        return StoreError("unavailable", f"{self.name} cannot be reached: {said}")

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
