# SPDX-License-Identifier: MIT
"""Nobody is locked out by others' noise, and no request of a stranger is worked on before it has paid."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from klein.resource import KleinResource

from gmesh.authority import limits, server
from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.routes import ROUTES
from gmesh.trust.documents import sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG

BURST = RateLimits().address.burst
FAILURES = RateLimits().failures.burst


def forged(headers: dict[str, str]) -> dict[str, str]:
    """The same request under a signature that does not fit."""
    return {**headers, "Signature": "gmesh=:" + "A" * 86 + "==:"}


def flood(network: Any, count: int = BURST + 1, target: str = "/nowhere") -> None:
    """What a host behind the same address sends, until that address has nothing left."""
    for _ in range(count):
        network.ask("GET", target)
    assert network.ask("GET", target).status == 429


def test_a9_forgeries_under_an_operators_key_do_not_delay_the_operator(network: Any) -> None:
    """From the operator's own address, ten times as many as an address may fail: the revocation is done."""
    network.joined("pump-1")
    body = json.dumps({"node": "pump-1"}).encode()
    headers = network.signed(network.keys.admin, "POST", "/admin/revocations", body)
    bad = [network.ask("POST", "/admin/revocations", forged(headers), body).status for _ in range(100)]
    assert bad == [401] * FAILURES + [429] * (100 - FAILURES)
    assert network.ask("POST", "/admin/revocations", headers, body).status == 201


@pytest.mark.parametrize("kind", ["404", "forged", "unknown key", "joins", "stale"])
def test_a9_whatever_an_address_sends_its_operators_and_members_are_served(network: Any, kind: str) -> None:
    """Each kind of noise until it is answered 429; then an operator and a member from the same address."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    for _ in range(BURST + 1):
        if kind == "404":
            status = network.ask("GET", "/nowhere").status
        elif kind == "joins":
            status = network.join(network.member(network.keys.signing())).status
        else:
            key = network.keys.signing() if kind == "unknown key" else network.keys.admin
            created = network.now - 10_000 if kind == "stale" else None
            headers = network.signed(key, "GET", "/admin/nodes", created=created)
            headers = forged(headers) if kind == "forged" else headers
            status = network.ask("GET", "/admin/nodes", headers).status
    assert status == 429
    assert network.admin("GET", "/admin/nodes").status == 200
    assert network.heartbeat(member).status == 200
    assert network.renew(member).status == 200


def test_a9_a_request_that_is_played_again_does_not_use_up_its_owners_key(network: Any) -> None:
    """A good signature heard on the way, sent a hundred times: its owner asks on."""
    headers = network.signed(network.keys.admin, "GET", "/admin/nodes")
    assert network.ask("GET", "/admin/nodes", headers).status == 200
    for _ in range(2 * RateLimits().key.burst):
        assert network.ask("GET", "/admin/nodes", headers).status in (409, 429)
    assert network.admin("GET", "/admin/nodes").status == 200


def test_a9_a_member_that_was_not_heard_yet_pays_like_a_stranger_once(network: Any) -> None:
    """After a restart no member is known; each is from its first request on."""
    member = network.joined("pump-1")
    network.restart()
    for _ in range(BURST - 1):
        network.ask("GET", "/nowhere")
    assert network.heartbeat(member).status == 200
    flood(network, 1)
    assert network.heartbeat(member).status == 200


def test_a9_a_body_counts_only_for_the_key_that_signed(network: Any) -> None:
    """A body that names one key to the eye, and another to the parser, is refused."""
    member, thief = network.joined("pump-1"), network.keys.signing()
    value = {
        "noise_key": b64url_encode(member.noise.public),
        "certificate": member.certificate.as_dict(),
    }
    body = json.dumps(value).encode()
    shown = f'{{"x":{{"node_key":"{b64url_encode(thief.public)}"}},'.encode() + body[1:]
    answer = network.ask("POST", "/renew", network.signed(thief, "POST", "/renew", shown, NODE_TAG), shown)
    assert (answer.status, answer.slug) in ((400, "invalid-field"), (401, "bad-signature"))
    certificate = {**value["certificate"], "x": {"node_key": b64url_encode(thief.public)}}
    for order in (certificate, dict(reversed(certificate.items()))):
        body = json.dumps({**value, "certificate": order}).encode()
        answer = network.ask("POST", "/renew", network.signed(thief, "POST", "/renew", body, NODE_TAG), body)
        assert answer.status in (400, 401)


def test_b5_a_used_invite_that_tries_on_leaves_its_neighbours_room(network: Any) -> None:
    """Behind one address: the used seed is refused, at last unread; every open invite admits its host."""
    used = network.joined("pump-0")
    again = network.member(used.invite.key)
    statuses = [network.join(again).status for _ in range(2 * FAILURES)]
    assert statuses == [403] * FAILURES + [429] * FAILURES
    for number in range(1, 4):
        network.joined(f"pump-{number}")
    assert network.join(again).status == 429


def test_b5_many_bad_invites_leave_open_ones_room(network: Any) -> None:
    """Beyond the failures of an address bad invites get no decision; open ones, and retries, still do."""
    first, second = network.invite("pump-1"), network.invite("pump-2")
    assert network.join(first).status == 201
    for _ in range(FAILURES):
        assert network.join(network.member(network.keys.signing())).status == 403
    decided = network.authority.store.decided + network.authority.store.groups
    refused = network.join(network.member(network.keys.signing()))
    assert (refused.status, refused.slug) == (429, "rate-limited")
    assert network.authority.store.decided + network.authority.store.groups == decided
    assert network.join(second).status == 201
    assert network.join(first).status == 200


def test_b5_other_noise_of_an_address_leaves_joins_room(network: Any) -> None:
    """An address that has used up what strangers may ask still joins."""
    member = network.invite("pump-1")
    flood(network)
    assert network.join(member).status == 201


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each body that was parsed."""
    sizes: list[int] = []
    genuine = server.parse_json

    def parse(data: bytes, limit: int) -> Any:
        sizes.append(len(data))
        return genuine(data, limit)

    monkeypatch.setattr(server, "parse_json", parse)
    return sizes


