# SPDX-License-Identifier: MIT
"""Invites that need an operator's yes, and certificates that outlived the database."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.trust.documents import Certificate, Crl, CrlDelta, Document, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.revocation import apply_delta
from gmesh.trust.verify import authority_keys, verify_signatures


def decide(network: Any, member: Any, decision: str) -> Any:
    """An operator decides about a waiting join."""
    target = f"/admin/enrolments/{member.invite.key.key_id}"
    return network.admin("POST", target, {"decision": decision})


def test_a_join_waits_for_approval(network: Any) -> None:
    """202 until an operator approves, also across a restart and the invite's end; then the certificate."""
    member = network.invite("pump-1", approve=True)
    first = network.join(member)
    assert (first.status, first.json) == (202, {"state": "pending", "id": member.invite.key.key_id})
    (waiting,) = network.admin("GET", "/admin/enrolments").json["enrolments"]
    assert (waiting["name"], waiting["state"]) == ("pump-1", "pending")
    assert waiting["node_key"] == b64url_encode(member.node.public)
    network.restart()
    network.clock.advance(2 * 3600)
    assert network.join(member).status == 202
    assert decide(network, member, "approve").json["state"] == "approved"
    assert network.join(member).status == 201
    rows = [entry["row"]["action"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    assert rows[-4:] == ["invite", "request-enrolment", "approve-enrolment", "join"]


def test_a_rejected_join_is_refused(network: Any) -> None:
    """After a no there is no certificate, and the decision stands."""
    member = network.invite("pump-1", approve=True)
    network.join(member)
    assert decide(network, member, "reject").status == 200
    assert decide(network, member, "approve").slug == "conflict"
    assert network.join(member).slug == "enrolment-refused"
    assert decide(network, network.invite("pump-2"), "approve").slug == "not-found"


def test_approval_is_for_the_keys_that_asked(network: Any) -> None:
    """Whoever copies the invite after the first request gets nothing, approved or not."""
    member = network.invite("pump-1", approve=True)
    network.join(member)
    thief = network.member(member.invite.key)
    assert network.join(thief).slug == "enrolment-refused"
    decide(network, member, "approve")
    assert network.join(thief).slug == "enrolment-refused"
    assert network.join(member).status == 201


def test_whoever_copies_it_is_not_told_whose_a_noise_key_is(network: Any) -> None:
    """Pending, approved or rejected, the invite's one answer; only who may join hears that it is taken."""
    other = network.joined("pump-1")
    member, rejected = network.invite("pump-2", approve=True), network.invite("pump-3", approve=True)
    assert [network.join(each).status for each in (member, rejected)] == [202, 202]
    thief = network.member(member.invite.key)
    thief.noise = rejected.noise = other.noise
    assert network.join(thief).slug == "enrolment-refused"
    decide(network, member, "approve")
    decide(network, rejected, "reject")
    assert [network.join(each).slug for each in (thief, rejected)] == ["enrolment-refused"] * 2
    late = network.invite("pump-4", approve=True)
    late.noise = other.noise
    assert network.join(late).slug == "key-taken"
    first = network.invite("pump-5")
    first.noise = member.noise
    assert network.join(first).status == 201
    assert network.join(member).slug == "key-taken"


# Certificates issued after the backup that was restored.


def restore_with_epoch(network: Any, epoch: int) -> None:
    """Forget all members, as an older backup would, and raise the epoch, as restore does."""
    network.stop()
    database = sqlite3.connect(network.path / "authority.sqlite")
    for table in ("certificate", "node", "noise_key"):
        database.execute(f"DELETE FROM {table}")
    database.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (epoch,))
    database.commit()
    database.close()
    network.clock.advance(1)
    network.start()


@pytest.mark.parametrize("way", ["heartbeat", "renew"])
def test_members_of_the_lost_days_are_adopted(network: Any, way: str) -> None:
    """A certificate the restored database does not know is taken in by either request, with an audit row."""
    member = network.joined("pump-1", "relay")
    restore_with_epoch(network, 700)
    answer = getattr(network, way)(member)
    assert answer.status in (200, 201)
    (node,) = network.admin("GET", "/admin/nodes").json["nodes"]
    assert (node["name"], node["node_id"], node["roles"]) == ("pump-1", member.node.key_id, ["relay"])
    actions = [entry["row"]["action"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    assert "adopt" in actions
    renewed = network.renew(member).json["certificate"]
    assert renewed["signed"]["serial"] > 700 * SERIALS_PER_EPOCH
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201


def test_only_real_certificates_are_adopted(network: Any) -> None:
    """Not one signed by a stranger, not one that ended beyond the grace, not one of a revoked key."""
    member, late = network.joined("pump-1"), network.joined("pump-2")
    genuine: Document[Certificate] = member.certificate
    restore_with_epoch(network, 700)
    member.certificate = sign_document(genuine.body, [network.keys.signing()])
    assert network.heartbeat(member).slug == "unknown-certificate"
    assert network.admin("POST", "/admin/revocations", {"key": late.node.key_id}).status == 201
    assert network.heartbeat(late).slug == "cert-revoked"
    member.certificate = genuine
    network.clock.advance(33 * 86_400)
    assert network.heartbeat(member).slug == "cert-expired"


def test_without_a_restore_nothing_is_adopted(network: Any) -> None:
    """In the epoch of its serial an unknown certificate is unknown, however well signed."""
    member = network.joined("pump-1")
    restore_with_epoch(network, 0)
    assert network.heartbeat(member).slug == "unknown-certificate"


# CRL deltas.


def assemble(old: Crl, delta: CrlDelta) -> dict[str, Any]:
    """The full CRL as the design says a receiver makes it, written without the product's code."""
    serials = {entry[0]: list(entry) for entry in old.revoked if entry[1] >= delta.drop_expired_before}
    serials |= {entry[0]: list(entry) for entry in delta.added}
    keys = {entry[0]: list(entry) for entry in old.revoked_keys if entry[1] >= delta.drop_expired_before}
    keys |= {entry[0]: list(entry) for entry in delta.added_keys}
    return {
        "type": "crl",
        "network_id": delta.network_id,
        "number": delta.number,
        "issued_at": delta.issued_at,
        "next_update": delta.next_update,
        "revoked": [serials[key] for key in sorted(serials)],
        "revoked_keys": [keys[key] for key in sorted(keys)],
    }


def test_a_delta_makes_the_full_crl(network: Any) -> None:
    """From every earlier CRL the delta yields, byte for byte, the CRL in force, and its signatures verify."""
    held: list[Crl] = []
    for number in range(6):
        network.joined(f"pump-{number}")
        network.admin("POST", "/admin/revocations", {"node": f"pump-{number}", "reason": "key-compromise"})
        held.append(parse_document(network.ask("GET", "/crl").body, Crl).body)
        network.clock.advance(8 * 86_400)
    network.joined("pump-9")
    network.admin("POST", "/admin/revocations", {"node": "pump-9"})
    newest = parse_document(network.ask("GET", "/crl").body, Crl)
    assert len(newest.body.revoked) < 7
    for old in held:
        answer = network.ask("GET", f"/crl?since={old.number}")
        delta = parse_document(answer.body, CrlDelta)
        verify_signatures(delta, authority_keys(network.genesis.body))
        assert assemble(old, delta.body) == json.loads(newest.encode())["signed"]
        signatures = [(entry.key_id, entry.signature) for entry in delta.body.result_signatures]
        assert signatures == [(name, b64url_encode(value)) for name, value in newest.signatures]
        assert apply_delta(sign_document(old, []), delta) == newest
        assert len(answer.body) < 2000


@pytest.mark.parametrize("since", ["0", "1000", str(2**41)])
def test_where_no_delta_can_be_made_the_whole_crl_comes(network: Any, since: str) -> None:
    """Unknown and future numbers are answered with the CRL itself."""
    network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert network.ask("GET", f"/crl?since={since}").body == network.ask("GET", "/crl").body


def test_a_bad_since_is_refused(network: Any) -> None:
    """C{since} is a number."""
    assert network.ask("GET", "/crl?since=-1").slug == "invalid-field"
    assert network.ask("GET", "/crl?since=1&since=2").slug == "invalid-field"
