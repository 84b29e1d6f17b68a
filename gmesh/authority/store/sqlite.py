# SPDX-License-Identifier: MIT
"""
The words only SQLite understands: pragmas, BEGIN IMMEDIATE, integrity, backup.

Another database means another module like this one, with a provider of
L{gmesh.authority.interfaces.IEngine}; a connection of either has the same few words beside those of PEP 249.
Tests: C{tests/authority/test_store.py}, C{tests/authority/test_disk.py}.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.enterprise import adbapi
from zope.interface import implementer

from gmesh.authority import limits
from gmesh.authority.interfaces import IEngine
from gmesh.authority.store.clean_shutdown import leave_clean, take_clean
from gmesh.authority.store.migrate import Migration, migrate
from gmesh.authority.store.replicas import Replica
from gmesh.errors import StoreError

__all__ = [
    "EngineError",
    "SqliteEngine",
    "backup",
    "check_integrity",
    "connect",
    "explain",
    "reading",
    "sync",
]

EngineError = sqlite3.Error
BUSY_MILLISECONDS = 5000
READERS = 4
READ_BYTES = 1 << 20
PROGRESS_STEPS = 100_000

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",
    f"PRAGMA journal_size_limit={limits.LOG_BYTES_KEPT}",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA temp_store=MEMORY",  # what a savepoint may have to restore: else a file once it is 64 KiB
)


class Connection(sqlite3.Connection):
    """One to SQLite, with the words that every engine's has."""

    identity = None

    def begin(self, cursor: sqlite3.Cursor) -> tuple[int, int] | None:
        """
        Begin to write: a read that becomes a write later can fail as busy whatever the timeout.

        @return: None: the time is that of this host.
        """
        cursor.execute("BEGIN IMMEDIATE")
        return None

    def begin_note(self, cursor: sqlite3.Cursor, lasting: bool) -> None:
        """Begin a small write: the order of decisions is this file's."""
        cursor.execute("BEGIN IMMEDIATE")

    def begin_read(self, cursor: sqlite3.Cursor) -> None:
        """Begin to read, in one snapshot."""
        cursor.execute("BEGIN")

    def one_question(self) -> sqlite3.Cursor:
        """A cursor for a single statement that reads, without L{begin_read}."""
        return self.cursor()

    def begin_schema(self, cursor: sqlite3.Cursor) -> None:
        """Begin to change tables."""
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " digest TEXT NOT NULL, applied_at INTEGER NOT NULL)"
        )

    def sign_off(self, cursor: sqlite3.Cursor, replica: Replica | None, now: int) -> None:
        """A group ends: there is one daemon, which hears what became of it."""

    def run_script(self, cursor: sqlite3.Cursor, migration: Migration) -> None:
        """Run every statement of a file."""
        for statement in migration.statements():
            cursor.execute(statement)


