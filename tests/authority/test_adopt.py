# SPDX-License-Identifier: MIT
"""A shared database that was put back by other means: refused, then adopted, and no revocation is undone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer
from authority.test_backups import body
from authority.test_identity import promote, sql

from gmesh.authority import adopt as adopting
from gmesh.authority.adopt import adopt, adopt_whole
from gmesh.authority.shown_files import HeldFiles, shown_files
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import ConfigurationError, StoreError
from gmesh.trust.documents import Crl, Status

NOTED_OLDER = "UPDATE meta SET value = 1 WHERE name = 'older_database_at'"


def dump(network: Network, path: Path) -> None:
    """As an administrator of the database would."""
    subprocess.run(["pg_dump", "-d", network.engine._dsn, "-f", str(path)], check=True)


def put_back(network: Network, path: Path) -> None:
    sql(network, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    words = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", network.engine._dsn, "-f", str(path)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    sql(network, "DELETE FROM replica")  # daemons of that time, by the clock of this test just now


def test_p27_a_dump_of_yesterday_is_refused_then_adopted(shared: Network, tmp_path: Path) -> None:
    """With what this host showed before: in a new epoch, with the revocation and the member of today."""
    old = shared.joined("pump-1")
    dump(shared, tmp_path / "yesterday.sql")
    young = shared.joined("pump-2")
    shared.admin("POST", "/admin/revocations", {"node": "pump-1"})
    shared.clock.advance(2)
    before = body(shared, "status", Status)
    shared.stop()
    put_back(shared, tmp_path / "yesterday.sql")
    with pytest.raises(StoreError, match="gmesh database adopt") as caught:
        shared.start()
    assert caught.value.reason == "older-database"
    sql(shared, NOTED_OLDER)  # as one that ran would have
    done = adopt(shared.path, shared.engine, shared.now)
    assert any("pump-1" in name or old.node.key_id in name for name in done.taken_in)
    shared.clock.advance(2)
    shared.start()
    shared.clock.advance(2)
    status = body(shared, "status", Status)
    assert status.number > max(before.number, done.epoch * SERIALS_PER_EPOCH)
    assert [each[0] for each in body(shared, "crl", Crl).revoked_nodes] == [old.node.key_id]
    assert shared.renew(old).status == 403
    assert shared.renew(young).status == 201
    assert shared.joined("pump-3").certificate.body.serial > done.epoch * SERIALS_PER_EPOCH
    assert len(list(shared.path.glob("authority.sqlite*"))) == 1, "what was there is kept, and no more"


def test_another_host_goes_on_by_what_was_decided_unless_it_saw_more(
    shared: Network, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its audit.jsonl is kept aside; one with rows that were not taken in is refused."""
    shared.joined("pump-1")
    dump(shared, tmp_path / "yesterday.sql")
    shared.joined("pump-2")
    shared.clock.advance(2)
    shared.stop()
    shared.start()
    mirror = shared.path / "audit.jsonl"
    seen = mirror.read_bytes()
    shared.joined("pump-3")
    shared.clock.advance(2)
    shared.stop()
    more = mirror.read_bytes()
    put_back(shared, tmp_path / "yesterday.sql")
    mirror.write_bytes(seen)
    adopt(shared.path, shared.engine, shared.now, accept_lost_revocations=True)
    ours = mirror.read_bytes()
    shared.clock.advance(2)
    mirror.write_bytes(more)
    with pytest.raises(StoreError, match="lacks row"):
        shared.start()
    mirror.write_bytes(seen)
    shared.start()
    assert mirror.read_bytes().startswith(ours)


def test_another_host_with_rows_of_a_fork_is_refused(shared: Network, tmp_path: Path) -> None:
    """It saw rows that a standby lacked; what was adopted since is longer, and tells nothing of them."""
    shared.joined("pump-1")
    shared.clock.advance(2)
    dump(shared, tmp_path / "standby.sql")
    mirror = shared.path / "audit.jsonl"
    ours = mirror.read_bytes()
    shared.admin("POST", "/admin/revocations", {"node": "pump-1"})
    shared.clock.advance(2)
    shared.stop()
    theirs = mirror.read_bytes()
    assert theirs != ours
    put_back(shared, tmp_path / "standby.sql")
    mirror.write_bytes(ours)
    promote(shared, synchronous=0)
    shared.start()
    shared.clock.advance(2)
    for number in range(2, 8):
        shared.joined(f"pump-{number}")
    shared.clock.advance(2)
    shared.stop()
    adopt(shared.path, shared.engine, shared.now, accept_lost_revocations=True)
    adopted = mirror.read_bytes()
    shared.clock.advance(2)
    mirror.write_bytes(theirs)
    with pytest.raises(StoreError, match="lacks row") as caught:
        shared.start()
    assert caught.value.reason == "older-database"
    assert mirror.read_bytes() == theirs
    mirror.write_bytes(adopted)
    shared.start()


def test_a_database_moved_whole_is_taken_as_it_is(shared: Network) -> None:
    """Same epoch and a row of the audit; but not if it lacks something."""
    shared.joined("pump-1")
    shared.clock.advance(1)
    with pytest.raises(ConfigurationError, match="another daemon"):
        adopt_whole(shared.path, shared.engine, shared.now)
    shared.stop()
    sql(shared, "UPDATE meta SET value = value + 1 WHERE name = 'system'", "DELETE FROM replica")
    (last,) = sql(shared, "SELECT max(seq) FROM audit")
    sql(shared, f"UPDATE audit SET seq = seq + 100 WHERE seq = {last}")
    with pytest.raises(StoreError, match="lacks row"):
        adopt_whole(shared.path, shared.engine, shared.now)
    sql(
        shared,
        f"UPDATE audit SET seq = seq - 100 WHERE seq = {last} + 100",
        NOTED_OLDER,  # a daemon on another host saw more
    )
    with pytest.raises(StoreError, match="another daemon has seen"):
        adopt_whole(shared.path, shared.engine, shared.now)
    sql(shared, NOTED_OLDER.replace("= 1", "= 0"))
    adopt_whole(shared.path, shared.engine, shared.now)
    shared.clock.advance(1)
    shared.start()
    assert shared.joined("pump-2").certificate.body.serial < SERIALS_PER_EPOCH
    actions = [entry["row"]["action"] for entry in shared.admin("GET", "/admin/audit").json["entries"]]
    assert actions.count("adopt-database") == 1 and "promotion" not in actions


def test_what_a_replica_decides_while_the_database_is_taken_is_not_overwritten(
    shared: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever serves is looked for before anything is taken: it may have stopped by the end."""
    shared.joined("pump-1")
    shared.stop()
    sql(
        shared,
        "INSERT INTO replica"
        " (boot, name, version, schema, keys, rules, started_at, seen_at, turn, numbers, ready)"
        " SELECT 'b', 'other', '1', 1, '', 1, 0, extract(epoch FROM clock_timestamp())::bigint, 0, '{}', 1",
    )

    def stops_now(state: Path) -> HeldFiles:
        sql(shared, "DELETE FROM replica")
        return shown_files(state)

    monkeypatch.setattr(adopting, "shown_files", stops_now)
    with pytest.raises(StoreError, match="serves from") as caught:
        adopt(shared.path, shared.engine, shared.now, accept_lost_revocations=True)
    assert caught.value.reason == "in-use"
    shared.clock.advance(1)
    shared.start()
