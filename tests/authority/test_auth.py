# SPDX-License-Identifier: MIT
"""Who may ask what: signatures, replays, roles, and requests carried to where they do not belong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gmesh.authority.proxies import TrustedProxies, parse_proxy
from gmesh.authority.routes import ROUTES
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import signature_input
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import key_id
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG

PUBLIC = {"/genesis", "/genesis/N", "/policy", "/crl", "/status", "/healthz", "/readyz", "/openapi.json"}


def simple(path: str) -> str:
    """A path with its converters replaced by N."""
    return "/".join("N" if part.startswith("<") else part for part in path.split("/"))


def test_every_route_is_signed_or_listed_as_public() -> None:
    """No route answers strangers but the ones listed here."""
    open_ones = {simple(route.path) for route in ROUTES if not route.access.signed}
    assert open_ones <= PUBLIC
    for route in ROUTES:
        if route.path.startswith("/admin"):
            assert route.access.operator, route.path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {simple(route.path)}")
def test_field_t12_test_unsigned_requests_are_refused(network: Any, route: Any) -> None:
    """Every route that is not public answers 4xx to a request without signature, as a problem."""
    if not route.access.signed:
        return
    target = simple(route.path).replace(
        "N", "1" * (64 if "=64" in route.path else 32) if "string" in route.path else "1"
    )
    answer = network.ask(route.method, target, {"Content-Type": "application/json"}, b"{}")
    assert answer.status in (400, 401)
    assert answer.slug in ("unsigned", "invalid-field")


def test_field_t13_a_signed_request_fits_one_route_only(network: Any) -> None:
    """Each signed request on every other route, method and query is refused."""
    member = network.joined("pump-1")
    renewal = json.dumps(
        {"certificate": member.certificate.as_dict(), "noise_key": b64url_encode(member.noise.public)}
    ).encode()
    node = network.signed(member.node, "POST", "/renew", renewal, NODE_TAG)
    admin = network.signed(network.keys.admin, "GET", "/admin/nodes")
    serial = member.certificate.body.serial
    for method, target, headers, body in (
        ("POST", "/heartbeat", node, renewal),
        ("POST", "/join", node, renewal),
        ("POST", "/renew?x=1", node, renewal),
        ("POST", "/renew?", node, renewal + b" "),
        ("GET", f"/certificates/{serial}", node, b""),
        ("GET", "/admin/nodes?limit=1", admin, b""),
        ("GET", "/admin/invites", admin, b""),
        ("HEAD", "/admin/nodes", admin, b""),
        ("POST", "/admin/revocations", admin, b'{"node":"pump-1"}'),
        ("GET", f"/certificates/{serial}", admin, b""),
    ):
        answer = network.ask(method, target, headers, body)
        assert answer.status in (400, 401), (method, target, answer.body)
    assert network.ask("GET", "/admin/nodes", admin).status == 200


def test_a_request_for_another_authority_is_refused(network: Any) -> None:
    """The audience is signed and must be a key held here that the genesis lists."""
    other = network.keys.signing().key_id
    headers = network.signed(network.keys.admin, "GET", "/admin/nodes", audience=other)
    answer = network.ask("GET", "/admin/nodes", headers)
    assert (answer.status, answer.slug) == (401, "bad-audience")
    headers["Gmesh-Audience"] = network.keys.authority.key_id
    assert network.ask("GET", "/admin/nodes", headers).slug == "bad-signature"


@pytest.mark.parametrize(("tag", "status"), [(ADMIN_TAG, 200), (NODE_TAG, 401), (JOIN_TAG, 401)])
def test_a_signature_serves_one_purpose(network: Any, tag: str, status: int) -> None:
    """An operator's request carries the operator's tag."""
    headers = network.signed(network.keys.admin, "GET", "/admin/nodes", tag=tag)
    assert network.ask("GET", "/admin/nodes", headers).status == status


@pytest.mark.parametrize(("off", "status"), [(-119, 200), (119, 200), (-121, 401), (121, 401)])
def test_the_clock_window(network: Any, off: int, status: int) -> None:
    """Two minutes either way; beyond that the answer tells the authority's time."""
    network.clock.advance(1000)
    network.authority.clock.started = 0
    headers = network.signed(network.keys.admin, "GET", "/admin/nodes", created=network.now + off)
    answer = network.ask("GET", "/admin/nodes", headers)
    assert answer.status == status
    if status == 401:
        assert (answer.slug, answer.json["time"]) == ("stale", network.now)


