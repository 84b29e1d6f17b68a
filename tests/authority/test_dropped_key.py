# SPDX-License-Identifier: MIT
"""An authority key was stolen and dropped: what a thief signs with it admits nobody, whatever is restored."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from authority.network import Member, Network
from authority.state_files import DAY, POLICY_TEXT
from authority.theft import Theft

from gmesh.authority.restore import Choices
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import ConfigurationError, StoreError
from gmesh.trust.ceremony import attach, rotate_authority, sign_detached
from gmesh.trust.documents import (
    Certificate,
    Crl,
    Document,
    Genesis,
    Operator,
    Policy,
    Status,
    parse_document,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_TIME

EPOCH_TODAY = 744
"""Days from 2025-01-01 to the time these tests begin at, 2027-01-15: 365 + 365 + 14."""


def renewed(network: Network, member: Member) -> Document[Certificate]:
    answer = network.renew(member)
    assert answer.status == 201, answer.body
    return parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate)


@pytest.mark.parametrize("restored_first", [True, False])
@pytest.mark.parametrize("days_over", [0, 20])
def test_a1_a_forged_certificate_is_not_adopted(theft: Theft, restored_first: bool, days_over: int) -> None:
    """What a dropped key signed and no row tells of is worth nothing, whenever a restore was."""
    for step in (theft.restore_honestly, theft.rotate)[:: 1 if restored_first else -1]:
        step()
    end = theft.network.now + DAY if not days_over else theft.network.now - days_over * DAY
    intruder = theft.intruder(not_before=end - DAY, issued_at=end - DAY, not_after=end)
    assert theft.network.heartbeat(intruder).slug == "unknown-certificate"
    assert theft.network.renew(intruder).slug == "unknown-certificate"
    assert theft.members() == ["pump-1"]


def test_a1_nor_is_one_for_a_members_own_key(theft: Theft) -> None:
    """A member that buys itself a role from the thief keeps its own."""
    theft.rotate()
    theft.restore_honestly()
    member, genuine = theft.honest, theft.honest.certificate
    assert genuine is not None
    for serial in (genuine.body.serial, 77):
        body = msgspec.structs.replace(genuine.body, roles=("anchor",), serial=serial)
        member.certificate = sign_document(body, [theft.key])
        assert theft.network.renew(member).slug == "unknown-certificate"
        assert theft.network.heartbeat(member).slug == "unknown-certificate"
    member.certificate = genuine
    assert theft.network.heartbeat(member).status == 200
    assert renewed(theft.network, member).body.roles == ("client",)


def test_a1_what_is_in_the_database_renews_whatever_key_signed_it(theft: Theft) -> None:
    """After a rotation, and after a restore on top of it, no member has to be invited again."""
    theft.rotate()
    young = renewed(theft.network, theft.honest)
    assert young.signatures[0][0] == theft.new.key_id
    theft.restore_honestly()
    again = renewed(theft.network, theft.honest)
    assert again.signatures[0][0] == theft.new.key_id


def test_a1_what_the_newest_key_signed_after_the_backup_is_adopted(theft: Theft) -> None:
    """The backup knows nothing of the new key; the genesis files of the directory do."""
    theft.rotate()
    theft.honest.certificate = renewed(theft.network, theft.honest)
    young = theft.network.joined("pump-2")
    theft.restore_honestly()
    assert theft.network.heartbeat(young).status == 200
    assert renewed(theft.network, young).body.name == "pump-2"
    assert renewed(theft.network, theft.honest).body.name == "pump-1"


def test_a1_the_genesis_of_the_deciding_transaction_counts(theft: Theft) -> None:
    """A forged renewal decided in the same commit as the genesis that drops its key comes too late."""
    theft.restore_honestly()
    network, intruder = theft.network, theft.intruder()
    assert intruder.certificate is not None
    publish = json.dumps({"genesis": theft.genesis.as_dict()}).encode()
    renew = json.dumps(
        {
            "certificate": intruder.certificate.as_dict(),
            "noise_key": b64url_encode(intruder.noise.public),
        }
    ).encode()
    published, refused = network.at_once(
        (
            "POST",
            "/admin/genesis",
            network.signed(network.keys.admin, "POST", "/admin/genesis", publish),
            publish,
        ),
        ("POST", "/renew", network.signed(intruder.node, "POST", "/renew", renew, "gmesh-node-v1"), renew),
    )
    assert (published.status, refused.slug) == (201, "unknown-certificate")


def test_a1_no_restore_falls_back_to_an_older_genesis(theft: Theft) -> None:
    """A newer genesis of the backup is kept beside it, for the next restore, of an older backup."""
    network, oldest = theft.network, theft.backup
    first = (network.path / "genesis.json").read_bytes()
    theft.rotate()
    theft.backup = theft.take_backup()
    crl, policy = theft.held(Crl), theft.held(Policy)
    network.stop()
    theft.forget_genesis(first)
    theft.lose_database()
    network.restore(theft.backup, [crl], [policy])
    stored = [(network.path / name).read_bytes() for name in ("genesis.1.json", "genesis.json")]
    assert stored == [first, theft.genesis.encode()]
    network.clock.advance(1)
    network.start()
    theft.backup = oldest
    theft.restore_honestly()
    assert parse_document(network.ask("GET", "/genesis").body, Genesis).digest == theft.genesis.digest
    assert network.renew(theft.intruder()).slug == "unknown-certificate"


def test_a1_the_database_that_is_replaced_knows_the_newest_genesis(theft: Theft) -> None:
    """Backup and genesis files are both of before the theft: the genesis it was dropped by counts."""
    first = (theft.network.path / "genesis.json").read_bytes()
    theft.rotate()
    crl, policy = theft.held(Crl), theft.held(Policy)
    theft.forget_genesis(first)
    theft.restore([crl], [policy])
    assert theft.network.renew(theft.intruder()).slug == "unknown-certificate"
    assert (theft.network.path / "genesis.json").read_bytes() == theft.genesis.encode()


def test_a1_files_of_a_newer_genesis_end_a_restore(theft: Theft) -> None:
    """All that is left here is older than what a node holds: the message says what is missing."""
    network, first = theft.network, (theft.network.path / "genesis.json").read_bytes()
    theft.rotate()
    crl, policy = theft.held(Crl), theft.held(Policy)
    network.stop()
    theft.forget_genesis(first)
    theft.lose_database(None)
    with pytest.raises(ConfigurationError, match=f"{crl}: .*put that genesis.json into --state"):
        network.restore(theft.backup, [crl], [policy])
    assert not (network.path / "authority.sqlite").exists(), "it changes nothing"
    (network.path / "genesis.1.json").write_bytes(first)
    (network.path / "genesis.json").write_bytes(theft.genesis.encode())
    network.restore(theft.backup, [crl], [policy])
    network.clock.advance(1)
    network.start()


def test_a1_two_genesis_of_one_version_are_not_chosen_between(theft: Theft) -> None:
    """The backup holds another version 2 than the directory: neither is quietly taken for the newest."""
    network = theft.network
    theft.rotate()
    theft.backup = theft.take_backup()
    other = rotate_authority(network.genesis, network.now, add=network.keys.signing().public)
    other = attach(other, [sign_detached(other, network.keys.root)], network.genesis)
    network.stop()
    (network.path / "genesis.json").write_bytes(other.encode())
    with pytest.raises(StoreError, match="genesis version 2"):
        network.restore(theft.backup, accept_lost_revocations=True)
    (network.path / "genesis.json").write_bytes(theft.genesis.encode())
    network.clock.advance(1)
    network.start()


def test_a2_a_policy_of_a_dropped_key_is_refused(theft: Theft) -> None:
    """The thief's only administrator does not get in; the message names the file."""
    theft.rotate()
    thief = theft.network.keys.signing()
    crl = theft.held(Crl)
    policy = theft.forged(
        Policy,
        version=9 * SERIALS_PER_EPOCH,
        operators=(Operator(key=b64url_encode(thief.public), role="administer"),),
    )
    with pytest.raises(ConfigurationError, match=f"{policy}: this policy is signed by a key that genesis 2"):
        theft.restore([crl], [policy])
    assert theft.network.admin("GET", "/admin/nodes", key=thief).slug == "unknown-key"
    assert theft.network.admin("GET", "/admin/nodes").status == 200


