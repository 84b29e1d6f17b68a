# SPDX-License-Identifier: MIT
"""What members ask for every day, to renew and to be heard of; and the lists of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.state_files import POLICY_TEXT

from gmesh.authority.auth import PresentedCertificate
from gmesh.authority.store import nodes
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.trust.documents import Certificate, Crl, Document, Status, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import NODE_TAG


def test_renewal_keeps_name_roles_and_key(network: Any) -> None:
    """Only serial, times and perhaps the Noise key are new; the old certificate is not revoked."""
    member = network.joined("pump-1", "relay")
    network.clock.advance(12 * 3600)
    fresh_noise = network.keys.noise()
    answer = network.renew(member, fresh_noise)
    assert answer.status == 201
    old = member.certificate.body
    new = parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate).body
    assert (new.name, new.roles, new.node_key) == (old.name, old.roles, old.node_key)
    assert new.serial > old.serial and new.not_after > old.not_after
    assert new.noise_key == b64url_encode(fresh_noise.public)
    assert parse_document(network.ask("GET", "/crl").body, Crl).body.revoked == ()


def test_an_expired_node_may_renew_within_the_grace(network: Any) -> None:
    """30 days after its end a certificate still renews; later it does not."""
    member, late = network.joined("pump-1"), network.joined("pump-2")
    network.clock.advance(31 * 86_400)
    assert network.renew(member).status == 201
    network.clock.advance(600)
    assert network.renew(late).slug == "cert-expired"


def test_a_certificate_found_good_before_is_judged_by_its_end_each_time(network: Any) -> None:
    """A node that was heard of goes on within the grace after its certificate's end, and not beyond."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    network.clock.advance(31 * 86_400)
    assert network.heartbeat(member).status == 200
    network.clock.advance(600)
    assert network.heartbeat(member).slug == "cert-expired"
    assert network.heartbeat(member).slug == "cert-expired"


def test_a_certificate_found_good_before_is_that_very_file(network: Any) -> None:
    """With another signature it is another file, which is judged anew; in another order it is the same."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    issued = member.certificate
    member.certificate = issued.with_signature(member.node.key_id, bytes(64))
    assert network.heartbeat(member).slug == "unknown-certificate"
    member.certificate = issued
    assert network.heartbeat(member).status == 200
    value = issued.as_dict()
    mixed = {"signatures": value["signatures"], "signed": dict(reversed(value["signed"].items()))}
    assert list(mixed) != list(value) and list(mixed["signed"]) != list(value["signed"])
    assert PresentedCertificate(mixed).fingerprint == PresentedCertificate(value).fingerprint


def test_heartbeat_answers_the_status_and_is_seen(network: Any) -> None:
    """The answer is the status in force and the time; the operator sees when the node was heard of."""
    member = network.joined("pump-1")
    answer = network.heartbeat(member)
    status = parse_document(json.dumps(answer.json["status"]).encode(), Status)
    assert status.encode() == network.ask("GET", "/status").body
    assert answer.json["time"] == network.now
    network.clock.advance(31)
    (node,) = network.admin("GET", "/admin/nodes").json["nodes"]
    assert node["last_seen"] == answer.json["time"]
    assert node["numbers"] == {"genesis": 1, "policy": 1, "crl": 1, "status": 1}


def test_a_heartbeat_counts_once(network: Any) -> None:
    """C{sent_ms} must rise, and lie after the daemon's start, be it in the same second."""
    member = network.joined("pump-1")
    network.clock.advance(1.25)
    network.restart()
    second = network.now * 1000
    assert network.wall() * 1000 > second
    assert network.heartbeat(member, second).slug == "stale"
    network.clock.advance(1)
    second = network.now * 1000
    value = {"certificate": member.certificate.as_dict(), "sent_ms": second + 5}
    body = json.dumps(value).encode()
    request = ("POST", "/heartbeat", network.signed(member.node, "POST", "/heartbeat", body, NODE_TAG), body)
    assert network.ask(*request).status == 200
    assert network.ask(*request).slug == "replayed"
    assert network.heartbeat(member, second + 5).slug == "replayed"
    assert network.heartbeat(member, second + 6).status == 200
    network.restart()
    assert network.ask(*request).slug == "stale"


