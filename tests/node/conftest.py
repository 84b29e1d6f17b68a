# SPDX-License-Identifier: MIT
"""A state directory made by an in-process issuer, and an authority that answers in memory."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.resource import Resource

from gmesh.errors import RequestRefused
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.documents import Certificate, document_from_dict
from gmesh.trust.keys import NoiseKey
from gmesh.trust.requests import NODE_TAG, read_request

START = 1_800_000_000.0


class Wall:
    """A wall clock that stands still until it is set."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Prefixed(Resource):
    def __init__(self, inner: Resource) -> None:
        super().__init__()
        self.inner = inner

    def getChild(self, path: bytes, request: Request) -> Resource:
        if path != b"sub":
            request.postpath.insert(0, request.prepath.pop())
        return self.inner


class Authority:
    """
    The paths a node uses, over an L{Issuer}; requests are verified as the real one does.

    @ivar refuse: reason by path, answered instead.
    @ivar requests: (method, path) as they came.
    """

    app = Klein()

    def __init__(self, issuer: Issuer, node: Enrolled) -> None:
        self.issuer = issuer
        self.node = node
        self.refuse: dict[str, tuple[int, str]] = {}
        self.told: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.polls: list[Deferred[bytes]] = []

    def root(self) -> Resource:
        """The resource tree, also below a path prefix as behind a proxy."""
        return _Prefixed(self.app.resource())

    def _problem(self, request: Request, code: int, reason: str) -> bytes:
        request.setResponseCode(code)
        request.setHeader("content-type", "application/problem+json")
        problem = {"type": f"urn:gmesh:problem:{reason}", "detail": f"because {reason}", **self.told}
        return json.dumps(problem).encode()

    def _signed(self, request: Request) -> dict[str, Any]:
        body = request.content.read()
        headers = request.requestHeaders

        def values(name: str) -> list[str]:
            return [str(value) for value in headers.getRawHeaders(name, [])]

        target = request.uri.decode("ascii")
        signed = read_request(request.method.decode("ascii"), target, values, body)
        signed.verify(self.node.node_key.public)
        if signed.tag != NODE_TAG or signed.audience != self.issuer.authority.key_id:
            raise RequestRefused("bad-audience", "for another authority")
        value: dict[str, Any] = json.loads(body)
        self.bodies.append(value)
        return value

    @app.route("/heartbeat", methods=["POST"])
    def heartbeat(self, request: Request) -> bytes:
        return self._answer(request, lambda: {"status": self.issuer.status.as_dict(), "time": 0})

    @app.route("/renew", methods=["POST"])
    def renew(self, request: Request) -> bytes:
        return self._answer(request, lambda: {"certificate": self._renewed().as_dict()})

    def _renewed(self) -> Any:
        self.node = self.issuer.renew(self.node)
        return self.node.certificate

    def _answer(self, request: Request, make: Any) -> bytes:
        path = request.path.decode("ascii").removeprefix("/sub")
        self.requests.append(("POST", path))
        if path in self.refuse:
            return self._problem(request, *self.refuse[path])
        try:
            self._signed(request)
        except RequestRefused as error:
            return self._problem(request, 401, error.reason)
        return json.dumps(make()).encode()

    @app.route("/<kind>", methods=["GET"])
    def document(self, request: Request, kind: str) -> Any:
        self.requests.append(("GET", request.uri.decode("ascii")))
        if f"/{kind}" in self.refuse:
            return self._problem(request, *self.refuse[f"/{kind}"])
        if b"after" in request.args:
            poll: Deferred[bytes] = Deferred()
            self.polls.append(poll)
            return poll
        return getattr(self.issuer, kind).encode()

    @app.route("/genesis/<int:version>", methods=["GET"])
    def genesis(self, request: Request, version: int) -> bytes:
        self.requests.append(("GET", request.uri.decode("ascii")))
        if version > len(self.issuer.genesis_chain):
            return self._problem(request, 404, "not-found")
        return self.issuer.genesis_chain[version - 1].encode()

    def certificate_of(self, body: dict[str, Any]) -> Certificate:
        return document_from_dict(body["certificate"], Certificate).body


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def issuer(wall: Wall) -> Issuer:
    return Issuer(wall, Random(7), [("a", "tcp:a.example:7443")], ["http://authority.example"])


@pytest.fixture
def node(issuer: Issuer) -> Enrolled:
    return issuer.enrol("a", "anchor")


@pytest.fixture
def authority(issuer: Issuer, node: Enrolled) -> Authority:
    return Authority(issuer, node)


@pytest.fixture
def directory(tmp_path: Path, issuer: Issuer, node: Enrolled) -> Path:
    """What C{gmesh join} leaves behind."""
    path = tmp_path / "state"
    issuer.write_state(node, path, cached=False)
    (path / "authority.json").write_text(json.dumps({"urls": ["http://first.example"]}))
    return path


@pytest.fixture
def another_noise_key() -> NoiseKey:
    return NoiseKey.from_private(bytes(range(32)))
