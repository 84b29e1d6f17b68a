# SPDX-License-Identifier: MIT
"""Attacks on the authority through its front door: wrong papers, paths, addresses and headers."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority.in_place import HeldThreads
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection

import gmesh.authority
from gmesh.authority.http import AuthoritySite
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.routes import ROUTES
from gmesh.trust.documents import Command, CommandReceipt, CommandTarget, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import JOIN_TAG, NODE_TAG


@pytest.fixture
def rates() -> RateLimits:
    """No bucket hides what is behind it."""
    many = RequestRate(10**8, 1e8)
    return RateLimits(many, many, many)


# A signed thing offered as another.


class Papers:
    """Every kind of signed document, each good where it belongs, and the slots that take one."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.member = network.joined("pump-1")
        command = Command(
            network_id=network.network_id,
            id="1" * 32,
            number=1,
            command="ping-report",
            target=CommandTarget(all=True),
            arguments={},
            issued_at=network.now,
            expires_at=network.now + 600,
        )
        receipt = CommandReceipt(
            network_id=network.network_id, command="1" * 32, outcome="done", detail="", at=network.now
        )
        self.good = {
            "certificate": self.member.certificate.as_dict(),
            "command": sign_document(command, [network.keys.admin]).as_dict(),
            "receipt": sign_document(receipt, [self.member.node]).as_dict(),
        }
        for name in ("genesis", "policy", "crl", "status"):
            self.good[name] = network.ask("GET", f"/{name}").json
        _, join = network.join_request(network.invite("pump-2"))
        self.good["join"] = json.loads(join)

    def offer(self, slot: str, paper: Any) -> bool:
        """Whether it was taken there."""
        network, member = self.network, self.member
        noise = b64url_encode(member.noise.public)
        if slot == "certificate":
            return bool(
                network.node(member, "/renew", {"certificate": paper, "noise_key": noise}).status < 300
            )
        if slot == "genesis":
            return bool(network.admin("POST", "/admin/genesis", {"genesis": paper}).status < 300)
        if slot == "command":
            return bool(network.admin("POST", "/admin/commands", {"command": paper}).status < 300)
        if slot == "join":
            body = json.dumps(paper).encode()
            headers = network.signed(network.keys.signing(), "POST", "/join", body, JOIN_TAG)
            return bool(network.ask("POST", "/join", headers, body).status < 300)
        network.clock.advance(1)
        sent = {
            "certificate": member.certificate.as_dict(),
            "sent_ms": int(network.wall() * 1000),
            "receipts": [paper],
        }
        before = network.authority.commands.dropped.total()
        assert network.node(member, "/heartbeat", sent).status in (200, 400)
        return bool(network.authority.commands.dropped.total() == before)


SLOTS = ("certificate", "command", "receipt", "genesis", "join")


def test_a_document_is_taken_as_what_it_was_signed_for_only(network: Any) -> None:
    """Each signed thing in each place that takes another: refused, as it is and with its type rewritten."""
    papers = Papers(network)
    for slot in SLOTS:
        for kind, paper in papers.good.items():
            if kind == slot:
                continue
            assert not papers.offer(slot, paper), (kind, slot)
            if "signed" in paper:
                renamed = {**paper, "signed": {**paper["signed"], "type": slot}}
                assert not papers.offer(slot, renamed), (kind, slot, "renamed")
    for slot in ("certificate", "command", "receipt"):
        assert papers.offer(slot, papers.good[slot]), slot


# Nothing named by a client is opened or called.


