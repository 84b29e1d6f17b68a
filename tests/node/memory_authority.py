# SPDX-License-Identifier: MIT
"""
The authority of the tests of nodes: an L{Issuer} in memory that answers signed requests with documents.

It checks what the daemon checks of a node's request, may be out of reach for as long as a test likes, and
keeps what it was told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.node.authority_http import Answer
from gmesh.testing.issuer import DAY, YEAR, Enrolled, Issuer
from gmesh.trust.documents import (
    Admission,
    AdmissionRule,
    Certificate,
    CertificateLife,
    Command,
    CommandReceipt,
    CommandTarget,
    Crl,
    Document,
    Genesis,
    NumberedDigest,
    Operator,
    Policy,
    Rule,
    document_from_dict,
    sign_document,
)
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import parse_join_request, verify_join_request
from gmesh.trust.keys import NoiseKey, SigningKey, key_id
from gmesh.trust.signed_requests import JOIN_TAG, NODE_TAG, read_request
from gmesh.trust.verify import verify_receipt

__all__ = ["AuthorityResource", "MemoryAuthority"]

CLOCK_WINDOW = 120
RENEW_GRACE = 30 * DAY
POLL = 25.0
CONTROL = (
    "policy_update revoke_certificate revoke_node update_bootstrap shutdown reload log_level ping_report"
)


class MemoryAuthority(Issuer):
    """
    An L{Issuer} that answers nodes.

    @ivar up: whether anybody reaches it.
    @ivar operator: a key that may give every command.
    @ivar receipts: outcome and detail by (command id, node name).
    @ivar heard: name of each node -> the numbers it reported last.
    @ivar lifetime: seconds that certificates it renews are valid.
    @ivar admission_key: the one that the genesis names.
    @ivar admissions: by node key.
    @ivar invites: name and roles by invite key.
    @ivar claimed: what a status says of commands instead of the truth.
    """

    def __init__(self, wall: Callable[[], float], random: Random, **options: Any) -> None:
        self.up = True
        self.operator = SigningKey.from_seed(random.randbytes(32))
        self.reader = SigningKey.from_seed(random.randbytes(32))
        self.receipts: dict[tuple[str, str], tuple[str, str]] = {}
        self.heard: dict[str, dict[str, int]] = {}
        self.lifetime = DAY
        self.claimed: NumberedDigest | None = None
        self._commands: list[Document[Command]] = []
        self._barred: set[str] = set()
        self.admission_key: SigningKey | None = None
        self.admissions: dict[str, Document[Admission]] = {}
        self._polls: list[Deferred[None]] = []
        self.invites: dict[str, tuple[str, Sequence[str]]] = {}
        super().__init__(wall, random, **options)

    # What it publishes

    def publish_policy(self, *rules: Rule, **changes: Any) -> Document[Policy]:
        """@see: L{Issuer.publish_policy}"""
        policy = super().publish_policy(
            *rules,
            certificate=CertificateLife(default=self.lifetime, max=30 * DAY, renew_grace=RENEW_GRACE),
            operators=(
                Operator(key=b64url_encode(self.operator.public), role="administer"),
                Operator(key=b64url_encode(self.reader.public), role="read"),
            ),
            control={name: "operate" for name in CONTROL.split()},
            **changes,
        )
        if policy.body.version > 1:
            self._publish()
        return policy

    def command(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        node: str | None = None,
        role: Any = None,
        lifetime: int = 3600,
        signer: SigningKey | None = None,
        publish: bool = True,
        countersigned: bool = True,
        number: int | None = None,
    ) -> Document[Command]:
        """A command to a node, a role or, without either, to all; as the authority takes it."""
        now = int(self._wall())
        giver = signer or self.operator
        target = CommandTarget(node=node, role=role) if node or role else CommandTarget(all=True)
        body = Command(
            network_id=self.network_id,
            id=self._random.randbytes(16).hex(),
            number=len(self._commands) + 1 if number is None else number,
            command=name,
            target=target,
            arguments=arguments or {},
            issued_at=now,
            expires_at=now + lifetime,
            operator=None if giver is self.authority else giver.key_id,
        )
        document = sign_document(body, [giver, self.authority] if countersigned else [giver])
        if publish:
            self._commands.append(document)
            self._publish()
        return document

    def revoke(self, node: Enrolled, *, key: bool = False) -> Document[Crl]:
        """@see: L{Issuer.revoke}"""
        crl = super().revoke(node, key=key)
        self._publish()
        return crl

    def revoke_node(self, node: Enrolled) -> None:
        """Revoke and renew no more."""
        self._barred.add(node.node_key.key_id)
        self.revoke(node, key=True)

    def rotate_authority_key(self, *, drop: bool = False) -> Document[Genesis]:
        """The next genesis: with another authority key that signs from now on, or without all older ones."""
        old = self.genesis.body
        if not drop:
            self.authority = self.new_key()
        self._next_genesis(authority=old.authority[-1:] if drop else (*old.authority, self._authority_key()))
        if not drop:
            self.crl = self._make_crl()
            self.publish_policy()
        self._publish()
        return self.genesis

    def _next_genesis(self, **changes: Any) -> None:
        now, old = int(self._wall()), self.genesis.body
        body = replace(
            old,
            network_id=self.network_id,
            version=old.version + 1,
            issued_at=now,
            expires_at=now + 10 * YEAR,
            previous=self.genesis.digest,
            **changes,
        )
        self.genesis = sign_document(body, [self.root])
        self.genesis_chain = (*self.genesis_chain, self.genesis)

    def require_admission(self, required_from: int = 0) -> None:
        """
        The next genesis: with an admission key, which admits whoever is enrolled from now on.

        @param required_from: seconds from now.
        """
        self.admission_key = self.new_key()
        rule = AdmissionRule(
            keys=(b64url_encode(self.admission_key.public),),
            required_from=int(self._wall()) + required_from,
        )
        self._next_genesis(admission=rule)
        self._publish()

    def admit(self, node_key: str, name: str, roles: Sequence[str], lifetime: int = YEAR) -> None:
        """Bring an admission for this node."""
        assert self.admission_key is not None
        body = Admission(
            network_id=self.network_id,
            name=name,
            node_key=node_key,
            roles=tuple(roles),
            not_after=int(self._wall()) + lifetime,
        )
        self.admissions[node_key] = sign_document(body, [self.admission_key])

    def certify(
        self, node_key: SigningKey, noise_key: NoiseKey, name: str, roles: Sequence[str], lifetime: int = DAY
    ) -> Document[Certificate]:
        """@see: L{Issuer.certify}"""
        text = b64url_encode(node_key.public)
        if self.admission_key is not None and text not in self.admissions:
            self.admit(text, name, roles)
        certificate = super().certify(node_key, noise_key, name, roles, lifetime)
        return certificate.with_admission(self.admissions.get(text))

    def _newest_command(self) -> NumberedDigest:
        if self.claimed is not None:
            return self.claimed
        if not self._commands:
            return super()._newest_command()
        newest = self._commands[-1]
        return NumberedDigest(number=newest.body.number, digest=newest.digest)

    def invite(self, name: str, *roles: str) -> Invite:
        """An invite for one host."""
        made = Invite(
            urls=("http://127.0.0.1:1",),
            network_id=self.network_id,
            genesis_version=self.genesis.body.version,
            genesis_digest=self.genesis.digest,
            authority=self.authority.key_id,
            seed=self._random.randbytes(32),
        )
        self.invites[b64url_encode(made.key.public)] = (name, roles or ("client",))
        return made

    # What nodes ask

    def news(self, clock: IReactorTime) -> Deferred[None]:
        """Fires when something but the time of a status changes, or when a poll has lasted long enough."""
        waiting: Deferred[None] = Deferred()
        self._polls.append(waiting)
        waiting.addTimeout(POLL, clock, lambda result, _: None)
        return waiting

    def _publish(self) -> None:
        self.status = self._make_status()
        polls, self._polls = self._polls, []
        for poll in polls:
            if not poll.called:
                poll.callback(None)

    def answer(self, method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        """One request, as the daemon answers it."""
        if 2 * self._wall() > self.status.body.issued_at + self.status.body.expires_at:
            self.status = self._make_status()
        try:
            return Answer(200, self._serve(method, target, headers, data))
        except RequestRefused as error:
            problem: dict[str, Any] = {"type": f"urn:gmesh:problem:{error.reason}", "detail": error.detail}
            if error.reason == "stale":
                problem["time"] = int(self._wall())
            return Answer(404 if error.reason == "not-found" else 403, json.dumps(problem).encode())

    def _serve(self, method: str, target: str, headers: dict[str, str], data: bytes) -> bytes:
        path, _, query = target.partition("?")
        if path in ("/status", "/crl", "/policy", "/genesis"):
            return bytes(getattr(self, path[1:]).encode())
        if path.startswith("/genesis/"):
            version = int(path.rpartition("/")[2])
            if version > len(self.genesis_chain):
                raise RequestRefused("not-found", "no such genesis yet")
            return self.genesis_chain[version - 1].encode()
        if path == "/join":
            return self._joined(headers, data)
        body, name = self._signed(method, target, headers, data)
        if path == "/commands":
            since, now = int(query.partition("=")[2]), self._wall()
            listed = [one for one in self._commands if one.body.number > since and one.body.expires_at > now]
            return json.dumps({"commands": [one.as_dict() for one in listed], "next": None}).encode()
        certificate = document_from_dict(body["certificate"], Certificate).body
        if path == "/renew":
            return self._renewed(certificate, body["noise_key"])
        self.heard[name or certificate.name] = body["numbers"]
        for receipt in body["receipts"]:
            self._take_receipt(document_from_dict(receipt, CommandReceipt), certificate)
        return json.dumps({"status": self.status.as_dict(), "time": int(self._wall())}).encode()

    def _signed(
        self, method: str, target: str, headers: dict[str, str], data: bytes
    ) -> tuple[dict[str, Any], str]:
        lower = {name.lower(): [text] for name, text in headers.items()}
        request = read_request(method, target, lambda name: lower.get(name, []), data)
        if abs(request.created - self._wall()) > CLOCK_WINDOW:
            raise RequestRefused("stale", "compare the clocks")
        keys = {key_id(b64url_decode(entry.key, 32)) for entry in self.genesis.body.authority}
        if request.tag != NODE_TAG or request.audience not in keys:
            raise RequestRefused("bad-audience", "for another authority")
        if request.keyid in self._barred:
            raise RequestRefused("cert-revoked", "this node is revoked")
        if not data:
            return {}, request.keyid
        body: dict[str, Any] = json.loads(data)
        certificate = document_from_dict(body["certificate"], Certificate).body
        request.verify(b64url_decode(certificate.node_key, 32))
        return body, certificate.name

    def _joined(self, headers: dict[str, str], data: bytes) -> bytes:
        lower = {name.lower(): [text] for name, text in headers.items()}
        request = read_request("POST", "/join", lambda name: lower.get(name, []), data)
        body = parse_join_request(data)
        verify_join_request(body)
        request.verify(b64url_decode(body.node_key, 32))
        if request.tag != JOIN_TAG or body.invite_key not in self.invites:
            raise RequestRefused("enrolment-refused", "no such invite")
        name, roles = self.invites[body.invite_key]
        self._serial += 1
        now = int(self._wall())
        certificate = Certificate(
            network_id=self.network_id,
            serial=self._serial,
            name=name,
            node_key=body.node_key,
            noise_key=body.noise_key,
            roles=tuple(roles),
            not_before=now,
            not_after=now + self.lifetime,
            issued_at=now,
        )
        document = sign_document(certificate, [self.authority])
        return json.dumps({"certificate": document.as_dict()}).encode()

    def _renewed(self, old: Certificate, noise_key: str) -> bytes:
        now = int(self._wall())
        if now > old.not_after + RENEW_GRACE:
            raise RequestRefused("cert-expired", "over for longer than the grace: enrol again")
        self._serial += 1
        body = replace(
            old,
            serial=self._serial,
            noise_key=noise_key,
            not_before=now,
            not_after=now + self.lifetime,
            issued_at=now,
        )
        self._ends[body.node_id] = max(body.not_after, self._ends.get(body.node_id, 0))
        certificate = sign_document(body, [self.authority])
        admitted = certificate.with_admission(self.admissions.get(body.node_key))
        return json.dumps({"certificate": admitted.as_dict()}).encode()

    def _take_receipt(self, receipt: Document[CommandReceipt], member: Certificate) -> None:
        try:
            verify_receipt(receipt, b64url_decode(member.node_key, 32), self.network_id)
        except DocumentRefused:
            return
        body = receipt.body
        self.receipts.setdefault((body.command, member.name), (body.outcome, body.detail))


def _cut(_: object, request: Request) -> bytes:
    """What a proxy answers when the authority takes longer than it waits."""
    request.setResponseCode(504)
    return b"<h1>504 Gateway Time-out</h1>"


class AuthorityResource(Resource):
    """
    A L{MemoryAuthority} over HTTP, also below C{/sub} as behind a proxy that takes this off.

    @ivar refuse: status and reason by path, answered instead.
    @ivar told: what else these answers say.
    @ivar requests: method and target as they came.
    @ivar bodies: what was posted.
    @ivar polls: requests for the next status, each answered with what it is given, or with 504 by a proxy.
    """

    isLeaf = True
    PREFIX = "/sub"

    def __init__(self, authority: MemoryAuthority) -> None:
        super().__init__()
        self.authority = authority
        self.refuse: dict[str, tuple[int, str]] = {}
        self.told: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.polls: list[Deferred[bytes]] = []

    def render(self, request: Request) -> bytes | int:
        """Answer."""
        method, target = request.method.decode("ascii"), request.uri.decode("ascii")
        inner = target.removeprefix(self.PREFIX)
        self.requests.append((method, inner))
        path, data = inner.partition("?")[0], request.content.read()
        request.setHeader("Content-Type", "application/json")
        if path in self.refuse:
            request.setResponseCode(self.refuse[path][0])
            request.setHeader("Content-Type", "application/problem+json")
            reason = self.refuse[path][1]
            problem = {"type": f"urn:gmesh:problem:{reason}", "detail": f"because {reason}", **self.told}
            return json.dumps(problem).encode()
        if b"after" in request.args:
            poll: Deferred[bytes] = Deferred()
            poll.addErrback(_cut, request).addCallback(request.write).addCallback(lambda _: request.finish())
            self.polls.append(poll)
            return NOT_DONE_YET
        if data:
            self.bodies.append(json.loads(data))
        headers = {
            name.decode("ascii"): values[0].decode("ascii")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        answer = self.authority.answer(method, inner, headers, data)
        request.setResponseCode(answer.code)
        if answer.code >= 400:
            request.setHeader("Content-Type", "application/problem+json")
        return answer.body
