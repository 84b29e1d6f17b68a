# SPDX-License-Identifier: MIT
"""Daemons of two releases on one database: the older one goes on beside a schema that allows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.postgres_server import PostgresServer

from gmesh.authority.store import postgres_schema, sqlite
from gmesh.authority.store.migrate import Migration, migrate, released
from gmesh.authority.store.postgres import PostgresEngine
from gmesh.authority.store.transaction import exclusive
from gmesh.errors import StoreError

NOW = 1_800_000_000
KNOWN = released()[-1].number
MORE = "CREATE TABLE more (x INTEGER PRIMARY KEY);\n"


def later(number: int, oldest: int | None) -> Migration:
    head = "" if oldest is None else f"-- compat: {oldest}\n"
    return Migration(number, "later", f"{head}{MORE.replace('more', f'more{number}')}")


@pytest.mark.parametrize(
    ("coming", "goes_on"),
    [
        ([later(9001, KNOWN)], True),
        ([later(9001, 15), later(9002, KNOWN)], True),
        ([later(9001, KNOWN), later(9002, None)], False),
        ([later(9001, 9001)], False),
    ],
)
def test_p22_an_older_program_goes_on_where_each_migration_names_it(
    tmp_path: Path, coming: list[Migration], goes_on: bool
) -> None:
    """One that does not, or names a newer program, stops it."""
    with closing(sqlite.connect(tmp_path / "a.sqlite")) as connection:
        migrate(connection, NOW, [*released(), *coming])
        if goes_on:
            assert migrate(connection, NOW) == 0
            return
        with pytest.raises(StoreError) as caught:
            migrate(connection, NOW)
        assert caught.value.reason == "newer-schema"


@pytest.fixture
def engine(postgres: PostgresServer) -> PostgresEngine:
    """On a database with this program's tables."""
    engine = PostgresEngine(postgres.database())
    with (
        closing(engine.connect()) as connection,
        exclusive(connection, lambda cursor: engine.fill(connection, cursor, NOW)),
    ):
        pass
    return engine


def test_p22_upgraded_and_back_beside_each_other(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old, new, old: each starts on what the one before left."""
    engine.open(NOW)[0].close()
    with monkeypatch.context() as newer:
        brings = [*released("migrations/postgres"), later(9001, KNOWN)]
        newer.setattr(postgres_schema, "migrations", lambda: brings)
        engine.open(NOW)[0].close()
    engine.open(NOW)[0].close()


@pytest.fixture
def dump(engine: PostgresEngine) -> Iterator[psycopg.Connection[Any]]:
    """Something that reads all tables, and takes its time."""
    with psycopg.connect(engine._dsn) as connection:
        connection.execute("LOCK TABLE certificate IN ACCESS SHARE MODE")
        yield connection


def bring_column(monkeypatch: pytest.MonkeyPatch) -> None:
    column = f"-- compat: {KNOWN}\nALTER TABLE certificate ADD COLUMN more BIGINT NOT NULL DEFAULT 0;\n"
    brings = [*released("migrations/postgres"), Migration(9001, "later", column)]
    monkeypatch.setattr(postgres_schema, "migrations", lambda: brings)


def test_p22_beside_a_dump_others_decide_and_the_tables_change_after_it(
    engine: PostgresEngine, dump: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that brings a migration holds up nobody for longer than a second."""
    bring_column(monkeypatch)
    decided: list[Any] = []

    def meanwhile(seconds: float) -> None:
        with closing(engine.connect()) as other, exclusive(other) as (cursor, _):
            decided.append(cursor.execute("SELECT count(*) FROM certificate").fetchone())
        dump.rollback()

    with closing(engine.connect()) as connection:
        postgres_schema.bring_up_to_date(connection, NOW, meanwhile)
        assert decided == [(0,)]
        assert connection.execute("SELECT count(more) FROM certificate").fetchone() == (0,)


def test_p22_a_dump_without_end_ends_the_start(
    engine: PostgresEngine, dump: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it waited for; the tables are as they were."""
    bring_column(monkeypatch)
    monkeypatch.setattr(postgres_schema, "TRIES", 1)
    with closing(engine.connect()) as connection:
        with pytest.raises(StoreError, match="while something reads them"):
            postgres_schema.bring_up_to_date(connection, NOW, lambda seconds: None)
        assert connection.execute("SELECT count(*) FROM migration WHERE number = 9001").fetchone() == (0,)


@pytest.mark.parametrize(
    "held", ["SELECT turn FROM ordering FOR UPDATE", f"SELECT pg_advisory_xact_lock({postgres_schema.LOCK})"]
)
def test_p22_a_start_waits_for_those_before_it(
    engine: PostgresEngine, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a group decides, or another daemon changes the tables."""
    monkeypatch.setattr(postgres_schema, "TRIES", 1)
    with (
        closing(psycopg.connect(engine._dsn)) as before,
        closing(psycopg.connect(engine._dsn, autocommit=True)) as watches,
        ThreadPoolExecutor(1) as threads,
    ):
        before.execute(held)
        opened = threads.submit(engine.open, NOW)
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while watches.execute(waits).fetchone() is None:
            assert not opened.done()
        before.execute("SELECT pg_sleep(1.1)")  # longer than it waits for who reads a table
        before.commit()
        opened.result()[0].close()


def test_p23_two_daemons_that_migrate_at_once(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both start, and it is applied once."""
    brings = [*released("migrations/postgres"), later(9001, KNOWN), later(9002, KNOWN)]
    monkeypatch.setattr(postgres_schema, "migrations", lambda: brings)
    opened: list[bool] = []

    def start() -> None:
        connection, good = engine.open(NOW)
        connection.close()
        opened.append(good)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [True] * 3
    with closing(engine.connect()) as connection:
        asked = "SELECT count(*) FROM migration WHERE number > 9000"
        assert connection.execute(asked).fetchone() == (2,)


def test_p23_a_role_that_may_not_make_tables_starts_when_nothing_is_pending(engine: PostgresEngine) -> None:
    """Those who keep the database may keep that right to themselves."""
    with psycopg.connect(engine._dsn, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS modest")
        owner.execute("CREATE ROLE modest LOGIN")
        owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO modest")
    PostgresEngine(f"{engine._dsn} user=modest").open(NOW)[0].close()
    with psycopg.connect(engine._dsn, autocommit=True) as owner:
        owner.execute("DROP OWNED BY modest")
        owner.execute("DROP ROLE modest")
