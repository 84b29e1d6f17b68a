# SPDX-License-Identifier: MIT
"""
Moving the authority from one database to another, and back: every row, compared, and the source closed.

At no moment may both be served from.  The copy is committed as one that is not complete, then the source is
marked as moved, then the copy is completed; cut short in between, the command is run once more.
Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmesh.authority.audit import verify_audit
from gmesh.authority.database_url import find_url, make_engine
from gmesh.authority.state import LOCK, check_state
from gmesh.authority.store.copy import CopyEnd, Progress, copy_rows, count_rows
from gmesh.authority.store.copy_sqlite import SqliteEnd
from gmesh.authority.store.moved import mark_moved, moved_to
from gmesh.authority.store.sqlite import SqliteEngine
from gmesh.authority.store.transaction import Reader
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, StoreError

__all__ = ["Copied", "Watch", "copy_database", "copy_end", "engine_of", "explained", "is_url", "snapshot"]

Watch = Callable[[int], AbstractContextManager[Progress]]
"""Given how many rows are to be copied and compared; what it makes is told of each some of them."""

_MISTYPED = re.compile(r"postgres\w*(:|//)", re.IGNORECASE)
"""What is no URL, but would show its password if it were taken for the name of a file."""


@dataclass(frozen=True, slots=True)
class Copied:
    """
    What was copied.

    @ivar rows: of all tables.
    @ivar audit: how many rows its chain has.
    @ivar head: the hash of the last of them, hexadecimal.
    @ivar source: where it was, without a password.
    @ivar target: where it is.
    """

    rows: int
    audit: int
    head: str
    source: str
    target: str


def is_url(text: str) -> bool:
    """Whether a database is named by a URL, though mistyped, or the words of libpq, and not by a file."""
    meant = "://" in text or _MISTYPED.match(text) is not None
    return meant or ("=" in text and not Path(text).exists())


def engine_of(text: str) -> Any:
    """
    The L{gmesh.authority.interfaces.IEngine} of a database by URL, file of SQLite, or @ and the private
    file that holds the URL, from a command line.

    @raise ConfigurationError: as L{find_url} and L{make_engine}.
    """
    if text == "@":
        raise ConfigurationError("bad-database", "no file is named after @: write @FILE, which holds the URL")
    url = find_url(None, text[1:]) if text.startswith("@") else find_url(text, None) if is_url(text) else None
    return SqliteEngine(Path(text)) if url is None else make_engine(url)


def copy_end(engine: Any, replace: bool = False) -> CopyEnd:
    """
    One end of a copy.

    @param engine: L{gmesh.authority.interfaces.IEngine}
    @param replace: a full PostgreSQL target gives way.
    """
    if not engine.shared:
        return SqliteEnd(engine.path)
    from gmesh.authority.store.copy_postgres import PostgresEnd

    return PostgresEnd(engine, replace)


@contextmanager
def explained(*ends: CopyEnd) -> Iterator[None]:
    """Close both ends afterwards, and say in words of ours what their engines say."""
    try:
        yield
    except Exception as error:
        for end in ends:
            meant = end.explain(error)
            if meant is not None:
                raise meant from error
        raise
    finally:
        for end in ends:
            end.close()


def copy_database(state: Path, source: CopyEnd, target: CopyEnd, now: int, watch: Watch) -> Copied:
    """
    Copy all of a database that nobody serves from, and leave the source marked as moved.

    @param state: the authority's directory, whose daemon must not run.
    @raise StoreError: C{moved}, C{incomplete}, C{not-empty}, C{in-use}, C{copy-differs}, C{audit-broken},
        C{other-schema}, C{missing}, C{unavailable}.
    """
    check_state(state)
    directories = {end.directory.resolve() for end in (source, target) if end.directory is not None}
    directories = {state.resolve(), *(each for each in directories if (each / LOCK).exists())}
    locks: list[StateLock] = []
    try:
        for each in sorted(directories):
            locks.append(StateLock(each / LOCK, "gmesh-authority"))
        with explained(source, target):
            reading = source.begin_source(alone=True)
            reader = Reader(reading)
            _check_source(moved_to(reader), source, target)
            writing = target.begin_target(now)
            with watch(2 * count_rows(reader)) as progress:
                rows = copy_rows(source, target, progress)
            size, head = verify_audit(Reader(writing))
            mark_moved(writing, "", now)
            target.commit()
            mark_moved(reading, target.shown, now)
            source.commit()
            target.publish()
    finally:
        for lock in locks:
            lock.release()
    return Copied(rows, size, head, source.shown, target.shown)


def snapshot(source: CopyEnd, target: CopyEnd, now: int, alone: bool = False) -> None:
    """
    Copy all that is committed, while daemons go on.

    @param alone: none may be there, and none decides meanwhile.
    @raise StoreError: as L{copy_database}.
    """
    with explained(source, target):
        source.begin_source(alone)
        target.begin_target(now)
        copy_rows(source, target, lambda more: None)
        target.commit()
        target.publish()


def _check_source(gone: str | None, source: CopyEnd, target: CopyEnd) -> None:
    """One that moved to this very target may be copied again, as long as that is not complete."""
    if gone == "":
        raise StoreError("incomplete", f"{source.shown} is itself a copy that was cut short")
    if gone is not None and gone != target.shown:
        raise StoreError("moved", f"{source.shown} moved to {gone}: copy that one")
