# SPDX-License-Identifier: MIT
"""An authority in one process: real files, real SQLite, the database called in place, a clock that obeys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority.held_store import Bench
from authority.network import Network
from authority.postgres_server import PostgresServer, be_patient, running
from authority.theft import Theft
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from gmesh.authority.rate_limit import RateLimits

ON_BOTH = frozenset(
    {
        "test_approvals",
        "test_joins_together",
        "test_renewals_together",
        "test_replay",
        "test_restore",
        "test_revocations",
        "test_statements",
        "test_p13_who_holds_a_status_of_another_replica_is_not_answered_with_an_older_one",
        "test_p15_two_replicas_that_find_the_same_half_over_make_one",
        "test_p28_every_replica_has_the_whole_audit_in_a_file",
        "test_what_one_found_to_be_another_history_stops_all",
    }
)
"""Modules and tests that run on both engines; the others, and these, on the one that --engine names."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an authority of their own say on which engine."""
    chosen = metafunc.config.getoption("engine")
    both = not ON_BOTH.isdisjoint((metafunc.module.__name__.rpartition(".")[2], metafunc.function.__name__))
    if "on_engine" in metafunc.fixturenames and (both or chosen != "sqlite"):
        engines = ["sqlite", "postgres"] if both and chosen == "sqlite" else [chosen]
        metafunc.parametrize("on_engine", engines, indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all."""
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def on_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where each L{Network} keeps its database."""
    name = getattr(request, "param", "sqlite")
    alone = request.node.get_closest_marker("sqlite")
    if name == "postgres" and alone is not None:
        pytest.skip(f"of SQLite alone: {alone.args[0]}")
    if name == "postgres" or not {"postgres", "pair"}.isdisjoint(request.fixturenames):
        be_patient(monkeypatch)
    if name == "postgres":
        monkeypatch.setattr(Network, "postgres", request.getfixturevalue("postgres"))
    return str(name)


@pytest.fixture
def rates() -> RateLimits:
    """Rates of the default; a test module may say others."""
    return RateLimits()


@pytest.fixture
def network(tmp_path: Path, rates: RateLimits) -> Iterator[Network]:
    """A running authority with three operators and no node."""
    network = Network(tmp_path / "authority", rates)
    yield network
    network.stop()
    assert not network.clock.getDelayedCalls()


@pytest.fixture
def shared(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Network]:
    """A running authority on PostgreSQL."""
    monkeypatch.setattr(Network, "postgres", postgres)
    network = Network(tmp_path / "authority", RateLimits())
    yield network
    network.stop()


@pytest.fixture
def theft(network: Network, tmp_path: Path) -> Theft:
    """The key is stolen, nobody knows it yet."""
    path = tmp_path / "nodes"
    path.mkdir()
    return Theft(network, path)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line the authority logs, as text."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("gmesh.authority"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """A store whose groups are let go by hand."""
    bench = Bench(tmp_path)
    yield bench
    bench.writer.connection.close()
