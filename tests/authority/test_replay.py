# SPDX-License-Identifier: MIT
"""A recorded request again: at once, after a restart, after its nonce was pruned, on a clock set back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import NODE_TAG

Request = tuple[str, str, dict[str, str], bytes]


def recorded(network: Any, what: str) -> Request:
    """A request of this kind as it went over the wire, answered well."""
    member = network.joined("pump-1")
    if what == "join":
        headers, body = network.join_request(network.invite("pump-2"))
        request = ("POST", "/join", headers, body)
    elif what == "invite":
        key = b64url_encode(network.keys.signing().public)
        body = json.dumps({"invite_key": key, "name": "a", "roles": ["client"]}).encode()
        headers = network.signed(network.keys.admin, "POST", "/admin/invites", body)
        request = ("POST", "/admin/invites", headers, body)
    else:
        value = {"certificate": member.certificate.as_dict()}
        value |= (
            {"noise_key": b64url_encode(member.noise.public)}
            if what == "renew"
            else {"sent_ms": int(network.wall() * 1000)}
        )
        body = json.dumps(value).encode()
        request = ("POST", f"/{what}", network.signed(member.node, "POST", f"/{what}", body, NODE_TAG), body)
    assert network.ask(*request).status in (200, 201)
    return request


@pytest.mark.parametrize("what", ["join", "renew", "heartbeat", "invite"])
def test_a_recorded_request_counts_once(network: Any, what: str) -> None:
    """Whatever it asked: the same bytes are refused as replayed or stale, and change nothing."""
    request = recorded(network, what)
    size = network.admin("GET", "/admin/audit").json["size"]
    slugs = [network.ask(*request).slug]
    network.restart()
    slugs.append(network.ask(*request).slug)
    network.clock.advance(100)
    slugs.append(network.ask(*request).slug)
    network.clock.advance(600)
    network.offset -= 600
    slugs.append(network.ask(*request).slug)
    network.offset += 600
    slugs.append(network.ask(*request).slug)
    assert slugs[0] == "replayed" and slugs[3:] == ["stale", "stale"]
    assert set(slugs) <= {"replayed", "stale"}
    refusals = 3 if what == "invite" else 0
    assert network.admin("GET", "/admin/audit").json["size"] <= size + refusals


def test_an_admin_request_counts_once(network: Any) -> None:
    """The same bytes again are refused: at once, after a restart, and after their nonce was pruned."""
    body = json.dumps(
        {"invite_key": b64url_encode(network.keys.signing().public), "name": "a", "roles": ["client"]}
    )
    headers = network.signed(network.keys.admin, "POST", "/admin/invites", body.encode())
    request = ("POST", "/admin/invites", headers, body.encode())
    assert network.ask(*request).status == 201
    assert network.ask(*request).slug == "replayed"
    network.restart()
    assert network.ask(*request).slug == "replayed"
    network.clock.advance(300)
    assert network.ask(*request).slug == "stale"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_counts_once(network: Any, method: str) -> None:
    """A recorded GET of an operator is refused again at once and after a restart, which others outlive."""
    headers = network.signed(network.keys.admin, method, "/admin/nodes")
    statuses = [network.ask(method, "/admin/nodes", headers).status for _ in range(2)]
    network.restart()
    after = 409 if network.postgres else 401
    assert [*statuses, network.ask(method, "/admin/nodes", headers).status] == [200, 409, after]


@pytest.mark.parametrize("ahead", [1, 60, 119])
def test_what_a_fast_clock_signed_counts_once_too(network: Any, ahead: int) -> None:
    """Signed after the restart by its own account: a heartbeat and a read are refused all the same."""
    member = network.joined("pump-1")
    network.offset += ahead
    read = ("GET", "/admin/nodes", network.signed(network.keys.admin, "GET", "/admin/nodes"), b"")
    value = {"certificate": member.certificate.as_dict(), "sent_ms": int(network.wall() * 1000)}
    body = json.dumps(value).encode()
    beat = ("POST", "/heartbeat", network.signed(member.node, "POST", "/heartbeat", body, NODE_TAG), body)
    network.offset -= ahead
    assert [network.ask(*request).status for request in (read, beat)] == [200, 200]
    for wait in (0, ahead, 60):
        network.restart()
        network.clock.advance(wait)
        assert {network.ask(*request).slug for request in (read, beat)} <= {"replayed", "stale"}


def test_field_t17_a_clock_set_back_lets_nothing_in_again(network: Any) -> None:
    """With the server clock 10 minutes back, an old request is still too old or already used."""
    member = network.joined("pump-1")
    body = json.dumps(
        {"certificate": member.certificate.as_dict(), "noise_key": b64url_encode(network.keys.noise().public)}
    )
    request = (
        "POST",
        "/renew",
        network.signed(member.node, "POST", "/renew", body.encode(), NODE_TAG),
        body.encode(),
    )
    assert network.ask(*request).status == 201
    network.clock.advance(600)
    network.admin("GET", "/admin/nodes")
    network.joined("pump-2")
    network.offset -= 600
    assert network.ask(*request).slug == "stale"
    network.restart()
    assert network.ask(*request).slug == "stale"


def test_a_refused_request_burns_nothing(network: Any) -> None:
    """A join refused for its name may be sent again, byte for byte, when the name is free."""
    network.joined("pump-1")
    member = network.invite("pump-1")
    headers, body = network.join_request(member)
    assert network.ask("POST", "/join", headers, body).slug == "name-taken"
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert network.ask("POST", "/join", headers, body).status == 201