def test_roles(network: Any) -> None:
    """read may list, operate may change; a refusal by role is in the audit."""
    keys = network.keys
    body = {"invite_key": b64url_encode(keys.signing().public), "name": "a", "roles": ["client"]}
    assert network.admin("GET", "/admin/nodes", key=keys.reader).status == 200
    assert network.admin("POST", "/admin/invites", body, key=keys.reader).slug == "forbidden-role"
    assert network.admin("POST", "/admin/invites", body, key=keys.operator).status == 201
    assert network.admin("GET", "/admin/nodes", key=keys.signing()).slug == "unknown-key"
    rows = [entry["row"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    refused = [row for row in rows if row["outcome"] != "done"]
    assert [(row["actor"], row["action"], row["outcome"]) for row in refused] == [
        (keys.reader.key_id, "POST /admin/invites", "refused: forbidden-role")
    ]


def test_a_refusal_tells_of_what(network: Any) -> None:
    """The audit names the route without its converters, and what it was asked of."""
    asked = "0123456789abcdef" * 2
    reader = network.keys.reader
    assert network.admin("DELETE", f"/admin/invites/{asked}", key=reader).slug == "forbidden-role"
    row = network.admin("GET", "/admin/audit?limit=500").json["entries"][-1]["row"]
    assert (row["actor"], row["action"], row["target"]) == (
        reader.key_id,
        "DELETE /admin/invites/<id>",
        asked,
    )


def test_forgeries_do_not_lock_the_operator_out(network: Any) -> None:
    """Bad signatures under an operator's key id block the forger's address, but not there the operator."""
    forged = network.signed(network.keys.admin, "GET", "/admin/nodes")
    forged["Signature"] = "gmesh=:" + "A" * 86 + "==:"
    statuses = [network.ask("GET", "/admin/nodes", forged).status for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert network.admin("GET", "/admin/nodes").status == 200


C1 = {
    "duplicate keys": b'{"name":"a","name":"b"}',
    "NaN": b'{"name":NaN}',
    "infinity": b'{"name":1e400}',
    "minus zero": b'{"name":-0}',
    "float": b'{"name":1.0}',
    "too large": b'{"name":9007199254740992}',
    "lone surrogate": b'{"name":"\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"name":1}',
    "utf-16": '{"name":1}'.encode("utf-16"),
    "bad utf-8": b'{"name":"\xff"}',
    "too deep": b'{"name":' + b"[" * 17 + b"]" * 17 + b"}",
    "very deep": b"[" * 4_000,
    "digits": b'{"name":' + b"1" * 4_000 + b"}",
    "no object": b"[]",
    "nothing": b"",
}


@pytest.mark.parametrize("case", C1)
def test_bad_json_is_400(network: Any, case: str) -> None:
    """What some parsers take and others do not is refused with a reason, never a 500."""
    for target, tag, key in (
        ("/admin/invites", ADMIN_TAG, network.keys.admin),
        ("/join", JOIN_TAG, network.keys.signing()),
    ):
        body = C1[case]
        answer = network.ask("POST", target, network.signed(key, "POST", target, body, tag), body)
        assert answer.status == 400, answer.body
        assert answer.slug in ("invalid-json", "invalid-field")


def test_bodies_must_be_json(network: Any) -> None:
    """Another content type is 415."""
    answer = network.ask("POST", "/join", {"Content-Type": "text/plain"}, b"{}")
    assert (answer.status, answer.slug) == (415, "unsupported-type")


def test_small_order_keys_are_refused(network: Any) -> None:
    """The identity point, with which anybody can sign, is neither an invite key nor a node key."""
    weak = b64url_encode(bytes([1]) + bytes(31))
    invite = {"invite_key": weak, "name": "a", "roles": ["client"]}
    assert network.admin("POST", "/admin/invites", invite).slug == "bad-key"
    bound = {**invite, "invite_key": b64url_encode(network.keys.signing().public), "node_key": weak}
    assert network.admin("POST", "/admin/invites", bound).slug == "bad-key"


def test_a_node_with_a_small_order_key_does_not_join(network: Any) -> None:
    """Anybody can sign with the identity point: neither as node key nor as invite key does it admit."""
    identity, anything = bytes([1]) + bytes(31), bytes([1]) + bytes(63)
    weak, signature = b64url_encode(identity), b64url_encode(anything)
    member = network.invite("pump-1")
    request = make_join_request(
        member.invite, member.node, member.noise.public, network.network_id, network.now, network.entropy(16)
    )

    class Anybody:
        key_id = key_id(identity)

        def sign(self, data: bytes) -> bytes:
            return anything

    unsigned = {**msgspec.to_builtins(request), "node_key": weak}
    del unsigned["invite_signature"]
    made = b64url_encode(member.invite.key.sign(signature_input("join", unsigned)))
    body = canonical({**unsigned, "invite_signature": made})
    answer = network.ask("POST", "/join", network.signed(Anybody(), "POST", "/join", body, JOIN_TAG), body)
    assert answer.status >= 400 and answer.slug in ("bad-key", "bad-signature")

    body = canonical({**msgspec.to_builtins(request), "invite_key": weak, "invite_signature": signature})
    answer = network.ask("POST", "/join", network.signed(member.node, "POST", "/join", body, JOIN_TAG), body)
    assert (answer.status, answer.slug) == (403, "enrolment-refused")
    assert network.join(member).status == 201


def test_low_order_noise_keys_are_refused(network: Any) -> None:
    """A renewal cannot bring in a Noise key of low order."""
    member = network.joined("pump-1")
    value = {"certificate": member.certificate.as_dict(), "noise_key": b64url_encode(bytes(32))}
    assert network.node(member, "/renew", value).slug == "bad-key"


def test_certificates_are_for_members_and_operators(network: Any) -> None:
    """Serials are dense: strangers cannot list the fleet by them."""
    member = network.joined("pump-1")
    target = f"/certificates/{member.certificate.body.serial}"
    assert network.ask("GET", target).slug == "unsigned"
    for key, tag in ((member.node, NODE_TAG), (network.keys.reader, ADMIN_TAG)):
        answer = network.ask("GET", target, network.signed(key, "GET", target, tag=tag))
        assert answer.body == member.certificate.encode()
    stranger = network.signed(network.keys.signing(), "GET", target, tag=NODE_TAG)
    assert network.ask("GET", target, stranger).slug == "unknown-key"


def test_wrong_paths_and_methods_are_problems(network: Any) -> None:
    """404 and 405 are problem documents; 405 names the methods there are."""
    assert network.ask("GET", "/nowhere").slug == "not-found"
    assert network.ask("GET", "/genesis/").slug == "not-found"
    answer = network.ask("DELETE", "/genesis")
    assert answer.slug == "method-not-allowed"
    assert "GET" in answer.headers.getRawHeaders("allow")[0]


def test_forwarded_for_is_believed_from_proxies_only(network: Any) -> None:
    """Each claimed address has its bucket behind a known proxy; elsewhere the claim changes nothing."""

    def refused(count: int) -> list[int]:
        answers = []
        for number in range(count):
            headers, body = network.join_request(network.member(network.keys.signing()))
            headers["X-Forwarded-For"] = f"198.51.100.{number}"
            answers.append(network.ask("POST", "/join", headers, body).status)
        return answers

    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1")])
    assert refused(12) == [403] * 12
    network.server.proxies = TrustedProxies()
    assert refused(12) == [403] * 10 + [429] * 2