def test_a2_a_crl_of_a_dropped_key_bars_and_raises_no_number(theft: Theft) -> None:
    """Its entries count, told apart; its number, and serials that are not given out yet, do not."""
    network = theft.network
    theft.rotate()
    serial = theft.honest.certificate.body.serial  # type: ignore[union-attr]  # it joined
    end = network.now + DAY
    later = (EPOCH_TODAY * SERIALS_PER_EPOCH + 1, end, 0)
    forged = theft.forged(
        Crl,
        number=8190 * SERIALS_PER_EPOCH,
        revoked=((serial, end, 0), (500, end, 0), later),
        revoked_keys=(("ab" * 16, end),),
    )
    done = theft.restore([forged, theft.held(Crl)], [theft.held(Policy)])
    assert (done.epoch, done.revocations) == (EPOCH_TODAY, 0)
    assert done.revoked_by_dropped_keys == ["pump-1", "serial 500", f"key {'ab' * 16}"]
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    assert crl.number // SERIALS_PER_EPOCH == EPOCH_TODAY
    assert [entry[0] for entry in crl.revoked] == [serial, 500]
    assert network.renew(theft.honest).slug == "cert-revoked"
    assert network.joined("pump-9").certificate.body.serial == later[0]  # type: ignore[union-attr]  # joined


