# SPDX-License-Identifier: MIT
"""Between a backup and its restore: what audits vouch for, what files lack, which numbers were given out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authority.network import Member, Network
from authority.postgres_server import DatedEngine
from authority.state_files import DAY
from authority.theft import Theft

from gmesh.authority import audit
from gmesh.authority.audit import certificate_digest, chain_hash
from gmesh.authority.restore import Choices, Evidence, Restored, restore
from gmesh.authority.restore_place import SharedPlace
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import ConfigurationError
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import Certificate, Crl, Document, Policy, Status, parse_document, sign_document

EPOCH_TODAY = 744
"""Days since 2025 by the clock of the tests."""


def by_status(theft: Theft) -> Evidence:
    return Evidence(statuses=[theft.held(Status)])


def restated(theft: Theft) -> None:
    """Have a new status signed, by a change that it names: it bears out the rows so far."""
    assert theft.network.admin("POST", "/admin/policies", {"version": 1}).status == 201
    theft.network.clock.advance(2)


def lost_and_restored(theft: Theft, evidence: Evidence, **more: Any) -> Restored:
    return theft.restore([theft.held(Crl)], [theft.held(Policy)], evidence=evidence, **more)


def rows(network: Network, action: str) -> list[dict[str, Any]]:
    entries = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    return [entry["row"] for entry in entries if entry["row"]["action"] == action]


def enrolments(network: Network) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = network.admin("GET", "/admin/enrolments").json["enrolments"]
    return listed


def certificate_of(member: Member) -> Document[Certificate]:
    assert member.certificate is not None
    return member.certificate


def test_each_certificate_is_named_by_its_digest(network: Network) -> None:
    """Rows of join, renew and adopt carry the SHA-256 of the very bytes."""
    member = network.joined("pump-1")
    first = certificate_of(member)
    answer = network.renew(member, network.keys.noise())
    second = parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate)
    found = [row["certificate"] for row in (*rows(network, "join"), *rows(network, "renew"))]
    assert found == [certificate_digest(first.encode()), certificate_digest(second.encode())]


@pytest.mark.parametrize("way", ["heartbeat", "renew"])
def test_a1_the_audit_vouches_for_what_a_dropped_key_signed(theft: Theft, way: str) -> None:
    """A member that joined after the backup goes on: the head of a node bears out the row of its join."""
    young = theft.network.joined("pump-2")
    theft.rotate()
    done = lost_and_restored(theft, by_status(theft))
    (told,) = done.audits
    assert (told.rows, told.verified, told.remark) == (4, 3, "")  # invite, join, publish-genesis, and beyond
    assert getattr(theft.network, way)(young).status in (200, 201)
    assert theft.network.renew(young).status in (200, 201)
    (adopted,) = rows(theft.network, "adopt")
    assert (adopted["target"], adopted["grounds"]) == ("pump-2", "audit")
    assert adopted["certificate"] == certificate_digest(certificate_of(young).encode())


def test_a1_a_serial_is_not_enough(theft: Theft) -> None:
    """The thief gives a member's serial, name and key other roles: these are not the bytes given out."""
    young = theft.network.joined("pump-2")
    genuine = certificate_of(young)
    theft.rotate()
    lost_and_restored(theft, by_status(theft))
    young.certificate = sign_document(msgspec.structs.replace(genuine.body, roles=("anchor",)), [theft.key])
    assert theft.network.heartbeat(young).slug == "unknown-certificate"
    assert theft.network.renew(young).slug == "unknown-certificate"
    assert enrolments(theft.network) == []
    young.certificate = genuine
    assert theft.network.renew(young).status == 201


def test_a1_what_no_head_bears_out_waits_for_an_operator(theft: Theft) -> None:
    """Without a node's status the audit is the word of one disk: an operator looks, then they come in."""
    network, young = theft.network, theft.network.joined("pump-2")
    theft.rotate()
    (told,) = lost_and_restored(theft, Evidence()).audits
    assert (told.rows, told.verified) == (4, 0)
    for asked in (network.heartbeat, network.renew, network.heartbeat, network.renew):
        assert asked(young).slug == "enrolment-pending"
        assert len(enrolments(network)) == 1
    (waiting,) = enrolments(network)
    serial = certificate_of(young).body.serial
    assert [waiting[key] for key in ("name", "roles", "state", "serial")] == [
        "pump-2",
        ["client"],
        "pending",
        serial,
    ]
    assert theft.members() == ["pump-1"] and len(rows(network, "request-readmission")) == 1
    target = f"/admin/enrolments/{waiting['id']}"
    assert (
        network.admin("POST", target, {"decision": "approve", "node_id": young.node.key_id}).json["state"]
        == "approved"
    )
    assert (
        network.admin("POST", target, {"decision": "reject", "node_id": young.node.key_id}).slug == "conflict"
    )
    assert network.renew(young).status == 201
    assert rows(network, "adopt")[0]["grounds"] == "operator"
    assert rows(network, "approve-readmission")[0]["serial"] == serial


