# SPDX-License-Identifier: MIT
"""Joins of a group whose database gives up in the middle; all are answered alike and none is half."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from gmesh.authority.audit import verify_chain
from gmesh.authority.rate_limit import RateLimits, RequestRate

pytestmark = pytest.mark.sqlite("SQLite's machine is interrupted, and its pages run out")

TABLES = ("invite", "certificate", "node", "noise_key", "nonce", "counter", "meta", "audit", "enrolment")


@pytest.fixture
def rates() -> RateLimits:
    """No bucket is in the way."""
    many = RequestRate(10**8, 1e8)
    return RateLimits(many, many, many)


def rows_of(network: Any) -> dict[str, list[Any]]:
    """All that joins could change, read by sqlite3 alone; the audit is whole and the mirror says the same."""
    database = sqlite3.connect(network.path / "authority.sqlite")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = {
            table: sorted(database.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES
        }
    finally:
        database.close()
    rows["meta"] = [row for row in rows["meta"] if row[0] != "high_water"]
    rows["audit"].sort()
    verify_chain(rows["audit"])
    lines = [json.loads(line) for line in (network.path / "audit.jsonl").read_text().splitlines()]
    assert [(line["seq"], line["hash"]) for line in lines] == [
        (row[0], row[2].hex()) for row in rows["audit"]
    ]
    return rows


def interrupted(writer: Any) -> Iterator[None]:
    """Let SQLite stop the writer ever later: where it is writing it ends the transaction itself."""
    steps, left = 0, 0

    def stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    while True:
        steps = left = steps + 2
        writer.set_progress_handler(stop, 53)
        yield
        writer.set_progress_handler(None, 0)


def filled(writer: Any) -> Iterator[None]:
    """Let the database file have room for ever more pages."""
    writer.execute("VACUUM")  # nothing free inside
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    while True:
        writer.execute(f"PRAGMA max_page_count={pages}").fetchone()
        yield
        writer.execute("PRAGMA max_page_count=1073741823").fetchone()
        pages += 1


@pytest.mark.parametrize("broken", [interrupted, filled])
def test_a_group_of_joins_that_the_database_drops(network: Any, broken: Any) -> None:
    """503 for each and nothing is left, wherever it happens; when it works the same hosts are admitted."""
    barred = network.joined("pump-0")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-0"}).status == 201
    barred.invite = network.invite("pump-1").invite  # has something to remove, so it is decided alone
    members = [barred, *(network.invite(f"pump-{number}") for number in range(2, 14))]
    before = rows_of(network)
    failed = 0
    breaking = broken(network.authority.store._writer.connect())
    while True:
        next(breaking)
        requests = map(network.join_request, members)
        statuses = {answer.status for answer in network.together("/join", *requests)}
        if statuses == {201}:
            break
        assert statuses == {503} and rows_of(network) == before
        failed += 1
    breaking.close()
    assert failed > 2
    after = rows_of(network)
    assert len(after["certificate"]) == len(before["certificate"]) + 13
    assert len(after["audit"]) == len(before["audit"]) + 13
    assert len(after["nonce"]) == len(before["nonce"]) + 13
