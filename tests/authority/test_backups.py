# SPDX-License-Identifier: MIT
"""Backup under way, restore offline: nothing issued twice, nothing revoked forgotten."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from authority.in_place import HeldThreads
from twisted.internet.defer import fail

from gmesh.authority.operators import recover_operator
from gmesh.authority.restore import restore
from gmesh.authority.server import open_authority
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import GmeshError
from gmesh.trust.documents import Crl, Policy, Status, parse_document


def backup(network: Any) -> Path:
    """Take a backup over HTTP."""
    answer = network.admin("POST", "/admin/backup")
    assert answer.status == 201, answer.body
    return network.path / "backups" / answer.json["file"]  # type: ignore[no-any-return]  # a Path


def keep(network: Any, tmp_path: Path, name: str) -> Path:
    """The document a node holds in its directory."""
    network.clock.advance(1)
    path = tmp_path / f"{name}.json"
    path.write_bytes(network.ask("GET", f"/{name}").body)
    return path


def body(network: Any, name: str, struct: Any) -> Any:
    """A document as served now."""
    return parse_document(network.ask("GET", f"/{name}").body, struct).body


def test_a_backup_is_checked_and_described(network: Any) -> None:
    """The manifest tells size, digest and audit head of a file that sqlite3 can open."""
    network.joined("pump-1")
    path = backup(network)
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["audit"]["size"] >= 5
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == [".json", ".sqlite"]
    assert path.stat().st_mode & 0o077 == 0
    assert network.admin("POST", "/admin/backup", key=network.keys.operator).slug == "forbidden-role"


def test_one_backup_is_made_at_a_time_and_goes_on_when_nobody_waits(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again meanwhile is told which; it is there in the end."""
    store, answers = network.authority.store, list[Any]()
    at_once, held = store._reader.threadpool, HeldThreads()
    in_thread = store.in_thread

    def in_held_thread(work: Any, **more: Any) -> Any:
        store._reader.threadpool = held
        try:
            return in_thread(work, **more)
        finally:
            store._reader.threadpool = at_once

    with monkeypatch.context() as slow:
        slow.setattr(store, "in_thread", in_held_thread)
        signed = network.signed(network.keys.admin, "POST", "/admin/backup")
        network.begin("POST", "/admin/backup", signed).addCallback(answers.append)
        network.treq.flush()
    network.clock.advance(31)
    network.treq.flush()
    assert [answer.status for answer in answers] == [503]
    again = network.admin("POST", "/admin/backup")
    assert (again.status, again.slug) == (409, "conflict")
    held.go()
    (name,) = (path.name for path in (network.path / "backups").glob("*.sqlite"))
    assert f"backups/{name} is being made" in again.json["detail"]
    assert network.admin("POST", "/admin/backup").status == 201


