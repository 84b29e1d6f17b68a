# SPDX-License-Identifier: MIT
"""Join, renew, heartbeat, revoke: what nodes and operators do every day, and what they are refused."""

from __future__ import annotations

import json
from typing import Any

from gmesh.authority.store import nodes
from gmesh.trust.documents import Certificate, Crl, Status, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.requests import NODE_TAG
from gmesh.trust.verify import check_certificate


def test_an_invite_becomes_a_certificate(network: Any) -> None:
    """The certificate carries the name and roles of the invite and the keys of the host, well signed."""
    member = network.invite("pump-1", "relay", lifetime=7200)
    answer = network.join(member)
    assert answer.status == 201
    body = member.certificate.body
    check_certificate(member.certificate, network.genesis.body, network.network_id, network.now)
    assert (body.name, body.roles) == ("pump-1", ("relay",))
    assert body.node_key == b64url_encode(member.node.public)
    assert body.noise_key == b64url_encode(member.noise.public)
    assert body.not_after - body.not_before == 7200


def test_field_l5_the_same_join_again_gets_the_same_certificate(network: Any) -> None:
    """A lost answer costs nothing: same invite, same keys, same certificate; also after a restart."""
    member = network.invite("pump-1")
    first = network.join(member)
    again = network.join(member)
    network.restart()
    after_restart = network.join(member)
    assert (again.status, after_restart.status) == (200, 200)
    assert first.json == again.json == after_restart.json


def test_not_with_other_keys_nor_for_ever(network: Any) -> None:
    """A used invite admits no other node key, no other Noise key, and nobody an hour after its end."""
    member = network.joined("pump-1")
    other = network.member(member.invite.key)
    assert network.join(other).slug == "enrolment-refused"
    other.node = member.node
    assert network.join(other).slug == "enrolment-refused"
    network.clock.advance(2 * 3600 + 1)
    assert network.join(member).slug == "enrolment-refused"


def test_every_bad_invite_has_the_same_answer(network: Any) -> None:
    """Unknown, badly signed, expired, used and withdrawn invites cannot be told apart."""
    unknown = network.member(network.keys.signing())
    used = network.member(network.joined("pump-1").invite.key)
    withdrawn = network.invite("pump-2")
    assert network.admin("DELETE", f"/admin/invites/{withdrawn.invite.key.key_id}").status == 204
    expired = network.invite("pump-3", ttl=10)
    network.clock.advance(11)
    answers = [network.join(member) for member in (unknown, used, withdrawn, expired)]
    forged = network.invite("pump-4")
    headers, body = network.join_request(forged)
    value = json.loads(body)
    value["invite_signature"] = json.loads(network.join_request(unknown)[1])["invite_signature"]
    body = json.dumps(value).encode()
    headers = network.signed(forged.node, "POST", "/join", body, "gmesh-join-v1")
    answers.append(network.ask("POST", "/join", headers, body))
    said = {json.dumps({**answer.json, "request_id": ""}) for answer in answers}
    assert len(said) == 1 and answers[0].slug == "enrolment-refused" and answers[0].status == 403


def test_guessing_ends_in_429(network: Any) -> None:
    """After ten refused invites within a minute an address must wait, and is told how long."""
    answers = [network.join(network.member(network.keys.signing())) for _ in range(11)]
    assert [answer.status for answer in answers] == [403] * 10 + [429]
    assert answers[-1].slug == "rate-limited"
    wait = int(answers[-1].headers.getRawHeaders("retry-after")[0])
    assert 1 <= wait <= 6
    network.clock.advance(wait)
    assert network.join(network.member(network.keys.signing())).status == 403


def test_refused_joins_leave_no_rows(network: Any) -> None:
    """The tables do not grow by what was refused."""

    def sizes() -> list[int]:
        got: list[Any] = []
        tables = ("nonce", "audit", "certificate", "node", "noise_key", "invite")
        network.authority.store.read(
            lambda reader: [reader.value(f"SELECT count(*) FROM {table}") for table in tables]
        ).addCallback(got.append)
        return got[0]  # type: ignore[no-any-return]  # a list of anything

    before = sizes()
    for _ in range(5):
        assert network.join(network.member(network.keys.signing())).status == 403
    assert sizes() == before


def test_an_invite_bound_to_a_node_key_admits_that_key_only(network: Any) -> None:
    """With C{node_key} the invite alone is not enough."""
    right = network.keys.signing()
    member = network.invite("pump-1", node_key=b64url_encode(right.public))
    assert network.join(member).slug == "enrolment-refused"
    member.node = right
    assert network.join(member).status == 201


