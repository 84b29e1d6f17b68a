# SPDX-License-Identifier: MIT
"""
The tables in a database of PostgreSQL: made where there are none, and never by a daemon; brought up to date.

Whoever changes a table waits for all that read it, and all that come later wait behind: so it is tried for a
moment only, again and again, and beside a dump that takes an hour the other daemons go on.
Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from psycopg import errors

from gmesh.authority.store.migrate import Migration, apply, migrate, released
from gmesh.errors import StoreError

__all__ = [
    "BEGIN",
    "BRIEFLY",
    "bring_up_to_date",
    "check_filled",
    "check_settings",
    "fill",
    "has_tables",
    "migrations",
]

LOCK = 0x676D657368
"""The advisory lock of whoever changes tables: C{gmesh} in ASCII; the only one we take."""
OLDEST_SERVER = 140000
TRIES, PAUSE_SECONDS = 30, 1.0
"""Until a start gives up, within the time that systemd leaves it."""
_LIMITS = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '60s';"
    " SET LOCAL lock_timeout = 0; "
)
BRIEFLY = "SET LOCAL lock_timeout = '1s'"
"""Once it is its turn: for a group that decides, or another start, it waits as long as that takes."""
BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LIMITS}SELECT pg_advisory_xact_lock({LOCK})"
_ANYTHING = "SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace LIMIT 1"
_MIGRATION = (
    "CREATE TABLE migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL,"
    " digest TEXT NOT NULL, applied_at BIGINT NOT NULL)"
)


def migrations() -> list[Migration]:
    """Those of PostgreSQL."""
    return released("migrations/postgres")


def bring_up_to_date(connection: Any, now: int, sleep: Callable[[float], object] = time.sleep) -> None:
    """
    Apply the migrations that the database lacks, between what others do there.

    @raise StoreError: C{unavailable}, while something reads the tables for long; else as L{migrate}.
    """
    for _ in range(TRIES):
        try:
            migrate(connection, now, migrations())
            return
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            sleep(PAUSE_SECONDS)
    raise StoreError(
        "unavailable",
        f"the tables of {connection.info.dbname} cannot change while something reads them, such as a dump:"
        " start once more when it has ended",
    )


def has_tables(cursor: Any) -> bool:
    """Whether the tables of an authority are there, filled or not."""
    found: bool = cursor.execute("SELECT to_regclass('migration') IS NOT NULL").fetchone()[0]
    return found


def check_filled(cursor: Any, name: str) -> None:
    """@raise StoreError: C{empty-database}, for one that has no authority's tables."""
    if has_tables(cursor):
        return
    if cursor.execute(_ANYTHING).fetchone() is None:
        raise StoreError(
            "empty-database",
            f"the database {name} is empty, and a daemon never fills one: gmesh database create does, once",
        )
    raise StoreError("empty-database", f"the database {name} holds something else, and no authority")


def check_settings(connection: Any) -> None:
    """@raise StoreError: C{unsafe-database}, for one that would not keep what it acknowledged."""
    asked = "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'),"
    version, commits, encoding = connection.execute(f"{asked} current_setting('server_encoding')").fetchone()
    if version < OLDEST_SERVER:
        raise StoreError("unsafe-database", f"the server is PostgreSQL {version // 10000}: 14 is the oldest")
    if commits in ("off", "local"):
        raise StoreError(
            "unsafe-database",
            f"synchronous_commit is {commits} for this role, so that what was acknowledged may be lost:"
            " ALTER ROLE ... RESET synchronous_commit",
        )
    if encoding != "UTF8":
        raise StoreError("unsafe-database", f"the database is encoded in {encoding}: make one in UTF8")


def fill(connection: Any, cursor: Any, now: int) -> None:
    """
    Begin to write, and make the tables.

    @raise StoreError: C{not-empty}.
    """
    cursor.several(BEGIN)
    if cursor.execute(_ANYTHING).fetchone() is not None:
        raise StoreError("not-empty", "the database is not empty: make another for the authority")
    cursor.several(_MIGRATION)
    for migration in migrations():
        apply(connection, cursor, migration, now)