def test_a_backup_that_could_not_begin_keeps_no_other_away(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no connection to be had."""
    reader = network.authority.store._reader
    with monkeypatch.context() as without:
        asked = reader.runWithConnection

        def refused(function: Any, *more: Any) -> Any:
            if "in_thread" in function.__qualname__:
                return fail(network.failure("unable to open database file"))
            return asked(function, *more)

        without.setattr(reader, "runWithConnection", refused)
        assert network.admin("POST", "/admin/backup").status == 503
    assert network.admin("POST", "/admin/backup").status == 201


def test_a_restore_gives_no_number_out_twice(network: Any, tmp_path: Path) -> None:
    """Numbers and serials of after the restore lie above all before; restoring twice repeats nothing."""
    network.joined("pump-1")
    taken = backup(network)
    lost = network.joined("pump-2")
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    before = body(network, "status", Status).number
    epochs = []
    for _ in range(2):
        network.stop()
        network.clock.advance(5)
        epochs.append(network.restore(taken, [crl], [policy]).epoch)
        network.clock.advance(1)
        network.start()
        status = body(network, "status", Status)
        assert min(status.number, status.crl.number, status.policy.version) > epochs[-1] * SERIALS_PER_EPOCH
        assert status.number > before
        before = status.number
    assert epochs[1] > epochs[0]
    assert network.joined("pump-3").certificate.body.serial > lost.certificate.body.serial
    assert network.renew(lost).status == 201


def test_a_revocation_is_not_undone(network: Any, tmp_path: Path) -> None:
    """What was revoked after the backup stays revoked, known to the backup or not, as does a revoked key."""
    old = network.joined("pump-1")
    taken = backup(network)
    young = network.joined("pump-2")
    stolen = network.joined("pump-3")
    for name, reason in (("pump-1", "superseded"), ("pump-2", "superseded"), ("pump-3", "key-compromise")):
        assert network.admin("POST", "/admin/revocations", {"node": name, "reason": reason}).status == 201
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    listed = body(network, "crl", Crl)
    network.stop()
    network.clock.advance(5)
    done = network.restore(taken, [crl], [policy])
    assert done.revocations == 4
    network.clock.advance(1)
    network.start()
    fresh = body(network, "crl", Crl)
    assert (fresh.revoked, fresh.revoked_keys) == (listed.revoked, listed.revoked_keys)
    assert len(fresh.revoked_nodes) == 3 and fresh.revoked_nodes == listed.revoked_nodes
    assert fresh.number > listed.number
    for member in (old, young, stolen):
        assert network.renew(member).status == 403
        assert network.heartbeat(member).status == 403


def test_the_name_of_a_revoked_node_stays_free(network: Any, tmp_path: Path) -> None:
    """A host that takes the place of one revoked after the backup joins under its name."""
    network.joined("pump-1")
    taken = backup(network)
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    network.stop()
    network.clock.advance(5)
    network.restore(taken, [crl], [policy])
    network.clock.advance(1)
    network.start()
    assert network.join(network.invite("pump-1")).status == 201


def test_open_invites_and_old_requests_end_with_a_restore(network: Any, tmp_path: Path) -> None:
    """An invite of before may have been used, and its request recorded: neither counts."""
    invited = network.invite("pump-1")
    taken = backup(network)
    headers, request = network.join_request(network.invite("pump-2"))
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    network.stop()
    assert network.restore(taken, [crl], [policy]).invites_withdrawn == 1
    network.clock.advance(1)
    network.start()
    assert network.join(invited).slug == "enrolment-refused"
    assert network.ask("POST", "/join", headers, request).slug == "stale"
    actions = [entry["row"]["action"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    assert actions[-1] == "restore"


def test_the_newest_policy_survives(network: Any, tmp_path: Path) -> None:
    """The policy of a node is merged; the same text goes on under a new version."""
    taken = backup(network)
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    network.stop()
    done = network.restore(taken, [crl], [policy])
    network.clock.advance(1)
    network.start()
    assert body(network, "policy", Policy).version == done.policy_version
    assert body(network, "policy", Policy).rules == parse_document(policy.read_bytes(), Policy).body.rules


def test_a_restore_wants_what_nodes_know(network: Any) -> None:
    """Without a node's CRL and policy it must be told to accept the loss; a running daemon is left alone."""
    taken = backup(network)
    with pytest.raises(GmeshError, match="accept-lost-revocations"):
        network.restore(taken)
    with pytest.raises(GmeshError, match="stop it first"):
        network.restore(taken, accept_lost_revocations=True)
    network.stop()
    taken.write_bytes(taken.read_bytes()[:-1])
    with pytest.raises(GmeshError, match="manifest"):
        network.restore(taken, accept_lost_revocations=True)
    network.clock.advance(1)
    network.start()


def test_neither_restore_nor_recovery_invents_a_directory(network: Any, tmp_path: Path) -> None:
    """A mistyped --state is told as that."""
    taken = backup(network)
    with pytest.raises(GmeshError, match="nowhere is not a directory"):
        restore(tmp_path / "nowhere", taken, network.now, accept_lost_revocations=True)
    with pytest.raises(GmeshError, match="nowhere is not a directory"):
        recover_operator(tmp_path / "nowhere", network.keys.signing().public, "new", network.now)


def test_a_crl_of_strangers_is_not_merged(network: Any, tmp_path: Path) -> None:
    """The files given must be signed by a key this authority has had."""
    taken = backup(network)
    crl, policy = keep(network, tmp_path, "crl"), keep(network, tmp_path, "policy")
    value = json.loads(crl.read_bytes())
    value["signed"]["revoked"] = [[1, 2_000_000_000, 0]]
    crl.write_text(json.dumps(value))
    network.stop()
    with pytest.raises(GmeshError, match=str(crl)):
        network.restore(taken, [crl], [policy])
    network.clock.advance(1)
    network.start()


def test_one_daemon_a_directory(network: Any) -> None:
    """A second one on the same state is refused."""
    with pytest.raises(GmeshError, match="stop it first"):
        open_authority(network.path, network.clock, network.wall, network.pools)
