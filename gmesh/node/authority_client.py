# SPDX-License-Identifier: MIT
"""
The node's side of the authority's HTTP API: signed requests out, verified documents in.

Nothing in an answer changes the node's state before the trust layer has verified a signature.
Tests: C{tests/node/test_authority_client.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.interfaces import ISigner
from gmesh.node.authority_http import AskLater, StaleClock
from gmesh.node.authority_relay import AuthorityPath
from gmesh.node.limits import (
    ANSWER_LIMIT,
    ANSWER_TIMEOUT,
    GENESIS_VERSIONS_A_FETCH,
    LONG_POLL_TIMEOUT,
    MAX_COMMANDS_SEEN,
)
from gmesh.trust.documents import (
    Certificate,
    Command,
    Crl,
    Document,
    Genesis,
    Policy,
    Status,
    document_from_dict,
    parse_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import NONCE_SIZE
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.signed_requests import JSON_TYPE, NODE_TAG, sign_request
from gmesh.trust.state import TrustState

__all__ = ["AuthorityClient"]

_BodyAt = Callable[[float], Mapping[str, Any]]
_UNKNOWN_AUDIENCE = frozenset({"bad-audience", "bad-signature", "unknown-key"})


class AuthorityClient:
    """
    Asks the authority, as this node.

    @param signer: the identity key.
    @param trust: verifies everything that comes back.
    """

    def __init__(
        self,
        http: AuthorityPath,
        signer: ISigner,
        trust: TrustState,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._http = http
        self._signer = signer
        self._trust = trust
        self._wall = wall
        self._entropy = entropy

    def close(self) -> None:
        """To cancel a request is to end it."""
        self._http.close()

    # What the node asks for

    async def heartbeat(
        self,
        certificate: Document[Certificate],
        numbers: Mapping[str, int | str],
        receipts: Sequence[dict[str, Any]] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Document[Status]:
        """
        Report what this node holds and what it did; the authority's newest status, not yet applied.

        @param more: further members of the request, where there is cause for them.
        """

        def body(now: float) -> dict[str, Any]:
            return {
                "certificate": certificate.as_dict(),
                "sent_ms": int(now * 1000),
                "numbers": dict(numbers),
                "receipts": list(receipts),
                **(more or {}),
            }

        answer, _ = await self._signed("POST", "/heartbeat", body)
        return document_from_dict(_member(answer, "status", dict), Status)

    async def renew(self, certificate: Document[Certificate], noise_public: bytes) -> Document[Certificate]:
        """A new certificate for the same node, judged valid and ours."""
        body = {"certificate": certificate.as_dict(), "noise_key": b64url_encode(noise_public)}
        answer, now = await self._signed("POST", "/renew", body)
        renewed = document_from_dict(_member(answer, "certificate", dict), Certificate)
        await self._knowing_signer(renewed)
        self._trust.judge_certificate(renewed, now)
        mine, new = certificate.body, renewed.body
        if (new.node_key, new.noise_key, new.name) != (mine.node_key, b64url_encode(noise_public), mine.name):
            raise DocumentRefused(
                "wrong-certificate", "the authority answered with another node's certificate"
            )
        return renewed

    async def commands(self, since: int) -> list[Document[Command]]:
        """The operators' commands above a number that have not expired, oldest first; not judged yet."""
        found: list[Document[Command]] = []
        while True:
            answer, _ = await self._signed("GET", f"/commands?since={since}")
            listed = _member(answer, "commands", list)
            found += [document_from_dict(item, Command) for item in listed if isinstance(item, dict)]
            following = answer.get("next")
            if type(following) is not int or following <= since or len(found) >= MAX_COMMANDS_SEEN:
                return found
            since = following

    async def status(self, after: str | None = None) -> Document[Status]:
        """The newest status; with C{after}, a digest, the authority waits for a newer one."""
        if after is None:
            return parse_document(await self._fetch("/status"), Status)
        target = f"/status?after={after}"
        try:
            data = await self._signed_once("GET", target, b"", self._wall(), LONG_POLL_TIMEOUT)
        except RequestRefused:
            data = await self._fetch(target, LONG_POLL_TIMEOUT)
        return parse_document(data, Status)

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

    async def _signed(
        self, method: str, path: str, body: Mapping[str, Any] | _BodyAt | None = None
    ) -> tuple[dict[str, Any], float]:
        """
        The answer, and the time that the authority took for now.

        @param body: also a function of the time the request is signed at.
        """

        def written(now: float) -> bytes:
            value = body(now) if callable(body) else body
            if value is None:
                return b""
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")

        now = self._wall()
        data = written(now)
        try:
            answer = await self._signed_once(method, path, data, now)
        except StaleClock as error:
            now = await self._signed_time(error)
            answer = await self._signed_once(method, path, written(now), now)
        except RequestRefused as error:
            if error.reason not in _UNKNOWN_AUDIENCE or not await self.fetch_successors():
                raise
            answer = await self._signed_once(method, path, data, now)
        return parse_json(answer, ANSWER_LIMIT), now

    async def _signed_time(self, refused: StaleClock) -> float:
        """
        The authority's time, if a status it signed bears it out: our own clock is wrong.

        @raise StaleClock: the refusal, if it does not.
        """
        status = await self.status()
        if not status.body.issued_at <= refused.time <= status.body.expires_at:
            raise refused
        await self._knowing_signer(status)
        self._trust.offer(status, refused.time)
        return refused.time

    async def _signed_once(
        self, method: str, path: str, data: bytes, created: float, timeout: float = ANSWER_TIMEOUT
    ) -> bytes:
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

        return await self._http.ask(method, path, headers, data, timeout)

    async def _fetch(self, path: str, timeout: float = ANSWER_TIMEOUT) -> bytes:
        """What anybody may fetch; signed only where others at our address have asked too much."""
        try:
            return await self._http.ask("GET", path, lambda target: {"Accept": JSON_TYPE}, timeout=timeout)
        except AskLater as busy:
            try:
                return await self._signed_once("GET", path, b"", self._wall(), timeout)
            except RequestRefused:
                raise busy from None


def _member(value: dict[str, Any], name: str, kind: type) -> Any:
    member = value.get(name)
    if not isinstance(member, kind):
        raise DocumentRefused("invalid-answer", f"the authority's answer holds no {name}")
    return member
