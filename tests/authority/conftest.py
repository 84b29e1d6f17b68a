# SPDX-License-Identifier: MIT
"""An authority in one process: real files, real SQLite, the database called in place, a clock that obeys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gmesh.authority.auth import Authenticator
from gmesh.authority.rate_limit import RateLimiter, RateLimits
from gmesh.authority.server import Server
from gmesh.authority.service import Authority, open_authority
from gmesh.authority.store import engine
from gmesh.trust.documents import (
    AuthorityKey,
    Certificate,
    Document,
    Genesis,
    PolicyFloor,
    RootKeys,
    parse_document,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.requests import ADMIN_TAG, JOIN_TAG, NODE_TAG, sign_request
from gmesh.trust.verify import network_id

START = 1_800_000_000
DAY = 86_400
POLICY_TEXT = {
    "certificate": {"default": DAY, "max": 30 * DAY, "renew_grace": 30 * DAY},
    "max_hops": 16,
    "max_nodes": 100,
    "rules": [{"effect": "allow", "from": ["*"], "to": ["*"], "services": ["*"]}],
    "control": {"shutdown": "administer", "ping_report": "read"},
    "stale_grace": 7 * DAY,
}


class Keys:
    """Every private key of a test network, made from a counter."""

    def __init__(self) -> None:
        self._made = 0
        self.root = self.signing()
        self.authority = self.signing()
        self.admin = self.signing()
        self.operator = self.signing()
        self.reader = self.signing()

    def _seed(self) -> bytes:
        self._made += 1
        return bytes([8, self._made % 251, self._made // 251]) + bytes(range(29))

    def signing(self) -> SigningKey:
        return SigningKey.from_seed(self._seed())

    def noise(self) -> NoiseKey:
        return NoiseKey.from_private(self._seed())


def make_genesis(keys: Keys, now: int = START) -> Document[Genesis]:
    """A root-signed genesis, version 1."""
    years = 10 * 365 * DAY
    return sign_document(
        Genesis(
            version=1,
            issued_at=now,
            expires_at=now + years,
            network="test",
            root=RootKeys(keys=(b64url_encode(keys.root.public),), threshold=1),
            authority=(
                AuthorityKey(key=b64url_encode(keys.authority.public), valid_from=now, valid_to=now + years),
            ),
            suites=("Noise_XX_25519_ChaChaPoly_SHA256",),
            anchors=(),
            authority_urls=("http://127.0.0.1:8440",),
            policy=PolicyFloor(version=0),
        ),
        [keys.root],
    )


def write_state(
    path: Path, keys: Keys, now: int = START, policy: dict[str, Any] = POLICY_TEXT
) -> Document[Genesis]:
    """The authority's directory as C{gmesh init} makes it."""
    path.mkdir(mode=0o700, parents=True)
    genesis = make_genesis(keys, now)
    (path / "genesis.json").write_bytes(genesis.encode())
    key_file = path / "authority.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(keys.authority.to_pem())
    people = [(keys.admin, "administer"), (keys.operator, "operate"), (keys.reader, "read")]
    operators = [{"key": b64url_encode(key.public), "role": role, "name": role} for key, role in people]
    (path / "operators.json").write_text(json.dumps(operators))
    (path / "policy-initial.json").write_text(json.dumps(policy))
    return genesis


class InPlaceReactor:
    """What adbapi asks of a reactor, done at once."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)

    def callWhenRunning(self, function: Callable[..., Any]) -> None:
        return None


class InPlaceThreads:
    """A thread pool that runs its work in the caller's thread."""

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], function: Any, *arguments: Any
    ) -> None:
        try:
            result = function(*arguments)
        except BaseException:
            done(False, Failure())
        else:
            done(True, result)

    def stop(self) -> None:
        pass


def in_place_pools(path: Path) -> tuple[Any, Any]:
    """The daemon's own pools, called in place."""
    pools = engine.writer_pool(path, InPlaceReactor()), engine.reader_pool(path, InPlaceReactor())
    for pool in pools:
        pool.threadpool = InPlaceThreads()
    return pools


class Answered:
    """One answer of the authority."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """The last part of a problem's type; fails on anything but a well-formed problem document."""
        assert self.headers.getRawHeaders("content-type") == ["application/problem+json"], self.body
        problem = self.json
        assert problem["status"] == self.status and problem["detail"] and problem["request_id"]
        kind, slug = problem["type"].rsplit(":", 1)
        assert kind == "urn:gmesh:problem"
        return str(slug)


class Member:
    """A host that joined, or wants to."""

    def __init__(self, invite: Invite, node: SigningKey, noise: NoiseKey) -> None:
        self.invite = invite
        self.node = node
        self.noise = noise
        self.certificate: Document[Certificate] | None = None


