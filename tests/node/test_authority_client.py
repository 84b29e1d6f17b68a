# SPDX-License-Identifier: MIT
"""The node's client against the real authority, in one process on one clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authority.network import Member as Host
from authority.network import Network
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gmesh.authority.rate_limit import RateLimits
from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.node.authority_client import AuthorityClient
from gmesh.node.authority_http import AuthorityHTTP, AuthorityUnreachable
from gmesh.node.authority_relay import FallbackPath
from gmesh.node.limits import ANSWER_LIMIT, MAX_FAULTS, RECEIPTS_A_HEARTBEAT
from gmesh.trust.documents import CommandReceipt, sign_document
from gmesh.trust.limits import MAX_TEXT
from gmesh.trust.state import TrustState


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A running authority."""
    made = Network(tmp_path / "authority", RateLimits())
    yield made
    made.stop()
    assert not made.clock.getDelayedCalls()


class World:
    """A joined host with its client; its clock may be wrong."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.host: Host = network.joined("pump-07")
        assert self.host.certificate is not None
        self.certificate = self.host.certificate
        self.skew = 0.0
        self.trust = TrustState(network.network_id, [network.genesis])
        self.client = self.over(network.treq)
        network.clock.advance(1)

    def over(self, http: Any) -> AuthorityClient:
        network = self.network
        return AuthorityClient(
            AuthorityHTTP(http, lambda: ("http://authority.example",), network.clock),
            self.host.node,
            self.trust,
            lambda: network.wall() + self.skew,
            network.entropy,
        )

    def result(self, asked: Any) -> Any:
        """The outcome of a coroutine that needs no time."""
        got: list[Any] = []
        Deferred.fromCoroutine(asked).addBoth(got.append)
        self.network.treq.flush()
        assert got, "no outcome yet"
        if isinstance(got[0], Failure):
            got[0].raiseException()
        return got[0]

    def beat(self) -> Any:
        numbers = {"genesis": 1, "policy": 0, "crl": 0, "status": 0}
        return self.result(self.client.heartbeat(self.certificate, numbers))


@pytest.fixture
def world(network: Network) -> World:
    return World(network)


def test_heartbeat_and_documents(world: World) -> None:
    """What the authority answers is believed: status first, then what it names."""
    status = world.beat()
    assert world.result(world.client.offer(status))
    assert world.result(world.client.offer(world.result(world.client.crl())))
    assert world.result(world.client.offer(world.result(world.client.policy())))
    assert world.trust.policy is not None and world.trust.policy.body.max_hops == 16
    world.network.clock.advance(1)
    world.beat()


def test_the_longest_heartbeat_fits(world: World) -> None:
    """As many receipts as one carries, each as long as it may be, and all else that a node reports."""
    receipt = CommandReceipt(
        network_id=world.network.network_id,
        command="ab" * 16,
        outcome="refused",
        detail="\N{GRINNING FACE}" * MAX_TEXT,
        at=world.network.now,
    )
    receipts = [sign_document(receipt, [world.host.node]).as_dict()] * RECEIPTS_A_HEARTBEAT
    more = {
        "status": world.beat().as_dict(),
        "faults": [f"twin:{'a' * 63}"] * MAX_FAULTS,
        "boot_id": "11" * 8,
    }
    world.network.clock.advance(1)
    numbers = {"genesis": 1, "policy": 1, "crl": 1, "status": 1}
    world.result(world.client.heartbeat(world.certificate, numbers, receipts, more))
    assert world.network.authority.commands.dropped["unknown-command"] == RECEIPTS_A_HEARTBEAT


def test_renewal(world: World) -> None:
    """The next certificate has a higher serial and the same node, keys and name."""
    world.network.clock.advance(12 * 3600)
    renewed = world.result(world.client.renew(world.certificate, world.host.noise.public))
    before, after = world.certificate.body, renewed.body
    assert after.serial > before.serial
    assert (after.name, after.node_key, after.noise_key) == (before.name, before.node_key, before.noise_key)


def test_a_wrong_clock_is_corrected_by_the_signed_time(world: World) -> None:
    """Ten minutes off either way: refused as stale, then signed with the authority's time."""
    for skew in (-600.0, 600.0):
        world.skew = skew
        renewed = world.result(world.client.renew(world.certificate, world.host.noise.public))
        assert renewed.body.name == "pump-07"
        world.network.clock.advance(5)


def test_c18_a_wrong_clock_silences_nobody(world: World) -> None:
    """With a clock years ahead or behind a node is heard of, and at once again when it is right."""
    year = 365 * 86_400.0
    for skew in (-year, year, -year, 0.0):
        world.skew = skew
        assert world.beat().body.number
        world.network.clock.advance(2)


def test_a_time_that_no_status_bears_out_is_not_used(world: World) -> None:
    """A middleman that invents a time gets no signature for it."""
    lies = 0

    class Liar:
        def request(self, method: str, url: str, **options: Any) -> Any:
            nonlocal lies
            if method == "GET":
                return world.network.treq.request(method, url, headers=options["headers"])
            lies += 1
            return StubTreq(Problem(401, b'{"type":"urn:gmesh:problem:stale","time":4102444800}')).get(url)

    client = world.over(Liar())
    with pytest.raises(RequestRefused) as refused:
        world.result(client.renew(world.certificate, world.host.noise.public))
    assert refused.value.reason == "stale"
    assert lies == 1


class Problem(Resource):
    """Answers everything with one status and body."""

    isLeaf = True

    def __init__(self, code: int, body: bytes, kind: str = "") -> None:
        super().__init__()
        self.code = code
        self.body = body
        self.kind = kind or ("application/problem+json" if code >= 400 else "application/json")

    def render(self, request: Any) -> bytes:
        request.setResponseCode(self.code)
        request.setHeader("Content-Type", self.kind)
        return self.body


