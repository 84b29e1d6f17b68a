# SPDX-License-Identifier: MIT
"""C{sqlite3} open beside the daemon: what it holds up is seen, told once, bounded, and over when it goes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from authority.in_place import HeldThreads

from gmesh.authority import limits
from gmesh.authority.metrics import AuthorityCollector
from gmesh.trust.encoding import b64url_encode

pytestmark = pytest.mark.sqlite("other programs that hold the file or its log")


@pytest.fixture
def beside(network: Any) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the database."""
    connection = sqlite3.connect(network.path / "authority.sqlite", isolation_level=None)
    yield connection
    connection.close()


def metric(network: Any, name: str) -> float:
    """A number as it stands in the metrics."""
    collector = AuthorityCollector(network.authority, network.limiter, [], network.wall)
    return next(
        sample.value
        for family in collector.collect()
        for sample in family.samples
        if sample.name == f"gmesh_authority_{name}"
    )


def write(network: Any, number: int) -> int:
    """Some invites, each a commit of its own. @return: the status of the last."""
    for count in range(5):
        body = invite(network, f"pump-{number}-{count}")
        status: int = network.admin("POST", "/admin/invites", body).status
    return status


def invite(network: Any, name: str) -> dict[str, Any]:
    """What an operator asks for."""
    key = b64url_encode(network.keys.signing().public)
    return {"name": name, "roles": ["client"], "invite_key": key}


def test_a25_a_reader_that_stays_is_seen_told_once_and_bounded(
    network: Any, beside: sqlite3.Connection, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows to its bound and no further; when the program goes, it is taken up and work goes on."""
    monkeypatch.setattr(limits, "LOG_BYTES_TOLD", 200_000)
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 600_000)
    beside.execute("BEGIN")
    beside.execute("SELECT count(*) FROM invite").fetchone()
    answers = []
    for number in range(30):
        answers.append(write(network, number))
        network.clock.advance(limits.LOG_CHECK_SECONDS + 60)
    told = [line for line in logged if line.startswith("another program reads")]
    assert len(told) == 1 and f"fuser {network.path / 'authority.sqlite'}" in told[0]
    assert answers[0] == 201 and answers[-1] == 503
    assert (network.path / "authority.sqlite-wal").stat().st_size < 600_000 + 500_000
    assert network.ask("GET", "/readyz").status == 503
    assert metric(network, "database_held") == 1
    assert metric(network, "database_log_bytes") > 600_000
    assert network.ask("GET", "/status").status == 200
    beside.execute("ROLLBACK")
    network.clock.advance(limits.LOG_CHECK_SECONDS)
    assert write(network, 99) == 201
    assert network.ask("GET", "/readyz").status == 200
    assert metric(network, "database_held") == 0
    assert logged.count("no other program keeps the database any more") == 1


def test_a25_a_writer_that_stays_is_told_once_and_nobody_waits_in_its_line(
    network: Any, beside: sqlite3.Connection, logged: list[str]
) -> None:
    """All that wait fail with the first group, whatever they want written; then the log says nothing more."""
    network.authority.store._writer.runInteraction(lambda cursor: cursor.execute("PRAGMA busy_timeout=1"))
    beside.execute("BEGIN IMMEDIATE")
    body = invite(network, "pump-1")
    request = json.dumps(body).encode()
    asked = [network.signed(network.keys.admin, "POST", "/admin/invites", request) for _ in range(50)]
    store, answers = network.authority.store, []
    writer: Any = store._writer
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    for headers in asked:  # the first is a group, the others gather meanwhile
        network.begin("POST", "/admin/invites", headers, request).addCallback(answers.append)
    network.treq.flush()
    assert store.waiting == len(asked) - 1
    groups = store.groups
    writer.threadpool.go()
    writer.threadpool = at_once
    network.treq.flush()
    assert [answer.status for answer in answers] == [503] * len(asked)
    assert store.groups == groups + 1
    assert network.join(network.member(network.keys.signing())).status == 503
    assert network.ask("GET", "/readyz").status == 503
    assert metric(network, "database_held") == 1
    assert len([line for line in logged if line.startswith("another program keeps")]) == 1
    assert not [line for line in logged if line.startswith("request ")]
    beside.execute("ROLLBACK")
    network.clock.advance(limits.LOG_CHECK_SECONDS + limits.PRUNE_SECONDS)
    assert network.admin("POST", "/admin/invites", body).status == 201
    assert network.ask("GET", "/readyz").status == 200


def test_a25_a_log_that_was_long_once_is_no_alarm(
    network: Any, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads beside us: it is taken up whenever it is looked at."""
    monkeypatch.setattr(limits, "LOG_BYTES_TOLD", 1000)
    for number in range(4):
        write(network, number)
        network.clock.advance(limits.LOG_CHECK_SECONDS + 60)
    assert metric(network, "database_held") == 0
    assert not [line for line in logged if "another program" in line]
