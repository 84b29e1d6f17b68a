# SPDX-License-Identifier: MIT
"""The engine on a PostgreSQL server of the tests' own: one order, one text of a statement, one baseline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.in_place import in_place_pools
from authority.postgres_server import PostgresServer, running
from psycopg.pq import TransactionStatus

from gmesh.authority.store import admissions, enrolment, postgres, sqlite
from gmesh.authority.store.group_commit import run_group
from gmesh.authority.store.migrate import migrate
from gmesh.authority.store.postgres import PostgresConnection, PostgresEngine
from gmesh.authority.store.transaction import exclusive, transaction
from gmesh.errors import StoreError

NOW = 1_800_000_000


def now() -> int:
    """The time, which is the server's too."""
    return int(time.time())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> PostgresEngine:
    """On a database with the first tables."""
    engine = PostgresEngine(server.database())
    connection = engine.connect()
    fill(engine, connection)
    connection.close()
    return engine


def fill(engine: PostgresEngine, connection: PostgresConnection) -> None:
    """Make the tables."""
    with exclusive(connection, lambda cursor: engine.fill(connection, cursor, NOW)):
        pass


@pytest.fixture
def connection(engine: PostgresEngine) -> Iterator[PostgresConnection]:
    connection = engine.connect()
    yield connection
    connection.close()


def test_what_cannot_be_written_is_not_taken_unless_the_url_says_so(server: PostgresServer) -> None:
    """Of several hosts, a standby is passed over."""
    url = server.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        PostgresEngine(url).connect()
    PostgresEngine(f"{url} target_session_attrs=any").connect().close()


def test_a_connection_that_cannot_be_written_any_more_is_given_up(engine: PostgresEngine) -> None:
    """The next work has another."""
    (pool, readers) = in_place_pools(engine)
    told: list[Any] = []

    def write(connection: Any, begin: str) -> int:
        connection.cursor().several(f"{begin}; UPDATE ordering SET turn = turn; COMMIT")
        return int(connection.info.backend_pid)

    for begin in ("BEGIN", "BEGIN READ ONLY", "BEGIN", "BEGIN"):
        pool.runWithConnection(write, begin).addBoth(told.append)
    first, failure, *others = told
    pool.close()
    readers.close()
    assert failure.check(psycopg.errors.ReadOnlySqlTransaction)
    assert others == [others[0]] * 2 and others[0] != first


def test_only_an_empty_database_is_filled(engine: PostgresEngine, connection: PostgresConnection) -> None:
    """What holds something is refused, and stays as it is."""
    with pytest.raises(StoreError, match="not empty"):
        fill(engine, connection)
    assert connection.execute("SELECT min(number), max(applied_at) FROM migration").fetchone() == (1, NOW)


def test_p33_both_engines_have_the_same_tables_columns_and_needs(
    connection: PostgresConnection, tmp_path: Path
) -> None:
    """But for the row of the order, which a file of one writer has no need of."""
    there = connection.execute(
        "SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name NOT IN ('ordering', 'admission')"
    ).fetchall()
    with closing(sqlite.connect(tmp_path / "a.sqlite")) as file:
        migrate(file, NOW)
        here = file.execute(
            'SELECT t.name, c.name, c."notnull" OR c.pk'
            " FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
        ).fetchall()
    assert {(table, column, bool(needed)) for table, column, needed in here} == set(there)


def test_a_decision_writes_and_one_that_fails_leaves_nothing(connection: PostgresConnection) -> None:
    """Statements have question marks; an error rolls all of it back."""
    with transaction(connection, now()) as tx:
        tx.execute("INSERT INTO nonce (key_id, nonce, created) VALUES (?,?,?)", "100%", "n", NOW)
        number = tx.next_number("serial")
    with pytest.raises(psycopg.IntegrityError), transaction(connection, now()) as tx:
        tx.next_number("serial")
        tx.execute("INSERT INTO nonce (key_id, nonce, created) VALUES (?,?,?)", "100%", "n", NOW)
    with transaction(connection, now()) as tx:
        assert tx.all("SELECT key_id FROM nonce WHERE key_id LIKE '1%'") == [("100%",)]
        assert tx.coming_number("serial") == number + 1


def test_whoever_decides_is_alone_until_the_commit(
    engine: PostgresEngine, connection: PostgresConnection
) -> None:
    """A second one waits for the order, and does not begin beside the first."""
    other = engine.connect()
    with transaction(connection, now()), pytest.raises(psycopg.errors.LockNotAvailable):
        other.execute("SELECT turn FROM ordering WHERE id = 1 FOR UPDATE NOWAIT")
    assert other.execute("SELECT turn FROM ordering WHERE id = 1 FOR UPDATE NOWAIT").fetchone() == (0,)
    other.close()


def test_decisions_wait_for_the_disk_and_notes_that_need_not_last_do_not(
    connection: PostgresConnection,
) -> None:
    """Nor for a standby: what they say is said again soon."""
    waits = []
    lasting, other = (partial(connection.begin_note, lasting=lasting) for lasting in (True, False))
    for begin in (connection.begin, other, lasting, other, connection.begin):
        cursor: Any = connection.cursor()
        begin(cursor)
        waits.append(cursor.execute("SELECT current_setting('synchronous_commit')").fetchone()[0])
        connection.commit()
    assert waits == ["on", "off", "on", "off", "on"]


def test_a_question_alone_is_bounded_as_others_are_and_leaves_the_session_as_it_was(
    connection: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the one round that it takes: a pool gives the next transaction another session."""
    setting = "SELECT current_setting('statement_timeout'), ?::text"
    with closing(connection.one_question()) as cursor:
        monkeypatch.setattr(postgres, "_LIMIT", "SET LOCAL statement_timeout = '40s'; ")
        assert cursor.execute(setting, ("100%'s?",)).fetchall() == [("40s", "100%'s?")]
        monkeypatch.setattr(postgres, "_LIMIT", "SET LOCAL statement_timeout = '50ms'; ")
        with pytest.raises(psycopg.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(?)", (600,))
    assert connection.info.transaction_status == TransactionStatus.IDLE
    assert connection.execute(setting, ("",)).fetchone() == ("0", "")


@pytest.mark.parametrize("wrong", [-3600, 3600])
def test_p21_a_daemon_whose_clock_differs_decides_nothing(connection: PostgresConnection, wrong: int) -> None:
    """It says so, and moves no mark of the others."""
    with pytest.raises(StoreError, match="differ by 3") as caught:
        run_group(connection, [], int(time.time()) + wrong, int(time.time()) + wrong)
    connection.rollback()
    assert caught.value.reason == "clock-suspect"
    assert connection.execute("SELECT value FROM meta WHERE name = 'high_water'").fetchone() == (0,)
    run_group(connection, [], int(time.time()), 0)


def test_p6_who_holds_the_order_and_stands_still_is_ended_by_the_server(
    connection: PostgresConnection, engine: PostgresEngine
) -> None:
    """Others decide then, and of what the frozen one began nothing is stored."""
    other = engine.connect()
    with pytest.raises(psycopg.Error), transaction(connection, now()) as tx:
        tx.next_number("serial")
        with transaction(other, now()) as next_one:
            assert next_one.next_number("serial") == 1
    assert connection.closed
    other.close()


def test_an_invite_that_does_not_exist_admits_nobody(connection: PostgresConnection) -> None:
    """The facts of joins are asked in the same words as of SQLite."""
    with transaction(connection, now()) as tx:
        assert admissions.page(tx, "", 10) == []
        assert enrolment.lookup_joins(tx, [("a", "b", "c"), ("d", "e", "f")]) == [None, None]