def test_a2_what_a_dropped_key_names_leaves_the_crl(theft: Theft) -> None:
    """Its entries end when any certificate has, a member's not before its own: no CRL is full for ever."""
    network, pump = theft.network, theft.honest
    assert pump.certificate is not None
    theft.rotate()
    keys = sorted([("ab" * 16, MAX_TIME), (pump.node.key_id, 1)])
    forged = theft.forged(Crl, revoked=((500, MAX_TIME, 0),), revoked_keys=tuple(keys))
    done = theft.restore([theft.held(Crl), forged], [theft.held(Policy)])
    assert len(done.revoked_by_dropped_keys) == 3
    end = network.now - 1 + POLICY_TEXT["certificate"]["max"]
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    assert crl.revoked == ((500, end, 0),)
    assert dict(crl.revoked_keys) == {"ab" * 16: end, pump.node.key_id: pump.certificate.body.not_after}
    network.clock.advance(POLICY_TEXT["certificate"]["max"] + POLICY_TEXT["certificate"]["renew_grace"] + 301)
    network.joined("pump-2")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-2"}).status == 201
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    assert (crl.revoked, len(crl.revoked_nodes), crl.revoked_keys) == ((), 1, ())


def test_a2_a_crl_of_a_dropped_key_that_leaves_no_room_is_named(
    theft: Theft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that fill a CRL together end the restore, which says that they are to be left out."""
    theft.rotate()
    held, policy, end = theft.held(Crl), theft.held(Policy), theft.network.now + DAY
    forged = []
    for first in (1000, 2000):
        document = parse_document(theft.forged(Crl).read_bytes(), Crl)
        entries = tuple((first + number, end, 0) for number in range(100))
        body = msgspec.structs.replace(document.body, revoked=entries)
        forged.append(theft.file(f"thief-{first}", sign_document(body, [theft.key])))
    with monkeypatch.context() as patch:
        patch.setitem(DOCUMENT_LIMITS, "crl", forged[0].stat().st_size * 3 // 2)
        with pytest.raises(ConfigurationError, match=f"leave out .*{forged[0]}.*{forged[1]}"):
            theft.restore([held, *forged], [policy])
        assert theft.restore([held, forged[0]], [policy]).epoch == EPOCH_TODAY


def test_a2_what_nodes_know_comes_from_a_key_that_counts(theft: Theft) -> None:
    """A CRL of a dropped key alone may lack what was revoked: the loss must be accepted."""
    theft.rotate()
    forged, policy = theft.forged(Crl), theft.held(Policy)
    with pytest.raises(ConfigurationError, match=f"{forged} .*genesis 2 dropped.*--accept-lost-revocations"):
        theft.restore([forged], [policy])
    assert theft.restore([forged], [policy], accept_lost_revocations=True).epoch == EPOCH_TODAY


@pytest.mark.parametrize(("struct", "field"), [(Crl, "number"), (Policy, "version")])
def test_a2_an_epoch_from_a_nodes_file_is_bounded(theft: Theft, struct: type[Any], field: str) -> None:
    """A number a year and more ahead of the calendar is refused, and the file named; 366 days are not."""
    good = {Crl: theft.held(Crl), Policy: theft.held(Policy)}
    beyond = theft.forged(struct, **{field: (EPOCH_TODAY + 367) * SERIALS_PER_EPOCH})
    files = good | {struct: beyond}
    with pytest.raises(ConfigurationError, match=f"{beyond}: number .* is of epoch {EPOCH_TODAY + 367}"):
        theft.restore([files[Crl]], [files[Policy]])
    files[struct] = theft.forged(struct, **{field: (EPOCH_TODAY + 366) * SERIALS_PER_EPOCH})
    assert theft.restore([files[Crl]], [files[Policy]]).epoch == EPOCH_TODAY + 367


def test_a2_the_epoch_of_the_directory_is_believed(theft: Theft) -> None:
    """An authority that was restored beyond that bound takes in the files of its own nodes."""
    own = EPOCH_TODAY + 2000
    (theft.network.path / "epoch.json").write_text(json.dumps({"epoch": own}))
    crl = theft.forged(Crl, number=own * SERIALS_PER_EPOCH + 7)
    assert theft.restore([crl], [theft.held(Policy)]).epoch == own + 1
    status = parse_document(theft.network.ask("GET", "/status").body, Status).body
    assert status.crl.number // SERIALS_PER_EPOCH == own + 1


def test_a2_operators_are_told_before_and_after(theft: Theft) -> None:
    """Who operates follows the newest policy of nodes: a restore says who could, and who can."""
    network = theft.network
    keys = network.keys
    network.admin("DELETE", f"/admin/operators/{keys.reader.key_id}")
    fresh = keys.signing()
    value = {"key": b64url_encode(fresh.public), "role": "read", "name": "night"}
    assert network.admin("POST", "/admin/operators", value).status == 201
    network.clock.advance(1)
    done = theft.restore_honestly()
    before = {(row.key_id, row.role) for row in done.operators_before}
    after = {(row.key_id, row.role) for row in done.operators_after}
    assert before - after == {(keys.reader.key_id, "read")}
    assert after - before == {(fresh.key_id, "read")}
    assert (keys.admin.key_id, "administer") in before & after


def test_only_a_restore_that_is_confirmed_writes_the_genesis(theft: Theft) -> None:
    """The database there knows a newer one than the files: a dry run goes by it, and leaves it there."""
    first = theft.network.genesis.encode()
    theft.rotate()
    theft.forget_genesis(first)
    files = [theft.held(Crl)], [theft.held(Policy)]
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        theft.restore(*files, choices=Choices(confirm=lambda done: False))
    assert {path.name for path in theft.network.path.glob("genesis*")} == {"genesis.json"}
    assert (theft.network.path / "genesis.json").read_bytes() == first
    theft.restore(*files)
    assert (theft.network.path / "genesis.json").read_bytes() == theft.genesis.encode()
    assert (theft.network.path / "genesis.1.json").read_bytes() == first