def test_revoked_is_refused_by_name_and_told_by_the_crl(world: World) -> None:
    """After `gmesh admin revoke` the node is refused, and the public documents say why."""
    answer = world.network.admin("POST", "/admin/revocations", {"node": "pump-07", "reason": "unspecified"})
    assert answer.status == 201
    world.network.clock.advance(2)
    with pytest.raises(RequestRefused) as refused:
        world.beat()
    assert refused.value.reason == "cert-revoked"
    world.result(world.client.offer(world.result(world.client.crl())))
    assert world.trust.revoked(world.certificate.body.serial, world.host.node.key_id)


def test_the_long_poll_answers_at_a_change(world: World) -> None:
    """Nothing while nothing changes; the new status in the turn after a revocation."""
    world.result(world.client.offer(world.beat()))
    held = world.trust.status
    assert held is not None
    got: list[Any] = []
    Deferred.fromCoroutine(world.client.status(held.digest)).addBoth(got.append)
    world.network.treq.flush()
    world.network.clock.advance(3)
    world.network.treq.flush()
    assert got == []
    other = world.network.joined("valve-1")
    assert other.certificate is not None
    world.network.admin("POST", "/admin/revocations", {"node": "valve-1", "reason": "unspecified"})
    world.network.clock.advance(1)
    world.network.treq.flush()
    assert got[0].body.crl.number > held.body.crl.number


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (200, b"", AuthorityUnreachable),
        (200, b"{}", AuthorityUnreachable),
        (200, b'{"status":[', AuthorityUnreachable),
        (200, b'{"status":' + b"[" * 100_000 + b"}", DocumentRefused),
        (200, b'{"status":{"signed":{},"signatures":[]}}', DocumentRefused),
        (404, b"<html>", AuthorityUnreachable),
        (302, b"", AuthorityUnreachable),
        (500, b"", AuthorityUnreachable),
        (403, b'{"type":"urn:gmesh:problem:cert-revoked"}', RequestRefused),
    ],
)
def test_useless_answers(world: World, code: int, body: bytes, error: type[Exception]) -> None:
    """Whatever a server answers is one clear error and changes nothing."""
    client = world.over(StubTreq(Problem(code, body)))
    with pytest.raises(error):
        world.result(client.heartbeat(world.certificate, {}))
    assert world.trust.status is None


def test_an_endless_answer_is_cut(world: World) -> None:
    """No more than the cap is kept of an answer."""
    client = world.over(StubTreq(Problem(200, b" " * (ANSWER_LIMIT + 1))))
    with pytest.raises(AuthorityUnreachable, match="larger than"):
        world.result(client.crl())


def test_silence_has_a_deadline(world: World, flush_logged_errors: Callable[..., Any]) -> None:
    """A URL that never answers costs half a minute."""

    class Silent:
        def request(self, method: str, url: str, **options: Any) -> Deferred[Any]:
            return Deferred()

    got: list[Any] = []
    Deferred.fromCoroutine(world.over(Silent()).crl()).addBoth(got.append)
    world.network.clock.advance(29)
    assert got == []
    world.network.clock.advance(2)
    assert got[0].check(AuthorityUnreachable)
    assert "no answer in time" in got[0].getErrorMessage()


PORTALS = [
    Problem(200, b"<html>Please log in</html>", "text/html"),
    Problem(200, b'{"login": "here"}'),
    Problem(204, b""),
    Problem(302, b"", "text/html"),
    Problem(404, b"<html>", "text/html"),
    Problem(502, b"<html>Bad Gateway</html>", "text/html"),
]


@pytest.mark.parametrize("portal", PORTALS, ids=[f"{each.code} {each.kind}" for each in PORTALS])
def test_d6_the_next_url_is_asked_where_somebody_else_answers(world: World, portal: Problem) -> None:
    """A captive portal or a parked host at the first URL costs one request, then the other is asked first."""
    network, asked = world.network, list[str]()

    class Web:
        def request(self, method: str, url: str, **options: Any) -> Any:
            asked.append(url)
            if url.startswith("http://portal.example"):
                return StubTreq(portal).get(url)
            options.pop("allow_redirects"), options.pop("unbuffered")
            return network.treq.request(method, url, **options)

    urls = ("http://portal.example", "http://authority.example")
    client = AuthorityClient(
        AuthorityHTTP(Web(), lambda: urls, network.clock),
        world.host.node,
        world.trust,
        network.wall,
        network.entropy,
    )
    numbers = {"genesis": 1, "policy": 0, "crl": 0, "status": 0}
    assert world.result(client.offer(world.result(client.heartbeat(world.certificate, numbers))))
    assert world.result(client.offer(world.result(client.policy())))
    assert asked == [f"{url}/heartbeat" for url in urls] + ["http://authority.example/policy"]


def test_d6_where_nobody_is_the_authority_an_anchor_is_asked(world: World) -> None:
    """A node behind a captive portal goes the way of one without HTTP."""

    class Anchor:
        async def ask(
            self, method: str, path: str, headers: Any, data: bytes = b"", timeout: float = 0
        ) -> bytes:
            return world.network.ask("GET", path).body

        def close(self) -> None:
            pass

    http = AuthorityHTTP(StubTreq(PORTALS[0]), lambda: ("http://portal.example",), world.network.clock)
    client = AuthorityClient(
        FallbackPath(http, Anchor()), world.host.node, world.trust, world.network.wall, world.network.entropy
    )
    assert world.result(client.status()).body.network_id == world.network.network_id
