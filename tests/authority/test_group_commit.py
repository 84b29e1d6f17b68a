# SPDX-License-Identifier: MIT
"""Decisions of one kind that are taken at once, and what happens where they cannot be."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from authority.held_store import Bench, insert, outcome

from gmesh.authority.store.group_commit import QueuedDecision
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.errors import RequestRefused, StoreError


class Inserting:
    """Adds rows of many at once but those whose name begins with C{-}; fails as it is told to."""

    def __init__(self, failing: Exception | None = None, ordered: bool = False) -> None:
        self.failing = failing
        self.ordered = ordered
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


def test_what_is_ordered_passes_nothing_and_is_passed_by_nothing(bench: Bench) -> None:
    """Only neighbours are decided at once; those of another kind stay on their side of them."""
    bench.store.decide(insert("first"))
    free, ordered = Inserting(), Inserting(ordered=True)
    ordered.calls = free.calls
    for bulk, item in ((free, "a"), (ordered, "b"), (ordered, "c"), (free, "d"), (free, "e"), (ordered, "f")):
        bench.store.decide_in_bulk(bulk, item)
        bench.store.decide(insert(item * 2)) if item == "d" else None
    bench.writer.go()
    assert free.calls == ["a", ["b", "c"], ["d", "e"], "f"]


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


def test_an_engine_that_fails_among_many_fails_the_group(bench: Bench) -> None:
    """As it would alone."""
    got = group_of(bench, Inserting(sqlite3.OperationalError("database or disk is full")), "b", "c")
    assert [type(result[0]) for result in got] == [StoreError] * 4 and bench.rows() == ["first"]


class Uncopied(deque[QueuedDecision]):
    """A queue that is too long to be looked through."""

    def __iter__(self) -> Any:
        raise AssertionError("the whole queue was looked through")


def test_a_long_queue_is_not_looked_through_for_each_who_joins_it(bench: Bench) -> None:
    """A file is never away, so that nobody in it can wait too long."""
    bench.store._queue = Uncopied()
    done = [outcome(bench.store.decide(insert(name))) for name in "abc"]
    bench.writer.go()
    assert done == [["a"], ["b"], ["c"]]
