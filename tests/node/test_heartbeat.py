# SPDX-License-Identifier: MIT
"""A year in the life of the link to the authority, on a fake clock, over real signed requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from node.memory_authority import AuthorityResource, MemoryAuthority
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as TwistedConnectionRefused
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from gmesh.node.authority_client import AuthorityClient
from gmesh.node.authority_http import AuthorityHTTP
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.limits import RENEWAL_RETRY_CEILING
from gmesh.testing.issuer import DAY, Enrolled
from gmesh.trust.documents import Certificate, CommandReceipt, Document, sign_document
from gmesh.trust.state import TrustState


class Switch:
    """An HTTP client that reaches the authority double, or nobody."""

    def __init__(self, authority: Any) -> None:
        self.stub = StubTreq(authority)
        self.up = True
        self.dead_urls: set[str] = set()
        self.asked: list[str] = []

    def request(self, method: str, url: str, **options: Any) -> Deferred[Any]:
        self.asked.append(url)
        if not self.up or any(url.startswith(dead) for dead in self.dead_urls):
            return fail(TwistedConnectionRefused("nobody there"))
        options.pop("unbuffered", None)
        return self.stub.request(method, url, **options)


class Member:
    """The node as the heartbeat sees it; remembers what was persisted."""

    def __init__(self, node: Enrolled, trust: TrustState) -> None:
        self.trust = trust
        self.enrolled = node
        self.certificate = node.certificate
        self.adopted: list[Document[Certificate]] = []

    def noise_to_certify(self) -> bytes:
        return self.enrolled.noise_key.public

    def time_agreed(self) -> None:
        """Nothing is kept here."""

    def numbers(self) -> dict[str, int]:
        return {"genesis": self.trust.genesis.body.version}

    def adopt_certificate(self, document: Document[Certificate]) -> None:
        self.adopted.append(document)
        self.certificate = document


class Life:
    """One node, its heartbeat, and both clocks moving together."""

    def __init__(
        self, wall: Any, issuer: MemoryAuthority, node: Enrolled, *urls: str, control: Any = None
    ) -> None:
        self.wall = wall
        self.issuer = issuer
        self.authority = authority = AuthorityResource(issuer)
        self.clock = Clock()
        self.http = Switch(authority)
        self.trust = TrustState(
            issuer.network_id,
            issuer.genesis_chain,
            changed=lambda kind: self.heartbeat.trust_changed(kind),
        )
        self.member = Member(node, self.trust)
        random = Random(3)
        self.client = AuthorityClient(
            AuthorityHTTP(self.http, lambda: urls, self.clock),
            node.node_key,
            self.trust,
            wall,
            random.randbytes,
        )
        self.heartbeat = Heartbeat(self.member, self.client, self.clock, wall, random, control)

    def live(self, seconds: float, step: float = 5.0) -> None:
        for _ in range(int(seconds / step)):
            self.wall.now += step
            self.clock.advance(step)
            self.http.stub.flush()

    def start(self) -> None:
        self.heartbeat.startService()
        self.clock.advance(0)
        self.http.stub.flush()

    def stop(self) -> None:
        assert self.heartbeat.stopService().called
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def issuer(wall: Any) -> MemoryAuthority:
    return MemoryAuthority(wall, Random(7))


@pytest.fixture
def life(wall: Any, issuer: MemoryAuthority, node: Enrolled) -> Any:
    made = Life(wall, issuer, node, "http://one.example", "http://two.example/sub")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(wall: Any, issuer: MemoryAuthority) -> Any:
    """The same life as a client, which does not poll."""
    made = Life(wall, issuer, issuer.enrol("b", "client"), "http://one.example")
    made.start()
    yield made
    made.stop()


def test_the_first_heartbeat_brings_everything(life: Life) -> None:
    """Status, CRL and policy are in force, and the authority knows what we hold."""
    assert (life.trust.status, life.trust.crl, life.trust.policy) == (
        life.issuer.status,
        life.issuer.crl,
        life.issuer.policy,
    )
    assert life.heartbeat.reachable
    assert life.heartbeat.age() == 0
    assert life.authority.bodies[0]["numbers"] == {"genesis": 1}
    assert life.authority.bodies[0]["certificate"] == life.member.certificate.as_dict()


def test_heartbeats_come_each_minute_with_jitter(life: Life) -> None:
    """Sixty of them in about an hour, never closer than 48 s nor further than 72 s, and never in step."""
    seen, at = 0, []
    for _ in range(3600):
        life.live(1, 1.0)
        beats = [path for _, path in life.authority.requests if path == "/heartbeat"]
        at += [life.wall.now] * (len(beats) - seen)
        seen = len(beats)
    gaps = [later - earlier for earlier, later in pairwise(at[1:])]
    assert 47 <= min(gaps) < 54 and 66 < max(gaps) <= 73
    assert len(set(gaps)) > 10


def test_a_revocation_is_pulled(life: Life) -> None:
    """A status that names a newer CRL makes the node fetch it."""
    life.issuer.revoke(life.issuer.enrol("b", "client"))
    life.live(75)
    assert life.trust.crl == life.issuer.crl
    life.issuer.publish_policy()
    life.live(75)
    assert life.trust.policy == life.issuer.policy


def test_an_anchor_hears_at_once_by_long_poll(life: Life) -> None:
    """The poll names the status held; its answer is applied without waiting for a heartbeat."""
    life.live(1, 0.5)
    [poll] = life.authority.polls
    assert life.authority.requests[-1][1] == f"/status?after={life.trust.status.digest}"
    crl = life.issuer.revoke(life.issuer.enrol("b", "client"))
    poll.callback(life.issuer.status.encode())
    life.http.stub.flush()
    assert life.trust.crl == crl
    life.live(1, 0.5)
    assert len(life.authority.polls) == 2


@pytest.fixture
def proxied(wall: Any, issuer: MemoryAuthority, node: Enrolled) -> Any:
    """An anchor whose authority has one address."""
    made = Life(wall, issuer, node, "http://one.example")
    made.start()
    yield made
    made.stop()


def test_d13_a_long_poll_that_a_proxy_cuts_is_no_outage(proxied: Life) -> None:
    """After ten idle seconds a proxy answers 504: the next poll follows at once, and nothing is amiss."""
    life = proxied
    reachable = set()
    for _ in range(12):
        life.live(10, 0.5)
        life.authority.polls[-1].errback(Exception())
        life.http.stub.flush()
        reachable.add(life.heartbeat.reachable)
        life.live(0.5, 0.5)
        reachable.add(life.heartbeat.reachable)
    assert reachable == {True} and life.heartbeat.troubles == {}
    assert len(life.authority.polls) == 13
    assert _beats(life) <= 5


def test_d13_an_authority_that_went_away_is_noticed_by_the_poll(proxied: Life) -> None:
    """A poll that fails at once has a heartbeat asked, which tells; while it is away none more are asked."""
    life = proxied
    life.live(10, 0.5)
    before = _beats(life)
    life.http.up = False
    life.authority.polls[-1].errback(Exception())
    life.http.stub.flush()
    life.live(7, 0.5)
    assert not life.heartbeat.reachable and "contact" in life.heartbeat.troubles
    life.http.up = True
    life.live(90)
    assert life.heartbeat.reachable and _beats(life) <= before + 4


def test_what_was_applied_is_reported_within_seconds(life: Life) -> None:
    """A CRL that came by another way is told to the authority within seconds, not with the next heartbeat."""
    life.live(30)
    before = _beats(life)
    life.trust.offer(life.issuer.revoke(life.issuer.enrol("b", "client")), life.wall())
    life.live(5, 0.5)
    assert _beats(life) == before + 1


def _beats(life: Life) -> int:
    """How many heartbeats the authority has got."""
    return sum(1 for method, path, *_ in life.authority.requests if (method, path) == ("POST", "/heartbeat"))


def test_a_client_does_not_poll(client: Life) -> None:
    """Only anchors hold connections open at the authority."""
    client.live(30)
    assert client.authority.polls == []


def test_renewal_at_half_life_for_ever(client: Life) -> None:
    """Ten days of 24-hour certificates, never older than 0.6 of a life and a check, each persisted."""
    life = client
    for _ in range(10 * 24):
        life.live(3600, 600.0)
        assert life.wall.now - life.member.certificate.body.issued_at < 0.61 * DAY
    assert 16 <= len(life.member.adopted) <= 25


def test_field_l3_an_outage_heals_by_itself(client: Life) -> None:
    """Fifteen hours without authority: age grows, one line, renewal within minutes of the return."""
    life = client
    life.live(3600, 60.0)
    life.http.up = False
    with capturedLogs() as lost:
        life.live(15 * 3600, 60.0)
    assert not life.heartbeat.reachable
    assert life.heartbeat.age() == pytest.approx(15 * 3600, abs=80)
    texts = [event["log_format"] for event in lost]
    assert texts.count("no news from the authority: {cause}") == 1
    assert texts.count("the certificate was not renewed and is tried again: {cause}") == 1
    before = len(life.member.adopted)
    life.http.up = True
    life.issuer.publish_status()
    life.live(310)
    assert life.heartbeat.reachable
    assert len(life.member.adopted) == before + 1


def test_the_url_that_answers_is_kept(life: Life) -> None:
    """A dead first URL costs one attempt, then the good one is asked first."""
    life.http.dead_urls.add("http://one.example")
    life.live(75)
    life.http.asked.clear()
    life.live(75)
    beats = {url for url in life.http.asked if url.endswith("/heartbeat")}
    assert beats == {"http://two.example/sub/heartbeat"}


def test_a_refused_heartbeat_still_brings_the_news(life: Life) -> None:
    """A node that the authority no longer serves learns from the public documents why."""
    life.authority.refuse["/heartbeat"] = (403, "cert-revoked")
    crl = life.issuer.revoke(life.member.enrolled)
    with capturedLogs() as lines:
        life.live(150)
    assert life.trust.crl == crl
    told = [event for event in lines if event.get("cause") == "because cert-revoked"]
    assert len(told) == 1


class Receipts:
    """What became of one command, until the authority has heard of it."""

    def __init__(self, node: Enrolled, network_id: str) -> None:
        body = CommandReceipt(network_id=network_id, command="ab" * 16, outcome="done", detail="", at=1)
        self.left = [sign_document(body, [node.node_key]).as_dict()]

    def receipts(self) -> list[dict[str, Any]]:
        return list(self.left)

    def delivered(self, receipts: list[dict[str, Any]]) -> None:
        self.left = [each for each in self.left if each not in receipts]

    def fetched(self) -> int:
        return 0


def test_whom_the_authority_does_not_know_says_little_at_first(wall: Any, issuer: MemoryAuthority) -> None:
    """After a restore: a long body of an unknown key is refused unread, so receipts wait for a heartbeat."""
    node = issuer.enrol("b", "client")
    control = Receipts(node, issuer.network_id)
    waiting = control.receipts()
    life = Life(wall, issuer, node, "http://one.example", control=control)
    life.authority.refuse["/heartbeat"] = (401, "unknown-key")
    life.start()
    life.live(150)
    life.authority.refuse.clear()
    life.authority.bodies.clear()
    life.live(150)
    assert [body["receipts"] for body in life.authority.bodies][:2] == [[], waiting]
    assert control.left == []
    life.stop()


@pytest.mark.parametrize(
    ("reason", "says"), [("cert-expired", "ended too long ago"), ("cert-revoked", "this node is revoked")]
)
def test_a_refused_renewal_says_once_what_to_do(life: Life, reason: str, says: str) -> None:
    """Too late or revoked: one line with the way back, however often it is tried, which is for ever."""
    life.authority.refuse["/renew"] = (403, reason)
    life.heartbeat._renew_point = 0.0
    with capturedLogs() as lines:
        life.heartbeat.soon()
        life.live(3000)
    told = [formatEvent(event) for event in lines if event.get("cause") == f"because {reason}"]
    assert len(told) == 1
    assert says in told[0]
    assert "`gmesh join -` on this host" in told[0]
    assert life.authority.requests.count(("POST", "/renew")) > 5
    life.authority.refuse.clear()
    held = len(life.member.adopted)
    life.live(400)
    assert len(life.member.adopted) > held


def test_a_node_that_waits_for_an_operator_says_that_nothing_is_to_be_done_here(life: Life) -> None:
    """The authority was restored, and cannot vouch for its certificate: one line, and it asks on."""
    life.authority.refuse["/renew"] = (403, "enrolment-pending")
    life.heartbeat._renew_point = 0.0
    with capturedLogs() as lines:
        life.heartbeat.soon()
        life.live(3000)
    told = [formatEvent(event) for event in lines if event.get("cause") == "because enrolment-pending"]
    assert len(told) == 1 and "nothing to do on this host" in told[0]


def test_a_renewal_is_tried_for_ever_while_all_else_works(client: Life) -> None:
    """Heartbeats succeed, so it is by its own clock that it is tried again, and soon enough at the end."""
    client.authority.refuse["/renew"] = (503, "busy")
    client.heartbeat._renew_point = 0.0
    client.heartbeat.soon()
    for _ in range(12):
        client.issuer.publish_status()
        client.live(1800)
    assert client.heartbeat.reachable
    assert client.heartbeat.troubles.keys() == {"renewal"}
    assert client.authority.requests.count(("POST", "/renew")) > 6 * 3600 / RENEWAL_RETRY_CEILING
    client.authority.refuse.clear()
    client.live(RENEWAL_RETRY_CEILING + 5)
    assert len(client.member.adopted) == 1


def test_garbage_changes_nothing(life: Life, issuer: MemoryAuthority) -> None:
    """An answer that is no document, or not signed by our authority, is refused and life goes on."""
    stranger = MemoryAuthority(life.wall, Random(99))
    held = life.trust.status
    life.authority.authority = stranger
    life.live(200)
    assert life.trust.status is held
    life.authority.refuse["/heartbeat"] = (200, "ok")
    life.live(200)
    assert life.trust.status is held
    life.authority.authority = issuer
    life.authority.refuse.clear()
    status = issuer.publish_status()
    life.live(200)
    assert life.trust.status == status


def test_nothing_secret_is_sent(life: Life) -> None:
    """Bodies hold public documents and numbers only."""
    text = json.dumps(life.authority.bodies)
    assert life.member.enrolled.node_key.seed.hex() not in text
    assert set(life.authority.bodies[0]) == {"certificate", "sent_ms", "numbers", "receipts"}


def test_a4_a_renewal_waits_as_long_as_the_authority_says(client: Life) -> None:
    """After 429 nothing is asked before Retry-After is over; then it is, and the certificate comes."""
    client.authority.refuse["/renew"] = (429, "rate-limited")
    client.authority.told = {"retry_after": 500}
    client.heartbeat._renew_point = 0.0
    client.heartbeat.soon()
    client.live(5)
    assert client.authority.requests.count(("POST", "/renew")) == 1
    client.authority.refuse.clear()
    client.live(495)
    assert client.authority.requests.count(("POST", "/renew")) == 1
    client.live(20)
    assert len(client.member.adopted) == 1


def test_a4_nobody_puts_a_renewal_off_for_ever(client: Life) -> None:
    """The wait is told without a signature: of a year, minutes are believed."""
    client.authority.refuse["/renew"] = (429, "rate-limited")
    client.authority.told = {"retry_after": 365 * DAY}
    client.heartbeat._renew_point = 0.0
    client.heartbeat.soon()
    client.live(3600)
    assert 4 < client.authority.requests.count(("POST", "/renew")) < 12


def answering(certificate: Document[Certificate]) -> Callable[[Certificate, str], bytes]:
    """An authority, or an answer of it played again, that gives this certificate to whoever renews."""
    answer = json.dumps({"certificate": certificate.as_dict()}).encode()
    return lambda old, noise_key: answer


def test_a4_the_certificate_held_is_answered_again(client: Life) -> None:
    """A node whose clock is ahead is given what it has: that is no renewal, and is not asked in a loop."""
    client.issuer._renewed = answering(client.member.certificate)
    client.heartbeat._renew_point = 0.0
    client.heartbeat.soon()
    client.live(3600)
    assert client.member.adopted == []
    assert client.heartbeat.troubles == {}
    assert 4 < client.authority.requests.count(("POST", "/renew")) < 12


def test_a4_a_certificate_held_late_in_its_life_is_told(client: Life) -> None:
    """Over HTTP anybody may replay what was answered before: when time grows short that is no good news."""
    client.issuer._renewed = answering(client.member.certificate)
    client.live(0.74 * DAY, 60)
    assert "renewal" not in client.heartbeat.troubles
    client.live(0.03 * DAY, 60)
    assert client.heartbeat.troubles["renewal"] == "not-newer"
    assert client.member.adopted == []
    del client.issuer._renewed
    client.live(600, 60)
    assert len(client.member.adopted) == 1
    assert "renewal" not in client.heartbeat.troubles


def test_a4_an_older_certificate_does_not_come_back(client: Life) -> None:
    """An answer of before is no renewal, though it is ours and has not ended."""
    older = client.member.certificate
    client.live(15 * 3600, 60)
    newer = client.member.certificate
    assert newer.body.serial > older.body.serial
    client.issuer._renewed = answering(older)
    client.heartbeat._renew_point = 0.0
    client.heartbeat.soon()
    client.live(60)
    assert client.member.certificate is newer
    assert client.authority.requests.count(("POST", "/renew")) == 2
