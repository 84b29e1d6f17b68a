# SPDX-License-Identifier: MIT
"""D2, D3, A2 with real failures: a disk that is full or read-only, processes killed inside a migration."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gmesh.authority.store import sqlite
from gmesh.authority.store.migrate import Migration, migrate, released
from gmesh.errors import StoreError

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sqlite(
    "full and read-only disks, and migrations of files: a server's are in test_outage"
)


@contextmanager
def full_disk(network: Any, spare: int) -> Iterator[None]:
    """No file of this process may grow beyond the database's log of now, and a little: EFBIG, as ENOSPC."""
    network.restart()
    assert network.ask("GET", "/readyz").status == 200
    size = (network.path / "authority.sqlite-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state_of(network: Any) -> tuple[Any, ...]:
    """What the database holds of invites, certificates and the audit, read by sqlite3 alone."""
    database = sqlite3.connect(network.path / "authority.sqlite")
    try:
        used = database.execute(
            "SELECT used_serial FROM invite WHERE used_at IS NOT NULL ORDER BY 1"
        ).fetchall()
        serials = database.execute("SELECT serial FROM certificate ORDER BY 1").fetchall()
        rows = [json.loads(row[0]) for row in database.execute("SELECT entry FROM audit ORDER BY seq")]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        database.close()
    return used, serials, [(row["serial"],) for row in rows if row["action"] == "join"]


def test_a_full_disk_stops_writing_and_nothing_else(network: Any) -> None:
    """Joins are answered 503 and leave nothing, reads go on, readyz tells; later the same joins go."""
    seen = network.joined("pump-0")
    waiting = [network.invite(f"pump-{number}") for number in range(1, 20)]
    statuses = []
    with full_disk(network, 20_000):
        for member in waiting:
            answer = network.join(member)
            statuses.append(answer.status)
            if answer.status != 201:
                assert (answer.status, answer.slug) == (503, "unavailable")
                assert answer.headers.getRawHeaders("retry-after") == ["5"]
                assert "soon" in answer.json["detail"]
        for _ in range(30):
            network.clock.advance(1.1)
            ready = network.ask("GET", "/readyz").status
        assert ready == 503
        assert network.ask("GET", "/crl").status == 200
        assert network.heartbeat(seen).status == 200
        assert network.admin("GET", "/admin/nodes").status == 200
        used, serials, joins = state_of(network)
        assert used == serials == joins and len(serials) == 1 + statuses.count(201)
    assert 503 in statuses
    assert network.ask("GET", "/readyz").status == 200
    for member, status in zip(waiting, statuses, strict=True):
        assert network.join(member).status == (200 if status == 201 else 201)
    used, serials, joins = state_of(network)
    assert used == serials == joins and len(serials) == 20


def test_on_a_full_disk_no_change_is_made_unseen(network: Any) -> None:
    """What cannot be audited is not done: a revocation that was answered 503 revoked nothing."""
    member = network.joined("pump-1")
    with full_disk(network, 0):
        answers = [network.admin("POST", "/admin/revocations", {"node": "pump-1"}) for _ in range(3)]
        assert {answer.status for answer in answers} == {503}
    assert network.renew(member, network.keys.noise()).status == 201
    lines = (network.path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(json.loads(line)["row"]["action"] != "revoke" for line in lines)


def allow_writing(network: Any, allowed: bool) -> None:
    """Have the database refuse writes, or take them again."""
    writer = network.authority.store._writer
    writer.runWithConnection(lambda connection: connection.execute(f"PRAGMA query_only={int(not allowed)}"))


def test_a_read_only_database_serves_reads(network: Any) -> None:
    """While it takes no writes: 503 read-only for changes, documents and look-ups go on; then all is well."""
    member, waiting = network.joined("pump-1"), network.invite("pump-2")
    allow_writing(network, False)
    for answer in (network.join(waiting), network.renew(member), network.ask("GET", "/readyz")):
        assert (answer.status, answer.slug) == (503, "read-only")
    for path in ("/crl", "/policy", "/status", "/genesis"):
        assert network.ask("GET", path).status == 200
    assert network.heartbeat(member).status == 200
    assert network.admin("GET", "/admin/nodes").status == 200
    allow_writing(network, True)
    assert network.join(waiting).status == 201
    assert network.ask("GET", "/readyz").status == 200


def test_only_operators_are_told_of_files(network: Any, logged: list[str]) -> None:
    """Where the database lies and what ails it is for the log and operators; others get a reason."""
    member, waiting = network.joined("pump-1"), network.invite("pump-2")
    where = str(network.path)
    allow_writing(network, False)
    for answer in (network.join(waiting), network.renew(member), network.ask("GET", "/readyz")):
        assert answer.slug == "read-only" and where not in answer.body.decode()
        request_id = answer.json["request_id"]
        assert any(request_id in line and where in line for line in logged)
    told = network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert told.slug == "read-only" and where in told.json["detail"]
    allow_writing(network, True)
    network.authority.store.damage = StoreError("corrupt", f"{where}/authority.sqlite is damaged")
    for answer in (network.join(waiting), network.ask("GET", "/readyz")):
        assert answer.slug == "corrupt" and where not in answer.body.decode()


START = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
from twisted.internet.task import Clock
from gmesh.authority.tap import Options, makeService
options = Options()
options.parseOptions(["--state", sys.argv[2]])
makeService(options, Clock())
"""


def test_a_read_only_disk_is_told_at_start(network: Any) -> None:
    """One line that says what cannot be written, on a mount that really is read-only."""
    network.stop()
    state = str(network.path)
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$4" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", state, sys.executable, START, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    network.clock.advance(1)
    network.start()
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no name space of its own here: {done.stderr.strip()}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gmesh-authority: cannot write") and state in line


# Migrations.

MIGRATE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from gmesh.authority.store import sqlite
from gmesh.authority.store.migrate import migrate
connection = sqlite.connect(Path(sys.argv[2]))
left = int(sys.argv[3])
def count(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(count)
migrate(connection, 1)
print(left)
"""


def run_migration(path: Path, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    """Migrate in a process of its own, which kills itself at its statement number C{kill_at}."""
    command = [sys.executable, "-c", MIGRATE, str(ROOT), str(path), str(kill_at)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def schema(path: Path) -> list[tuple[str, str]]:
    """Every table and index, and the migrations recorded."""
    database = sqlite3.connect(path)
    try:
        found = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
        return found + database.execute("SELECT number, digest FROM migration ORDER BY number").fetchall()
    finally:
        database.close()


def make_first(path: Path) -> None:
    """A database of the first schema, with something in it."""
    connection = sqlite.connect(path)
    migrate(connection, 1, released()[:1])
    connection.execute("INSERT INTO noise_key VALUES ('a', 'b')")
    connection.execute("INSERT INTO node VALUES ('a', 'b', 'c', '[]', NULL, 1, 2, 5, NULL, NULL)")
    for serial, revoked_at, reason, listed in ((1, None, None, None), (2, 5, 1, 7), (3, 6, 0, None)):
        connection.execute(
            "INSERT INTO certificate VALUES (?, 'a', 'b', 'x', x'7b7d', 0, 9, ?, ?, ?)",
            (serial, revoked_at, reason, listed),
        )
    connection.close()


def test_each_schema_becomes_the_next_and_keeps_its_rows(tmp_path: Path) -> None:
    """From the first schema to the newest: as made at once, with the rows of before."""
    make_first(tmp_path / "old.sqlite")
    for name in ("old", "new"):
        connection = sqlite.connect(tmp_path / f"{name}.sqlite")
        migrate(connection, 1)
        connection.close()
    assert schema(tmp_path / "old.sqlite") == schema(tmp_path / "new.sqlite")
    database = sqlite3.connect(tmp_path / "old.sqlite")
    assert database.execute("SELECT * FROM noise_key").fetchall() == [("a", "b")]
    for counted in ("nodes", "barred"):
        assert database.execute("SELECT value FROM meta WHERE name = ?", (counted,)).fetchall() == [(1,)]
    revoked = database.execute("SELECT * FROM revoked_certificate ORDER BY serial").fetchall()
    assert revoked == [(2, 9, 1, 7), (3, 9, 0, None)]
    assert database.execute("SELECT serial FROM certificate WHERE revoked_at > 0").fetchall() == [(2,), (3,)]
    database.close()


def test_killed_half_way(tmp_path: Path) -> None:
    """kill -9 at statements all through a migration: the next start finishes it, to the same schema."""
    whole = tmp_path / "whole.sqlite"
    make_first(whole)
    statements = -int(run_migration(whole).stdout)
    assert statements > 8
    killed = 0
    for kill_at in range(1, statements + 1, max(1, statements // 6)):
        path = tmp_path / f"{kill_at}.sqlite"
        make_first(path)
        killed += run_migration(path, kill_at).returncode == -signal.SIGKILL
        assert run_migration(path).returncode == 0
        assert schema(path) == schema(whole)
    assert killed >= 5


def test_two_at_once(tmp_path: Path) -> None:
    """Four processes that start on the same old database: each migration is applied once, nobody fails."""
    path, whole = tmp_path / "raced.sqlite", tmp_path / "whole.sqlite"
    make_first(path)
    make_first(whole)
    run_migration(whole)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run_migration(path), range(4)))
    assert [process.returncode for process in done] == [0] * 4, [process.stderr for process in done]
    assert schema(path) == schema(whole)


def test_an_upgrade_can_be_made_again(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After going back a release, and after a copy that was cut short: the copy is made anew, whole."""
    network.stop()
    coming = [*released(), Migration(9999, "more", "CREATE TABLE more (x);")]
    copy = network.path / "authority-before-9999.sqlite"
    copy.write_bytes(b"an earlier copy")
    copy.with_suffix(".part").write_bytes(b"half of one")
    monkeypatch.setattr("gmesh.authority.store.migrate.released", lambda: coming)
    network.start()
    kept = [path.name for path in network.path.glob("authority-before-*")]
    assert kept == [copy.name] and copy.stat().st_mode & 0o777 == 0o600
    database = sqlite3.connect(copy)
    assert database.execute("SELECT max(number) FROM migration").fetchone() == (coming[-2].number,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
