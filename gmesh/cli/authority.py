# SPDX-License-Identifier: MIT
"""
The authority as a command sees it: what it says is verified first, what it is asked is signed.

Nothing here trusts the connection: every document must lead back to the network id or the
genesis that the invite or the operator's directory pins.
Tests: C{tests/cli/test_join.py}.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gmesh.cli.http import Endpoint, HttpAnswer, HttpRefused, Unreachable
from gmesh.cli.limits import MAX_GENESIS_VERSIONS
from gmesh.cli.patience import UNAVAILABLE, Patience
from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust.authority_answers import is_answer
from gmesh.trust.documents import Crl, Document, Genesis, Policy, Status, parse_document
from gmesh.trust.limits import NONCE_SIZE
from gmesh.trust.signed_requests import sign_request
from gmesh.trust.state import TrustState
from gmesh.trust.verify import authority_keys

if TYPE_CHECKING:
    from gmesh.cli.anchor_link import AnchorLink

__all__ = ["RemoteAuthority", "audience_of"]

TOO_LARGE = 413
"""Content Too Large: RFC 9110, section 15.5.14."""


@dataclass
class RemoteAuthority:
    """
    The authority behind one or more URLs.

    @ivar urls: tried in this order until one answers, that one first from then on.
    @param wall: Unix seconds.
    @param entropy: random bytes.
    @param patience: how long to wait where the authority says so.
    @ivar anchors: by which it is asked where no URL answers.
    """

    urls: Sequence[str]
    wall: Callable[[], float] = time.time
    entropy: Callable[[int], bytes] = os.urandom
    patience: Patience = field(default_factory=lambda: Patience(0))
    anchors: Sequence[AnchorLink] = ()
    _last_good: str = field(default="", init=False)

    def follow(self, urls: Sequence[str]) -> None:
        """Ask these from now on, in this order."""
        self.urls, self._last_good = urls, ""

    def get(self, path: str) -> bytes:
        """The body of an unsigned request."""
        return self.patience.call(
            lambda: self._first(lambda endpoint: endpoint.request("GET", path, counts=is_answer))
        ).body

    def genesis_chain(self) -> list[Document[Genesis]]:
        """Every version of the genesis, from the first; read, not yet verified."""
        newest = parse_document(self.get("/genesis"), Genesis)
        if newest.body.version > MAX_GENESIS_VERSIONS:
            raise DocumentRefused("too-large", f"the authority shows genesis version {newest.body.version}")
        older = [
            parse_document(self.get(f"/genesis/{version}"), Genesis)
            for version in range(1, newest.body.version)
        ]
        return [*older, newest]

    def beliefs(self, network_id: str, chain: Sequence[Document[Genesis]]) -> TrustState:
        """
        The status, CRL and policy of the authority, verified under a genesis chain that was.

        @raise DocumentRefused: if one of them cannot be trusted.
        """
        trust = TrustState(network_id, chain, {})
        now = self.wall()
        trust.offer(parse_document(self.get("/status"), Status), now)
        trust.offer(parse_document(self.get("/policy"), Policy), now)
        try:
            trust.offer(parse_document(self.get("/crl"), Crl), now)
        except HttpRefused as error:
            # An anchor passes no long one on to strangers; the daemon has it of its neighbours, in pieces.
            if error.status != TOO_LARGE:
                raise
        for anchor in self.anchors:
            anchor.trust = trust
        return trust

    def signed(
        self, signer: ISigner, method: str, path: str, body: bytes, audience: str, tag: str
    ) -> HttpAnswer:
        """
        A request signed by C{signer}, now and anew after each wait.

        @raise HttpRefused: with the authority's reason.
        """
        return self.patience.call(
            lambda: self.signed_once(signer, method, path, body, audience, tag), repeatable=method == "GET"
        )

    def signed_once(
        self,
        signer: ISigner,
        method: str,
        path: str,
        body: bytes,
        audience: str,
        tag: str,
        created: int | None = None,
    ) -> HttpAnswer:
        """
        The same, whatever the answer; at each URL under the same nonce, so that it is done once at most.

        @param created: Unix seconds; now, when left out.
        @raise HttpRefused: with the authority's reason.
        """

        headers = sign_request(
            signer,
            method,
            path,
            body,
            audience=audience,
            created=int(self.wall()) if created is None else created,
            nonce=self.entropy(NONCE_SIZE),
            tag=tag,
        )
        try:
            return self._first(lambda url: url.request(method, path, body, headers, counts=is_answer))
        except HttpRefused as error:
            raise self._telling_the_difference(error) from error

    def _telling_the_difference(self, error: HttpRefused) -> HttpRefused:
        """The same refusal; by how much this clock is off, where that is why."""
        theirs = error.problem.get("time")
        if error.reason != "stale" or not isinstance(theirs, int):
            return error
        off = int(self.wall()) - theirs
        where = "ahead of" if off > 0 else "behind"
        detail = f"{error.detail} (this host's is {abs(off)} s {where} the authority's)"
        return HttpRefused(error.reason, detail, error.status, error.problem)

    def _first(self, ask: Callable[[Endpoint | AnchorLink], HttpAnswer]) -> HttpAnswer:
        """
        Of those that answer 503 the first is believed once no other URL does better.

        What is C{replayed} behind one was done by that one, perhaps: what it said of that is the answer.
        """
        failures = []
        busy: HttpRefused | None = None
        ways: list[Endpoint | AnchorLink] = [*map(Endpoint, self.urls), *self.anchors]
        for way in sorted(ways, key=lambda way: way.where != self._last_good):
            try:
                answer = ask(way)
            except Unreachable as error:
                failures.append(error.detail)
            except HttpRefused as error:
                if error.status == UNAVAILABLE:
                    busy = busy or error
                    continue
                if busy is not None and error.reason == "replayed":
                    break
                if failures and error.reason == "replayed":
                    lost = f"{'; '.join(failures)}, but it has arrived: look whether it was done"
                    raise HttpRefused("unknown-outcome", lost, error.status, error.problem) from error
                raise
            else:
                self._last_good = way.where
                return answer
        if busy is not None:
            raise busy
        raise Unreachable("unreachable", "; ".join(failures) or "no URL of the authority is known")


def audience_of(trust: TrustState, now: float) -> str:
    """The authority key that requests are meant for: the one that signed the status."""
    if trust.status is None:
        raise DocumentRefused("no-status", "the authority has shown no status")
    known = authority_keys(trust.genesis.body, now)
    return next(key for key, _ in trust.status.signatures if key in known)
