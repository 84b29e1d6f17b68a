# SPDX-License-Identifier: MIT
"""
Which server a shared database is on, as every transaction that writes finds it, and as the database noted it.

A server has a number that a restore from its files keeps, and a timeline, which each promotion raises
(PostgreSQL, "Continuous Archiving and Point-in-Time Recovery", section "Timelines").  Where the one before
waited for a standby, a promotion loses nothing; else it may have lost what was acknowledged last.
Tests: C{tests/authority/test_identity.py}, C{tests/authority/test_failover.py}.
"""

from __future__ import annotations

from typing import NamedTuple

from gmesh.authority.store.marks import MOVED_MARK, Marks
from gmesh.errors import StoreError

__all__ = [
    "IDENTITY_MARKS",
    "ServerIdentity",
    "OLDER_MARK",
    "LacksSeen",
    "check_here",
    "lacks_seen",
    "note_identity",
    "note_older",
    "older_database",
    "seen_elsewhere",
    "take_identity",
]

OLDER_MARK = "older_database_at"

IDENTITY_MARKS = ("system", "timeline", "synchronous")
"""Of the place and not of the authority: a copy elsewhere has none of them."""


class LacksSeen(StoreError):
    """C{older-database}: it lacks rows of the audit that this daemon, which runs, has seen."""


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


def check_here(marks: Marks) -> None:
    """
    @raise StoreError: C{moved}, for a daemon that stood still meanwhile, or was overlooked;
        C{older-database}, once L{note_older} was called, until a restore.
    """
    if MOVED_MARK in marks.values:
        raise StoreError("moved", "this database moved elsewhere: nothing is decided here any more")
    if marks.values.get(OLDER_MARK):
        raise seen_elsewhere()


def note_older(marks: Marks, now: int) -> None:
    """A daemon has seen more of the audit than there is: none of them decides any more."""
    marks.values[OLDER_MARK] = now


def seen_elsewhere() -> StoreError:
    """The refusal of those who did not see it themselves."""
    return older_database(
        "another daemon has seen rows of the audit that it lacks, and says in its log which"
    )


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
    return StoreError(*_older(why))


def lacks_seen(why: str) -> LacksSeen:
    """The same, where a daemon saw it: it is noted in the database, for all of them."""
    return LacksSeen(*_older(why))


def _older(why: str) -> tuple[str, str]:
    return (
        "older-database",
        f"the database may lack what was acknowledged: {why}. Nothing is decided. Stop all daemons, then"
        " gmesh database adopt",
    )
