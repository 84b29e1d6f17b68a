# SPDX-License-Identifier: MIT
"""
An authority in memory that nodes can talk to: signed requests in, documents out, no socket, no disk.

It checks what the daemon checks of a node's request, can be away for as long as a test likes, and
keeps what it was told.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.node.authority_http import Answer
from gmesh.testing.issuer import ALLOW_ALL, DAY, YEAR, Enrolled, Issuer
from gmesh.trust.documents import (
    AuditHead,
    AuthorityKey,
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
    Status,
    VersionedDigest,
    document_from_dict,
    sign_document,
)
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.keys import SigningKey, key_id
from gmesh.trust.requests import NODE_TAG, read_request
from gmesh.trust.verify import verify_receipt

__all__ = ["MemoryAuthority"]

CLOCK_WINDOW = 120
STATUS_LIFE = 3600
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
    @ivar lifetime: seconds that certificates it renews are good for.
    @ivar status_life: seconds that a status is good for.
    """

    def __init__(self, wall: Callable[[], float], random: Random, **options: Any) -> None:
        self.up = True
        self.operator = SigningKey.from_seed(random.randbytes(32))
        self.reader = SigningKey.from_seed(random.randbytes(32))
        self.receipts: dict[tuple[str, str], tuple[str, str]] = {}
        self.heard: dict[str, dict[str, int]] = {}
        self.lifetime = DAY
        self.status_life = STATUS_LIFE
        self.settings: dict[str, Any] = {"max_hops": 32, "stale_grace": 7 * DAY, "min_version": None}
        self._commands: list[Document[Command]] = []
        self._barred: set[str] = set()
        self._polls: list[Deferred[None]] = []
        super().__init__(wall, random, **options)

    # What it publishes

    def publish_policy(self, *rules: Rule, max_hops: int = 0, **settings: Any) -> Document[Policy]:
        """The next policy; settings stay until changed."""
        self.settings |= settings | ({"max_hops": max_hops} if max_hops else {})
        now = int(self._wall())
        version = self.policy.body.version + 1 if hasattr(self, "policy") else 1
        operators = ((self.operator, "administer"), (self.reader, "read"))
        body = Policy(
            network_id=self.network_id,
            version=version,
            issued_at=now,
            expires_at=now + 90 * DAY,
            certificate=CertificateLife(default=self.lifetime, max=30 * DAY, renew_grace=RENEW_GRACE),
            max_nodes=4096,
            rules=rules or (ALLOW_ALL,),
            operators=tuple(
                Operator(key=b64url_encode(key.public), role=role)  # type: ignore[arg-type]  # two literals
                for key, role in operators
            ),
            control={name: "operate" for name in CONTROL.split()},
            **self.settings,
        )
        self.policy = sign_document(body, [self.authority])
        if version > 1:
            self._publish()
        return self.policy

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
    ) -> Document[Command]:
        """A command to a node, a role or, without either, to all."""
        now = int(self._wall())
        target = CommandTarget(node=node, role=role) if node or role else CommandTarget(all=True)
        body = Command(
            network_id=self.network_id,
            id=self._random.randbytes(16).hex(),
            number=len(self._commands) + 1,
            command=name,
            target=target,
            arguments=arguments or {},
            issued_at=now,
            expires_at=now + lifetime,
        )
        document = sign_document(body, [signer or self.operator])
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
        now = int(self._wall())
        old = self.genesis.body
        if not drop:
            self.authority = self.new_key()
        new = AuthorityKey(key=b64url_encode(self.authority.public), valid_from=now, valid_to=now + 10 * YEAR)
        kept = () if drop else old.authority
        body = Genesis(
            network_id=self.network_id,
            version=old.version + 1,
            issued_at=now,
            expires_at=now + 10 * YEAR,
            network=old.network,
            root=old.root,
            authority=(*kept, new) if not drop else old.authority[-1:],
            suites=old.suites,
            anchors=old.anchors,
            authority_urls=old.authority_urls,
            policy=old.policy,
            previous=self.genesis.digest,
        )
        self.genesis = sign_document(body, [self.root])
        self.genesis_chain = (*self.genesis_chain, self.genesis)
        if not drop:
            self.crl = self._make_crl()
            self.publish_policy()
        self._publish()
        return self.genesis

    def _make_status(self) -> Document[Status]:
        now = int(self._wall())
        self._number += 1
        newest = self._commands[-1] if self._commands else None
        named = (
            NumberedDigest(number=newest.body.number, digest=newest.digest)
            if newest is not None
            else NumberedDigest(number=0, digest="0" * 64)
        )
        body = Status(
            network_id=self.network_id,
            number=self._number,
            issued_at=now,
            expires_at=now + self.status_life,
            genesis=VersionedDigest(version=self.genesis.body.version, digest=self.genesis.digest),
            policy=VersionedDigest(version=self.policy.body.version, digest=self.policy.digest),
            crl=NumberedDigest(number=self.crl.body.number, digest=self.crl.digest),
            commands=named,
            audit=AuditHead(epoch=0, size=1, head="0" * 64),
        )
        return sign_document(body, [self.authority])

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

    def _renewed(self, old: Certificate, noise_key: str) -> bytes:
        now = int(self._wall())
        if now > old.not_after + RENEW_GRACE:
            raise RequestRefused("cert-expired", "over for longer than the grace: enrol again")
        self._serial += 1
        body = Certificate(
            network_id=self.network_id,
            serial=self._serial,
            name=old.name,
            node_key=old.node_key,
            noise_key=noise_key,
            roles=old.roles,
            not_before=now,
            not_after=now + self.lifetime,
            issued_at=now,
        )
        return json.dumps({"certificate": sign_document(body, [self.authority]).as_dict()}).encode()

    def _take_receipt(self, receipt: Document[CommandReceipt], member: Certificate) -> None:
        try:
            verify_receipt(receipt, b64url_decode(member.node_key, 32), self.network_id)
        except DocumentRefused:
            return
        body = receipt.body
        self.receipts.setdefault((body.command, member.name), (body.outcome, body.detail))
