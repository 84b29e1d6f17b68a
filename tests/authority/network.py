# SPDX-License-Identifier: MIT
"""An authority in one process and whoever talks to it: operators, hosts with invites, members."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from authority.database import change
from authority.in_place import HeldThreads, in_place_pools
from authority.postgres_server import DatedEngine, PostgresServer
from authority.state_files import START, Keys, write_state
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gmesh.authority.approval_rules import NO_APPROVALS
from gmesh.authority.auth import Authenticator
from gmesh.authority.backups import make_backup
from gmesh.authority.rate_limit import RateLimiter, RateLimits
from gmesh.authority.request_log import RequestLog
from gmesh.authority.restore import Restored, restore
from gmesh.authority.restore_place import SharedPlace
from gmesh.authority.server import Server, open_authority
from gmesh.authority.service import Authority
from gmesh.authority.state import StateDirectory
from gmesh.trust.documents import Certificate, Document, Genesis, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG, sign_request
from gmesh.trust.verify import network_id

WHO_VOTES = (
    "POST /admin/operators",
    "DELETE /admin/operators/<id>",
    "POST /admin/operators/<id>",
    "POST /admin/genesis",
)
"""What rules of approvals must name beside anything else."""


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
    """
    An authority and everything a test needs to talk to it.

    @ivar shared: whether other daemons serve from the same database.
    @ivar postgres: the server where it keeps its database; None for a file.
    """

    shared = False
    postgres: PostgresServer | None = None

    def __init__(self, path: Path, rates: RateLimits) -> None:
        self.path = path
        self.keys = self.make_keys()
        if path.exists():
            self.genesis = parse_document((path / "genesis.json").read_bytes(), Genesis)
        else:
            self.genesis = write_state(path, self.keys)
        self.network_id = network_id(self.genesis)
        self.clock = Clock()
        self.offset = float(START)
        self.rates = rates
        self._counter = 0
        self.pools = in_place_pools
        self.engine = self._make_engine()
        self.authority: Authority
        self.start()

    def _make_engine(self) -> Any:
        if self.postgres is None:
            return None
        url, new = self.postgres.of(self.path)
        engine = DatedEngine(url, self.wall)
        if new:
            directory = StateDirectory(self.path, self.now, engine=engine)
            directory.create(directory.issuer(), self.now, NO_APPROVALS)
        return engine

    def make_keys(self) -> Keys:
        """The same each time."""
        return Keys()

    def wall(self) -> float:
        return self.clock.seconds() + self.offset

    @property
    def now(self) -> int:
        return int(self.wall())

    def entropy(self, size: int) -> bytes:
        self._counter += 1
        return self._counter.to_bytes(size, "big")

    def start(self, weaken_approvals: bool = False, clock_is_right: bool = True) -> None:
        self.authority = open_authority(
            self.path,
            self.clock,
            self.wall,
            in_place_pools,
            weaken_approvals=weaken_approvals,
            clock_is_right=clock_is_right,
            shared=self.shared,
            engine=self.engine,
        )
        self.limiter = RateLimiter(self.rates, self.clock.seconds)
        authority = self.authority
        authenticator = Authenticator(authority.store, authority.issuer, authority.clock, self.limiter)
        self.request_log = RequestLog(self.clock.seconds, self.entropy)
        self.server = Server(authority, authenticator, self.limiter, self.clock, self.request_log)
        self.treq = StubTreq(self.server.resource())
        authority.start()

    def stop(self) -> None:
        stopped: list[Any] = []
        Deferred.fromCoroutine(self.authority.stop()).addBoth(stopped.append)
        assert stopped == [None]

    def restart(self) -> None:
        self.stop()
        self.clock.advance(1)
        self.start()

    # What lies beside the daemon.

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database holds, asked in words of its own library alone."""
        return change(self.authority.store.engine, sql, *values)

    def change(self, *statements: str) -> None:
        """Change the database by another hand than ours, in one commit each."""
        for sql in statements:
            self.rows(sql)

    def failure(self, text: str) -> Exception:
        """What its library raises when the database fails."""
        return psycopg.errors.IoError(text) if self.engine is not None else sqlite3.OperationalError(text)

    def restore(self, backup: Path | None = None, *files: Any, **more: Any) -> Restored:
        """Put a backup, by default itself, in the place of the database of the stopped daemon."""
        return restore(self.path, backup or self.itself(), self.now, *files, place=self.place(), **more)

    def place(self) -> SharedPlace | None:
        """Where a restored database goes, if not into the directory."""
        return None if self.engine is None else SharedPlace(self.engine, self.path)

    def move(self, path: Path) -> None:
        """Go on in another directory, and in the database that is kept for it."""
        self.path = path
        self.engine = self._make_engine()

    def itself(self) -> Path:
        """The database of the stopped daemon as a file."""
        if self.engine is None:
            return self.path / "authority.sqlite"
        path = self.path / f"itself-{self.now}.sqlite"
        make_backup(self.engine, path, self.now)
        return path

    def keep(self, place: Path) -> None:
        """Copy all that the stopped daemon has: the directory, and the database where it is elsewhere."""
        shutil.copytree(self.path, place)
        if self.postgres is not None:
            self.postgres.copy(self.path, place)

    def put_back(self, place: Path) -> None:
        """Have what was kept instead of what is there, as the snapshot of a machine does."""
        shutil.rmtree(self.path)
        shutil.copytree(place, self.path)
        if self.postgres is not None:
            self.postgres.copy(place, self.path)
        self.move(self.path)

    def lose_database(self) -> None:
        """It is gone, and where it was there is an empty one or none."""
        if self.engine is None:
            (self.path / "authority.sqlite").unlink()
        else:
            self.change("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

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

    def together(self, target: str, *requests: tuple[dict[str, str], bytes]) -> list[Answered]:
        """POST these so that the authority decides on them in one group."""
        return self.at_once(*(("POST", target, headers, body) for headers, body in requests))

    def at_once(
        self, *requests: tuple[str, str, dict[str, str], bytes], before: Callable[[], object] = lambda: None
    ) -> list[Answered]:
        """As L{together}: each with its method and target; all behind what C{before} has decided."""
        writer: Any = self.authority.store._writer
        at_once, writer.threadpool = writer.threadpool, HeldThreads()
        self.authority.store.decide(lambda tx: None)  # while this one waits, the others gather
        before()
        ahead = self.authority.store.waiting
        asked = [self.begin(*request) for request in requests]
        self.treq.flush()
        assert self.authority.store.waiting == ahead + len(requests)
        writer.threadpool.go()
        writer.threadpool = at_once
        self.treq.flush()
        answers: list[Answered] = []
        gatherResults(asked).addCallback(answers.extend)
        return answers

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
