# SPDX-License-Identifier: MIT
"""Through PgBouncer in transaction mode, where each transaction may have another session of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import test_replicas
from authority.network import Network
from authority.pgbouncer import PooledServer, pooled
from authority.postgres_server import be_patient
from authority.test_replicas import Two

from gmesh.authority.database_url import make_engine, wait_for


@pytest.fixture(scope="module")
def pool() -> Iterator[PooledServer]:
    with pooled() as server:
        yield server


@pytest.fixture
def two(pool: PooledServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Two]:
    """Both ask it."""
    be_patient(monkeypatch)
    monkeypatch.setattr(Network, "postgres", pool)
    made = Two(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("what", ["operator", "member", "join", "renew", "revocation"])
def test_p32_what_one_replica_answered_is_refused_at_the_other(two: Two, what: str) -> None:
    """As without it, of each kind of request."""
    test_replicas.test_p2_what_one_replica_answered_is_refused_at_the_other(two, what)


def test_p32_a_heartbeat_played_again_at_the_other_has_no_effect(two: Two) -> None:
    """As without it."""
    test_replicas.test_p2_a_heartbeat_played_again_at_the_other_has_no_effect(two)


def test_p32_a_server_that_is_away_is_waited_for(pool: PooledServer) -> None:
    """PgBouncer takes connections although it has none: only a question shows that."""
    engine = make_engine(pool.database())
    wait_for(engine, pytest.fail, pytest.fail)
    pool.stop()
    said: list[str] = []
    started: list[float] = []

    def sleep(seconds: float) -> None:
        if not started:
            pool.start()
        started.append(seconds)

    try:
        wait_for(engine, said.append, sleep)
    finally:
        if not started:
            pool.start()
    waits, there = said
    assert "cannot be reached" in waits and waits.endswith("waits for it") and there.endswith("is there")