def test_names_and_keys_are_unique(network: Any) -> None:
    """A second node of a living name, a node key under two names, another's Noise key: all 409."""
    first = network.joined("pump-1")
    assert network.join(network.invite("pump-1")).slug == "name-taken"
    twice = network.invite("pump-2")
    twice.node = first.node
    assert network.join(twice).slug == "key-taken"
    thief = network.invite("pump-3")
    thief.noise = first.noise
    assert network.join(thief).slug == "key-taken"


def test_a_revoked_appliance_is_replaced_under_its_name(network: Any) -> None:
    """After revocation the same name can be invited again, for another key."""
    network.joined("pump-1")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.joined("pump-1")
    listed = network.admin("GET", "/admin/nodes").json["nodes"]
    assert [(node["name"], node["revoked"]) for node in listed] == [("pump-1", False)]


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


def test_revocation_bars_from_renewal_heartbeat_and_join(network: Any) -> None:
    """A revoked node gets nothing more, not even by repeating its join."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    answer = network.admin("POST", "/admin/revocations", {"node": "pump-1", "reason": "key-compromise"})
    assert answer.json["serials"] == [member.certificate.body.serial]
    assert network.heartbeat(member).slug == "cert-revoked"
    assert network.renew(member).slug == "cert-revoked"
    assert network.join(member).slug == "enrolment-refused"
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    assert crl.number == answer.json["crl_number"]
    assert crl.revoked == ((member.certificate.body.serial, member.certificate.body.not_after, 1),)
    assert crl.revoked_keys == ((member.node.key_id, member.certificate.body.not_after),)
    again = network.invite("pump-1")
    again.node = member.node
    assert network.join(again).slug == "cert-revoked"


def test_revoking_a_node_takes_every_serial(network: Any) -> None:
    """Old and renewed certificate are both listed; one serial alone can be revoked too."""
    member = network.joined("pump-1")
    network.clock.advance(12 * 3600)
    network.renew(member)
    answer = network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert len(answer.json["serials"]) == 2
    other = network.joined("pump-2")
    serial = other.certificate.body.serial
    assert network.admin("POST", "/admin/revocations", {"serial": serial}).json["serials"] == [serial]
    assert network.admin("POST", "/admin/revocations", {"serial": serial}).slug == "conflict"
    assert network.admin("POST", "/admin/revocations", {"node": "nobody"}).slug == "not-found"
    assert (
        network.admin("POST", "/admin/revocations", {"node": "pump-2", "serial": 1}).slug == "invalid-field"
    )


def test_field_r8_test_crl_forgets_what_could_not_be_renewed_any_more(network: Any) -> None:
    """An entry stays until the certificate's end plus grace plus leeway, then the next CRL drops it."""

    def kept() -> int:
        got: list[int] = []
        question = "SELECT count(*) FROM revoked_certificate"
        network.authority.store.read(lambda reader: reader.value(question)).addCallback(got.append)
        return got[0]

    network.joined("pump-1")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(31 * 86_400)
    network.clock.advance(10)
    assert (len(parse_document(network.ask("GET", "/crl").body, Crl).body.revoked), kept()) == (1, 1)
    network.clock.advance(8 * 86_400)
    network.clock.advance(10)
    assert parse_document(network.ask("GET", "/crl").body, Crl).body.revoked == ()
    assert kept() == 0


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
    """The count that max_nodes is held against is the number of rows: joined, replaced, renamed."""

    def counts() -> tuple[int, int]:
        got: list[Any] = []
        network.authority.store.read(
            lambda reader: (nodes.count(reader), reader.value("SELECT count(*) FROM node"))
        ).addCallback(got.append)
        return got[0]  # type: ignore[no-any-return]  # a list of anything

    member = network.joined("pump-1")
    network.joined("pump-2")
    assert counts() == (2, 2)
    for name in ("pump-1", "pump-2"):
        network.admin("POST", "/admin/revocations", {"node": name, "reason": "superseded"})
    network.joined("pump-2")
    assert counts() == (2, 2)
    moved = network.invite("pump-3")
    moved.node, moved.noise = member.node, member.noise
    assert network.join(moved).status == 201
    assert counts() == (2, 2)


def test_numbers_applied_are_shown_at_once(network: Any) -> None:
    """What the newest heartbeat told is in /admin/nodes before it is written down, and after."""
    member = network.joined("pump-1")
    network.heartbeat(member)
    for _ in range(2):
        (node,) = network.admin("GET", "/admin/nodes").json["nodes"]
        assert node["numbers"] == {"genesis": 1, "policy": 1, "crl": 1, "status": 1}
        assert node["last_seen"] in (network.now, network.now - 31)
        network.clock.advance(31)
