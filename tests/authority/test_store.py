# SPDX-License-Identifier: MIT
"""Durable state: groups that commit together, refusals that leave nothing, schemas, damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from gmesh.authority import audit, limits
from gmesh.authority.clock import SteadyClock
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import engine
from gmesh.authority.store.migrate import Migration, migrate, released
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused, StoreError
from gmesh.interfaces import IAuthorityStore

NOW = 1_800_000_000


class Held:
    """A writer pool whose work waits until it is let go, so that groups form."""

    def __init__(self, path: Path) -> None:
        self.connection = engine.connect(path)
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
        connection = engine.connect(self.path)
        migrate(connection, NOW)
        connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY)")
        connection.close()
        self.writer = Held(self.path)
        self.mirrored: list[Any] = []
        clock = SteadyClock(lambda: NOW, lambda: 0.0)
        self.store = Store(self.path, self.writer, None, clock, self.mirrored.extend)

    def rows(self) -> list[str]:
        connection = sqlite3.connect(self.path)
        try:
            return [row[0] for row in connection.execute("SELECT k FROM t ORDER BY k")]
        finally:
            connection.close()


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """A store whose groups are let go by hand."""
    bench = Bench(tmp_path)
    yield bench
    bench.writer.connection.close()


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


def test_it_is_the_store(bench: Bench) -> None:
    """The seam's interface is provided."""
    verifyObject(IAuthorityStore, bench.store)


def test_what_waits_commits_together(bench: Bench) -> None:
    """While one group commits the next gathers, up to its bound."""
    got = [outcome(bench.store.decide(insert(f"{number:03d}"))) for number in range(100)]
    assert not any(got)
    bench.writer.go()
    assert bench.writer.groups == [1, limits.GROUP_REQUESTS, 99 - limits.GROUP_REQUESTS]
    assert got == [[f"{number:03d}"] for number in range(100)]
    assert len(bench.rows()) == 100


def test_a_refusal_rolls_back_alone(bench: Bench) -> None:
    """One decision of a group refuses after it wrote; its neighbours are committed, it left nothing."""

    def refuse(tx: Transaction) -> None:
        tx.execute("INSERT INTO t (k) VALUES ('bad')")
        raise RequestRefused("forbidden-role")

    bench.store.decide(insert("first"))
    got = [outcome(bench.store.decide(function)) for function in (insert("a"), refuse, insert("b"))]
    bench.writer.go()
    assert [type(result[0]) for result in got] == [str, RequestRefused, str]
    assert bench.rows() == ["a", "b", "first"]


def test_a_refusal_takes_back_what_it_had_counted(bench: Bench) -> None:
    """Numbers stay dense, marks and the audit chain as they were: the next of the group starts from there."""

    def decide(refuse: bool = False) -> Callable[[Transaction], int]:
        def run(tx: Transaction) -> int:
            number = tx.next_number("serial")
            tx.set_mark("nodes", (tx.mark("nodes") or 0) + 1)
            audit.record(tx, "authority", "test", str(number))
            if refuse:
                raise RequestRefused("forbidden-role")
            return number

        return run

    got = [outcome(bench.store.decide(decide(refuse))) for refuse in (False, False, True, False, True, True)]
    bench.writer.go()
    assert [result[0] for result in got if isinstance(result[0], int)] == [1, 2, 3]
    reader = Reader(bench.writer.connection.cursor())
    assert (reader.mark("nodes"), reader.value("SELECT n FROM counter WHERE name = 'serial'")) == (3, 3)
    rows = audit_rows.page(reader, 0, 10)
    assert audit.verify_chain(rows) == reader.audit_head == (3, rows[-1][2]) and bench.mirrored == rows