def test_a_heartbeat_names_the_time_it_was_signed_at(network: Any) -> None:
    """A clock that was years ahead silences its node no longer than until it is right."""
    member = network.joined("pump-1")
    ahead = (network.now + 365 * 86_400) * 1000
    assert network.heartbeat(member, ahead).slug == "invalid-field"
    assert network.heartbeat(member, (network.now - 1) * 1000).slug == "invalid-field"
    assert network.heartbeat(member).status == 200


def test_field_r9_test_pages(network: Any) -> None:
    """Lists come in pages that join without gap or overlap."""
    names = [f"pump-{number}" for number in range(7)]
    for name in names:
        network.joined(name)
    found: list[str] = []
    after = ""
    while after is not None:
        page = network.admin("GET", f"/admin/nodes?limit=3&after={after}").json
        found += [node["name"] for node in page["nodes"]]
        after = page["next"]
    assert found == names


def test_members_are_counted_as_they_come_and_go(network: Any) -> None:
    """What max_nodes is held against is what the rows say: joined, revoked, replaced, renamed."""

    def counts() -> tuple[int, int]:
        """Names given out, and those of them that are revoked."""
        got: list[Any] = []
        rows = "SELECT count(*), count(barred_at) FROM node"
        barred = "SELECT value FROM meta WHERE name = 'barred'"
        network.authority.store.read(
            lambda reader: (nodes.count(reader), reader.value(barred), *reader.one(rows))
        ).addCallback(got.append)
        assert got[0][:2] == got[0][2:]
        return got[0][:2]  # type: ignore[no-any-return]  # a list of anything

    member = network.joined("pump-1")
    network.joined("pump-2")
    assert counts() == (2, 0)
    for name in ("pump-1", "pump-2"):
        network.admin("POST", "/admin/revocations", {"node": name, "reason": "superseded"})
    assert counts() == (2, 2)
    network.joined("pump-2")
    assert counts() == (2, 1)
    moved = network.invite("pump-3")
    moved.node, moved.noise = member.node, member.noise
    assert network.join(moved).status == 201
    assert counts() == (2, 0)


def test_a_revoked_member_makes_room_for_another(network: Any) -> None:
    """A fleet may replace its nodes for ever; one that comes back under its name needs room as well."""

    def joins(name: str) -> str:
        answer = network.join(network.invite(name))
        return "admitted" if answer.status == 201 else str(answer.slug)

    assert network.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, "max_nodes": 2}}).status == 201
    assert [joins(f"pump-{number}") for number in range(3)] == ["admitted", "admitted", "network-full"]
    for number in range(2, 5):
        network.admin("POST", "/admin/revocations", {"node": f"pump-{number - 2}"})
        assert joins(f"pump-{number}") == "admitted"
        assert [joins("pump-9"), joins("pump-0")] == ["network-full", "network-full"]
    network.admin("POST", "/admin/revocations", {"node": "pump-4"})
    assert [joins("pump-0"), joins("pump-4")] == ["admitted", "network-full"]


def test_numbers_applied_are_shown_at_once(network: Any) -> None:
    """What the newest heartbeat told is in /admin/nodes before it is written down, and after."""
    member = network.joined("pump-1")
    network.heartbeat(member)
    for _ in range(2):
        (node,) = network.admin("GET", "/admin/nodes").json["nodes"]
        assert node["numbers"] == {"genesis": 1, "policy": 1, "crl": 1, "status": 1}
        assert node["last_seen"] in (network.now, network.now - 31)
        network.clock.advance(31)


def restore_with_epoch(network: Any, epoch: int) -> None:
    """Forget all members, as an older backup would, and raise the epoch, as restore does."""
    network.stop()
    network.change(*(f"DELETE FROM {table}" for table in ("certificate", "node", "noise_key")))
    network.change(f"UPDATE meta SET value = {epoch} WHERE name = 'epoch'")
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
