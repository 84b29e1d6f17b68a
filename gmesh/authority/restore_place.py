# SPDX-License-Identifier: MIT
"""
Where a restored database goes: in the place of the file of a state directory, or of the rows of a shared one.

What was there is kept beside it, in the state directory.
Tests: C{tests/authority/test_restore.py}, C{tests/authority/test_shared_restore.py}.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from gmesh.authority.audit import AUDIT_PAGE, AuditMirror
from gmesh.authority.database_copy import copy_end, explained, snapshot
from gmesh.authority.state import DATABASE
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import sqlite
from gmesh.authority.store.clean_shutdown import take_clean
from gmesh.authority.store.copy_sqlite import SqliteEnd
from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError
from gmesh.files import give_to_owner

__all__ = ["FilePlace", "Place", "SharedPlace", "set_aside", "write_mirror"]


class Place(Protocol):
    """Where it goes; nobody serves from there."""

    def held(self) -> AbstractContextManager[Reader | None]:
        """Questions to what is there; None, if nothing is."""

    def put(self, fresh: Path, now: int) -> None:
        """Put the database in the file C{fresh} there; what was there is kept."""


class FilePlace:
    """The file of a state directory."""

    def __init__(self, state: Path) -> None:
        self._state = state

    @contextmanager
    def held(self) -> Iterator[Reader | None]:
        """@see: L{Place.held}"""
        if not (self._state / DATABASE).exists():
            yield None
            return
        with sqlite.reading(self._state / DATABASE) as cursor:
            yield Reader(cursor)

    def put(self, fresh: Path, now: int) -> None:
        """@see: L{Place.put}"""
        take_clean(self._state / DATABASE)
        for name in (DATABASE, DATABASE + "-wal", DATABASE + "-shm"):
            set_aside(self._state / name, now)
        give_to_owner(fresh)
        os.replace(fresh, self._state / DATABASE)


class SharedPlace:
    """
    A database that several daemons share, none of which may run.

    @param engine: L{gmesh.authority.interfaces.IEngine} of it.
    @param state: where a copy of what was there is kept.
    """

    def __init__(self, engine: Any, state: Path) -> None:
        self._engine = engine
        self._state = state

    @contextmanager
    def held(self) -> Iterator[Reader | None]:
        """@see: L{Place.held}"""
        source = copy_end(self._engine)
        with explained(source):
            try:
                reader = Reader(source.begin_source(alone=True))
            except StoreError as error:
                if error.reason != "empty-database":
                    raise
                yield None
                return
            yield reader if reader.mark("instance") is not None else None

    def put(self, fresh: Path, now: int) -> None:
        """@see: L{Place.put}"""
        with self.held() as reader:
            full = reader is not None
        if full:
            kept = self._state / f"{DATABASE}.before-restore-{now}"
            snapshot(copy_end(self._engine), SqliteEnd(kept), now)
        snapshot(SqliteEnd(fresh), copy_end(self._engine, replace=True), now)


def set_aside(path: Path, now: int) -> None:
    """Keep a file under another name, if there is one."""
    if path.exists():
        os.replace(path, path.with_name(f"{path.name}.before-restore-{now}"))


def write_mirror(database: Path, path: Path) -> None:
    """Write the audit of a database as C{audit.jsonl}."""
    connection = sqlite.connect(database)
    try:
        mirror, after = AuditMirror(path), 0
        while rows := audit_rows.page(Reader(connection.cursor()), after, AUDIT_PAGE):
            mirror.append(rows)
            after = rows[-1][0]
        if path.exists():
            give_to_owner(path)
    finally:
        connection.close()