SIGNED = [route for route in ROUTES if route.body is not None]


@pytest.mark.parametrize("route", SIGNED, ids=lambda route: route.name)
def test_a16_no_body_is_parsed_before_its_signature(network: Any, parsed: list[int], route: Any) -> None:
    """Unsigned, under another's signature, with another digest, and by a stranger to what operators ask."""
    target = route.path.partition("<")[0] + "0" * 32 if "<" in route.path else route.path
    stranger, tag = network.keys.signing(), ADMIN_TAG
    if not route.access.operator:
        tag = JOIN_TAG if route.path == "/join" else NODE_TAG
    body = json.dumps({"node_key": b64url_encode(stranger.public), "more": [0] * 1000}).encode()
    headers = network.signed(stranger, "POST", target, body, tag)
    asked = [forged(headers), {"Content-Type": "application/json"}]
    if route.access.operator:
        asked += [headers, forged(network.signed(network.keys.admin, "POST", target, body))]
        asked.append(network.signed(network.keys.reader, "POST", target, body + b" "))
    for each in asked:
        assert network.ask("POST", target, each, body).status == 401
    assert parsed == []


@pytest.mark.parametrize("route", SIGNED, ids=lambda route: route.name)
def test_a16_each_body_has_the_limit_of_its_document(network: Any, parsed: list[int], route: Any) -> None:
    """One byte more is 413, whoever signs it, and nothing of it is parsed."""
    target = route.path.partition("<")[0] + "0" * 32 if "<" in route.path else route.path
    body = b" " * (route.body_limit + 1)
    answer = network.ask("POST", target, network.signed(network.keys.admin, "POST", target, body), body)
    assert (answer.status, answer.slug) == (413, "too-large")
    assert parsed == []


def test_a16_a_long_heartbeat_is_for_members(network: Any, parsed: list[int]) -> None:
    """A key that nobody has heard of, with a body beyond what a certificate takes: refused unparsed."""
    key = network.keys.signing()
    body = json.dumps({"node_key": b64url_encode(key.public), "receipts": [0] * 9000}).encode()
    assert limits.STRANGER_BODY_BYTES < len(body) <= limits.BODY_LIMITS["POST /heartbeat"]
    headers = network.signed(key, "POST", "/heartbeat", body, NODE_TAG)
    answer = network.ask("POST", "/heartbeat", headers, body)
    assert (answer.status, answer.slug) == (401, "unknown-key")
    assert parsed == []


@pytest.mark.parametrize("target", ["/renew", "/heartbeat"])
def test_a16_a_certificate_of_ones_own_making_is_worth_no_decision(network: Any, target: str) -> None:
    """Only what a key of the genesis signed, or a member sends, comes before the one writer."""
    genuine, thief = network.joined("pump-1"), network.member(network.keys.signing())
    assert genuine.certificate is not None
    body = msgspec.structs.replace(genuine.certificate.body, node_key=b64url_encode(thief.node.public))
    thief.certificate = sign_document(body, [thief.node])
    network.clock.advance(1)
    store = network.authority.store
    before = store.groups
    answer = network.renew(thief) if target == "/renew" else network.heartbeat(thief)
    assert (answer.status, answer.slug) == (403, "unknown-certificate")
    assert store.groups == before
    network.restart()
    assert network.renew(genuine).status == 200


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/status", 405),
        ("GET", "/genesis/77", 404),
        ("GET", "/crl?since=x", 400),
        ("POST", "/join", 415),
        ("GET", "/admin/nodes", 401),
    ],
)
def test_a23_every_answer_to_a_stranger_is_paid_for(
    network: Any, method: str, target: str, status: int
) -> None:
    """As many as an address may ask at once, then 429 with the time to wait, whatever was asked."""
    statuses = [network.ask(method, target).status for _ in range(BURST)]
    assert statuses == [status] * BURST
    refused = network.ask(method, target)
    assert (refused.status, refused.slug) == (429, "rate-limited")
    assert refused.headers.getRawHeaders("retry-after") == [str(refused.json["retry_after"])]


