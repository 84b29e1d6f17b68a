# SPDX-License-Identifier: MIT
"""Revocations that come together share a CRL; what cannot be revoked is refused as if alone."""

from __future__ import annotations

import json
from typing import Any

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
    serials = [member.certificate.body.serial for member in members]
    assert [answer.json["serials"] for answer in answers] == [[serial] for serial in serials]
    after = crl(network)
    assert {answer.json["crl_number"] for answer in answers} == {after.number} == {before.number + 1}
    assert [entry[0] for entry in after.revoked] == serials
    assert [entry[0] for entry in after.revoked_keys] == [members[2].node.key_id]
    assert [network.renew(member).slug for member in members] == ["cert-revoked"] * 3
    rows: list[Any] = []
    network.authority.store.read(lambda reader: audit_rows.page(reader, 0, 99)).addCallback(rows.extend)
    audit.verify_chain(rows)
    told = [json.loads(entry) for _, entry, _ in rows][-3:]
    assert [(row["action"], row["target"], row["crl"]) for row in told] == [
        ("revoke", target, after.number) for target in ("pump-0", str(serials[1]), "pump-2")
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
    assert len(crl(network).revoked) == 1
