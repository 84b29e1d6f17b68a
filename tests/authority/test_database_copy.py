# SPDX-License-Identifier: MIT
"""The authority moves to PostgreSQL and back: every row is there, and only one place may be served from."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer

from gmesh.authority import database_copy
from gmesh.authority.database_copy import Copied, copy_end, engine_of
from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.restore_place import write_mirror
from gmesh.authority.store import sqlite
from gmesh.authority.store.copy import CopyEnd
from gmesh.authority.store.copy_postgres import PostgresEnd
from gmesh.authority.store.migrate import Migration, migrate, released
from gmesh.authority.store.postgres import PostgresEngine
from gmesh.authority.store.transaction import exclusive
from gmesh.errors import ConfigurationError, GmeshError, StoreError

NOW = 1_800_000_000
SAMPLES = {"INTEGER": 2**62 + 1, "TEXT": "a%s? \u00e9\U0001f600 \\N\t", "BLOB": b"\x00\xff\\x00"}
"""Values that a careless copy would change, by the type of SQLite."""
LEAST = {"INTEGER": 0, "TEXT": "", "BLOB": b""}


@contextmanager
def quietly(rows: int) -> Iterator[Callable[[int], object]]:
    yield lambda more: None


def _end(place: str | Path) -> CopyEnd:
    return copy_end(engine_of(str(place)))


def copy(state: Path, source: str | Path, target: str | Path) -> Copied:
    return database_copy.copy_database(state, _end(source), _end(target), NOW, quietly)


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in words of sqlite3 alone, but for what says when the tables were made."""
    database = sqlite3.connect(path)
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: sorted(database.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in names
            if name not in ("compatible", "migration", "moved", "replica")
        }
    finally:
        database.close()


def add_a_row_of_each_kind(path: Path) -> None:
    """One with awkward values, and one with as little as the table allows, in each table that takes any."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        for table in dump(path):
            columns = database.execute('SELECT name, type, pk, "notnull" FROM pragma_table_info(?)', (table,))
            rows = columns.fetchall()
            if table == "audit":
                continue  # whose rows follow from each other
            for samples in (SAMPLES, LEAST):
                values = [
                    None if samples is LEAST and not (pk or needed) else samples[kind]
                    for _, kind, pk, needed in rows
                ]
                places = ",".join("?" * len(values))
                database.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", values)
    finally:
        database.close()


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A stopped authority with members, one of which was revoked; its database is a file."""
    monkeypatch.setattr(Network, "postgres", None)
    network = Network(tmp_path / "authority", RateLimits())
    network.joined("pump-1")
    network.joined("pump-2")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.stop()
    return network


def test_p25_there_and_back_every_row_is_equal(
    full: Network, postgres: PostgresServer, tmp_path: Path
) -> None:
    """The copy of the copy is the database that it was, whatever its rows hold."""
    first = full.path / "authority.sqlite"
    add_a_row_of_each_kind(first)
    before = dump(first)
    assert [table for table, rows in before.items() if not rows] == ["approval_rules"]
    url = postgres.database()
    there = copy(full.path, first, url)
    back = copy(full.path, url, tmp_path / "back.sqlite")
    assert dump(tmp_path / "back.sqlite") == before
    assert (there.rows, there.head) == (sum(map(len, before.values())), back.head)


def test_p25_the_authority_goes_on_from_the_way_back(full: Network, postgres: PostgresServer) -> None:
    """Same epoch, same numbers: members renew, and the old file refuses to be served from."""
    file, url = full.path / "authority.sqlite", postgres.database()
    copy(full.path, file, url)
    with pytest.raises(StoreError, match="moved to database t") as caught:
        full.start()
    assert caught.value.reason == "moved"
    file.rename(full.path / "moved.sqlite")
    copy(full.path, url, file)
    full.start()
    full.joined("pump-9")
    rows = full.admin("GET", "/admin/nodes").json["nodes"]
    full.stop()
    assert {row["name"] for row in rows} == {"pump-1", "pump-2", "pump-9"}


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root gives files away")
def test_what_root_copies_belongs_to_the_owner_of_the_directory(full: Network, tmp_path: Path) -> None:
    """Whose daemon opens database and audit."""
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, 12345, 54321)
    copy(full.path, full.path / "authority.sqlite", place / "authority.sqlite")
    write_mirror(place / "authority.sqlite", place / "audit.jsonl")
    found = [(place / name).stat() for name in ("authority.sqlite", "audit.jsonl")]
    assert [(each.st_uid, each.st_gid) for each in found] == [(12345, 54321)] * 2


