# SPDX-License-Identifier: MIT
"""An authority in one process: real files, real SQLite, the database called in place, a clock that obeys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority.held_store import Bench
from authority.network import Network
from authority.postgres_server import PostgresServer, running
from authority.theft import Theft
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from gmesh.authority.rate_limit import RateLimits

ON_BOTH = frozenset({"test_replay"})
"""Modules whose tests run on both engines; the others, and these, on the one that --engine names."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an authority of their own say on which engine."""
    chosen = metafunc.config.getoption("engine")
    both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH
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
