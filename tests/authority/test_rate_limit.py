# SPDX-License-Identifier: MIT
"""What one caller may: how often, for how long, and under which certificate."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from gmesh.authority.limits import CRL_RETRY_SECONDS
from gmesh.authority.proxies import TrustedProxies, parse_proxy
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.trust.documents import sign_document
from gmesh.trust.limits import DOCUMENT_LIMITS


def test_a_key_has_a_bucket_of_its_own(network: Any) -> None:
    """Whoever holds a good key and many addresses asks no faster for it; another key is not slowed."""
    burst = RateLimits().key.burst
    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1")])

    def ask(number: int, key: Any) -> Any:
        headers = network.signed(key, "GET", "/admin/invites")
        return network.ask(
            "GET", "/admin/invites", headers | {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250}"}
        )

    assert [ask(number, network.keys.operator).status for number in range(burst)] == [200] * burst
    refused = ask(burst, network.keys.operator)
    assert (refused.status, refused.slug) == (429, "rate-limited")
    wait = int(refused.headers.getRawHeaders("retry-after")[0])
    assert refused.json["retry_after"] == wait
    assert ask(burst + 1, network.keys.admin).status == 200
    network.clock.advance(wait)
    assert ask(burst + 2, network.keys.operator).status == 200


@pytest.mark.parametrize(
    ("text", "rate"),
    [("600", RequestRate(600, 600.0)), ("600/20", RequestRate(20, 600.0)), ("0.5/1", RequestRate(1, 0.5))],
)
def test_rates_are_written_as_people_say_them(text: str, rate: RequestRate) -> None:
    """So many a minute, and perhaps so many at once."""
    assert RequestRate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "many", "0", "-1", "5/0", "nan", "inf/1", "1e9", "5/5/5"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match=r"must be"):
        RequestRate.parse(text)


def test_an_answer_that_takes_too_long_is_given_up(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty seconds after the request whoever waits for a disk that hangs is told so."""
    monkeypatch.setattr(network.authority.store, "read", lambda *asked, **how: Deferred())
    answers: list[Any] = []
    headers = network.signed(network.keys.admin, "GET", "/admin/invites")
    network.begin("GET", "/admin/invites", headers).addBoth(answers.append)
    network.clock.advance(29.5)
    network.treq.flush()
    assert answers == []
    network.clock.advance(1)
    network.treq.flush()
    (answer,) = answers
    assert (answer.status, answer.slug) == (503, "unavailable")
    assert "too long" in answer.json["detail"] or "ask again" in answer.json["detail"]


@pytest.mark.parametrize("way", ["serial", "key"])
def test_what_a_revocation_by_serial_or_key_bars(network: Any, way: str) -> None:
    """The certificate is refused at renewal and heartbeat, and not given out again for a lost reply."""
    member = network.joined("pump-1")
    assert network.heartbeat(member).status == 200
    value = member.certificate.body.serial if way == "serial" else member.node.key_id
    assert network.admin("POST", "/admin/revocations", {way: value}).status == 201
    assert network.renew(member).slug == "cert-revoked"
    assert network.heartbeat(member).slug == "cert-revoked"
    assert network.join(member).slug == "enrolment-refused"


def test_a_full_crl_is_told_with_what_to_do(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation that no longer fits bars its node, says so, and is listed once there is room."""
    ids = [network.joined(f"pump-{number}").node.key_id for number in range(3)]
    assert network.admin("POST", "/admin/revocations", {"node": "pump-0"}).status == 201
    full = len(network.ask("GET", "/crl").body) + 10
    monkeypatch.setitem(DOCUMENT_LIMITS, "crl", full)
    for _ in range(2):  # asked again, it is no conflict: it is tried again
        refused = network.admin("POST", "/admin/revocations", {"node": "pump-1"})
        assert (refused.status, refused.slug) == (413, "too-large")
        assert "pump-1 is revoked and barred here" in refused.json["detail"]
        assert "shorter" in refused.json["detail"]
    assert [row["revoked"] for row in network.admin("GET", "/admin/nodes").json["nodes"]] == [
        True,
        True,
        False,
    ]
    monkeypatch.setitem(DOCUMENT_LIMITS, "crl", full + 80)
    network.clock.advance(CRL_RETRY_SECONDS + 10)
    listed = network.ask("GET", "/crl").json["signed"]["revoked_nodes"]
    assert [entry[0] for entry in listed] == sorted(ids[:2])
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).slug == "conflict"


def test_a_full_crl_leaves_out_what_has_ended(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of ended certificates stay for their grace only while there is room for them."""
    network.joined("pump-0")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-0"}).status == 201
    monkeypatch.setitem(DOCUMENT_LIMITS, "crl", len(network.ask("GET", "/crl").body) + 10)
    network.clock.advance(2 * 86_400)
    node_id = network.joined("pump-1").node.key_id
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    listed = network.ask("GET", "/crl").json["signed"]["revoked_nodes"]
    assert [entry[0] for entry in listed] == [node_id]


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "heard-of"])
def test_nobody_is_heard_of_under_the_serial_of_another(network: Any, known: bool) -> None:
    """A certificate that names another's serial and the sender's key is nobody's, be it known or not."""
    victim, thief = network.joined("pump-1"), network.joined("pump-2")
    if known:
        assert network.heartbeat(victim).status == 200
    genuine = thief.certificate
    body = msgspec.structs.replace(genuine.body, serial=victim.certificate.body.serial)
    thief.certificate = sign_document(body, [network.keys.signing()])
    assert network.heartbeat(thief).slug == "unknown-certificate"
    assert network.renew(thief).slug == "unknown-certificate"
    thief.certificate = genuine
    assert network.heartbeat(thief).status == 200
