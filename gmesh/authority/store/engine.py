# SPDX-License-Identifier: MIT
"""
The words only SQLite understands: pragmas, BEGIN IMMEDIATE, integrity, backup.

Another database means another module like this one; nothing else in the store names an engine.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.enterprise import adbapi

from gmesh.errors import StoreError

__all__ = [
    "BEGIN",
    "BEGIN_READ",
    "ConstraintError",
    "EngineError",
    "backup",
    "check_integrity",
    "connect",
    "exclusive",
    "explain",
    "reader_pool",
    "writer_pool",
]

BEGIN = "BEGIN IMMEDIATE"  # a read that becomes a write later can fail as busy whatever the timeout
BEGIN_READ = "BEGIN"
EngineError = sqlite3.Error
ConstraintError = sqlite3.IntegrityError
BUSY_MILLISECONDS = 5000
READERS = 4

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",
    "PRAGMA trusted_schema=OFF",
)


def _prepare_writer(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()


def _prepare_reader(connection: sqlite3.Connection) -> None:
    _prepare_writer(connection)
    connection.execute("PRAGMA query_only=1")


def connect(path: Path) -> sqlite3.Connection:
    """A connection of the caller's own, with every setting of the writer."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        _prepare_writer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def writer_pool(path: Path, reactor: Any) -> adbapi.ConnectionPool:
    """The pool of one connection through which every change goes."""
    return _pool(path, reactor, 1, _prepare_writer)


def reader_pool(path: Path, reactor: Any) -> adbapi.ConnectionPool:
    """Connections that cannot change anything."""
    return _pool(path, reactor, READERS, _prepare_reader)


def _pool(path: Path, reactor: Any, size: int, prepare: Any) -> adbapi.ConnectionPool:
    return adbapi.ConnectionPool(
        "sqlite3",
        str(path),
        check_same_thread=False,
        isolation_level=None,
        cp_min=1,
        cp_max=size,
        cp_noisy=False,
        cp_openfun=prepare,
        cp_reactor=reactor,
    )


@contextlib.contextmanager
def exclusive(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """One write transaction on the caller's own connection: committed, or rolled back by an exception."""
    cursor = connection.cursor()
    cursor.execute(BEGIN)
    try:
        yield cursor
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def check_integrity(path: Path) -> None:
    """
    Read the whole database file and refuse a damaged one.

    @raise StoreError: C{corrupt}, with what to do about it.
    """
    try:
        connection = connect(path)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from error
    if found is None or found[0] != "ok":
        why = " ".join(found[0].split()) if found else "no answer"
        raise StoreError("corrupt", _RESTORE.format(path=path, why=why))


_RESTORE = "{path} is damaged ({why}): keep a copy, then restore the newest backup with gmesh restore"


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """What an engine error means to people."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError("corrupt", _RESTORE.format(path=path, why=str(error)))
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreError("read-only", f"{path} cannot be written ({error}): check its owner and file system")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StoreError("unavailable", f"{path} cannot be written ({error}): check the disk")
    return StoreError("unavailable", f"the database failed: {error}")


def backup(path: Path, target: Path) -> None:
    """Copy the live database to C{target} while others go on writing. Blocks: call it in a thread."""
    source = connect(path)
    try:
        copy = sqlite3.connect(target)
        try:
            source.backup(copy, pages=2048)
        finally:
            copy.close()
    finally:
        source.close()
