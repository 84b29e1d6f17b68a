# SPDX-License-Identifier: MIT
"""
Numbered schema files, each applied once, in one transaction with the record of its digest.

A file that was changed after it was applied is refused.  So is a database from a newer program, unless each
migration that this one does not know names it: C{-- compat: N} is the last migration that the oldest program
knows which may go on beside this one.  What a release adds beside the one before, the next may remove.
Tests: C{tests/authority/test_migrate.py}, C{tests/authority/test_compat.py}.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from gmesh.authority.store.transaction import exclusive
from gmesh.errors import StoreError

__all__ = ["Migration", "allowed", "apply", "check_recorded", "migrate", "newest", "recorded", "released"]

COMPAT_SINCE = 15
"""The migration that made the table of it."""
_COMPAT = re.compile(r"^-- compat: (\d+)$", re.MULTILINE)
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of statements."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """What is recorded, to notice a file edited after the fact."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def oldest(self) -> int | None:
        """Which programs may go on beside it: those that know this migration; None, if no older one may."""
        said = _COMPAT.search(self.sql)
        return int(said[1]) if said else None

    def statements(self) -> list[str]:
        """The single statements, in order."""
        found: list[str] = []
        pending = ""
        for line in self.sql.splitlines(keepends=True):
            pending += line
            if sqlite3.complete_statement(pending):
                found.append(pending.strip())
                pending = ""
        if pending.strip():
            raise StoreError("bad-migration", f"migration {self.number:04d} ends inside a statement")
        return found


def released(folder: str = "migrations") -> list[Migration]:
    """The migrations this program brings, in order; C{migrations/postgres} holds PostgreSQL's."""
    found = []
    for entry in resources.files("gmesh.authority.store").joinpath(folder).iterdir():
        matched = _NAME.fullmatch(entry.name)
        if matched:
            found.append(Migration(int(matched[1]), matched[2], entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def newest() -> int:
    """The schema of this program, which has the same number on every engine."""
    return max(migration.number for migration in released())


def migrate(
    connection: Any,
    now: int,
    migrations: Sequence[Migration] | None = None,
    keep: Callable[[int], object] | None = None,
) -> int:
    """
    Bring the database up to this program's schema.

    @param keep: makes a copy of a database that holds something, before the migration of this number.
    @return: how many migrations were applied.
    @raise StoreError: C{newer-schema} or C{changed-migration}.
    """
    wanted = released() if migrations is None else list(migrations)
    applied = 0
    with exclusive(connection, connection.begin_schema) as (cursor, _):
        done = recorded(cursor)
        check_recorded(done, wanted, allowed(cursor, done))
    pending = [migration.number for migration in wanted if migration.number not in done]
    if keep is not None and done and pending:
        keep(pending[0])
    for migration in wanted:
        if migration.number in done:
            continue
        with exclusive(connection, connection.begin_schema) as (cursor, _):
            found = recorded(cursor)
            check_recorded(found, wanted, allowed(cursor, found))
            if migration.number not in found:
                apply(connection, cursor, migration, now)
                applied += 1
    return applied


def apply(connection: Any, cursor: Any, migration: Migration, now: int) -> None:
    """Run one in the transaction that C{connection.begin_schema} began, and record it."""
    connection.run_script(cursor, migration)
    cursor.execute(
        "INSERT INTO migration (number, name, digest, applied_at) VALUES (?, ?, ?, ?)",
        (migration.number, migration.name, migration.digest, now),
    )
    if migration.oldest is not None:
        cursor.execute(
            "INSERT INTO compatible (number, oldest) VALUES (?, ?)", (migration.number, migration.oldest)
        )


def allowed(cursor: Any, done: Mapping[int, str]) -> dict[int, int]:
    """Which migrations let older programs go on, and the last migration that the oldest of these knows."""
    if COMPAT_SINCE not in done:
        return {}
    return dict(cursor.execute("SELECT number, oldest FROM compatible").fetchall())


def recorded(cursor: Any) -> dict[int, str]:
    return dict(cursor.execute("SELECT number, digest FROM migration").fetchall())


def check_recorded(
    done: dict[int, str], wanted: Sequence[Migration], beside: Mapping[int, int] = MappingProxyType({})
) -> None:
    """
    @param done: what the database has, and digests.
    @param wanted: what this program brings.
    @param beside: of L{allowed}.
    @raise StoreError: C{newer-schema}, C{changed-migration}.
    """
    known = {migration.number: migration.digest for migration in wanted}
    for number, digest in done.items():
        if number not in known:
            if beside.get(number, number) <= max(known):
                continue
            raise StoreError(
                "newer-schema",
                f"the database was written by a newer program (schema {number}, this one knows"
                f" {max(known)}): install that version, or restore a backup made before the upgrade",
            )
        if known[number] != digest:
            raise StoreError(
                "changed-migration", f"migration {number:04d} is not the one this database was built with"
            )