def test_a23_signed_nonsense_is_paid_for_too(network: Any) -> None:
    """A header that says that a request is signed gives nothing for free: any path, any method."""
    claim = {"Signature-Input": "gmesh=x", "Content-Type": "application/json"}
    for request in ("GET /nowhere", "DELETE /status", "GET /status", "POST /renew"):
        method, target = request.split()
        for _ in range(BURST + 1):
            status = network.ask(method, target, claim).status
        assert status == 429, target
        network.clock.advance(600)


def test_a23_a_429_reaches_neither_the_router_nor_the_database(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has nothing left is refused before the work that an answer takes."""
    flood(network)
    worked: list[Any] = []
    with monkeypatch.context() as watched:
        watched.setattr(KleinResource, "render", lambda self, request: worked.append(request))
        watched.setattr(network.authority.store, "read", worked.append)
        watched.setattr(network.authority.store, "decide", worked.append)
        watched.setattr(network.server, "_serve", lambda *arguments: worked.append(arguments))
        for target in ("/nowhere", "/genesis/1", "/admin/enrolments/" + "0" * 32, "/status", "/admin/nodes"):
            assert network.ask("GET", target).status == 429
    assert worked == []


@pytest.mark.parametrize(
    "path",
    [
        "//admin/invites",
        "/admin//invites",
        "/admin/%69nvites",
        "/admin/invites/",
        "/./admin/invites",
        "/admin/../admin/invites",
        "/admin/invites;x=1",
        "/genesis/01",
        "/genesis/%31",
        "/genesis/1/",
        "//genesis/1",
        "/genesis/%D9%A1",
        "/genesis/+1",
    ],
)
def test_a28_a_path_has_one_spelling(network: Any, path: str) -> None:
    """Another is 404, though it is signed as it is written."""
    assert network.admin("GET", "/admin/invites").status == network.ask("GET", "/genesis/1").status == 200
    headers = network.signed(network.keys.admin, "GET", path)
    for answer in (network.ask("GET", path, headers), network.ask("GET", path)):
        assert (answer.status, answer.slug) == (404, "not-found")


@pytest.mark.parametrize("target", ["/join", "/renew", "/heartbeat"])
def test_a16_a_stranger_is_parsed_only_if_the_shape_fits(
    network: Any, parsed: list[int], target: str
) -> None:
    """Anybody signs well under a key of their own: what is no such body all the way down is not parsed."""
    key = network.keys.signing()
    named = {"node_key": b64url_encode(key.public)}
    for value in (
        {**named, "x": [1] * 500},
        {"certificate": {**named, "x": [1] * 500}},
        {"certificate": {"signed": named, "signatures": [{"x": 1}] * 90}},
        {"receipts": [{"x": [{}] * 200}], **named},
        {"numbers": {"x": 1}, **named},
    ):
        body = json.dumps(value).encode()
        assert len(body) <= limits.STRANGER_BODY_BYTES
        tag = JOIN_TAG if target == "/join" else NODE_TAG
        answer = network.ask("POST", target, network.signed(key, "POST", target, body, tag), body)
        assert (answer.status, answer.slug) == (400, "invalid-field")
    assert parsed == []


def test_a16_a_heartbeat_with_all_a_node_says_is_taken_after_a_restart(network: Any) -> None:
    """The shape that a member not yet met must fit leaves room for each field of the body."""
    member = network.joined("pump-1")
    network.restart()
    network.clock.advance(1)
    value = {
        "certificate": member.certificate.as_dict(),
        "sent_ms": int(network.wall() * 1000),
        "numbers": {"genesis": 1, "policy": 1, "crl": 1, "crl_digest": "0" * 64, "status": 1},
        "status": network.ask("GET", "/status").json,
        "faults": ["fell-back"],
        "boot_id": "0123456789abcdef",
        "receipts": [],
    }
    assert len(json.dumps(value)) <= limits.STRANGER_BODY_BYTES
    assert network.node(member, "/heartbeat", value).status == 200


@pytest.mark.parametrize("route", [row for row in ROUTES if row.shape is not None], ids=lambda row: row.name)
def test_a16_a_shape_has_the_fields_of_its_body(route: Any) -> None:
    """What a body gains, its shape gains: else whoever sends it is refused, until they are known."""
    assert set(route.shape.__struct_fields__) == set(route.body.__struct_fields__)