def test_a2_rows_of_a_group_that_cannot_be_written_fail_it(bench: Bench) -> None:
    """The database itself refuses an audit row: nothing of the group is there, and everybody hears so."""
    bench.writer.connection.execute(
        "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    def audited(tx: Transaction) -> None:
        tx.execute("INSERT INTO t (k) VALUES ('x')")
        audit.record(tx, "authority", "test", "x")

    got = [outcome(bench.store.decide(function)) for function in (insert("a"), audited, insert("b"))]
    bench.writer.go()
    assert [type(result[0]) for result in got] == [str, StoreError, StoreError]
    assert bench.rows() == ["a"] and bench.mirrored == []


def test_a_constraint_refuses_one_decision(bench: Bench) -> None:
    """A UNIQUE violation is that decision's conflict, not the group's failure."""
    got = [outcome(bench.store.decide(insert("a"))) for _ in range(2)]
    bench.writer.go()
    assert got[0] == ["a"] and got[1][0].reason == "conflict"


def test_d2_a_failing_commit_fails_the_whole_group(bench: Bench) -> None:
    """If the engine fails nobody of the group hears success, hooks do not run, and later groups work."""
    hooks: list[str] = []

    def hooked(tx: Transaction) -> None:
        tx.execute("INSERT INTO t (k) VALUES ('x')")
        tx.after_commit(hooks.append, "ran")

    def full(tx: Transaction) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    bench.store.decide(insert("first"))
    got = [outcome(bench.store.decide(function)) for function in (hooked, full)]
    bench.writer.go()
    assert [type(result[0]) for result in got] == [StoreError, StoreError]
    assert hooks == [] and bench.rows() == ["first"] and not bench.store.writable
    again = outcome(bench.store.decide(hooked))
    bench.writer.go()
    assert again == [None] and hooks == ["ran"] and bench.store.writable


def test_t3_a_caller_that_goes_away_changes_nothing(bench: Bench) -> None:
    """Cancelling what decide gave: the decision is committed and its hooks run."""
    hooks: list[str] = []

    def hooked(tx: Transaction) -> None:
        tx.execute("INSERT INTO t (k) VALUES ('x')")
        tx.after_commit(hooks.append, "ran")

    running, queued = bench.store.decide(hooked), bench.store.decide(insert("y"))
    got = outcome(running) + outcome(queued)
    running.cancel()
    queued.cancel()
    bench.writer.go()
    assert got == [] and hooks == ["ran"] and bench.rows() == ["x", "y"]


def test_the_queue_is_bounded(bench: Bench) -> None:
    """Beyond its bound a decision is refused at once."""
    for number in range(limits.WRITE_QUEUE_REQUESTS + 1):
        bench.store.decide(insert(str(number)))
    assert outcome(bench.store.decide(insert("more")))[0].reason == "unavailable"
    bench.writer.go()


async def test_threads_and_files(tmp_path: Path) -> None:
    """The daemon's own pools: 300 concurrent decisions and reads on real threads, none lost."""
    path = tmp_path / "test.sqlite"
    connection = engine.connect(path)
    migrate(connection, NOW)
    connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY)")
    connection.close()
    clock = SteadyClock(lambda: NOW, lambda: 0.0)
    pools = engine.writer_pool(path, reactor), engine.reader_pool(path, reactor)
    store = Store(path, *pools, clock, lambda entries: None)
    try:
        await gatherResults([store.decide(insert(str(number))) for number in range(300)])
        assert await store.read(lambda reader: reader.value("SELECT count(*) FROM t")) == 300
        with pytest.raises(StoreError):
            await store.read(lambda reader: reader.one("INSERT INTO t (k) VALUES ('z') RETURNING k"))
        await store.drained()
    finally:
        store.close()


# Schema.


def test_d3_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database with a migration this program does not know is not touched."""
    connection = engine.connect(tmp_path / "a.sqlite")
    later = [*released(), Migration(9999, "later", "CREATE TABLE later (x INTEGER);\n")]
    migrate(connection, NOW, later)
    with pytest.raises(StoreError, match="newer program"):
        migrate(connection, NOW)
    connection.close()


def test_d3_an_edited_migration_is_refused(tmp_path: Path) -> None:
    """The recorded digest must be the file's."""
    connection = engine.connect(tmp_path / "a.sqlite")
    migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")])
    with pytest.raises(StoreError, match="0001"):
        migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (y INTEGER);\n")])
    connection.close()


def test_d3_a_migration_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """One that fails half-way leaves no table and no record; the mended one then applies."""
    connection = engine.connect(tmp_path / "a.sqlite")
    half = Migration(1, "one", "CREATE TABLE a (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, NOW, [half])
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'a'").fetchall() == []
    assert migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")]) == 1
    assert migrate(connection, NOW, [Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")]) == 0
    connection.close()


def test_d3_statements_are_split_where_sqlite_ends_them() -> None:
    """A semicolon inside a text or a comment ends nothing."""
    sql = "-- one; two\nINSERT INTO a VALUES ('x;y');\nCREATE TABLE b (\n x\n);\n"
    assert len(Migration(1, "x", sql).statements()) == 2
    with pytest.raises(StoreError):
        Migration(1, "x", "CREATE TABLE a (").statements()


def test_m1_the_old_database_is_kept_before_a_migration(tmp_path: Path) -> None:
    """A copy is asked for before the first pending migration of a database in use, never of a new one."""
    one = Migration(1, "one", "CREATE TABLE a (x INTEGER);\n")
    two = Migration(2, "two", "CREATE TABLE b (x INTEGER);\n")
    three = Migration(3, "three", "CREATE TABLE c (x INTEGER);\n")
    asked: list[tuple[int, int]] = []
    connection = engine.connect(tmp_path / "a.sqlite")

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
