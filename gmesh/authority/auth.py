# SPDX-License-Identifier: MIT
"""
Who asks: the signature of a request, its time, its audience, the role of its key.

Order: syntax, time window, signature, key bucket, role; and only then is a body parsed.  The address pays
for what is signed by a key that nobody knows yet, and for what is bad: a good signature of a known key is
never refused for what others send.
The nonce is claimed later, in the transaction of the effect, so that a refused request burns nothing.
Reads and heartbeats claim theirs in memory: they work while nothing can be written, and a restart
refuses what was signed before it.  Where several daemons serve from one database, reads claim theirs in it,
and a heartbeat that is played again at another one has no effect.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from typing import Any

import msgspec

from gmesh.authority import limits
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.known_keys import KnownKeys
from gmesh.authority.problems import ProblemWithMembers
from gmesh.authority.rate_limit import RateLimiter, Toll
from gmesh.authority.store import lost_certificates, nodes, nonces, operators, read_nonces
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, RequestRefused, StoreError
from gmesh.trust.documents import Certificate, Document, document_from_dict
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.join import JoinRequest, verify_join_request
from gmesh.trust.keys import KEY_SIZE, key_id
from gmesh.trust.names import human_error
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG, SignedRequest, read_request
from gmesh.trust.verify import authority_keys, verify_signatures

_NODE_KEY = re.compile(rb'"node_key"[ ]?:[ ]?"([A-Za-z0-9_-]{43})"')

__all__ = ["Authenticator", "Caller", "Envelope", "PresentedCertificate", "RequestBody", "claim_ahead"]


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of a request: an object with exactly its fields."""


class Envelope(msgspec.Struct, frozen=True):
    """
    A request as it was received.

    @ivar target: raw path and query of the request line.
    @ivar header: all values of a header.
    @ivar toll: what it costs the address of the client.
    """

    method: str
    target: str
    header: Callable[[str], Sequence[str]]
    body: bytes
    toll: Toll
    request_id: str

    @property
    def address(self) -> str:
        """Of the client."""
        return self.toll.address


class PresentedCertificate:
    """
    A certificate as a node sent it, which is read when somebody asks what it says.

    @param value: its file form, parsed.
    @ivar fingerprint: names the file, signatures and all, in the tenth of the time that reading it takes.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        self.fingerprint = sha256(msgspec.json.encode(value, order="sorted")).digest()

    @cached_property
    def document(self) -> Document[Certificate]:
        """What it says. @raise DocumentRefused: as of L{document_from_dict}."""
        return document_from_dict(self._value, Certificate)


class Caller(msgspec.Struct, frozen=True):
    """
    Somebody whose signature was good.

    @ivar public: the key that the signature was checked by.
    @ivar role: of an operator; empty for a node.
    @ivar name: of an operator or node, for the audit.
    @ivar vouched: whether the invite key signed too; judged only where any refusal takes as long.
    @ivar still: refuses what was judged by rules that no longer hold.
    @ivar presented: the certificate a node sent with its request, not judged beyond its key.
    @ivar cast: counts the request as a vote, where it takes several operators.
    """

    signed: SignedRequest
    request_id: str
    address: str
    public: bytes
    role: str = ""
    name: str = ""
    vouched: bool = True
    cast: Callable[[Transaction, Caller], None] | None = None
    still: Callable[[Transaction], None] | None = None
    presented: PresentedCertificate | None = None

    @property
    def key_id(self) -> str:
        """Whose key signed."""
        return self.signed.keyid

    @property
    def certificate(self) -> Document[Certificate]:
        """What a node presented; only for routes that want one."""
        return self._presented.document

    @property
    def fingerprint(self) -> bytes:
        """Of that."""
        return self._presented.fingerprint

    @property
    def _presented(self) -> PresentedCertificate:
        if self.presented is None:
            raise LookupError("this route takes no certificate")
        return self.presented

    def claim(self, tx: Transaction) -> None:
        """
        Use up what allows the request, in the transaction of its effect, before anything else.

        An operator's right is read once more: it may have ended since the request was judged.
        @raise RequestRefused: C{replayed}; C{unknown-key}, C{forbidden-role}, C{conflict}.
        """
        if self.role:
            self._check_right(tx)
        if self.still is not None:
            self.still(tx)
        self.burn(tx)
        if self.cast is not None:
            self.cast(tx, self)

    def burn(self, tx: Transaction) -> None:
        """Use up the nonce alone, of a request that has no effect. @raise RequestRefused: C{replayed}."""
        nonces.claim(tx, (self.signed.keyid, self.signed.nonce, self.signed.created))

    def _check_right(self, tx: Transaction) -> None:
        row = operators.get(tx, self.key_id)
        if row is None or row.revoked_at is not None:
            raise NoOperator()
        if row.role != self.role:
            raise RequestRefused("forbidden-role", f"your role is {row.role} by now: ask again")


class NoOperator(RequestRefused):
    """The key is not, or no longer, an operator's."""

    def __init__(self) -> None:
        super().__init__("unknown-key", "no operator of this network has that key")


