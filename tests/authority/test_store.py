# SPDX-License-Identifier: MIT
"""Durable state: groups that commit together, refusals that leave nothing, schemas, damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.transaction import Reader, Transaction, transaction
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


class Inserting:
    """Adds rows of many at once but those whose name begins with C{-}; fails as it is told to."""

    def __init__(self, failing: Exception | None = None) -> None:
        self.failing = failing
        self.calls: list[object] = []
        self.hooks: list[str] = []

    def one(self, tx: Transaction, item: str) -> str:
        self.calls.append(item)
        return insert(item)(tx)

    def many(self, tx: Transaction, items: Sequence[str]) -> list[str | None]:
        self.calls.append(list(items))
        plain = [item for item in items if not item.startswith("-")]
        tx.execute(f"INSERT INTO t (k) VALUES {','.join(['(?)'] * len(plain))}", *plain)
        tx.set_mark("nodes", (tx.mark("nodes") or 0) + len(plain))
        tx.after_commit(self.hooks.append, "ran")
        if self.failing is not None:
            raise self.failing
        return [item if item in plain else None for item in items]


def group_of(bench: Bench, bulk: Inserting, *items: str) -> list[list[Any]]:
    """Where the results will be of decisions that are let go as one group, between two others."""
    bench.store.decide(insert("first"))
    got = [outcome(bench.store.decide(insert("a")))]
    got += [outcome(bench.store.decide_in_bulk(bulk, item)) for item in items]
    got.append(outcome(bench.store.decide(insert("z"))))
    bench.writer.go()
    return got


def test_decisions_of_a_kind_are_taken_at_once(bench: Bench) -> None:
    """Those of a group; what is left over is decided alone; what follows the commit follows once."""
    bulk = Inserting()
    assert group_of(bench, bulk, "b", "-c", "d") == [["a"], ["b"], ["-c"], ["d"], ["z"]]
    assert bulk.calls == [["b", "-c", "d"], "-c"] and bulk.hooks == ["ran"]
    assert bench.rows() == ["-c", "a", "b", "d", "first", "z"]
    assert Reader(bench.writer.connection.cursor()).mark("nodes") == 2 and bench.store.decided == 6


def test_kinds_are_taken_in_the_order_they_came(bench: Bench) -> None:
    """Not in that of their addresses in memory: the same group has the same outcome everywhere."""
    bulks = [Inserting() for _ in range(16)]
    calls: list[object] = []
    for bulk in bulks:
        bulk.calls = calls
    bench.store.decide(insert("first"))
    wanted = []
    for place in range(15, -1, -1):
        names = [f"{place}-a", f"{place}-b"]
        wanted.append(names)
        for name in names:
            bench.store.decide_in_bulk(bulks[place], name)
    bench.writer.go()
    assert calls == wanted


def test_one_of_a_kind_is_decided_alone(bench: Bench) -> None:
    """There is nothing to be gained."""
    bulk = Inserting()
    assert group_of(bench, bulk, "b") == [["a"], ["b"], ["z"]]
    assert bulk.calls == ["b"]


@pytest.mark.parametrize("failing", [RequestRefused("replayed"), sqlite3.IntegrityError("no"), None])
def test_what_cannot_be_decided_at_once_is_decided_one_by_one(
    bench: Bench, failing: Exception | None
) -> None:
    """A refusal or a constraint of the many leaves nothing: each has its own outcome."""
    bulk = Inserting(failing)
    names = ("b", "c") if failing else ("b", "b")
    got = group_of(bench, bulk, *names)
    assert bulk.calls == [list(names), *names] and bulk.hooks == []
    assert (got[1], got[-1]) == (["b"], ["z"])
    assert got[2] == ["c"] if failing else got[2][0].reason == "conflict"
    assert bench.rows() == ["a", "b", "c", "first", "z"] if failing else ["a", "b", "first", "z"]
    assert not Reader(bench.writer.connection.cursor()).mark("nodes")


def test_a_bug_in_deciding_many_is_told_and_costs_nobody_his_answer(
    bench: Bench, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """Each is decided alone."""
    assert group_of(bench, Inserting(ZeroDivisionError()), "b", "c")[1:3] == [["b"], ["c"]]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_d2_an_engine_that_fails_among_many_fails_the_group(bench: Bench) -> None:
    """As it would alone."""
    got = group_of(bench, Inserting(sqlite3.OperationalError("database or disk is full")), "b", "c")
    assert [type(result[0]) for result in got] == [StoreError] * 4 and bench.rows() == ["first"]


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


@pytest.mark.parametrize("writes", [True, False])
def test_d2_a_decision_that_overlooks_the_failure_brings_nothing_in(bench: Bench, writes: bool) -> None:
    """SQLite has ended the transaction: what comes later is not committed without what came before."""
    connection = bench.writer.connection

    def overlooks(tx: Transaction) -> None:
        with suppress(sqlite3.OperationalError):
            if writes:
                insert("w")(tx)
                connection.set_progress_handler(lambda: True, 1)
                tx.execute("INSERT INTO t (k) VALUES ('x')")
            else:
                tx.one("ROLLBACK")  # as SQLite does when it cannot read
        connection.set_progress_handler(None, 0)
        if writes:
            tx.execute("INSERT INTO t (k) VALUES ('y')")

    bench.store.decide(insert("first"))
    got = [outcome(bench.store.decide(function)) for function in (insert("a"), overlooks, insert("z"))]
    bench.writer.go()
    assert [type(result[0]) for result in got] == [StoreError] * 3 and bench.rows() == ["first"]


def test_a_decision_alone_keeps_no_savepoint(bench: Bench) -> None:
    """A restore changes a hundred thousand rows: under a savepoint that takes hours, and all its pages."""
    statements: list[str] = []
    bench.writer.connection.set_trace_callback(statements.append)
    with transaction(bench.writer.connection, NOW) as tx:
        insert("a")(tx)
    assert [text for text in statements if not text.startswith("SELECT")] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO t (k) VALUES ('a')",
        "COMMIT",
    ]
    assert bench.rows() == ["a"]


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
