# SPDX-License-Identifier: MIT
"""Renewals that come together: decided at once where nothing speaks against them, else as if alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.database import statements

from gmesh.authority import audit
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, nodes
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.signed_requests import NODE_TAG

DAY = 86_400


@pytest.fixture
def rates() -> RateLimits:
    """All come from one address here."""
    return RateLimits(RequestRate(10_000, 10_000), RequestRate(10_000, 10_000), RequestRate(10_000, 10_000))


def read(network: Any, function: Any) -> Any:
    """What the database says."""
    got: list[Any] = []
    network.authority.store.read(function).addCallback(got.append)
    return got[0]


def request(network: Any, member: Any, noise: Any = None) -> tuple[dict[str, str], bytes]:
    """The headers and body of a renewal."""
    key = b64url_encode((noise or member.noise).public)
    body = json.dumps({"certificate": member.certificate.as_dict(), "noise_key": key}).encode()
    return network.signed(member.node, "POST", "/renew", body, NODE_TAG), body


def counted(network: Any, target: str, requests: Any) -> tuple[list[Any], int]:
    """The answers, and how many statements the group took that decided on them."""
    with statements() as ran:
        answers = network.together(target, *requests)
    begun = max(place for place, sql in enumerate(ran) if sql.startswith("BEGIN"))
    return answers, len(ran[begun:]) + 1  # and COMMIT


def test_64_renewals_take_at_most_20_statements(network: Any) -> None:
    """Each has a certificate, a serial and an audit row of its own, in the order they came."""
    members = [network.joined(f"pump-{number}") for number in range(64)]
    network.clock.advance(DAY // 2)
    before = read(network, lambda reader: audit_rows.page(reader, 0, 500))
    answers, statements = counted(network, "/renew", [request(network, member) for member in members])
    assert [answer.status for answer in answers] == [201] * 64
    assert statements <= 20
    bodies = [answer.json["certificate"]["signed"] for answer in answers]
    assert [body["name"] for body in bodies] == [f"pump-{number}" for number in range(64)]
    assert [body["serial"] for body in bodies] == list(range(bodies[0]["serial"], bodies[0]["serial"] + 64))
    after = read(network, lambda reader: audit_rows.page(reader, 0, 500))
    assert len(after) == len(before) + 64
    assert audit.verify_chain(after) == read(network, lambda reader: reader.audit_head)
    for member, body in zip(members, bodies, strict=True):
        node = read(network, lambda reader, id=member.node.key_id: nodes.by_id(reader, id))
        assert (node.serial, node.not_after) == (body["serial"], body["not_after"])
        row = read(network, lambda reader, serial=body["serial"]: certificates.get(reader, serial))
        assert json.loads(row.document)["signed"] == body
        assert row.noise_key == b64url_encode(member.noise.public)


def test_64_joins_take_at_most_16_statements(network: Any) -> None:
    """As many as were counted before renewals were decided together."""
    members = [network.invite(f"pump-{number}") for number in range(64)]
    answers, statements = counted(network, "/join", map(network.join_request, members))
    assert [answer.status for answer in answers] == [201] * 64
    assert statements <= 16


def test_whom_something_speaks_against_is_judged_as_if_alone(network: Any) -> None:
    """Each of a group is refused for its own reason, and those between them are renewed."""
    names = ("good", "late", "revoked", "node-gone", "thief", "foreign", "twice", "fresh", "rekeyed")
    by_name = {name: network.joined(name, **({"lifetime": 600} if name == "late" else {})) for name in names}
    grace = network.authority.issuer.policy.body.certificate.renew_grace + CERTIFICATE_LEEWAY
    network.clock.advance(600 + grace + 1)
    fresh = network.renew(by_name["fresh"])
    assert fresh.status == 201
    serial = by_name["revoked"].certificate.body.serial
    for reason in ({"serial": serial}, {"node": "node-gone"}):
        assert network.admin("POST", "/admin/revocations", reason).status == 201
    foreign = by_name["foreign"]
    foreign.certificate = by_name["foreign"].certificate.with_signature(
        by_name["foreign"].certificate.signatures[0][0], bytes(64)
    )
    asked = [request(network, by_name[name]) for name in names]
    asked[names.index("thief")] = request(network, by_name["thief"], by_name["good"].noise)
    asked[names.index("rekeyed")] = request(network, by_name["rekeyed"], network.keys.noise())
    asked.append(request(network, by_name["twice"]))
    asked.append(asked[0])
    answers = network.together("/renew", *asked)
    found = [answer.status if answer.status < 300 else answer.slug for answer in answers]
    assert found == [
        201,
        "cert-expired",
        "cert-revoked",
        "cert-revoked",
        "key-taken",
        "unknown-certificate",
        201,
        200,
        201,
        200,
        "replayed",
    ]
    assert answers[names.index("fresh")].json == fresh.json
