# SPDX-License-Identifier: MIT
"""
Requests to the authority through an anchor, for a node that cannot reach it by HTTP.

They are signed by the node and sealed to the anchor, which passes them on verbatim and can alter
neither them nor the signed documents in the answer.  It passes on what the sender itself has signed, and
nothing under the key of another.  Tests: C{tests/node/test_authority_relay.py}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gmesh.endtoend.authorization import AUTHORITY_SERVICE
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.services import Message
from gmesh.errors import DocumentRefused, GmeshError, RequestRefused, SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.renewal_links import Renewals
from gmesh.node.authority_http import Answer, AuthorityHTTP, AuthorityUnreachable, Headers, read_answer
from gmesh.node.limits import (
    ANSWER_TIMEOUT,
    RELAY_ANCHORS_TRIED,
    RELAY_ANSWER_LIMIT,
    RELAY_BODY_LIMIT,
    RELAY_BURST,
    RELAY_IN_FLIGHT,
    RELAY_RATE,
    RELAY_SOURCES,
)
from gmesh.token_bucket import TokenBucket
from gmesh.trust.relayed_requests import (
    Question,
    decode_answer,
    encode_answer,
    encode_question,
    read_question,
)
from gmesh.trust.restricted_json import parse_json

__all__ = ["FallbackPath", "AuthorityRelay", "AuthorityPath", "RelayedAuthority"]

_ALLOWED = re.compile(
    r"POST /(?:heartbeat|renew)"
    r"|GET /(?:commands\?since=[0-9]{1,16}|status|crl|policy|genesis(?:/[0-9]{1,9})?)"
)
_IDENTIFIER = 16
_UNSIGNED = re.compile(r"GET /(?:status|crl|policy|genesis(?:/[0-9]{1,9})?)")
_Send = Callable[[bytes], object]


class AuthorityPath(Protocol):
    """A path to the authority: L{AuthorityHTTP}, by an anchor, or whichever works."""

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = ANSWER_TIMEOUT
    ) -> bytes:
        """The body of a successful answer."""

    def close(self) -> None:
        """Begin no further attempt."""


class FallbackPath:
    """HTTP where it works, an anchor where it does not; long polls go by HTTP only."""

    def __init__(self, direct: AuthorityPath, relayed: AuthorityPath) -> None:
        self._direct = direct
        self._relayed = relayed

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = ANSWER_TIMEOUT
    ) -> bytes:
        """@see: L{AuthorityPath.ask}"""
        try:
            return await self._direct.ask(method, path, headers, data, timeout)
        except AuthorityUnreachable as unreachable:
            if timeout > ANSWER_TIMEOUT:
                raise
            try:
                return await self._relayed.ask(method, path, headers, data, timeout)
            except SendRefused as error:
                raise AuthorityUnreachable(
                    "unreachable", f"{unreachable.detail}; by an anchor: {error.detail}"
                ) from error

    def close(self) -> None:
        """@see: L{AuthorityPath.close}"""
        self._direct.close()
        self._relayed.close()


class RelayedAuthority:
    """
    The asking side.

    @param anchors: the names of anchors that can be reached, nearest first.
    @param renewals: links by which an anchor lets us ask although our certificate has ended.
    """

    def __init__(
        self,
        datagrams: Datagrams,
        renewals: Renewals,
        anchors: Callable[[], list[str]],
        clock: IReactorTime,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._datagrams = datagrams
        self._renewals = renewals
        renewals.answered = self._told
        renewals.lost = self._lost
        self._anchors = anchors
        self._clock = clock
        self._entropy = entropy
        self._asked: dict[str, tuple[str, Deferred[Answer]]] = {}

    def close(self) -> None:
        """To cancel a request is to end it; there is nothing else to stop."""

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = ANSWER_TIMEOUT
    ) -> bytes:
        """
        @see: L{AuthorityPath.ask}

        @raise SendRefused: if no anchor brings an answer.
        """
        refusal = SendRefused("no-anchor", "no anchor can be reached")
        for anchor, send in self._ways():
            try:
                answer = await self._ask(anchor, send, method, path, headers(path), data, timeout)
            except SendRefused as error:
                refusal = error
                continue
            return read_answer(answer)
        raise refusal

    def _ways(self) -> list[tuple[str, _Send]]:
        """Sealed datagrams to anchors; a link that is for this alone, where one was let to us."""
        ways: list[tuple[str, _Send]] = [
            (anchor, partial(self._datagrams.send, anchor, AUTHORITY_SERVICE))
            for anchor in self._anchors()[:RELAY_ANCHORS_TRIED]
        ]
        return ways + [(link.peer.name, link.send) for link in self._renewals.asking]

    async def _ask(
        self,
        anchor: str,
        send: _Send,
        method: str,
        target: str,
        headers: dict[str, str],
        data: bytes,
        timeout: float,
    ) -> Answer:
        identifier = self._entropy(_IDENTIFIER).hex()
        question = encode_question(identifier, method, target, headers, data)
        answered: Deferred[Answer] = Deferred()
        self._asked[identifier] = (anchor, answered)
        try:
            await maybeDeferred(send, question)
            return await answered.addTimeout(timeout, self._clock)
        except DeferredTimeout:
            raise SendRefused("timed-out", f"{anchor} brings no answer of the authority") from None
        finally:
            del self._asked[identifier]

    def _told(self, anchor: str, data: bytes) -> None:
        """@raise DocumentRefused: if that is no answer."""
        self.answered(anchor, parse_json(data, len(data)))

    def _lost(self, anchor: str) -> None:
        for name, deferred in list(self._asked.values()):
            if name == anchor and not deferred.called:
                deferred.errback(SendRefused("link-lost", f"the link to {anchor} has ended"))

    def answered(self, source: str, value: dict[str, Any]) -> None:
        """An anchor's answer; one that was not asked for is ignored."""
        anchor, deferred = self._asked.get(str(value.get("answer")), ("", None))
        if deferred is None or deferred.called or anchor != source:
            return
        answer = decode_answer(value)
        if answer is not None:
            deferred.callback(Answer(*answer))
        else:
            deferred.errback(SendRefused("unreachable", f"{source} does not reach the authority either"))


