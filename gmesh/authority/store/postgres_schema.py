# SPDX-License-Identifier: MIT
"""
The tables in a database of PostgreSQL: made where there are none, and never by a daemon; brought up to date.

Tests: C{tests/authority/test_postgres.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.authority.store.migrate import Migration, apply, released
from gmesh.errors import StoreError

__all__ = ["BEGIN", "check_filled", "check_settings", "fill", "has_tables", "migrations"]

LOCK = 0x676D657368
"""The advisory lock of whoever changes tables: C{gmesh} in ASCII; the only one we take."""
OLDEST_SERVER = 140000
_LIMITS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '60s'; "
BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LIMITS}SELECT pg_advisory_xact_lock({LOCK})"
_ANYTHING = "SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace LIMIT 1"
_MIGRATION = (
    "CREATE TABLE migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL,"
    " digest TEXT NOT NULL, applied_at BIGINT NOT NULL)"
)


def migrations() -> list[Migration]:
    """Those of PostgreSQL."""
    return released("migrations/postgres")


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