class Authenticator:
    """
    Finds out who sent a request, or refuses it.

    @ivar known: keys whose owners are not kept out by others' noise.
    """

    def __init__(
        self, store: Store, issuer: DocumentIssuer, clock: SteadyClock, limiter: RateLimiter
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._limiter = limiter
        self._reads = ReadNonces(store, clock)
        self.known = KnownKeys(issuer)

    async def operator(self, envelope: Envelope, least: str) -> Caller:
        """
        An operator whose role is at least C{least}.

        @raise RequestRefused: also for an operator whose role is too low, C{forbidden-role}.
        """
        signed = self._read(envelope, ADMIN_TAG)
        public = self.known.operator(signed.keyid)
        if public is None:
            envelope.toll.pay()
        else:
            self._verify(signed, public, envelope)
        row = await self._store.read(lambda reader: operators.get(reader, signed.keyid))
        if row is None or row.revoked_at is not None:
            self._bad(envelope)
            raise NoOperator()
        if public is None:
            public = b64url_decode(row.operator_key, KEY_SIZE)
            self._verify(signed, public, envelope)
        caller = Caller(signed, envelope.request_id, envelope.address, public, row.role, row.name)
        if not operators.may(row.role, least):
            raise ForbiddenRole(caller, least)
        if envelope.method in ("GET", "HEAD"):
            await self._reads.claim(signed)
        return caller

    async def member(self, envelope: Envelope) -> Caller:
        """A node that is not barred, or any operator, who wants to read."""
        if any("gmesh-admin-v1" in value for value in envelope.header("signature-input")):
            return await self.operator(envelope, "read")
        signed = self._read(envelope, NODE_TAG)
        public = self.known.member(signed.keyid)
        if public is None:
            envelope.toll.pay()
        else:
            self._verify(signed, public, envelope)
        row = await self._store.read(lambda reader: nodes.by_id(reader, signed.keyid))
        if row is None or row.barred_at is not None:
            self._bad(envelope)
            raise RequestRefused("unknown-key", "no member of this network has that key")
        if public is None:
            public = b64url_decode(row.node_key, KEY_SIZE)
            self._verify(signed, public, envelope)
        await self._reads.claim(signed)
        return Caller(signed, envelope.request_id, envelope.address, public, name=row.name)

    async def node(self, envelope: Envelope, shape: Any) -> Caller:
        """
        The owner of the node key that the body names; L{present} says what the body must be.

        @param shape: a struct that the body must fit if nobody knows the key.
        """
        signed = self._read(envelope, NODE_TAG)
        known = self.known.member(signed.keyid) is not None
        if not known:
            envelope.toll.pay()
        public = self._named_key(envelope, signed)
        self._verify(signed, public, envelope)
        if not known and len(envelope.body) > limits.STRANGER_BODY_BYTES:
            row = await self._store.read(lambda reader: nodes.by_id(reader, signed.keyid))
            if row is None:
                self._bad(envelope)
                raise RequestRefused("unknown-key", "no member of this network has that key")
        elif not known:
            _check_shape(envelope.body, shape)
        return Caller(signed, envelope.request_id, envelope.address, public)

    async def present(self, caller: Caller, presented: PresentedCertificate) -> Caller:
        """
        With the certificate that a node sent: for its key, whatever else it is worth.

        One that no row of the database and no key of the genesis can speak for is not worth a decision.
        """
        certificate = presented.document
        if certificate.body.node_public != caller.public:
            raise RequestRefused("bad-signature", "the certificate is for another key than the request's")
        vouched = self.known.member(caller.key_id) is not None or self._signed_here(certificate)
        if not vouched and not await self._store.read(lambda reader: _told_of(reader, certificate)):
            raise RequestRefused(
                "unknown-certificate", "this authority did not issue that certificate: join again"
            )
        return msgspec.structs.replace(caller, name=certificate.body.name, presented=presented)

    def _signed_here(self, certificate: Document[Certificate]) -> bool:
        try:
            verify_signatures(certificate, authority_keys(self._issuer.genesis.body))
        except DocumentRefused:
            return False
        return True

    def joiner(self, envelope: Envelope, shape: Any) -> Caller:
        """The owner of the node key that the body names; L{vouch} says what the body must be."""
        self._limiter.admit_join(envelope.address)
        signed = self._read(envelope, JOIN_TAG)
        public = self._named_key(envelope, signed)
        self._verify(signed, public, envelope)
        _check_shape(envelope.body, shape)
        return Caller(signed, envelope.request_id, envelope.address, public)

    def vouch(self, caller: Caller, body: JoinRequest) -> Caller:
        """With whether the invite key in this body vouches for the node key."""
        if b64url_decode(body.node_key, KEY_SIZE) != caller.public:
            raise RequestRefused("bad-signature", "keyid is not the name of node_key")
        try:
            verify_join_request(body, invite_key_checked=True)
        except DocumentRefused as error:
            if error.reason != "bad-signature":
                self._limiter.failed(caller.address)
                raise
            return msgspec.structs.replace(caller, vouched=False)
        return caller

    def _read(self, envelope: Envelope, tag: str) -> SignedRequest:
        if not envelope.header("signature-input"):
            raise RequestRefused("unsigned", "this request must be signed (RFC 9421)")
        signed = read_request(envelope.method, envelope.target, envelope.header, envelope.body)
        if signed.tag != tag:
            raise RequestRefused("bad-signature", f"the tag of this request must be {tag}")
        if signed.audience not in self._issuer.keys.listed(self._issuer.genesis.body):
            raise RequestRefused(
                "bad-audience", "the request is meant for another authority key: fetch /genesis"
            )
        now = self._clock.now()
        newest = max(now, self._clock.high_water)
        if abs(signed.created - newest) > limits.REQUEST_WINDOW_SECONDS:
            raise Stale(now)
        return signed

    def _named_key(self, envelope: Envelope, signed: SignedRequest) -> bytes:
        """
        The key that the body names, found without parsing it: no other can be the one that C{keyid} names.
        """
        found = _NODE_KEY.search(envelope.body)
        if found is None:
            raise RequestRefused("invalid-field", "the body names no node_key")
        public = b64url_decode(found[1].decode("ascii"), KEY_SIZE)
        if key_id(public) != signed.keyid:
            self._bad(envelope)
            raise RequestRefused("bad-signature", "keyid is not the name of the body's node_key")
        return public

    def _bad(self, envelope: Envelope) -> None:
        """Count it against bad ones. @raise RateLimited: if there were too many."""
        envelope.toll.pay()
        self._limiter.failed(envelope.address)

    def _verify(self, signed: SignedRequest, public: bytes, envelope: Envelope) -> None:
        """A request that is played again is charged to its address, not to its key."""
        try:
            signed.verify(public)
        except RequestRefused:
            self._bad(envelope)
            raise
        if self.known.first_time(signed.keyid, signed.nonce):
            self._limiter.admit_key(signed.keyid)
        else:
            envelope.toll.pay()


def _told_of(reader: Reader, certificate: Document[Certificate]) -> bool:
    """Whether the node is known, or an audit tells of this certificate."""
    body = certificate.body
    if nodes.by_id(reader, body.node_id) is not None:
        return True
    return bool(lost_certificates.get(reader, body.serial, body.node_id, body.name))


def _check_shape(body: bytes, shape: Any) -> None:
    """
    Refuse what cannot be this, as a tenth of parsing it costs.  What passes is parsed all the same.

    @raise RequestRefused: C{invalid-field}.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # parsing says what is wrong
        try:
            msgspec.json.decode(body, type=shape)
        except msgspec.ValidationError as error:
            raise RequestRefused("invalid-field", human_error(error, shape)) from error


class Stale(ProblemWithMembers):
    """Signed too long ago, or in the future; the answer says the authority's time."""

    def __init__(self, now: int) -> None:
        super().__init__("stale", "the request was not signed just now: compare the clocks", time=now)


class ForbiddenRole(RequestRefused):
    """A known operator asked for more than its role allows."""

    def __init__(self, caller: Caller, least: str) -> None:
        super().__init__("forbidden-role", f"this needs the role {least}; yours is {caller.role}")
        self.caller = caller


def enrolment_refused() -> RequestRefused:
    """The one answer to everything that is wrong with an invite."""
    return RequestRefused(
        "enrolment-refused",
        "this invite does not admit this host: it may be unknown, used, expired or withdrawn",
    )


class ReadNonces:
    """
    Nonces of reads, for as long as they could come again: in memory, or noted where other daemons must know.
    """

    def __init__(self, store: Store, clock: SteadyClock) -> None:
        self._store = store
        self._clock = clock
        self._seen: set[tuple[str, str]] = set()
        self._order: deque[tuple[int, tuple[str, str]]] = deque()

    async def claim(self, signed: SignedRequest) -> None:
        """@raise RequestRefused: C{replayed} or C{stale}."""
        now = self._clock.now()
        if self._store.shared:
            used = (signed.keyid, signed.nonce, signed.created)
            if not await self._store.note(lambda notes: read_nonces.claim(notes, used)):
                raise RequestRefused("replayed", "this request was already answered once: sign a new one")
            return
        if signed.created < int(self._clock.started):
            raise Stale(now)
        while self._order and self._order[0][0] < now - limits.NONCE_KEPT_SECONDS:
            self._seen.discard(self._order.popleft()[1])
        name = (signed.keyid, signed.nonce)
        if name in self._seen:
            raise RequestRefused("replayed", "this request was already answered once: sign a new one")
        self._seen.add(name)
        self._order.append((now, name))
        await claim_ahead(self._store, now, signed)


async def claim_ahead(store: Store, now: int, signed: SignedRequest) -> None:
    """
    What a restart would not refuse for having been signed before it: a clock that runs ahead signed it.

    Its nonce is written down, although the request changes nothing; unless nothing can be written.
    @raise RequestRefused: C{replayed}.
    """
    if (signed.keyid, signed.nonce) in store.claimed:
        raise RequestRefused("replayed", "this request was already accepted once: sign a new one")
    if signed.created > now:
        with suppress(StoreError):
            await store.decide(lambda tx: nonces.claim(tx, (signed.keyid, signed.nonce, signed.created)))
