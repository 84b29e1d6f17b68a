# SPDX-License-Identifier: MIT
"""Revocations that come together share a CRL; what cannot be revoked is refused as if alone."""

from __future__ import annotations

import json
from typing import Any

from authority.in_place import HeldThreads

from gmesh.authority import audit
from gmesh.authority.store import audit as audit_rows
from gmesh.trust.documents import Crl, parse_document


def orders(
    network: Any, *values: dict[str, Any], nonce: bytes | None = None
) -> list[tuple[dict[str, str], bytes]]:
    """Signed requests of an operator to revoke."""
    bodies = [json.dumps(value).encode() for value in values]
    key = network.keys.admin
    return [(network.signed(key, "POST", "/admin/revocations", body, nonce=nonce), body) for body in bodies]


def crl(network: Any) -> Crl:
    """As it is served."""
    return parse_document(network.ask("GET", "/crl").body, Crl).body


def test_revocations_of_a_group_share_a_crl(network: Any) -> None:
    """One CRL names them all; each has an answer and an audit row of its own, and all are barred."""
    members = [network.joined(f"pump-{number}") for number in range(3)]
    before = crl(network)
    values = (
        {"node": "pump-0"},
        {"serial": members[1].certificate.body.serial, "reason": "superseded"},
        {"key": members[2].node.key_id, "reason": "key-compromise"},
    )
    answers = network.together("/admin/revocations", *orders(network, *values))
    assert [answer.status for answer in answers] == [201] * 3
    ids, serial = [member.node.key_id for member in members], members[1].certificate.body.serial
    named = [[answer.json[name] for name in ("serials", "nodes", "keys")] for answer in answers]
    assert named == [[[], ids[:1], []], [[serial], [], []], [[], ids[2:], ids[2:]]]
    after = crl(network)
    assert {answer.json["crl_number"] for answer in answers} == {after.number} == {before.number + 1}
    assert [entry[0] for entry in after.revoked] == [serial]
    assert [entry[0] for entry in after.revoked_nodes] == sorted([ids[0], ids[2]])
    assert [entry[0] for entry in after.revoked_keys] == ids[2:]
    assert [network.renew(member).slug for member in members] == ["cert-revoked"] * 3
    rows: list[Any] = []
    network.authority.store.read(lambda reader: audit_rows.page(reader, 0, 99)).addCallback(rows.extend)
    audit.verify_chain(rows)
    told = [json.loads(entry) for _, entry, _ in rows][-3:]
    assert [(row["action"], row["target"], row["crl"]) for row in told] == [
        ("revoke", target, after.number) for target in ("pump-0", str(serial), "pump-2")
    ]


def test_what_cannot_be_revoked_is_refused_alone(network: Any) -> None:
    """Unknown, revoked before, twice in the group: each has its own refusal; the others stand."""
    network.joined("pump-0")
    network.joined("pump-1")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-0"}).status == 201
    before = crl(network).number
    values = ({"node": "pump-0"}, {"node": "nobody"}, {"node": "pump-1"}, {"node": "pump-1"}, {"serial": 99})
    answers = network.together("/admin/revocations", *orders(network, *values))
    assert [answer.status for answer in answers] == [409, 404, 201, 409, 404]
    assert crl(network).number == before + 1


def test_a_revocation_that_comes_twice_in_a_group_counts_once(network: Any) -> None:
    """Of two requests with one nonce the later is a replay, and revokes nothing."""
    network.joined("pump-0")
    network.joined("pump-1")
    twice = orders(network, {"node": "pump-0"}, {"node": "pump-1"}, nonce=bytes(16))
    answers = network.together("/admin/revocations", *twice)
    assert (answers[0].status, answers[1].slug) == (201, "replayed")
    assert len(crl(network).revoked_nodes) == 1