def test_a1_an_approval_is_for_the_bytes_that_were_shown(theft: Theft) -> None:
    """Other roles than the operator saw are not let in; what was rejected stays out, and is told why."""
    network, young = theft.network, theft.network.joined("pump-2")
    genuine = certificate_of(young)
    theft.rotate()
    lost_and_restored(theft, Evidence())
    assert network.renew(young).slug == "enrolment-pending"
    promoted = sign_document(msgspec.structs.replace(genuine.body, roles=("anchor",)), [theft.key])
    target = f"/admin/enrolments/{enrolments(network)[0]['id']}"
    network.admin("POST", target, {"decision": "approve", "node_id": young.node.key_id})
    young.certificate = promoted
    assert network.renew(young).slug == "enrolment-pending"
    (waiting,) = enrolments(network)
    assert waiting["roles"] == ["anchor"]
    target = f"/admin/enrolments/{waiting['id']}"
    assert network.admin("POST", target, {"decision": "reject", "node_id": young.node.key_id}).status == 200
    assert network.renew(young).slug == network.heartbeat(young).slug == "enrolment-refused"
    assert theft.members() == ["pump-1"]


def test_a1_rows_of_before_digests_wait_too(theft: Theft, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit of an older release names serial and node only: borne out or not, an operator looks."""
    whole = audit.record

    def without(*words: Any, **more: Any) -> None:
        more.pop("certificate", None)
        whole(*words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", without)
        young = theft.network.joined("pump-2")
    theft.rotate()
    lost_and_restored(theft, by_status(theft))
    assert theft.network.renew(young).slug == "enrolment-pending"


def append_row(path: Path, **row: Any) -> None:
    """Add a row, with all hashes right, as anybody can who writes the file."""
    last = json.loads(path.read_bytes().splitlines()[-1])
    seq, entry = last["seq"] + 1, canonical({"outcome": "done", "request_id": "", **row})
    digest = chain_hash(seq, bytes.fromhex(last["hash"]), entry)
    with path.open("ab") as stream:
        stream.write(b'{"seq":%d,"hash":"%s","row":%s}\n' % (seq, digest.hex().encode(), entry))


@pytest.mark.parametrize("told", ["status", "nothing"])
def test_a1_a_row_that_the_thief_wrote_admits_nobody(theft: Theft, told: str) -> None:
    """It lies beyond every head that nodes hold: at most it makes somebody wait for an operator."""
    theft.rotate()
    intruder = theft.intruder()
    held = certificate_of(intruder)
    evidence = by_status(theft) if told == "status" else Evidence()
    append_row(
        theft.network.path / "audit.jsonl",
        at=theft.network.now,
        actor=intruder.node.key_id,
        action="join",
        target="gate",
        serial=77,
        certificate=certificate_digest(held.encode()),
    )
    lost_and_restored(theft, evidence)
    assert theft.network.renew(intruder).slug == "enrolment-pending"
    assert theft.members() == ["pump-1"]


def test_a1_an_audit_that_was_rewritten_counts_up_to_the_last_head_it_meets(theft: Theft) -> None:
    """The thief rewrote it from a row on, and named the intruder: the head of a node says otherwise."""
    network, mirror = theft.network, theft.network.path / "audit.jsonl"
    early = network.joined("pump-2")
    restated(theft)
    first = theft.held(Status, "first")
    before = mirror.read_bytes()
    network.joined("pump-3")
    theft.rotate()
    second = theft.held(Status)
    mirror.write_bytes(before)
    intruder = theft.intruder()
    for _ in range(4):
        append_row(
            mirror,
            at=network.now,
            actor=intruder.node.key_id,
            action="join",
            target="gate",
            serial=77,
            certificate=certificate_digest(certificate_of(intruder).encode()),
        )
    head = theft.path / "audit-head.json"  # the operator's own, of their last check
    seen = parse_document(first.read_bytes(), Status).body.audit
    head.write_bytes(msgspec.json.encode(seen))
    (told,) = lost_and_restored(theft, Evidence(statuses=[second], heads=[head])).audits
    there = parse_document(second.read_bytes(), Status).body.audit.size
    assert (told.verified, told.remark) == (3, f"row {there} is another one than {second} names")
    assert network.renew(early).status == 201
    assert network.renew(intruder).slug == "enrolment-pending"


@pytest.mark.parametrize("harm", ["torn", "noise"])
def test_a1_a_torn_audit_counts_up_to_there(theft: Theft, harm: str) -> None:
    """The disk that lost the database lost the last line, too: the rows before it vouch, and it is told."""
    young = theft.network.joined("pump-2")
    theft.rotate()
    evidence, files = by_status(theft), ([theft.held(Crl)], [theft.held(Policy)])
    network = theft.network
    network.stop()
    mirror = network.path / "audit.jsonl"
    whole = mirror.read_bytes()
    mirror.write_bytes(whole[:-20] if harm == "torn" else whole + b"\0" * 4096)
    (told,) = network.restore(theft.backup, *files, evidence=evidence).audits
    assert told.verified == 3 and told.remark.endswith("is not an audit row")
    network.clock.advance(1)
    network.start()
    assert network.renew(young).status == 201


def test_an_audit_of_another_history_is_passed_over_and_told(theft: Theft) -> None:
    """Here it ends before the backup does: nothing of it counts, and nobody is left to wonder why."""
    mirror = theft.network.path / "audit.jsonl"
    lines = mirror.read_bytes().splitlines(keepends=True)
    young = theft.network.joined("pump-2")
    theft.rotate()
    evidence, files = by_status(theft), ([theft.held(Crl)], [theft.held(Policy)])
    network = theft.network
    network.stop()
    mirror.write_bytes(b"".join(lines[:3]))
    (told,) = network.restore(theft.backup, *files, evidence=evidence).audits
    assert (told.rows, told.verified, told.remark) == (0, 0, "of another history than the backup, or older")
    network.clock.advance(1)
    network.start()
    assert network.renew(young).slug == "unknown-certificate"


def test_a1_the_status_of_a_dropped_key_bears_nothing_out(theft: Theft) -> None:
    """The thief may have signed it, with the head of an audit of their own: the file is named."""
    theft.network.joined("pump-2")
    restated(theft)
    old = theft.held(Status, "old")
    theft.rotate()
    with pytest.raises(ConfigurationError, match=f"{old}: this status is signed by a key that genesis 2"):
        lost_and_restored(theft, Evidence(statuses=[theft.held(Status), old]))


def test_a1_an_export_takes_the_place_of_the_mirror(theft: Theft) -> None:
    """A fresh host has no audit.jsonl: a file that is given counts likewise; one of elsewhere is refused."""
    network, young = theft.network, theft.network.joined("pump-2")
    theft.rotate()
    crl, policy, status = theft.held(Crl), theft.held(Policy), theft.held(Status)
    network.stop()
    export = shutil.move(network.path / "audit.jsonl", theft.path / "export.jsonl")
    other = theft.path / "other.jsonl"
    other.write_bytes(b"".join(export.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(ConfigurationError, match=f"{other} does not pass through row"):
        network.restore(
            theft.backup,
            [crl],
            [policy],
            evidence=Evidence([status], [other]),
        )
    network.restore(theft.backup, [crl], [policy], evidence=Evidence([status], [export]))
    network.clock.advance(1)
    network.start()
    assert network.renew(young).status == 201


def test_a1_serials_that_are_accounted_for_are_not_given_to_others(network: Network, tmp_path: Path) -> None:
    """The theft is not known yet: even so the thief finds no room among serials that have a row."""
    (tmp_path / "nodes").mkdir()
    theft = Theft(network, tmp_path / "nodes")
    last = certificate_of(network.joined("pump-2")).body.serial
    restated(theft)
    lost_and_restored(theft, by_status(theft))
    for serial in range(last + 1):
        intruder = theft.intruder(serial=serial)
        assert network.renew(intruder).slug == "unknown-certificate"
    assert network.renew(theft.intruder(serial=last + 1)).status == 201, "nothing tells it from a genuine one"


def test_a1_a_member_that_joined_again_does_not_return_to_its_old_roles(theft: Theft) -> None:
    """The backup has its certificate of before; the audit tells of the join: the newer one counts."""
    network = theft.network
    old = network.joined("pump-7", "relay")
    theft.backup = theft.take_backup()
    demoted = network.invite("pump-7")
    demoted.node = old.node
    demoted.noise = old.noise
    assert network.join(demoted).status == 201
    restated(theft)
    lost_and_restored(theft, by_status(theft))
    assert network.renew(old).slug == "unknown-certificate"
    answer = network.renew(demoted)
    assert (answer.status, answer.json["certificate"]["signed"]["roles"]) == (201, ["client"])


# What files lack.


def test_a3_files_older_than_the_audit_are_refused(theft: Theft) -> None:
    """A revocation after them would be forgotten: it is named, and stays in force once newer files come."""
    network = theft.network
    crl, policy = theft.held(Crl, "old"), theft.held(Policy, "old")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.clock.advance(1)
    newer = theft.held(Crl)
    words = "the audit names 1 revocations after this backup that these files lack: pump-1"
    with pytest.raises(ConfigurationError, match=words):
        theft.restore([crl], [policy])
    assert network.renew(theft.honest).slug == "cert-revoked"
    assert theft.restore([crl, newer], [policy]).lost == []
    assert network.renew(theft.honest).slug == "cert-revoked"
    assert theft.restore([crl], [policy], accept_lost_revocations=True).lost == [words]
    assert network.renew(theft.honest).status == 201


def test_a3_a_key_that_was_revoked_for_ever_stays_so_when_no_crl_names_it_any_more(theft: Theft) -> None:
    """Its certificates ended long ago; the audit of the lost days names it, and no invite lets it in."""
    network, stolen = theft.network, theft.honest.node
    order = {"node": "pump-1", "reason": "key-compromise"}
    assert network.admin("POST", "/admin/revocations", order).status == 201
    network.clock.advance(62 * DAY)
    crl = theft.held(Crl)
    assert parse_document(crl.read_bytes(), Crl).body.revoked_keys == ()
    assert theft.restore([crl], [theft.held(Policy)]).taken_in == ["key of pump-1"]
    again = network.invite("pump-1")
    again.node = stolen
    assert network.join(again).slug == "cert-revoked"


def test_a3_a_removed_operator_does_not_return_with_an_old_policy(theft: Theft) -> None:
    """The audit names a newer policy than any file: refused, unless that is accepted."""
    network = theft.network
    crl, policy = theft.held(Crl, "old"), theft.held(Policy, "old")
    assert network.admin("DELETE", f"/admin/operators/{network.keys.operator.key_id}").status == 200
    network.clock.advance(1)
    with pytest.raises(ConfigurationError, match="the audit names policy 2, and the newest of these files"):
        theft.restore([crl], [policy])
    assert network.admin("GET", "/admin/nodes", key=network.keys.operator).slug == "unknown-key"
    done = theft.restore([crl], [policy], choices=Choices(accept_older_policy=True))
    assert (
        len(done.lost) == 1 and network.admin("GET", "/admin/nodes", key=network.keys.operator).status == 200
    )


@pytest.mark.parametrize("what", ["CRL", "policy"])
def test_a3_a_status_tells_what_files_of_other_nodes_lack(theft: Theft, what: str) -> None:
    """On a fresh host no audit is left: the status of one node is newer than the files of another."""
    network = theft.network
    crl, policy = theft.held(Crl, "old"), theft.held(Policy, "old")
    if what == "CRL":
        network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    else:
        network.admin("DELETE", f"/admin/operators/{network.keys.operator.key_id}")
    network.clock.advance(1)
    status = theft.held(Status)
    network.stop()
    (network.path / "audit.jsonl").unlink()
    with pytest.raises(ConfigurationError, match=f"{status} names {what} 2"):
        network.restore(
            theft.backup,
            [crl],
            [policy],
            evidence=Evidence([status]),
        )
    network.clock.advance(1)
    network.start()


def test_a3_files_older_than_the_backup_say_nothing_of_after_it(theft: Theft) -> None:
    """They are genuine, and worth as much as none."""
    crl, policy = theft.held(Crl, "old"), theft.held(Policy, "old")
    theft.network.joined("pump-2")
    theft.network.admin("POST", "/admin/revocations", {"node": "pump-2"})
    theft.network.clock.advance(1)
    theft.backup = theft.take_backup()
    with pytest.raises(ConfigurationError, match="the newest of these CRLs is number 1, older"):
        theft.restore([crl], [policy])


def test_a_second_restore_before_any_node_came_back_loses_nothing(theft: Theft) -> None:
    """No node can have a newer CRL than that of the first restore; once one was heard of, one can."""
    network = theft.network
    pump = network.joined("pump-2")
    files = [theft.held(Crl)], [theft.held(Policy)]
    theft.restore(*files)
    theft.backup = None
    assert theft.restore(*files).lost == []
    network.clock.advance(1)
    theft.backup = theft.take_backup()
    assert theft.restore(*files).lost == []
    assert network.heartbeat(pump).status == 200
    theft.backup = None
    with pytest.raises(ConfigurationError, match="the newest of these CRLs is number 1, older"):
        theft.restore(*files)


def test_a2_entries_of_a_dropped_key_are_struck_by_name(theft: Theft) -> None:
    """The thief barred a member: the operator keeps it in, and takes in the rest; a mistyped name is told."""
    network, end = theft.network, theft.network.now + 86_400
    theft.rotate()
    serial = certificate_of(theft.honest).body.serial
    keys = ((theft.honest.node.key_id, end), ("ab" * 16, end))
    forged = theft.forged(Crl, revoked=((serial, end, 0), (500, end, 0)), revoked_keys=tuple(sorted(keys)))
    files = [theft.held(Crl), forged], [theft.held(Policy)]
    with pytest.raises(ConfigurationError, match="pump-9: strike it as it is listed"):
        theft.restore(*files, choices=Choices(strike=["pump-1", "pump-9"]))
    done = theft.restore(*files, choices=Choices(strike=["pump-1", "key of pump-1"]))
    assert done.revoked_by_dropped_keys == ["serial 500", f"key {'ab' * 16}"]
    assert done.struck == ["pump-1", "key of pump-1"]
    assert network.renew(theft.honest).status == 201


def test_a2_nothing_changes_unless_it_is_confirmed(theft: Theft) -> None:
    """Whoever reads the operators of afterwards, and says no, keeps what was there."""
    network = theft.network
    network.admin("DELETE", f"/admin/operators/{network.keys.operator.key_id}")
    network.clock.advance(1)
    crl, policy = theft.held(Crl), theft.held(Policy)
    network.stop()
    before = {path: path.read_bytes() for path in network.path.iterdir() if path.is_file()}
    shown: list[Restored] = []

    def refuse(done: Restored) -> bool:
        shown.append(done)
        return False

    with pytest.raises(ConfigurationError, match="nothing was changed"):
        network.restore(theft.backup, [crl], [policy], choices=Choices(confirm=refuse))
    assert {path: path.read_bytes() for path in network.path.iterdir() if path.is_file()} == before
    assert len(shown[0].operators_before) == len(shown[0].operators_after) + 1
    network.clock.advance(1)
    network.start()


def test_a3_what_is_taken_in_is_named(theft: Theft) -> None:
    """By the node's name, and by the key where that is barred."""
    theft.network.admin("POST", "/admin/revocations", {"node": "pump-1", "reason": "key-compromise"})
    theft.network.clock.advance(1)
    assert theft.restore([theft.held(Crl)], [theft.held(Policy)]).taken_in == ["pump-1", "key of pump-1"]


# Numbers.


def test_a2_the_epoch_of_a_status_is_bounded(theft: Theft) -> None:
    """As that of the other files: the one to blame is named."""
    status = theft.forged(Status, number=(744 + 367) * SERIALS_PER_EPOCH)
    with pytest.raises(ConfigurationError, match=f"{status}: number .* is of epoch {744 + 367}"):
        lost_and_restored(theft, Evidence([status]))


def fresh_host(theft: Theft, path: Path) -> Callable[[int], Restored]:
    """A host with the keys and the genesis alone; gives what restores the backup there, at a time."""
    path.mkdir(mode=0o700)
    network, place = theft.network, None
    if network.postgres is not None:
        network.postgres.prepare(path)
        place = SharedPlace(DatedEngine(network.postgres.of(path)[0], network.wall), path)
    for name in ("genesis.json", "authority.key", "operators.json", "policy-initial.json"):
        shutil.copy(theft.network.path / name, path / name)

    def put_back(now: int) -> Restored:
        return restore(
            path,
            theft.backup,
            now,
            accept_lost_revocations=True,
            entropy=lambda size: bytes(size),
            place=place,
        )

    return put_back


def test_a24_one_backup_on_two_fresh_hosts_in_one_day(theft: Theft, tmp_path: Path) -> None:
    """The later one knows nothing of the other, and gives out numbers above it all the same."""
    first, second = (fresh_host(theft, tmp_path / name) for name in ("one", "two"))
    now = theft.network.now
    one, two = first(now), second(now + 1)
    assert one.epoch == two.epoch, "both go by the calendar"
    assert two.numbers_from - one.numbers_from >= 2**22 and 0 < two.numbers_from < 2**39
    assert two.policy_version - one.policy_version >= 2**22
    again = second(now + 2)
    assert (again.epoch, again.numbers_from) == (two.epoch + 1, 0), "this host knows of its restore"


def test_a24_members_of_the_first_restore_are_adopted_by_the_second(theft: Theft, tmp_path: Path) -> None:
    """The first host is gone the same day: what it gave out is of the same epoch, and yet taken in."""
    network = theft.network
    network.stop()
    first, second = (fresh_host(theft, tmp_path / name) for name in ("one", "two"))
    network.move(tmp_path / "one")
    first(network.now)
    network.clock.advance(1)
    network.start()
    young = network.joined("pump-2")
    assert certificate_of(young).body.serial // SERIALS_PER_EPOCH > 0
    network.stop()
    network.clock.advance(5)
    network.move(tmp_path / "two")
    second(network.now)
    network.clock.advance(1)
    network.start()
    assert network.heartbeat(young).status == 200
    answer = network.renew(young)
    assert answer.status == 201
    assert answer.json["certificate"]["signed"]["serial"] > certificate_of(young).body.serial


def test_a24_the_audit_tells_of_earlier_restores(theft: Theft) -> None:
    """Database and epoch.json are gone, audit.jsonl is not: the next epoch lies above the one it names."""
    network = theft.network
    network.stop()
    (network.path / "epoch.json").write_text(json.dumps({"epoch": 2000}))
    network.clock.advance(1)
    first = network.restore(theft.backup, accept_lost_revocations=True)
    (network.path / "epoch.json").unlink()
    network.lose_database()
    network.clock.advance(1)
    second = network.restore(theft.backup, accept_lost_revocations=True)
    assert (first.epoch, second.epoch) == (2001, 2002)
    network.clock.advance(1)
    network.start()


def test_a2_an_epoch_from_an_audit_here_is_bounded(theft: Theft) -> None:
    """A row of a restore, added to the mirror by whoever could write there, burns no numbers."""
    network, crl, policy = theft.network, theft.held(Crl), theft.held(Policy)
    network.stop()
    mirror = network.path / "audit.jsonl"
    append_row(mirror, action="restore", target=str(EPOCH_TODAY + 367))
    with pytest.raises(ConfigurationError, match=f"{mirror} tells of epoch {EPOCH_TODAY + 367}") as refused:
        network.restore(theft.backup, [crl], [policy])
    assert refused.value.reason == "epoch-beyond"
    mirror.unlink()
    assert network.restore(theft.backup, [crl], [policy]).epoch == EPOCH_TODAY
    network.clock.advance(1)
    network.start()


@pytest.mark.parametrize("action", ["restore", "publish-policy"])
def test_d15_a_number_without_end_in_an_audit_is_no_number(theft: Theft, action: str) -> None:
    """It is passed over: neither a traceback, nor a word of what is in force."""
    append_row(theft.network.path / "audit.jsonl", action=action, target="9" * 5000)
    assert lost_and_restored(theft, Evidence()).epoch == EPOCH_TODAY


def test_a3_a_revocation_of_another_node_of_that_name_is_no_evidence(theft: Theft) -> None:
    """The name was that of a revoked node before: that one is barred in the backup, its successor is not."""
    network = theft.network
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.clock.advance(1)
    theft.backup = theft.take_backup()
    crl, policy = theft.held(Crl, "old"), theft.held(Policy, "old")
    network.joined("pump-1")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.clock.advance(1)
    newer = theft.held(Crl)
    with pytest.raises(ConfigurationError, match=r"1 revocations after this backup .* lack: pump-1"):
        theft.restore([crl], [policy])
    theft.restore([newer], [policy])


def test_a3_a_node_that_only_a_dropped_keys_crl_names_is_not_missed(theft: Theft) -> None:
    """It joined and was revoked after the backup; the CRL that says so is of a key dropped since."""
    network = theft.network
    crl = theft.held(Crl, "old")
    young = network.joined("pump-2")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-2"}).status == 201
    network.clock.advance(1)
    by_old_key = theft.held(Crl, "dropped")
    theft.rotate()
    by_new_key = theft.file("early", sign_document(parse_document(crl.read_bytes(), Crl).body, [theft.new]))
    done = theft.restore([by_new_key, by_old_key], [theft.held(Policy)])
    assert done.revoked_by_dropped_keys == [f"node {young.node.key_id}"]
    assert done.lost == []