class Network:
    """An authority and everything a test needs to talk to it."""

    def __init__(self, path: Path, rates: RateLimits) -> None:
        self.path = path
        self.keys = Keys()
        self.genesis = write_state(path, self.keys)
        self.network_id = network_id(self.genesis)
        self.clock = Clock()
        self.offset = float(START)
        self.rates = rates
        self._counter = 0
        self.pools = in_place_pools
        self.authority: Authority
        self.start()

    def wall(self) -> float:
        return self.clock.seconds() + self.offset

    @property
    def now(self) -> int:
        return int(self.wall())

    def entropy(self, size: int) -> bytes:
        self._counter += 1
        return self._counter.to_bytes(size, "big")

    def start(self) -> None:
        self.authority = open_authority(self.path, self.clock, self.wall, self.entropy, in_place_pools)
        self.limiter = RateLimiter(self.rates, self.clock.seconds)
        authority = self.authority
        authenticator = Authenticator(authority.store, authority.issuer, authority.clock, self.limiter)
        self.server = Server(authority, authenticator, self.limiter, self.clock)
        self.treq = StubTreq(self.server.app.resource())
        authority.start()

    def stop(self) -> None:
        stopped: list[Any] = []
        Deferred.fromCoroutine(self.authority.stop()).addBoth(stopped.append)
        assert stopped == [None]

    def restart(self) -> None:
        self.stop()
        self.clock.advance(1)
        self.start()

    # Requests.

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answered:
        """One request, answered at once."""
        got: list[Any] = []
        self.begin(method, target, headers, body).addBoth(got.append)
        self.treq.flush()
        assert got, "no answer yet"
        if isinstance(got[0], Failure):
            got[0].raiseException()
        return got[0]  # type: ignore[no-any-return]  # a list of anything

    def begin(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Deferred[Answered]:
        """A request whose answer may take time."""

        async def run() -> Answered:
            response = await self.treq.request(
                method, f"http://authority.example{target}", headers=headers, data=body
            )
            return Answered(response.code, response.headers, await response.content())

        return Deferred.fromCoroutine(run())

    def signed(
        self,
        key: SigningKey,
        method: str,
        target: str,
        body: bytes = b"",
        tag: str = ADMIN_TAG,
        created: int | None = None,
        nonce: bytes | None = None,
        audience: str | None = None,
    ) -> dict[str, str]:
        """The headers of a signed request."""
        return sign_request(
            key,
            method,
            target,
            body,
            audience=audience or self.keys.authority.key_id,
            created=self.now if created is None else created,
            nonce=nonce or self.entropy(16),
            tag=tag,
        )

    def admin(self, method: str, target: str, value: Any = None, key: SigningKey | None = None) -> Answered:
        """A request of an operator, by default the administrator."""
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask(method, target, self.signed(key or self.keys.admin, method, target, body), body)

    def invite(self, name: str, role: str = "client", **more: Any) -> Member:
        """A host with a fresh invite in hand."""
        seed = self.keys.signing()
        key = b64url_encode(seed.public)
        answer = self.admin(
            "POST", "/admin/invites", {"invite_key": key, "name": name, "roles": [role], **more}
        )
        assert answer.status == 201, answer.body
        return self.member(seed)

    def member(self, seed: SigningKey) -> Member:
        """A host with an invite that may be known or not."""
        invite = Invite(
            urls=("http://authority.example",),
            network_id=self.network_id,
            genesis_version=1,
            genesis_digest=self.genesis.digest,
            authority=self.keys.authority.key_id,
            seed=seed.seed,
        )
        return Member(invite, self.keys.signing(), self.keys.noise())

    def join(self, member: Member) -> Answered:
        """Send the join request."""
        headers, body = self.join_request(member)
        answer = self.ask("POST", "/join", headers, body)
        if answer.status in (200, 201):
            member.certificate = parse_document(json.dumps(answer.json["certificate"]).encode(), Certificate)
        return answer

    def join_request(self, member: Member) -> tuple[dict[str, str], bytes]:
        """The headers and body of a join request."""
        request = make_join_request(
            member.invite, member.node, member.noise.public, self.network_id, self.now, self.entropy(16)
        )
        body = request.encode()
        return self.signed(member.node, "POST", "/join", body, JOIN_TAG), body

    def joined(self, name: str, role: str = "client", **more: Any) -> Member:
        """A host that is a member."""
        member = self.invite(name, role, **more)
        answer = self.join(member)
        assert answer.status == 201, answer.body
        return member

    def node(self, member: Member, target: str, value: Any) -> Answered:
        """A POST by a member."""
        body = json.dumps(value).encode()
        return self.ask("POST", target, self.signed(member.node, "POST", target, body, NODE_TAG), body)

    def renew(self, member: Member, noise: NoiseKey | None = None) -> Answered:
        """Send the renewal request."""
        assert member.certificate is not None
        value = {
            "certificate": member.certificate.as_dict(),
            "noise_key": b64url_encode((noise or member.noise).public),
        }
        return self.node(member, "/renew", value)

    def heartbeat(self, member: Member, sent_ms: int | None = None) -> Answered:
        """Send a heartbeat."""
        assert member.certificate is not None
        self.clock.advance(0.01)
        value = {
            "certificate": member.certificate.as_dict(),
            "sent_ms": int(self.wall() * 1000) if sent_ms is None else sent_ms,
            "numbers": {"genesis": 1, "policy": 1, "crl": 1, "status": 1},
            "receipts": [],
        }
        return self.node(member, "/heartbeat", value)


@pytest.fixture
def rates() -> RateLimits:
    """Rates of the default; a test module may say others."""
    return RateLimits()


@pytest.fixture
def network(tmp_path: Path, rates: RateLimits) -> Iterator[Network]:
    """A running authority with three operators and no node."""
    network = Network(tmp_path / "authority", rates)
    yield network
    network.stop()
    assert not network.clock.getDelayedCalls()