def test_numbers_that_the_server_gives_go_on_after_the_copied_ones(
    full: Network, postgres: PostgresServer
) -> None:
    """A row that is added there takes no number of one that came along."""
    file, url = full.path / "authority.sqlite", postgres.database()
    columns = "(id, serial, node_id, name, joined, issued_at)"
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute(f"INSERT INTO lost_certificate {columns} VALUES (7, 1, 'n', 'n', 0, 0)")
    writer.close()
    copy(full.path, file, url)
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "INSERT INTO lost_certificate (serial, node_id, name, joined, issued_at)"
            " VALUES (2, 'n', 'n', 0, 0) RETURNING id"
        ).fetchone()
    assert row == (8,)


@pytest.mark.parametrize("there", [True, False], ids=["to PostgreSQL", "back"])
@pytest.mark.parametrize("when", ["copying", "before the source is closed", "after it"])
def test_p25_killed_half_way(
    full: Network,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    when: str,
) -> None:
    """At no moment may both be served from; run once more, it comes to its end."""
    file, url = full.path / "authority.sqlite", postgres.database()
    source: Any = file
    target: Any = url
    if not there:
        copy(full.path, file, url)
        source, target = url, tmp_path / "back.sqlite"
    pid = os.fork()
    if pid == 0:
        _die(full.path, _end(source), _end(target), when, monkeypatch)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    usable = [end for end in (source, target) if _usable(str(end))]
    assert usable == ([] if when == "after it" else [source])
    copy(full.path, source, target)
    assert [end for end in (source, target) if _usable(str(end))] == [target]


