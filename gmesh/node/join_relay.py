# SPDX-License-Identifier: MIT
"""
What a host without a certificate may ask the authority by way of this anchor: what it takes to join.

It fetches the documents that the authority shows to everybody, and sends its join request, which is signed
by the key of its invite and its own: this anchor learns no secret, can alter nothing, and decides nothing but
whether it is a join request for this network, and how many of them are passed on.
Tests: C{tests/node/test_join_relay.py}.
"""

from __future__ import annotations

import json
import re

from twisted.internet.interfaces import IReactorTime

from gmesh.errors import GmeshError, RequestRefused
from gmesh.mesh.join_links import Joins
from gmesh.node.authority_http import AuthorityHTTP
from gmesh.node.limits import (
    JOIN_IN_FLIGHT,
    JOIN_POST_RATE,
    JOIN_POST_RATE_PER_ADDRESS,
    JOIN_RATE,
    JOIN_RATE_PER_ADDRESS,
    JOIN_WAIT,
    RELAY_ANSWER_LIMIT,
)
from gmesh.node.local_member import LocalMember
from gmesh.token_bucket import ClaimGate
from gmesh.trust.authority_answers import PROBLEM_PREFIX
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_SIZE, key_id
from gmesh.trust.limits import MAX_JOIN_REQUEST
from gmesh.trust.relayed_requests import Question, encode_answer, read_question
from gmesh.trust.restricted_json import parse_json

__all__ = ["JoinRelay"]

_ALLOWED = re.compile(r"POST /join|GET /(?:status|crl|policy|genesis(?:/[0-9]{1,9})?)")


class JoinRelay:
    """
    Passes on what hosts ask that join by this anchor.

    @param http: the path to the authority.
    @param joins: the connections of such hosts.
    @param member: this node; only an anchor lets others join.
    """

    def __init__(self, http: AuthorityHTTP, joins: Joins, member: LocalMember, clock: IReactorTime) -> None:
        self._http = http
        self._joins = joins
        self._member = member
        self._clock = clock
        now = clock.seconds()
        self._questions = ClaimGate(JOIN_RATE, JOIN_RATE_PER_ADDRESS, now)
        self._posts = ClaimGate(JOIN_POST_RATE, JOIN_POST_RATE_PER_ADDRESS, now)
        self._passing = 0
        self._allowed = False
        self._started = False

    def allow(self, allowed: bool) -> None:
        """Whether the operator of this host lets others join by it; from now on, if it has started."""
        self._allowed = allowed
        if self._started:
            self.start()

    def start(self) -> None:
        """Let hosts ask, if they may."""
        self._started = True
        if self._allowed and "anchor" in self._member.roles:
            self._joins.serve = self._serve
        else:
            self._joins.close()

    def stop(self) -> None:
        """Let nobody ask any more."""
        self._started = False
        self._joins.close()

    async def _serve(self, group: str, data: bytes) -> bytes:
        question = read_question(parse_json(data, len(data)), _ALLOWED, MAX_JOIN_REQUEST)
        if question.data or question.method == "POST":
            self._check_join(question)
        return encode_answer(question.identifier, await self._answer(group, question))

    def _check_join(self, question: Question) -> None:
        """@raise GmeshError: unless it is a join request for this network, signed by the key it is for."""
        if question.method != "POST":
            raise RequestRefused("not-allowed", "a document is asked for without a body")
        from gmesh.trust.join import parse_join_request  # whose memory a node by which nobody joins can spare

        request = parse_join_request(question.data)
        if request.network_id != self._member.trust.network_id:
            raise RequestRefused("wrong-network", "a join request for another network")
        if question.signers != [key_id(b64url_decode(request.node_key, KEY_SIZE))]:
            raise RequestRefused("not-allowed", "a join request is signed by the key it is for")

    async def _answer(self, group: str, asked: Question) -> tuple[int, bytes] | None:
        now, name = self._clock.seconds(), group.encode()
        if not self._questions.admits(name, now) or (asked.data and not self._posts.admits(name, now)):
            return _problem(429, "rate-limited", "too many joins by this anchor")
        if self._passing >= JOIN_IN_FLIGHT:
            return _problem(503, "busy", "this anchor passes on as many joins as it may")
        self._passing += 1
        try:
            answer = await self._http.forward(asked.method, asked.target, asked.headers, asked.data)
        except GmeshError:
            return None
        finally:
            self._passing -= 1
        if len(answer.body) > RELAY_ANSWER_LIMIT:
            return _problem(413, "too-large", "more than an anchor passes on")
        return answer.code, answer.body


def _problem(code: int, reason: str, detail: str) -> tuple[int, bytes]:
    problem = {"type": PROBLEM_PREFIX + reason, "detail": detail, "retry_after": JOIN_WAIT}
    return code, json.dumps(problem).encode()