def test_revocation_bars_from_renewal_heartbeat_and_join(network: Any) -> None:
    """A revoked node gets nothing more, not even by repeating its join."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    answer = network.admin("POST", "/admin/revocations", {"node": "pump-1", "reason": "key-compromise"})
    assert (answer.json["nodes"], answer.json["keys"]) == ([member.node.key_id], [member.node.key_id])
    assert network.heartbeat(member).slug == "cert-revoked"
    assert network.renew(member).slug == "cert-revoked"
    assert network.join(member).slug == "enrolment-refused"
    crl = parse_document(network.ask("GET", "/crl").body, Crl).body
    assert crl.number == answer.json["crl_number"]
    body = member.certificate.body
    assert crl.revoked_nodes == ((member.node.key_id, body.serial + 1, body.not_after, 1),)
    assert crl.revoked_keys == ((member.node.key_id, member.certificate.body.not_after),)
    again = network.invite("pump-1")
    again.node = member.node
    assert network.join(again).slug == "cert-revoked"


def test_revoking_a_node_takes_every_serial(network: Any) -> None:
    """Old and renewed certificate lie below the bound; one serial alone can be revoked too."""
    member = network.joined("pump-1")
    network.clock.advance(12 * 3600)
    renewed = network.renew(member).json["certificate"]["signed"]
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    ((_, below, not_after, _),) = crl(network).revoked_nodes
    assert (below, not_after) == (renewed["serial"] + 1, renewed["not_after"])
    rows = network.admin("GET", "/admin/certificates").json["certificates"]
    assert [(row["serial"], row["revoked_at"]) for row in rows] == [(1, network.now), (2, network.now)]
    other = network.joined("pump-2")
    serial = other.certificate.body.serial
    assert network.admin("POST", "/admin/revocations", {"serial": serial}).json["serials"] == [serial]
    assert network.admin("POST", "/admin/revocations", {"serial": serial}).slug == "conflict"
    assert network.admin("POST", "/admin/revocations", {"serial": 2}).slug == "conflict"
    assert network.admin("POST", "/admin/revocations", {"node": "nobody"}).slug == "not-found"
    assert (
        network.admin("POST", "/admin/revocations", {"node": "pump-2", "serial": 1}).slug == "invalid-field"
    )


def test_field_r8_test_crl_forgets_what_could_not_be_renewed_any_more(network: Any) -> None:
    """An entry stays until the last end plus grace plus leeway, then the next CRL drops it."""

    def kept() -> int:
        got: list[int] = []
        question = "SELECT count(*) FROM revoked_certificate"
        network.authority.store.read(lambda reader: reader.value(question)).addCallback(got.append)
        return got[0]

    serial = network.joined("pump-1").certificate.body.serial
    network.joined("pump-2")
    network.admin("POST", "/admin/revocations", {"serial": serial})
    network.admin("POST", "/admin/revocations", {"node": "pump-2", "reason": "key-compromise"})
    network.clock.advance(31 * 86_400)
    network.clock.advance(10)
    listed = crl(network)
    assert (len(listed.revoked), len(listed.revoked_nodes), len(listed.revoked_keys), kept()) == (1, 1, 1, 1)
    network.clock.advance(8 * 86_400)
    network.clock.advance(10)
    assert (crl(network).revoked, crl(network).revoked_nodes, crl(network).revoked_keys) == ((), (), ())
    assert kept() == 0


def test_a_revocation_nobody_waits_for_is_on_a_crl_though_one_was_made_before_it(network: Any) -> None:
    """Decided in one group, the CRL first; then the operator's client is gone."""
    network.joined("pump-1")
    writer, maker = network.authority.store._writer, network.authority.publisher.crl_maker
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    network.authority.store.decide(lambda tx: None)  # while this one waits, the others gather
    maker.owe()
    maker.again()
    ((headers, body),) = orders(network, {"node": "pump-1"})
    network.begin("POST", "/admin/revocations", headers, body).addErrback(lambda failure: None)
    network.treq.flush()
    assert network.authority.store.waiting == 2
    for answering in list(network.server._deadline._open):
        answering.cancel()
    writer.threadpool.go()
    writer.threadpool = at_once
    network.treq.flush()
    network.clock.advance(10)
    assert len(crl(network).revoked_nodes) == 1
