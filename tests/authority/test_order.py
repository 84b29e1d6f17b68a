# SPDX-License-Identifier: MIT
"""Operators see how long groups of decisions wait for their turn, and how long each takes."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from authority.held_store import NOW, Bench, insert, outcome
from authority.network import Network
from authority.test_request_log import scrape

from gmesh.authority.clock import SteadyClock
from gmesh.authority.store.order import OrderTimes
from gmesh.authority.store.writer import Store
from gmesh.errors import StoreError

DOCS = Path(__file__).resolve().parents[2] / "docs"


def sums(order: OrderTimes) -> dict[str, float]:
    """Count and sum of each."""
    samples = [sample for metric in order.collect() for sample in metric.samples]
    return {
        sample.name.removeprefix("gmesh_authority_order_").replace("_seconds", ""): sample.value
        for sample in samples
        if sample.name.endswith(("_count", "_sum"))
    }


class Time:
    """Monotonic time that others spend."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def spend(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def timed(bench: Bench, time: Time) -> Store:
    """A store whose turn comes after two seconds."""
    begin = bench.writer.connection.begin

    class Waits:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def begin(self, cursor: Any) -> Any:
            time.spend(2)
            return begin(cursor)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    held: Any = bench.writer
    held.connection = Waits(held.connection)
    clock = SteadyClock(lambda: NOW, lambda: time.seconds)
    return Store(bench.store.engine, held, None, clock, bench.mirrored.extend)


def test_the_turn_of_a_group_and_the_wait_for_it_are_measured(timed: Store, bench: Bench, time: Time) -> None:
    """Apart: what others take is none of one's own."""

    def slow(tx: Any) -> str:
        time.spend(3)
        return insert("a")(tx)

    answers = [outcome(timed.decide(slow)), outcome(timed.decide(insert("b")))]
    bench.writer.go()
    assert answers == [["a"], ["b"]]
    assert sums(timed.order) == {"wait_count": 2, "wait_sum": 4, "held_count": 2, "held_sum": 3}


def test_a_group_that_fails_has_had_its_turn_too(timed: Store, bench: Bench, time: Time) -> None:
    """It kept the others waiting."""

    def late(*group: Any) -> None:
        time.spend(5)
        raise sqlite3.OperationalError("disk I/O error")

    held: Any = bench.writer.connection
    held.sign_off = late
    answer = outcome(timed.decide(insert("a")))
    bench.writer.go()
    assert [type(error) for error in answer] == [StoreError]
    assert sums(timed.order) == {"wait_count": 1, "wait_sum": 2, "held_count": 1, "held_sum": 5}


def test_a_turn_that_never_comes_was_waited_for(timed: Store, bench: Bench, time: Time) -> None:
    """As where somebody else keeps the order for longer than a group may wait."""

    def begin(cursor: Any) -> None:
        time.spend(15)
        raise sqlite3.OperationalError("database is locked")

    held: Any = bench.writer.connection
    held.begin = begin
    answer = outcome(timed.decide(insert("a")))
    bench.writer.go()
    assert [type(error) for error in answer] == [StoreError]
    assert sums(timed.order) == {"wait_count": 1, "wait_sum": 15, "held_count": 0, "held_sum": 0}


def test_what_the_manual_names_is_measured(network: Network) -> None:
    """Every metric on its pages is on the page of metrics, as an independent reader has it."""
    named = {
        name
        for page in DOCS.glob("operations*.rst")
        for name in re.findall(r"gmesh_authority_\w+", page.read_text())
    }
    assert len(named) >= 10
    assert network.ask("GET", "/nowhere").status == 404
    _, samples = scrape(network)
    found = {name.removesuffix("_count") for name, *_ in samples}
    of_several = {"gmesh_authority_database_up", "gmesh_authority_follow_age_seconds"}
    assert named - found == (of_several if network.postgres is None else set())
