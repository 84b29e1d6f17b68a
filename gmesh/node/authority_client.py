# SPDX-License-Identifier: MIT
"""
The node's side of the authority's HTTP API: signed requests out, verified documents in.

Every answer is capped in size and time, and nothing in it changes the node's state before the
trust layer has verified a signature.  With several authority URLs the one that answered last is
asked first.  Tests: C{tests/node/test_authority_client.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

from gmesh.errors import DocumentRefused, RequestRefused, StoreError
from gmesh.interfaces import ISigner
from gmesh.node.limits import ANSWER_LIMIT, ANSWER_TIMEOUT, GENESIS_VERSIONS_A_FETCH, LONG_POLL_TIMEOUT
from gmesh.trust.documents import (
    Body,
    Certificate,
    Crl,
    Document,
    Genesis,
    Policy,
    Status,
    document_from_dict,
    parse_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.ingest import parse_json
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import NONCE_SIZE
from gmesh.trust.requests import JSON_TYPE, NODE_TAG, sign_request
from gmesh.trust.state import TrustState

__all__ = ["Answer", "AuthorityClient", "AuthorityUnreachable", "IHTTPClient", "StaleClock"]

_B = TypeVar("_B", bound=Body)
_PROBLEM = "urn:gmesh:problem:"
_UNKNOWN_AUDIENCE = frozenset({"bad-audience", "bad-signature", "unknown-key"})
DETAIL_LIMIT = 200


class AuthorityUnreachable(StoreError):
    """No authority URL gave an answer that HTTP understands."""


class StaleClock(RequestRefused):
    """
    The authority found the request signed at another time than now.

    @ivar time: now, as the authority says without a signature.
    """

    def __init__(self, detail: str, time: int) -> None:
        super().__init__("stale", detail)
        self.time = time


class IHTTPClient(Protocol):
    """What is used of L{treq.client.HTTPClient}; L{treq.testing.StubTreq} provides it in tests."""

    def request(self, method: str, url: str, **options: Any) -> Deferred[IResponse]:
        """Begin a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One whole answer.

    @ivar code: the HTTP status.
    @ivar body: at most C{ANSWER_LIMIT} bytes.
    """

    code: int
    body: bytes


class AuthorityClient:
    """
    Asks the authority, as this node.

    @param http: the HTTP client.
    @param urls: the authority's URLs now, in order of preference.
    @param signer: the identity key.
    @param trust: verifies everything that comes back.
    """

    def __init__(
        self,
        http: IHTTPClient,
        urls: Callable[[], tuple[str, ...]],
        signer: ISigner,
        trust: TrustState,
        clock: IReactorTime,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._http = http
        self._urls = urls
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._wall = wall
        self._entropy = entropy
        self._last_good: str | None = None
        self._closed = False

    def close(self) -> None:
        """Try no further URL: whoever cancels a request of ours wants its end."""
        self._closed = True

    # What the node asks for

    async def heartbeat(
        self, certificate: Document[Certificate], numbers: Mapping[str, int]
    ) -> Document[Status]:
        """Report what this node holds; the authority's newest status, not yet applied."""
        body = {
            "certificate": certificate.as_dict(),
            "sent_ms": int(self._wall() * 1000),
            "numbers": dict(numbers),
            "receipts": [],
        }
        answer = await self._signed("POST", "/heartbeat", body)
        return document_from_dict(_member(answer, "status", dict), Status)

    async def renew(self, certificate: Document[Certificate], noise_public: bytes) -> Document[Certificate]:
        """A new certificate for the same node, judged valid and ours."""
        body = {"certificate": certificate.as_dict(), "noise_key": b64url_encode(noise_public)}
        answer = await self._signed("POST", "/renew", body)
        renewed = document_from_dict(_member(answer, "certificate", dict), Certificate)
        await self._knowing_signer(renewed)
        self._trust.judge_certificate(renewed, self._wall())
        mine, new = certificate.body, renewed.body
        if (new.node_key, new.noise_key, new.name) != (mine.node_key, b64url_encode(noise_public), mine.name):
            raise DocumentRefused(
                "wrong-certificate", "the authority answered with another node's certificate"
            )
        return renewed

    async def status(self, after: str | None = None) -> Document[Status]:
        """The newest status; with C{after}, a digest, the authority waits for a newer one."""
        target = "/status" if after is None else f"/status?after={after}"
        timeout = ANSWER_TIMEOUT if after is None else LONG_POLL_TIMEOUT
        return parse_document(await self._fetch(target, timeout), Status)

    async def crl(self) -> Document[Crl]:
        """The whole CRL."""
        return parse_document(await self._fetch("/crl"), Crl)

    async def policy(self) -> Document[Policy]:
        """The current policy."""
        return parse_document(await self._fetch("/policy"), Policy)

    async def fetch_successors(self) -> bool:
        """
        Fetch and apply the genesis versions after ours: root-signed, so nothing else is needed.

        @return: True if there was one.
        """
        found = False
        for _ in range(GENESIS_VERSIONS_A_FETCH):
            version = self._trust.genesis.body.version + 1
            try:
                data = await self._fetch(f"/genesis/{version}")
            except RequestRefused as error:
                if error.reason == "not-found":
                    break
                raise
            if not self._trust.offer(parse_document(data, Genesis), self._wall()):
                break
            found = True
        return found

    async def offer(self, document: Document[Any]) -> bool:
        """
        Apply a document; one signed by a key we do not know first brings in the newer genesis.

        @return: True if it was newer than what we held.
        @raise DocumentRefused: if it is not to be believed.
        """
        await self._knowing_signer(document)
        return self._trust.offer(document, self._wall())

    async def _knowing_signer(self, document: Document[Any]) -> None:
        known = {key_id(decode_public(entry.key)) for entry in self._trust.genesis.body.authority}
        if not known & {signer for signer, _ in document.signatures}:
            await self.fetch_successors()

    # Requests

    def _audience(self) -> str:
        status = self._trust.status
        if status is not None and status.signatures:
            return str(status.signatures[0][0])
        now = self._wall()
        keys = self._trust.genesis.body.authority
        valid = [entry for entry in keys if entry.valid_from <= now < entry.valid_to] or list(keys)
        return key_id(decode_public(max(valid, key=lambda entry: entry.valid_from).key))

    async def _signed(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(body, separators=(",", ":")).encode("utf-8")
        try:
            answer = await self._signed_once(method, path, data, self._wall())
        except StaleClock as error:
            answer = await self._signed_once(method, path, data, await self._signed_time(error))
        except RequestRefused as error:
            if error.reason not in _UNKNOWN_AUDIENCE or not await self.fetch_successors():
                raise
            answer = await self._signed_once(method, path, data, self._wall())
        return parse_json(answer.body, ANSWER_LIMIT)

    async def _signed_time(self, refused: StaleClock) -> float:
        """
        The authority's time, if a status it signed bears it out: our own clock is wrong.

        @raise StaleClock: the refusal, if it does not.
        """
        status = await self.status()
        await self.offer(status)
        if not status.body.issued_at <= refused.time <= status.body.expires_at:
            raise refused
        return refused.time

    async def _signed_once(self, method: str, path: str, data: bytes, created: float) -> Answer:
        def headers(target: str) -> dict[str, str]:
            return sign_request(
                self._signer,
                method,
                target,
                data,
                audience=self._audience(),
                created=int(created),
                nonce=self._entropy(NONCE_SIZE),
                tag=NODE_TAG,
            )

        return _checked(await self._ask(method, path, headers, data, ANSWER_TIMEOUT))

    async def _fetch(self, path: str, timeout: float = ANSWER_TIMEOUT) -> bytes:
        answer = await self._ask("GET", path, lambda target: {"Accept": JSON_TYPE}, b"", timeout)
        return _checked(answer).body

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Callable[[str], dict[str, str]],
        data: bytes,
        timeout: float,
    ) -> Answer:
        urls = sorted(self._urls(), key=lambda url: url != self._last_good)
        if not urls:
            raise AuthorityUnreachable(
                "no-authority", "neither the invite nor the genesis names an authority URL"
            )
        causes = []
        for url in urls:
            base = url.rstrip("/")
            target = urlsplit(base).path + path
            try:
                answer = await self._exchange(method, base + path, headers(target), data, timeout)
            except Exception as error:  # one URL's failure, whatever the HTTP client calls it
                if self._closed:
                    raise
                causes.append(f"{base}: {_cause(error)}")
                continue
            if answer.code >= 500 or (answer.code >= 400 and _problem(answer) is None):
                causes.append(f"{base} answered {answer.code}")
                continue
            self._last_good = url
            return answer
        raise AuthorityUnreachable("unreachable", "; ".join(causes))

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], data: bytes, timeout: float
    ) -> Deferred[Answer]:
        async def exchange() -> Answer:
            response = await self._http.request(
                method, url, headers=headers, data=data or None, allow_redirects=False, unbuffered=True
            )
            return Answer(response.code, await _read(response))

        return Deferred.fromCoroutine(exchange()).addTimeout(timeout, self._clock)