class Watched:
    """What this process opens and connects to, while it is watched."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
            self.seen.append((event, str(arguments[0])))


_watched = Watched()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """An audit hook of the interpreter; it cannot be taken out, only silenced."""
    _watched.seen.clear()
    _watched.on = True
    yield _watched
    _watched.on = False


TRAVERSALS = [
    "/../../etc/passwd",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/genesis/..%2f..%2fauthority.key",
    "/genesis/%2e%2e/authority.key",
    "/certificates/..%5cauthority.key",
    "/admin/invites/../../authority.key",
    "/admin/commands/..%2f..%2f..%2f..%2f..%2f..%2fauthority.key",
    "//etc/passwd",
    "/file:%2f%2f%2fetc%2fpasswd",
    "/authority.key",
    "/genesis/1%00",
]


def test_paths_name_no_file(network: Any, watched: Watched) -> None:
    """Dots, slashes and drives in any spelling, asked by anybody: 404, and no file is opened."""
    for target in TRAVERSALS:
        assert network.ask("GET", target).slug == "not-found", target
        assert network.admin("GET", target).slug == "not-found", target
    assert watched.seen == []


def test_nothing_a_client_says_is_fetched(network: Any, watched: Watched) -> None:
    """URLs and endpoints in any body or header lead to no connection and no name look-up."""
    network.joined("pump-1")
    url = "http://169.254.169.254/latest/meta-data"
    genesis = network.genesis.as_dict()
    genesis["signed"] |= {"authority_urls": [url], "anchors": [{"name": "a", "endpoint": "tcp:10.0.0.1:1"}]}
    bodies = {
        "/admin/genesis": {"genesis": genesis},
        "/admin/policies": {"text": {"callback": url}},
        "/admin/invites": {"invite_key": url, "name": "a", "roles": ["client"]},
        "/admin/operators": {"key": url, "role": "read", "name": url},
        "/admin/commands": {"command": {"signed": {"arguments": {"url": url}}, "signatures": []}},
        "/admin/revocations": {"node": "pump-1", "reason": url},
    }
    assert {path for path in bodies if network.admin("POST", path, bodies[path]).status < 300} == set()
    network.ask(
        "GET", f"/status?after={url}", {"X-Forwarded-For": "10.0.0.1", "Referer": url, "Host": "10.0.0.1"}
    )
    assert [event for event, _ in watched.seen if event != "open"] == []


def test_the_authority_has_no_client() -> None:
    """No module of it can open a connection: none imports or names what does."""
    clients = {"treq", "Agent", "clientFromString", "HostnameEndpoint", "urlopen", "HTTPConnection"}
    clients |= {"connectTCP", "connectSSL", "connectUNIX", "create_connection"}
    (root,) = gmesh.authority.__path__
    for path in Path(root).rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {alias.name.split(".")[0] for alias in node.names}
        assert not names & clients, path


# Headers that are no text.


READ = [b"Signature-Input", b"Signature", b"Content-Type", b"If-None-Match", b"X-Forwarded-For", b"X-Other"]


@pytest.mark.parametrize("name", READ)
def test_headers_that_are_not_utf8_are_refused(network: Any, name: bytes) -> None:
    """Bytes that are no text in a header: a problem document and the end, never a 500."""
    site = AuthoritySite(network.server.resource(), network.clock, lambda: "id")
    for line in (b"GET /admin/nodes", b"POST /join", b"GET /crl"):
        address = IPv4Address("TCP", "192.0.2.1", 50_000)
        channel = site.buildProtocol(address)
        transport = StringTransportWithDisconnection(peerAddress=address)
        transport.setTcpNoDelay = lambda enabled: None
        transport.protocol = channel
        channel.makeConnection(transport)
        channel.dataReceived(line + b" HTTP/1.1\r\nHost: a\r\n" + name + b": \xff\xfe\r\n\r\n")
        assert transport.value().startswith(b"HTTP/1.1 400"), transport.value()
        assert not transport.connected


def test_strangers_who_ask_whether_it_is_ready_share_a_decision(network: Any) -> None:
    """Those who ask meanwhile, and within the second after; who goes away takes nothing from the others."""
    network.clock.advance(2)
    store = network.authority.store
    writer = store._writer
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    store.decide(lambda tx: None)
    decided = store.decided
    answers: list[Any] = []
    asked = [network.begin("GET", "/readyz") for _ in range(50)]
    for one in asked:
        one.addBoth(answers.append)
    network.treq.flush()
    assert store.waiting == 1
    next(iter(network.server._deadline._open)).cancel()
    writer.threadpool.go()
    writer.threadpool = at_once
    network.treq.flush()
    assert [(answer.status, bool(answer.body)) for answer in answers].count((200, True)) == 49
    assert network.ask("GET", "/readyz").status == 200
    assert store.decided == decided + 2


@pytest.mark.parametrize("spelt", ["%00", "pump%00"])
def test_nul_is_no_text_in_a_target(network: Any, spelt: str) -> None:
    """No database of ours need hold it; SQLite would, and PostgreSQL fails."""
    for path in ("nodes", "invites", "enrolments", "approvals", "replicas", "admissions"):
        target = f"/admin/{path}?after={spelt}"
        headers = network.signed(network.keys.admin, "GET", target)
        assert network.ask("GET", target, headers).slug == "bad-request", target
    target = f"/admin/commands/{'0' * 32}?after={spelt}"
    assert network.ask("GET", target, network.signed(network.keys.admin, "GET", target)).slug == "bad-request"


def test_every_signed_route_refuses_the_wrong_tag(network: Any) -> None:
    """No route but its own takes a signature made for joining, or a node's where an operator's is due."""
    for route in ROUTES:
        if not route.access.operator:
            continue
        target = "/".join(
            "1" * (64 if "=64" in part else 32) if "string" in part else "1" if part.startswith("<") else part
            for part in route.path.split("/")
        )
        for tag in (JOIN_TAG, NODE_TAG):
            headers = network.signed(network.keys.admin, route.method, target, b"{}", tag)
            assert network.ask(route.method, target, headers, b"{}").status in (400, 401), route.name
