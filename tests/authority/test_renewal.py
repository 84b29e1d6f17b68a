# SPDX-License-Identifier: MIT
"""What a member gets that asks for certificates in a loop: few; and that no honest node is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.state_files import POLICY_TEXT

from gmesh.authority import limits
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.trust.documents import Certificate, Document, parse_document

DAY = 86_400


@pytest.fixture
def rates() -> RateLimits:
    """What is tested here is not the bucket of a key."""
    return RateLimits(RequestRate(10_000, 10_000), RequestRate(10_000, 10_000), RequestRate(10_000, 10_000))


def given(answer: Any) -> Document[Certificate]:
    """The certificate of an answer."""
    assert answer.status in (200, 201), answer.body
    return parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate)


def stored(network: Any, question: str) -> int:
    """A number from the database."""
    got: list[int] = []
    network.authority.store.read(lambda reader: reader.value(question)).addCallback(got.append)
    return got[0]


def certificates(network: Any) -> int:
    """How many the database holds."""
    return stored(network, "SELECT count(*) FROM certificate")


def test_a4_a_renewal_in_the_first_quarter_gives_the_same_certificate(network: Any) -> None:
    """The same bytes, 200, and neither a certificate nor an audit row more; after the quarter another one."""
    member = network.joined("pump-1")
    rows = stored(network, "SELECT count(*) FROM audit")
    for _ in range(20):
        network.clock.advance(60)
        answer = network.renew(member)
        assert answer.status == 200
        assert answer.body == b'{"certificate":%s}' % member.certificate.encode()
    assert (certificates(network), stored(network, "SELECT count(*) FROM audit")) == (1, rows)
    network.clock.advance(DAY // 4 - 20 * 60)
    assert network.renew(member).status == 201
    assert certificates(network) == 2


def test_a4_a_node_that_lost_the_answer_gets_the_newest_certificate(network: Any) -> None:
    """Asked again with the old certificate and the new Noise key: the one made before, each time."""
    member, noise = network.joined("pump-1"), network.keys.noise()
    network.clock.advance(DAY // 2)
    lost = given(network.renew(member, noise))
    network.restart()
    again = [network.renew(member, noise) for _ in range(10)]
    assert {answer.status for answer in again} == {200}
    assert {given(answer).encode() for answer in again} == {lost.encode()}
    member.certificate = lost
    assert given(network.renew(member, noise)).encode() == lost.encode()


def test_a4_new_noise_keys_are_few_an_hour(network: Any) -> None:
    """After the fourth certificate within an hour, 429 tells when to ask again; a restart forgets nothing."""
    member = network.joined("pump-1")
    answers = [network.renew(member, network.keys.noise()) for _ in range(10)]
    assert [answer.status for answer in answers] == [201] * 3 + [429] * 7
    network.restart()
    refused = network.renew(member, network.keys.noise())
    assert (refused.status, refused.slug) == (429, "rate-limited")
    wait = int(refused.headers.getRawHeaders("retry-after")[0])
    assert refused.json["retry_after"] == wait == 3600 - 1
    assert certificates(network) == 4
    network.clock.advance(wait - 1)
    assert network.renew(member, network.keys.noise()).status == 429
    network.clock.advance(1)
    assert network.renew(member, network.keys.noise()).status == 201


def test_a4_a_replayed_request_gets_nothing_more(network: Any) -> None:
    """A renewal that was answered, sent again as it was, makes no certificate, also after a restart."""
    member = network.joined("pump-1")
    noise = network.keys.noise()
    sent: list[Any] = []
    ask = network.ask
    network.ask = lambda *request: sent.append(request) or ask(*request)
    assert network.renew(member, noise).status == 201
    network.ask = ask
    assert network.ask(*sent[0]).slug == "replayed"
    network.restart()
    assert network.ask(*sent[0]).slug in ("replayed", "stale")
    assert certificates(network) == 2


@pytest.mark.parametrize("lifetime", [600, 3600, DAY])
def test_a4_live_certificates_of_a_node_are_few(network: Any, lifetime: int) -> None:
    """However long a certificate lives, a member that asks all the time holds no more than a dozen."""
    member = network.joined("pump-1", lifetime=lifetime)
    most = 0
    for _ in range(150):
        network.clock.advance(lifetime / 50)
        network.renew(member, network.keys.noise())
        live = f"SELECT count(*) FROM certificate WHERE not_after > {network.now}"
        most = max(most, stored(network, live))
    assert limits.RENEWALS_AN_HOUR <= most <= limits.LIVE_CERTIFICATES + limits.RENEWAL_FRESH


@pytest.mark.parametrize("lifetime", [600, 3600, DAY])
def test_a4_a_node_that_renews_at_half_life_is_never_refused(network: Any, lifetime: int) -> None:
    """With a new Noise key each time, and each answer lost once, for a hundred renewals."""
    member = network.joined("pump-1", lifetime=lifetime)
    for _ in range(100):
        network.clock.advance(lifetime * 2 // 5)  # half life, less the jitter
        noise = network.keys.noise()
        lost = network.renew(member, noise)
        assert lost.status == 201
        network.clock.advance(5)
        member.certificate, member.noise = given(network.renew(member, noise)), noise
        assert member.certificate.encode() == given(lost).encode()


def test_a4_what_an_operator_changed_is_not_counted(network: Any) -> None:
    """Another lifetime, or a revoked serial: the new certificate comes at once, and that one is kept."""
    member = network.joined("pump-1")
    for _ in range(3):
        assert network.renew(member, network.keys.noise()).status == 201
    assert network.renew(member, network.keys.noise()).status == 429
    text = {**POLICY_TEXT, "certificate": {"default": DAY // 2, "max": DAY, "renew_grace": 30 * DAY}}
    assert network.admin("POST", "/admin/policies", {"text": text}).status == 201
    shorter = given(network.renew(member))
    assert shorter.body.not_after - shorter.body.not_before == DAY // 2
    assert given(network.renew(member)).encode() == shorter.encode()
    assert network.admin("POST", "/admin/revocations", {"serial": shorter.body.serial}).status == 201
    after = given(network.renew(member))
    assert after.body.serial > shorter.body.serial
    assert given(network.renew(member)).encode() == after.encode()