class AuthorityRelay:
    """
    The service C{_authority} of this node: questions of others, if it is an anchor, and answers to its own.

    @param relays: whether this node passes requests on now.
    """

    def __init__(
        self,
        datagrams: Datagrams,
        http: AuthorityHTTP,
        relayed: RelayedAuthority,
        renewals: Renewals,
        relays: Callable[[], bool],
        clock: IReactorTime,
    ) -> None:
        self._datagrams = datagrams
        self._http = http
        self._relayed = relayed
        self._renewals = renewals
        self._relays = relays
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._passing = 0

    def start(self) -> None:
        """Take messages."""
        self._registration = self._datagrams.register(AUTHORITY_SERVICE, self._received, reserved=True)
        self._renewals.serve = self._serve if self._relays() else None

    def stop(self) -> None:
        """Take no more."""
        self._registration.unregister()
        self._renewals.serve = None

    def _received(self, message: Message) -> None:
        """An answer, or a question: that it is taken is told at once, its answer is a message by itself."""
        try:
            value = parse_json(message.data, len(message.data))
        except DocumentRefused as error:
            raise RequestRefused("invalid-json", error.detail) from error
        if "answer" in value:
            self._relayed.answered(message.source_name, value)
            return
        source = message.source_name
        question = self._taken(source, message.source_id, value)
        if self._passing >= RELAY_IN_FLIGHT:
            raise RequestRefused("refused", "this node passes on as many requests as it may")
        self._passing += 1
        Deferred.fromCoroutine(self._reply(source, question)).addErrback(self._unanswered)

    async def _reply(self, source: str, question: Question) -> None:
        try:
            answer = await self._pass_on(question)
        finally:
            self._passing -= 1
        await self._datagrams.send(source, AUTHORITY_SERVICE, answer)

    def _unanswered(self, failure: Failure) -> None:
        failure.trap(GmeshError)
        self._datagrams.counters["relay-unanswered"] += 1

    async def _serve(self, peer: Peer, data: bytes) -> bytes:
        """A question by a link that is for this alone."""
        return await self._pass_on(self._taken(peer.name, peer.node_id, parse_json(data, len(data))))

    def _taken(self, source: str, sender: str, value: dict[str, Any]) -> Question:
        """@raise RequestRefused: if it is none that a node asks, or not now."""
        if not self._relays() or not self._allows(source):
            raise RequestRefused("refused", "this node does not pass requests on now")
        return _question(value, sender)

    async def _pass_on(self, asked: Question) -> bytes:
        try:
            answer = await self._http.forward(asked.method, asked.target, asked.headers, asked.data)
        except GmeshError:
            return encode_answer(asked.identifier, None)
        fits = len(answer.body) <= RELAY_ANSWER_LIMIT
        return encode_answer(asked.identifier, (answer.code, answer.body) if fits else None)

    def _allows(self, source: str) -> bool:
        now = self._clock.seconds()
        bucket = self._buckets.get(source)
        if bucket is None:
            self._buckets = {name: one for name, one in self._buckets.items() if not one.full(now)}
            if len(self._buckets) >= RELAY_SOURCES:
                return False
            bucket = self._buckets[source] = TokenBucket(RELAY_RATE, RELAY_BURST, now)
        return bool(bucket.take(now))


def _question(value: dict[str, Any], sender: str) -> Question:
    """
    @param sender: node_id of who finished the end-to-end handshake, whose request it must be.
    @raise RequestRefused: for anything but a request that a node makes.
    """
    question = read_question(value, _ALLOWED, RELAY_BODY_LIMIT)
    signers = question.signers
    if signers != [sender] and (signers or _UNSIGNED.fullmatch(question.request) is None):
        raise RequestRefused("not-allowed", "only what its sender has signed is passed on")
    return question
