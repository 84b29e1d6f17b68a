# SPDX-License-Identifier: MIT
"""What an invite admits, and that whatever is wrong with one has the same answer."""

from __future__ import annotations

import json
from typing import Any

from gmesh.trust.encoding import b64url_encode
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


def test_an_invite_bound_to_a_node_key_admits_that_key_only(network: Any) -> None:
    """With C{node_key} the invite alone is not enough."""
    right = network.keys.signing()
    member = network.invite("pump-1", node_key=b64url_encode(right.public))
    assert network.join(member).slug == "enrolment-refused"
    member.node = right
    assert network.join(member).status == 201
