# SPDX-License-Identifier: MIT
"""Schemas: newer ones, edited ones, halves of one, and the copy kept before each."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gmesh.authority.store import sqlite
from gmesh.authority.store.migrate import Migration, migrate, released
from gmesh.errors import StoreError

NOW = 1_800_000_000


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database with a migration this program does not know is not touched."""
    connection = sqlite.connect(tmp_path / "a.sqlite")
    later = [*released(), Migration(9999, "later", "CREATE TABLE later (x INTEGER);\n")]
    migrate(connection, NOW, later)
    with pytest.raises(StoreError, match="newer program"):
        migrate(connection, NOW)
    connection.close()


def test_an_edited_migration_is_refused(tmp_path: Path) -> None:
    """The recorded digest must be the file's."""
    connection = sqlite.connect(tmp_path / "a.sqlite")
    migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")])
    with pytest.raises(StoreError, match="0001"):
        migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (y INTEGER);\n")])
    connection.close()


def test_a_migration_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """One that fails half-way leaves no table and no record; the mended one then applies."""
    connection = sqlite.connect(tmp_path / "a.sqlite")
    half = Migration(1, "one", "CREATE TABLE a (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, NOW, [half])
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'a'").fetchall() == []
    assert migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")]) == 1
    assert migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")]) == 0
    connection.close()


def test_statements_are_split_where_sqlite_ends_them() -> None:
    """A semicolon inside a text or a comment ends nothing."""
    sql = "-- one; two\nINSERT INTO a VALUES ('x;y');\nCREATE TABLE b (\n x\n);\n"
    assert len(Migration(1, "x", sql).statements()) == 2
    with pytest.raises(StoreError):
        Migration(1, "x", "CREATE TABLE a (").statements()


def test_the_old_database_is_kept_before_a_migration(tmp_path: Path) -> None:
    """A copy is asked for before the first pending migration of a database in use, never of a new one."""
    one = Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")
    two = Migration(2, "two", "CREATE TABLE b (x INTEGER);\n")
    three = Migration(3, "three", "CREATE TABLE c (x INTEGER);\n")
    asked: list[tuple[int, int]] = []
    connection = sqlite.connect(tmp_path / "a.sqlite")

    def keep(number: int) -> None:
        (tables,) = connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('b', 'c')"
        ).fetchone()
        asked.append((number, tables))

    migrate(connection, NOW, [one], keep)
    assert asked == []
    migrate(connection, NOW, [one, two, three], keep)
    migrate(connection, NOW, [one, two, three], keep)
    connection.close()
    assert asked == [(2, 0)]
