# SPDX-License-Identifier: MIT
"""The database of an authority beside its daemon, in words of its own library alone, whichever it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from gmesh.authority.store import postgres, sqlite


def change(engine: Any, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement, with C{?} for each value, and commit it. @return: the rows it gives."""
    connected: Any = psycopg.connect(engine._dsn) if engine.shared else sqlite3.connect(engine.path)
    with closing(connected) as connection:
        cursor = connection.cursor()
        cursor.execute(sql.replace("?", "%s") if engine.shared else sql, values)
        found: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        connection.commit()
    return found


@contextmanager
def statements() -> Iterator[list[str]]:
    """The text of each that a daemon runs meanwhile, as it is written, whichever engine it runs on."""
    ran: list[str] = []

    class Told(sqlite3.Cursor):
        def execute(self, sql: str, *values: Any) -> Told:
            ran.append(sql)
            super().execute(sql, *values)
            return self

    def cursor(connection: Any, made: Any = Told) -> sqlite3.Cursor:
        return sqlite3.Connection.cursor(connection, made)

    execute = postgres._Cursor.execute

    def told(self: Any, query: Any, *values: Any, **more: Any) -> Any:
        ran.append(query)
        return execute(self, query, *values, **more)

    alone = postgres._OneQuestion.execute

    def told_alone(self: Any, query: Any, *values: Any, **more: Any) -> Any:
        ran.append(query)
        return alone(self, query, *values, **more)

    several = postgres._Cursor.several

    def at_once(self: Any, text: str) -> list[Any]:
        ran.append(text)
        return several(self, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres._Cursor, "several", at_once)
        patch.setattr(sqlite.Connection, "cursor", cursor)
        patch.setattr(postgres._Cursor, "execute", told)
        patch.setattr(postgres._OneQuestion, "execute", told_alone)
        yield ran