def _die(state: Path, source: CopyEnd, target: CopyEnd, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as by a power cut."""

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def watch(rows: int) -> Iterator[Callable[[int], object]]:
        yield die if when == "copying" else lambda more: None

    if when == "before the source is closed":
        monkeypatch.setattr(source, "commit", die)
    if when == "after it":
        monkeypatch.setattr(target, "publish", die)
    try:
        database_copy.copy_database(state, source, target, NOW, watch)
    finally:
        os._exit(1)


def _usable(place: str) -> bool:
    """Whether a daemon would serve from it: it has operators and no mark."""
    if not database_copy.is_url(place):
        if not Path(place).exists():
            return False
        with closing(sqlite3.connect(place)) as database:
            found: tuple[int] = database.execute("SELECT count(*) FROM moved").fetchone()
            return found == (0,)
    with psycopg.connect(place) as connection:
        if connection.execute("SELECT to_regclass('moved')").fetchone() == (None,):
            return False
        return connection.execute("SELECT count(*) FROM moved").fetchone() == (0,)


def test_what_is_served_from_is_not_copied(full: Network, postgres: PostgresServer, tmp_path: Path) -> None:
    """Not a directory whose daemon runs, and no shared database that one was heard of a moment ago."""
    file, url = full.path / "authority.sqlite", postgres.database()
    full.start()
    (tmp_path / "elsewhere").mkdir()
    for state in (full.path, tmp_path / "elsewhere"):
        with pytest.raises(ConfigurationError, match="another daemon"):
            copy(state, file, url)
    full.stop()
    copy(full.path, file, url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO replica VALUES ('b', 'host-2', '1', 1, '', 0, 0,"
            " floor(extract(epoch FROM clock_timestamp())), 0)"
        )
    with pytest.raises(StoreError, match="host-2 serves from") as caught:
        copy(full.path, url, tmp_path / "back.sqlite")
    assert caught.value.reason == "in-use"
    assert not list(tmp_path.glob("back*"))


def test_a_copy_that_waits_for_the_order_has_what_was_decided_meanwhile(
    full: Network, postgres: PostgresServer, tmp_path: Path
) -> None:
    """And sees that who decided it serves: nothing is copied."""
    url = postgres.database()
    copy(full.path, full.path / "authority.sqlite", url)
    with (
        closing(psycopg.connect(url)) as decides,
        closing(psycopg.connect(url, autocommit=True)) as watches,
        ThreadPoolExecutor(1) as threads,
    ):
        decides.execute("SELECT turn FROM ordering FOR UPDATE")
        copied = threads.submit(copy, full.path, url, tmp_path / "back.sqlite")
        waits = "SELECT 1 FROM pg_locks WHERE relation = 'ordering'::regclass AND NOT granted"
        while watches.execute(waits).fetchone() is None:
            assert not copied.done(), copied.result()
        decides.execute(
            "INSERT INTO replica VALUES ('b', 'host-2', '1', 1, '', 0, 0,"
            " floor(extract(epoch FROM clock_timestamp())), 0)"
        )
        decides.commit()
        with pytest.raises(StoreError, match="host-2 serves from"):
            copied.result()


def test_a_daemon_that_was_overlooked_decides_nothing_any_more(full: Network, tmp_path: Path) -> None:
    """It stood still, say, and goes on when all is copied."""
    file = full.path / "authority.sqlite"
    full.start()
    (full.path / "authority.lock").unlink()
    copy(full.path, file, tmp_path / "moved.sqlite")
    full.clock.advance(2)
    assert full.admin("POST", "/admin/revocations", {"node": "pump-2"}).status == 503
    assert full.ask("GET", "/readyz").status == 503
    full.stop()


def test_only_an_empty_target_is_copied_to(full: Network, postgres: PostgresServer, tmp_path: Path) -> None:
    """Neither a file that exists, nor a database of anything else, nor one of another authority."""
    file = full.path / "authority.sqlite"
    (tmp_path / "there.sqlite").touch()
    foreign, other = postgres.database(), postgres.database()
    with psycopg.connect(foreign) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    engine = PostgresEngine(other)
    with (
        closing(engine.connect()) as empty,
        exclusive(empty, lambda cursor: engine.fill(empty, cursor, NOW)),
    ):
        pass
    for target in (tmp_path / "there.sqlite", foreign, other):
        with pytest.raises(StoreError) as caught:
            copy(full.path, file, target)
        assert caught.value.reason == "not-empty"
        assert _usable(str(file))


def test_a_source_of_another_release_is_not_copied(
    tmp_path: Path, full: Network, postgres: PostgresServer
) -> None:
    """Nothing is left out because this program does not know it."""
    older, newer = tmp_path / "older.sqlite", tmp_path / "newer.sqlite"
    for path, migrations in (
        (older, released()[:-1]),
        (newer, [*released(), Migration(9999, "later", "CREATE TABLE later (x INTEGER PRIMARY KEY);\n")]),
    ):
        connection = sqlite.connect(path)
        migrate(connection, NOW, migrations)
        connection.close()
        with pytest.raises(StoreError, match=f"{path.stem}.sqlite was written by a{'n' * (path == older)}"):
            copy(full.path, path, postgres.database())


def test_a_row_that_differs_is_found(
    full: Network, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that changes what it is given is not kept."""
    url = postgres.database()
    put = PostgresEnd.put

    def changed(end: PostgresEnd, table: Any, rows: Any) -> None:
        if table.name == "noise_key":
            rows = (("x" + row[0][1:], *row[1:]) for row in rows)
        put(end, table, rows)

    monkeypatch.setattr(PostgresEnd, "put", changed)
    with pytest.raises(StoreError, match="table noise_key differs"):
        copy(full.path, full.path / "authority.sqlite", url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('audit')").fetchone() == (None,)
    assert _usable(str(full.path / "authority.sqlite"))


def test_an_audit_that_was_tampered_with_is_not_carried_on(full: Network, postgres: PostgresServer) -> None:
    """The chain is computed anew from what arrived."""
    file = full.path / "authority.sqlite"
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("UPDATE audit SET entry = replace(CAST(entry AS TEXT), 'pump-1', 'pump-7') WHERE seq = 5")
    writer.execute("UPDATE audit SET entry = CAST(entry AS BLOB) WHERE seq = 5")
    writer.close()
    with pytest.raises(StoreError) as caught:
        copy(full.path, file, postgres.database())
    assert caught.value.reason == "audit-broken"


@pytest.mark.parametrize(
    "url",
    ["postgresql://gmesh:secret@db/x", "host=db password=secret", "postgresql://db/x?sslpassword=secret"],
)
def test_p31_a_password_on_the_command_line_is_refused_and_not_repeated(url: str) -> None:
    """The line names what to do in its place."""
    with pytest.raises(ConfigurationError, match="passfile") as caught:
        engine_of(url)
    assert "secret" not in str(caught.value.detail)


@pytest.mark.parametrize(
    "url",
    [
        "postgres:/u:secret@db/x",
        "postgresq://u:secret@db/x",
        "POSTGRESQL://u:secret@db/x",
        "Postgres//u:secret@x",
    ],
)
def test_p31_a_mistyped_url_is_no_file_and_is_not_repeated(url: str) -> None:
    """What is wrong is said, and nothing of it."""
    with pytest.raises(ConfigurationError) as caught:
        engine_of(url)
    assert caught.value.reason == "bad-database" and "secret" not in str(caught.value.detail)


def test_a_file_may_be_named_after_postgres(tmp_path: Path) -> None:
    """As long as no URL can have been meant."""
    assert not engine_of(str(tmp_path / "postgres.sqlite")).shared and not engine_of("postgres.sqlite").shared


def test_a_server_that_is_not_there_is_one_line(full: Network) -> None:
    """The source stays as it was."""
    with pytest.raises(GmeshError, match="cannot be reached"):
        copy(full.path, full.path / "authority.sqlite", "host=/nowhere dbname=x")
    assert _usable(str(full.path / "authority.sqlite"))
