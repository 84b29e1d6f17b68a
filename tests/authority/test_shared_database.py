# SPDX-License-Identifier: MIT
"""A database that daemons share: made once by a person, never by a daemon, and only for its own network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer
from authority.state_files import START, Keys, write_state

from gmesh.authority.approval_rules import NO_APPROVALS
from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.state import StateDirectory
from gmesh.authority.store.postgres import PostgresEngine
from gmesh.errors import GmeshError

FREE = RateLimits()


@pytest.fixture
def begun(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """An authority on PostgreSQL, stopped."""
    monkeypatch.setattr(Network, "postgres", postgres)
    network = Network(tmp_path / "authority", FREE)
    network.stop()
    return network


def emptied(url: str) -> None:
    """As somebody made it."""
    _run(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


def something_else(url: str) -> None:
    """Another program's."""
    emptied(url)
    _run(url, "CREATE TABLE theirs (id INT)")


def half(url: str) -> None:
    """The tables of an authority, and no rows."""
    _run(url, "DELETE FROM meta WHERE name = 'instance'")


def newer(url: str) -> None:
    """Written by a later release."""
    _run(url, "INSERT INTO migration (number, name, digest, applied_at) VALUES (9999, 'later', '', 0)")


def careless(url: str) -> None:
    """Its role acknowledges what is not kept."""
    (name,) = _run(url, "SELECT current_database()")
    _run(url, f"ALTER DATABASE {name} SET synchronous_commit = off")


def older(url: str) -> None:
    """Put back from before what this host's audit tells."""
    _run(url, "DELETE FROM audit WHERE seq > 2")


def _run(url: str, *statements: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


@pytest.mark.parametrize(
    ("become", "says"),
    [
        (emptied, "is empty, and a daemon never fills one: gmesh database create does"),
        (something_else, "holds something else, and no authority"),
        (half, "has no authority in it yet"),
        (newer, "written by a newer program"),
        (careless, "synchronous_commit is off for this role"),
        (older, "an older one was put back"),
    ],
)
def test_p24_a_database_that_is_not_this_authoritys_is_refused_with_one_line(
    begun: Network, become: Callable[[str], None], says: str
) -> None:
    """It says what was found and what to do, and nothing is written."""
    become(begun.engine._dsn)
    with pytest.raises(GmeshError, match=says) as caught:
        begun.start()
    assert "\n" not in caught.value.detail


def test_p24_the_database_of_another_network_is_refused(begun: Network, tmp_path: Path) -> None:
    """Whatever version its genesis has; nothing of ours gets into it."""
    keys = Keys()
    keys.root = keys.signing()
    write_state(tmp_path / "other", keys)
    directory = StateDirectory(tmp_path / "other", START, engine=begun.engine)
    with pytest.raises(GmeshError, match="belongs to another network"):
        directory.open(directory.issuer(), START, NO_APPROVALS)
    begun.start()
    begun.stop()


def test_a_database_is_made_whole_once_and_then_any_host_with_the_key_serves_from_it(
    begun: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """Neither a filled one nor a directory with an authority of its own is taken; the audit is mirrored."""
    begun.start()
    begun.joined("pump-1")
    begun.stop()
    monkeypatch.setattr(postgres, "of", lambda state: (begun.engine._dsn, False))
    second = Network(tmp_path / "second", FREE)
    second._counter, second.keys._made = 10**6, 100
    second.offset = begun.wall() - second.clock.seconds()
    assert [node["name"] for node in second.admin("GET", "/admin/nodes").json["nodes"]] == ["pump-1"]
    assert second.join(second.invite("pump-2")).status == 201
    rows = _run(begun.engine._dsn, "SELECT count(DISTINCT boot), min(turn) > 0 FROM replica")
    assert rows == (1, True)  # who ends takes theirs away
    second.stop()
    files = [each.path / "audit.jsonl" for each in (begun, second)]
    assert files[1].read_text().startswith(files[0].read_text())
    for state, says in (
        (tmp_path / "third", "is not empty"),
        (begun.path, "an authority that began already"),
    ):
        if not state.exists():
            write_state(state, Keys())
        directory = StateDirectory(state, begun.now, engine=begun.engine)
        with pytest.raises(GmeshError, match=says):
            directory.create(directory.issuer(), begun.now, NO_APPROVALS)


def test_migrations_of_a_database_in_use_are_applied_at_the_start(
    begun: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or not at all, and recorded."""
    from gmesh.authority.store import postgres_schema
    from gmesh.authority.store.migrate import Migration, released

    def coming(sql: str) -> Callable[[], list[Migration]]:
        return lambda: [*released("migrations/postgres"), Migration(9000, "more", sql)]

    broken = "CREATE TABLE more (x BIGINT); CREATE TABLE more (x BIGINT);"
    monkeypatch.setattr(postgres_schema, "migrations", coming(broken))
    with pytest.raises(GmeshError, match="42P07"):
        begun.start()
    monkeypatch.setattr(postgres_schema, "migrations", coming("CREATE TABLE more (x BIGINT);"))
    begun.start()
    begun.stop()
    (found,) = _run(begun.engine._dsn, "SELECT count(*) FROM migration WHERE number = 9000")
    assert found == 1


def test_what_is_no_url_is_refused_without_showing_it() -> None:
    """A password may stand anywhere in it."""
    with pytest.raises(GmeshError) as caught:
        PostgresEngine("postgresql://gmesh:s3cret@[host/name")
    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
