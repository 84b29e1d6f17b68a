# SPDX-License-Identifier: MIT
"""
Which server a shared database is on, as every transaction that writes finds it, and as the database noted it.

A server has a number that a restore from its files keeps, and a timeline, which each promotion raises
(PostgreSQL, "Continuous Archiving and Point-in-Time Recovery", section "Timelines").  Where the one before
waited for a standby, a promotion loses nothing; else it may have lost what was acknowledged last.
Tests: C{tests/authority/test_identity.py}.
"""

from __future__ import annotations

from typing import NamedTuple

from gmesh.authority.store.marks import Marks
from gmesh.errors import StoreError

__all__ = ["IDENTITY_MARKS", "ServerIdentity", "note_identity", "older_database", "take_identity"]

IDENTITY_MARKS = ("system", "timeline", "synchronous")
"""Of the place and not of the authority: a copy elsewhere has none of them."""


class ServerIdentity(NamedTuple):
    """
    What a server says of itself.

    @ivar system: its number, C{pg_control_system().system_identifier}.
    @ivar timeline: how often it was promoted, and one.
    @ivar synchronous: 1 if commits wait for a standby, else 0.
    """

    system: int
    timeline: int
    synchronous: int


def note_identity(marks: Marks, found: ServerIdentity) -> None:
    """This is the database from now on."""
    marks.values |= zip(IDENTITY_MARKS, found, strict=True)


def take_identity(marks: Marks, found: ServerIdentity | None) -> str:
    """
    Compare with what was noted, and note it.

    @param found: None for a file of this host.
    @return: C{synchronous} or C{asynchronous}, if a standby took over since; the latter may have lost what
        was acknowledged last.  Empty, if none did.
    @raise StoreError: C{older-database}, for that of another server.
    """
    if found is None:
        return ""
    system, timeline, synchronous = (marks.values.get(name) for name in IDENTITY_MARKS)
    if system is not None and (found.system != system or found.timeline < (timeline or 0)):
        raise older_database("it is on another server than it was, or on one from before a promotion")
    note_identity(marks, found)
    if system is None or found.timeline == timeline:
        return ""
    return "synchronous" if synchronous else "asynchronous"


def older_database(why: str) -> StoreError:
    """The refusal of everything until somebody decides."""
    return StoreError(
        "older-database",
        f"the database may lack what was acknowledged: {why}. Nothing is decided. Stop all daemons, then"
        " gmesh database adopt",
    )
