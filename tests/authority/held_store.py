# SPDX-License-Identifier: MIT
"""A store on a real file with one table, whose groups are let go by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from gmesh.authority.clock import SteadyClock
from gmesh.authority.store import sqlite
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store

NOW = 1_800_000_000


class Held:
    """A writer pool whose work waits until it is let go, so that groups form."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite.connect(path)
        self.groups: list[int] = []
        self._waiting: list[Callable[[], None]] = []

    def runWithConnection(self, function: Any, group: list[Any], *more: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def run() -> None:
            self.groups.append(len(group))
            try:
                result = function(self.connection, group, *more)
            except Exception:
                self.connection.rollback()
                done.errback()
            else:
                done.callback(result)

        self._waiting.append(run)
        return done

    def go(self) -> None:
        while self._waiting:
            self._waiting.pop(0)()


class Bench:
    """A store on a real file with one table."""

    def __init__(self, path: Path) -> None:
        self.path = path / "test.sqlite"
        connection = sqlite.connect(self.path)
        migrate(connection, NOW)
        connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY)")
        connection.close()
        self.writer = Held(self.path)
        self.mirrored: list[Any] = []
        clock = SteadyClock(lambda: NOW, lambda: 0.0)
        self.store = Store(sqlite.SqliteEngine(self.path), self.writer, None, clock, self.mirrored.extend)

    def rows(self) -> list[str]:
        connection = sqlite3.connect(self.path)
        try:
            return [row[0] for row in connection.execute("SELECT k FROM t ORDER BY k")]
        finally:
            connection.close()


def insert(name: str) -> Callable[[Transaction], str]:
    """A decision that adds a row."""

    def decide(tx: Transaction) -> str:
        tx.execute("INSERT INTO t (k) VALUES (?)", name)
        return name

    return decide


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """Where a Deferred's result will be."""
    got: list[Any] = []
    deferred.addCallbacks(got.append, lambda failure: got.append(failure.value))
    return got