def _prepare_writer(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()


def _prepare_reader(connection: sqlite3.Connection) -> None:
    _prepare_writer(connection)
    connection.execute("PRAGMA query_only=1")


def connect(path: Path) -> Connection:
    """A connection of the caller's own, with every setting of the writer."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, factory=Connection)
    try:
        _prepare_writer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _pool(path: Path, reactor: Any, size: int, prepare: Any) -> adbapi.ConnectionPool:
    return adbapi.ConnectionPool(
        "sqlite3",
        str(path),
        check_same_thread=False,
        isolation_level=None,
        factory=Connection,
        cp_min=1,
        cp_max=size,
        cp_noisy=False,
        cp_openfun=prepare,
        cp_reactor=reactor,
    )


def _log_size(path: Path) -> int:
    """Bytes of the log beside the database, as it lies on the disk."""
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


def _log_held(connection: Any) -> int:
    """Take up what can be of the log. @return: its bytes, if somebody reads what was before some of it."""
    _, pages, taken = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size) if taken < pages else 0


def check_integrity(path: Path, still: bool = False, given_up: Callable[[], bool] | None = None) -> None:
    """
    Read the whole database file and refuse a damaged one.

    @param still: nobody writes this file, and it is not touched: a backup, perhaps just written.
    @param given_up: asked now and then, in this thread: other connections of this process are at work.
    @raise StoreError: C{corrupt}, with what to do about it; C{unavailable}, when it was given up.
    """
    if not still and given_up is None:
        _read_ahead(path)
    try:
        connection = _connect_still(path) if still else connect(path)
        connection.set_progress_handler(given_up, PROGRESS_STEPS)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from error
    if found is None or found[0] != "ok":
        why = " ".join(found[0].split()) if found else "no answer"
        raise StoreError("corrupt", _RESTORE.format(path=path, why=why))


def _read_ahead(path: Path) -> None:
    """
    In the order of the file, which a disk gives several times faster than in the order of the tree.

    Only where this process has no connection to the file: closing it here would end their locks
    (POSIX), and a stranger's look into the database would then take the log away from under them.
    """
    buffer = bytearray(READ_BYTES)
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _connect_still(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?immutable=1", uri=True, factory=Connection)


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
    """
    Copy the live database to C{target}, a new or empty file, while others go on writing.

    One read transaction, at the speed of the disk: copying it in steps takes half as long again, and
    begins again when something is written in between.  Blocks, and leaves syncing to the caller, who has
    something to do meanwhile.
    """
    source = connect(path)
    try:
        source.execute("PRAGMA synchronous=OFF")  # the copy takes this over; the source is only read
        source.execute("VACUUM INTO ?", (str(target),))
    finally:
        source.execute("PRAGMA synchronous=FULL")  # for the checkpoint of a last connection
        source.close()


def sync(path: Path) -> None:
    """Have a file on the disk before it is counted on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Cursor]:
    """Questions to a database file that nobody writes; the file is not touched."""
    connection = _connect_still(path)
    try:
        yield connection.cursor()
    finally:
        connection.close()


@implementer(IEngine)
class SqliteEngine:
    """
    A database in one file of this host.

    @param path: the file.
    """

    shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def connect(self) -> Connection:
        """@see: L{IEngine.connect}"""
        return connect(self.path)

    def open(self, now: int) -> tuple[Connection, bool]:
        """@see: L{IEngine.open}"""
        clean = take_clean(self.path)
        if self.path.exists() and not clean:
            check_integrity(self.path)
        connection = connect(self.path)
        try:
            self.path.chmod(0o600)
            migrate(connection, now, keep=self._keep)
        except BaseException:
            connection.close()
            raise
        return connection, not clean

    def _keep(self, number: int) -> None:
        """Copy the database as the release before left it, whole or not at all: what a downgrade needs."""
        copy = self.path.with_name(f"authority-before-{number:04d}.sqlite")
        part = copy.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        backup(self.path, part)
        sync(part)
        part.replace(copy)

    def fill(self, connection: Connection, cursor: sqlite3.Cursor, now: int) -> None:
        """@see: L{IEngine.fill}; L{open} makes a file."""
        raise StoreError("not-empty", f"{self.path} is filled by the daemon itself")

    def writer_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.writer_pool}"""
        return _pool(self.path, reactor, 1, _prepare_writer)

    def reader_pool(self, reactor: Any) -> adbapi.ConnectionPool:
        """@see: L{IEngine.reader_pool}"""
        return _pool(self.path, reactor, READERS, _prepare_reader)

    def is_error(self, error: BaseException) -> bool:
        """@see: L{IEngine.is_error}"""
        return isinstance(error, sqlite3.Error)

    def is_locked(self, error: BaseException) -> bool:
        """@see: L{IEngine.is_locked}"""
        return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def is_passing(self, error: BaseException) -> bool:
        """@see: L{IEngine.is_passing}"""
        return False

    def is_busy(self, error: BaseException) -> bool:
        """@see: L{IEngine.is_busy}"""
        return False

    def unknown_turn(self, error: BaseException) -> int | None:
        """@see: L{IEngine.unknown_turn}"""
        return None

    def explain(self, error: Any) -> StoreError:
        """@see: L{IEngine.explain}"""
        return explain(error, self.path)

    def log_size(self) -> int:
        """@see: L{IEngine.log_size}"""
        return _log_size(self.path)

    def log_held(self, connection: Any) -> int:
        """@see: L{IEngine.log_held}"""
        return _log_held(connection)

    def check(self, given_up: Callable[[], bool] | None = None) -> None:
        """@see: L{IEngine.check}"""
        check_integrity(self.path, given_up=given_up)

    def closed(self) -> None:
        """@see: L{IEngine.closed}"""
        leave_clean(self.path)
