# SPDX-License-Identifier: MIT
"""
The mark of a database whose rows have gone elsewhere, or have not all come yet.

Tests: C{tests/authority/test_database_copy.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.authority.store.transaction import Reader
from gmesh.errors import StoreError

__all__ = ["check_moved", "mark_moved", "moved_to", "unmark_moved"]


def mark_moved(cursor: Any, place: str, now: int) -> None:
    """No daemon may serve from this database. @param place: where it went; empty: it is not complete."""
    cursor.execute("DELETE FROM moved")
    cursor.execute("INSERT INTO moved (id, place, moved_at) VALUES (1, ?, ?)", (place, now))


def unmark_moved(cursor: Any) -> None:
    """It is complete, and daemons may serve from it."""
    cursor.execute("DELETE FROM moved")


def moved_to(reader: Reader) -> str | None:
    """What L{mark_moved} wrote; None for a database that may be used."""
    place: str | None = reader.value("SELECT place FROM moved")
    return place


def check_moved(reader: Reader) -> None:
    """@raise StoreError: C{moved} or C{incomplete}, for a database that must not be served from."""
    place = moved_to(reader)
    if place:
        raise StoreError("moved", f"this database moved to {place}: start with --database for that one")
    if place is not None:
        raise StoreError(
            "incomplete", "this database is a copy that was cut short: run gmesh database copy once more"
        )