class _Body(TwistedProtocol):
    """Collects a body up to the cap."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # TCP and TLS have it

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            done, self.done = self.done, Deferred()
            self._abort()
            if not done.called:
                done.errback(
                    RequestRefused("too-large", f"the authority's answer is larger than {ANSWER_LIMIT} bytes")
                )
            return
        self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._chunks))
        else:
            self.done.errback(reason)


def _read(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.done


def _cause(error: BaseException) -> str:
    if isinstance(error, DeferredTimeout):
        return "no answer in time"
    return str(error) or type(error).__name__


def _problem(answer: Answer) -> RequestRefused | None:
    """The refusal that a problem document tells."""
    try:
        value = parse_json(answer.body, ANSWER_LIMIT)
    except DocumentRefused:
        return None
    kind, text, time = value.get("type"), value.get("detail"), value.get("time")
    if not isinstance(kind, str) or not kind.startswith(_PROBLEM):
        return None
    reason = kind.removeprefix(_PROBLEM)
    detail = text[:DETAIL_LIMIT] if isinstance(text, str) else reason
    if reason == "stale" and type(time) is int:
        return StaleClock(detail, time)
    return RequestRefused(reason, detail)


def _checked(answer: Answer) -> Answer:
    if 200 <= answer.code < 300:
        return answer
    raise _problem(answer) or RequestRefused(
        f"http-{answer.code}", f"the authority answered {answer.code} without saying why"
    )


def _member(value: dict[str, Any], name: str, kind: type) -> Any:
    member = value.get(name)
    if not isinstance(member, kind):
        raise DocumentRefused("invalid-answer", f"the authority's answer holds no {name}")
    return member
