# SPDX-License-Identifier: MIT
"""Durable state: groups that commit together, refusals that leave nothing, schemas, damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from authority.held_store import NOW, Bench, insert, outcome
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from gmesh.authority import audit, limits
from gmesh.authority.clock import SteadyClock
from gmesh.authority.interfaces import IAuthorityStore
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import sqlite
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.transaction import Reader, Transaction, transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused, StoreError


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


def test_rows_of_a_group_that_cannot_be_written_fail_it(bench: Bench) -> None:
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


def test_a_failing_commit_fails_the_whole_group(bench: Bench) -> None:
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
def test_a_decision_that_overlooks_the_failure_brings_nothing_in(bench: Bench, writes: bool) -> None:
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


def test_a_caller_that_goes_away_changes_nothing(bench: Bench) -> None:
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
    connection = sqlite.connect(path)
    migrate(connection, NOW)
    connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY)")
    connection.close()
    clock = SteadyClock(lambda: NOW, lambda: 0.0)
    engine = sqlite.SqliteEngine(path)
    pools = engine.writer_pool(reactor), engine.reader_pool(reactor)
    store = Store(engine, *pools, clock, lambda entries: None)
    try:
        await gatherResults([store.decide(insert(str(number))) for number in range(300)])
        assert await store.read(lambda reader: reader.value("SELECT count(*) FROM t")) == 300
        with pytest.raises(StoreError):
            await store.read(lambda reader: reader.one("INSERT INTO t (k) VALUES ('z') RETURNING k"))
        await store.drained()
    finally:
        store.close()


# Schema.
