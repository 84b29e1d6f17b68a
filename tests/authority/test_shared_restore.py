# SPDX-License-Identifier: MIT
"""Backups of a database that daemons share are those of a file, and are restored into either."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer
from authority.test_backups import backup, body, keep

from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.restore import restore
from gmesh.authority.restore_place import SharedPlace
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.trust.documents import Crl, Status


@pytest.fixture
def shared(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """A running authority on PostgreSQL."""
    monkeypatch.setattr(Network, "postgres", postgres)
    return Network(tmp_path / "authority", RateLimits())


def test_p26_a_backup_of_a_shared_database_is_a_file_with_a_manifest(shared: Network) -> None:
    """Everything that was committed is in it."""
    shared.joined("pump-1")
    taken = backup(shared)
    manifest = json.loads(taken.with_suffix(".json").read_bytes())
    held = sqlite3.connect(taken)
    assert held.execute("SELECT name FROM node").fetchall() == [("pump-1",)]
    assert held.execute("SELECT max(seq) FROM audit").fetchone() == (manifest["audit"]["size"],)
    held.close()
    assert sorted(entry.suffix for entry in taken.parent.iterdir()) == [".json", ".sqlite"]
    assert taken.stat().st_mode & 0o077 == 0
    shared.stop()


@pytest.mark.parametrize("into", ["sqlite", "postgres"])
def test_p26_it_is_restored_into_either(shared: Network, tmp_path: Path, into: str) -> None:
    """In a new epoch, with what was revoked since; what was there is kept."""
    shared.joined("pump-1")
    lost = shared.joined("pump-2")
    taken = backup(shared)
    shared.admin("POST", "/admin/revocations", {"node": "pump-1"})
    crl, policy = keep(shared, tmp_path, "crl"), keep(shared, tmp_path, "policy")
    before = body(shared, "status", Status).number
    shared.stop()
    shared.clock.advance(5)
    place: Any = SharedPlace(shared.engine, shared.path) if into == "postgres" else None
    if place is None:
        shared.engine = None
    done = restore(shared.path, taken, shared.now, [crl], [policy], place=place)
    shared.clock.advance(1)
    shared.start()
    status = body(shared, "status", Status)
    assert status.number > max(before, done.epoch * SERIALS_PER_EPOCH)
    assert len(body(shared, "crl", Crl).revoked_nodes) == 1
    assert shared.renew(lost).status == 201
    shared.joined("pump-3")
    shared.clock.advance(1)  # who follows writes the file
    mirrored = [json.loads(line) for line in (shared.path / "audit.jsonl").read_text().splitlines()]
    head = shared.admin("GET", "/admin/audit?limit=1").json
    assert (mirrored[-1]["seq"], mirrored[-1]["hash"]) == (head["size"], head["head"])
    shared.stop()
    if into == "postgres":
        (kept,) = shared.path.glob("authority.sqlite.before-restore-*")
        held = sqlite3.connect(kept)
        assert held.execute("SELECT count(*) FROM revoked_node").fetchone() == (1,)
        held.close()
