# SPDX-License-Identifier: MIT
"""
A note beside the database that a clean stop left it whole, so that the next start need not read all of it.

The note fits one file only, with its size and time of change; it is taken away at the start, so
that a crash, a power cut or a restored copy has none.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from gmesh.errors import GmeshError
from gmesh.files import read_capped, write_atomic

__all__ = ["leave_clean", "take_clean"]

MAX_NOTE = 4096


def leave_clean(database: Path) -> None:
    """Nothing is open any more and the file was found whole: leave the note, unless it cannot be written."""
    with contextlib.suppress(OSError, GmeshError):
        if not _log(database).exists():
            write_atomic(_note(database), json.dumps(_looks(database)).encode(), 0o600)


def take_clean(database: Path) -> bool:
    """Whether this is the file a clean stop left; asked once, for the note is gone then."""
    note = _note(database)
    try:
        said = json.loads(read_capped(note, MAX_NOTE))
        note.unlink()
        return not _log(database).exists() and bool(said == _looks(database))
    except (OSError, GmeshError, ValueError):
        return False


def _note(database: Path) -> Path:
    return database.with_suffix(".clean")


def _log(database: Path) -> Path:
    """SQLite's write-ahead log, which it removes when the last connection is closed."""
    return database.with_name(database.name + "-wal")


def _looks(database: Path) -> list[int]:
    found = database.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]
