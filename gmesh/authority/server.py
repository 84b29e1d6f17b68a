# SPDX-License-Identifier: MIT
"""
The authority put together, and its Klein application: every request is bounded, judged and answered here.

A handler gets a parsed body and a caller whose signature was good, and gives an L{Response}; every
error becomes a problem document here.
Tests: C{tests/authority/test_http.py}, C{tests/authority/test_request_log.py}.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from random import random
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException

from gmesh import __version__
from gmesh.authority import limits
from gmesh.authority.approval_rules import ApprovalRules, read_rules
from gmesh.authority.approvals import Approvals, ApprovalWaits
from gmesh.authority.audit import printable
from gmesh.authority.auth import Authenticator, Caller, Envelope, ForbiddenRole, PresentedCertificate
from gmesh.authority.clock import SteadyClock
from gmesh.authority.dispatch import AuthorityResource, Deadline
from gmesh.authority.follow import Follower
from gmesh.authority.join_gate import JoinGate
from gmesh.authority.openapi import describe
from gmesh.authority.problems import ProblemWithMembers, problem_body, public_detail, status_of
from gmesh.authority.proxies import UNIX, TrustedProxies, is_local
from gmesh.authority.published import Publisher
from gmesh.authority.rate_limit import RateLimited, RateLimiter, Toll, address_key
from gmesh.authority.request_log import RequestLog, RequestRecord
from gmesh.authority.route import Access, Call, Response, Route, json_response
from gmesh.authority.routes import ROUTES
from gmesh.authority.service import Authority
from gmesh.authority.state import LOCK, StateDirectory
from gmesh.authority.store.migrate import newest
from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.writer import Store
from gmesh.daemon.lock import StateLock
from gmesh.daemon.web import PROBLEM_TYPE
from gmesh.errors import GmeshError, RequestRefused, StoreError
from gmesh.keyfiles import Passphrases
from gmesh.trust.names import human_error
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.signed_requests import JSON_TYPE

__all__ = ["Server", "open_authority", "read_possible_rules"]
_JSON = [JSON_TYPE.encode()]
_PROBLEM = [PROBLEM_TYPE.encode()]
_NO_STORE = [b"no-store"]
_BUSY = (
    b'{"type":"urn:gmesh:problem:rate-limited","title":"Too Many Requests","status":429,'
    b'"detail":"too many requests: wait %d s","request_id":"%b","retry_after":%d}\n'
)
_FORWARDED = (b"x-forwarded-for", b"forwarded")
_AUDITED_NOT = frozenset({"replayed", "rate-limited", "stale"})


class Server:
    """
    Builds the application around the use cases.

    @param request_log: counts and logs what was answered.
    @param proxies: whose X-Forwarded-For is believed.
    """

    log = Logger()

    def __init__(
        self,
        authority: Authority,
        authenticator: Authenticator,
        limiter: RateLimiter,
        clock: IReactorTime,
        request_log: RequestLog,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._authority = authority
        self._authenticator = authenticator
        self._limiter = limiter
        self._joins = JoinGate(authority.store, limiter)
        self.proxies = proxies or TrustedProxies()
        self._told_of_proxy = False
        self._deadline = Deadline(clock, limits.ANSWER_SECONDS)
        self._request_log = request_log
        self.app = Klein()
        for route in ROUTES:
            self._add(route)
        self.app.handle_errors(HTTPException)(self._no_route)
        self.app.handle_errors(Exception)(self._broken)

    def _add(self, route: Route) -> None:
        def serve(request: Any, **path: Any) -> Deferred[bytes]:
            return self._serve(request, route, path)

        self.app.route(route.path, methods=[route.method], endpoint=_endpoint(route))(serve)

    def resource(self) -> AuthorityResource:
        """The application, to be put on a site."""
        plain = (route for route in ROUTES if "<" not in route.path)
        return AuthorityResource(
            self.app,
            {(route.method.encode(), route.path.encode()): _endpoint(route) for route in plain},
            re.compile("|".join({route.spelling: "" for route in ROUTES}).encode()),
            self._admit,
            self._nowhere,
        )

    def _serve(self, request: Any, route: Route, path: dict[str, Any]) -> Deferred[bytes]:
        record = self._request_log.begin(route.name)
        answering: Deferred[Response] = Deferred.fromCoroutine(self._answer(request, route, path, record))
        if not answering.called:
            self._deadline.watch(answering)
        answering.addCallbacks(
            lambda answer: self._write(request, answer, record),
            lambda failure: self._failed(request, failure, record),
        )
        return answering  # type: ignore[return-value]  # the callbacks above turn it into bytes

    async def _answer(
        self, request: Any, route: Route, path: dict[str, Any], record: RequestRecord
    ) -> Response:
        toll: Toll = request.toll
        record.address = toll.address
        envelope = Envelope(
            method=request.method.decode("ascii"),
            target=request.uri.decode("ascii"),
            header=_headers(request.requestHeaders),
            body=request.content.read(),
            toll=toll,
            request_id=record.request_id,
        )
        try:
            _check_body(envelope, route)
            caller = await self._judge(envelope, route, path)
            if caller is not None:
                record.caller, record.operator = caller.key_id, bool(caller.role)
            body = _parse(envelope, route)
            caller = await self._with_body(caller, route, body)
        except RequestRefused as error:
            if not isinstance(error, RateLimited | ForbiddenRole):
                toll.pay()
            raise
        query = _query(envelope.target, route)
        call = Call(self._authority, record.request_id, query, path, toll.address, body, caller)
        try:
            if caller is not None and route.votable:
                approvals = self._authority.approvals
                caller = approvals.bound(caller)
                if approvals.wanted(route.name, body):
                    caller, body = await approvals.ballot(caller, route.operation, envelope.target, body)
                call = msgspec.structs.replace(call, judged=caller, body=body)
            answer = await route.handler(call)
        except ApprovalWaits as waits:
            return json_response(waits.answer, 202)
        except GmeshError as error:
            if route.access is Access.JOIN and error.reason == "enrolment-refused":
                self._joins.refused(call.caller, body)
            await self._note(call.judged, route, path, error)
            raise
        if caller is not None and not caller.role:
            self._authenticator.known.served(caller.key_id, caller.public)
        return answer

    async def _judge(self, envelope: Envelope, route: Route, path: Mapping[str, Any]) -> Caller | None:
        """Who signed; the body is not parsed yet."""
        if not route.access.signed:
            signed = route.access is Access.PUBLISHED and envelope.header("signature-input")
            if signed and self._authority.store.outage.trouble is None:
                with suppress(StoreError):  # what is served is public: a stranger may have it too
                    return await self._authenticator.member(envelope)
            envelope.toll.pay()
            return None
        if route.access is Access.JOIN:
            return self._authenticator.joiner(envelope, route.shape)
        if route.access is Access.NODE:
            return await self._authenticator.node(envelope, route.shape)
        if route.access is Access.MEMBER:
            return await self._authenticator.member(envelope)
        try:
            return await self._authenticator.operator(envelope, route.access.value)
        except ForbiddenRole as error:
            await self._note(error.caller, route, path, error)
            raise

    async def _with_body(self, caller: Caller | None, route: Route, body: Any) -> Caller | None:
        """What the body says of the caller, where it does."""
        if caller is not None and route.access is Access.NODE:
            presented = PresentedCertificate(body.certificate)
            served = self._authority.members.served(caller, presented)
            return served or await self._authenticator.present(caller, presented)
        if caller is not None and route.access is Access.JOIN:
            vouched = self._authenticator.vouch(caller, body)
            await self._joins.admit(vouched, body)
            return vouched
        return caller

    async def _note(
        self, caller: Caller | None, route: Route, path: Mapping[str, Any], error: GmeshError
    ) -> None:
        """Write a refusal into the audit when it is a known operator's."""
        if caller is None or isinstance(error, StoreError):
            return
        if caller.role and error.reason not in _AUDITED_NOT:
            target = " ".join(map(str, path.values()))
            await self._authority.audit.refused(caller, route.name, target, error)

    # Before any route.

    def _admit(self, request: Any) -> bytes | None:
        """Charge what nobody signed. @return: what to answer where the address has nothing left."""
        request.toll = Toll(self._limiter, self._address(request))
        if request.requestHeaders.hasHeader(b"signature-input"):
            return None
        return self._paid(request)

    def _paid(self, request: Any) -> bytes | None:
        waiting = request.toll.charge()
        return self._busy(request, waiting) if waiting else None

    def _busy(self, request: Any, waiting: int) -> bytes:
        """The answer 429, made with less work than any other."""
        request.setResponseCode(429)
        headers = request.responseHeaders
        headers.setRawHeaders(b"Content-Type", _PROBLEM)
        headers.setRawHeaders(b"Cache-Control", _NO_STORE)
        headers.setRawHeaders(b"Retry-After", [b"%d" % waiting])
        return _BUSY % (waiting, self._request_log.new_request_id().encode(), waiting)

    def _address(self, request: Any) -> str:
        host = getattr(request.getClientAddress(), "host", None) or UNIX
        headers = request.requestHeaders
        if self.proxies:
            host = self.proxies.client(host, headers.getRawHeaders("x-forwarded-for", []))
        elif not self._told_of_proxy and is_local(host) and any(map(headers.hasHeader, _FORWARDED)):
            self._told_of_proxy = True
            self.log.warn(
                "a proxy on this host passes requests on, and none is trusted: all its clients count as one"
                " address; name it with --trusted-proxy {host}",
                host=host,
            )
        return _address_name(host)

    # Answers.

    def _write(self, request: Any, answer: Response, record: RequestRecord) -> bytes:
        if answer.etag:
            request.setHeader("ETag", f'"{answer.etag}"')
            if f'"{answer.etag}"' in request.requestHeaders.getRawHeaders("if-none-match", []):
                request.setResponseCode(304)
                self._request_log.answered(record, 304)
                return b""
        request.setResponseCode(answer.status)
        self._request_log.answered(record, answer.status)
        headers = request.responseHeaders
        if answer.status != 204:
            headers.setRawHeaders(b"Content-Type", _JSON)
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(answer.body)])
        headers.setRawHeaders(b"Cache-Control", _NO_STORE)
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        return answer.body

    def _failed(self, request: Any, failure: Failure, record: RequestRecord) -> bytes:
        error = failure.value
        if isinstance(error, CancelledError):
            return b""  # the client is gone
        if not isinstance(error, GmeshError):
            self.log.failure("request {request_id} failed", failure, request_id=record.request_id)
            error = StoreError("internal", "an error in the authority; its log names this request_id")
        return self._refuse(request, error, record)

    def _refuse(self, request: Any, error: GmeshError, record: RequestRecord) -> bytes:
        more = error.members if isinstance(error, ProblemWithMembers) else {}
        if isinstance(error, RateLimited):
            request.setHeader("Retry-After", str(error.retry_after))
        elif isinstance(error, StoreError) and error.reason != "internal":
            request.setHeader("Retry-After", "5")
        detail = public_detail(error, record.operator)
        if detail != error.detail and not self._authority.store.told(error):
            self.log.error(
                "request {request_id}: {reason}: {detail}",
                request_id=record.request_id,
                reason=error.reason,
                detail=error.detail,
            )
        return self._problem(request, error.reason, status_of(error), detail, record, more)

    def _problem(
        self,
        request: Any,
        slug: str,
        status: int,
        detail: str,
        record: RequestRecord,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> bytes:
        body = problem_body(slug, status, detail, record.request_id, **more)
        self._request_log.answered(record, status, slug)
        request.setResponseCode(status)
        request.setHeader("Content-Type", PROBLEM_TYPE)
        request.setHeader("Content-Length", str(len(body)))
        request.setHeader("Cache-Control", "no-store")
        return body

    def _nowhere(self, request: Any) -> bytes:
        """Nothing is at this path, or it is written in another way."""
        paid = self._paid(request)
        if paid is not None:
            return paid
        record = self._request_log.begin()
        return self._problem(request, "not-found", 404, "there is nothing at this path", record)

    def _no_route(self, request: Any, failure: Failure) -> bytes:
        methods = getattr(failure.value, "valid_methods", None)
        if not methods:
            return self._nowhere(request)
        paid = self._paid(request)
        if paid is not None:
            return paid
        request.setHeader("Allow", ", ".join(sorted(methods)))
        record = self._request_log.begin()
        return self._problem(request, "method-not-allowed", 405, "this path has other methods", record)

    def _broken(self, request: Any, failure: Failure) -> bytes:
        return self._failed(request, failure, self._request_log.begin())


def _headers(received: Any) -> Callable[[str], Sequence[str]]:
    """What gives all values of a header: each is asked for once or twice, and decoded once."""
    known: dict[str, Sequence[str]] = {}

    def header(name: str) -> Sequence[str]:
        values = known.get(name)
        if values is None:
            values = known[name] = received.getRawHeaders(name, [])
        return values

    return header


@lru_cache(maxsize=1024)
def _address_name(host: str) -> str:
    return printable(address_key(host))


def _endpoint(route: Route) -> str:
    return f"{route.method} {route.path}"


def _query(target: str, route: Route) -> dict[str, list[str]]:
    if "\0" in unquote(target):
        raise RequestRefused("bad-request", "NUL is no text, in a path or a query")
    if "?" not in target:
        return {}
    try:
        given = parse_qs(target.partition("?")[2], keep_blank_values=True, max_num_fields=16)
    except ValueError as error:
        raise RequestRefused("bad-request", "a query has at most 16 arguments") from error
    return {name: values for name, values in given.items() if name in route.query}


def _check_body(envelope: Envelope, route: Route) -> None:
    """What can be said of a body without looking into it."""
    if len(envelope.body) > route.body_limit:
        raise RequestRefused("too-large", f"a body has at most {route.body_limit} bytes here")
    if route.body is not None and list(envelope.header("content-type")) != [JSON_TYPE]:
        raise RequestRefused("unsupported-type", f"Content-Type must be {JSON_TYPE}")


def _parse(envelope: Envelope, route: Route) -> Any:
    if route.body is None:
        return None
    value = parse_json(envelope.body, route.body_limit)
    try:
        return msgspec.convert(value, route.body, strict=True)
    except msgspec.ValidationError as error:
        raise RequestRefused("invalid-field", human_error(error, route.body)) from error


def _not_written(rows: object) -> None:
    """Where others write too, the audit's file is written by who follows them all."""


_POSSIBLE = frozenset(route.name for route in ROUTES if route.votable)


def read_possible_rules(state: Path) -> ApprovalRules:
    """The rules of approval of a state directory. @raise ConfigurationError: C{bad-approvals}."""
    return read_rules(state, _POSSIBLE)


def open_authority(
    state: Path,
    clock: IReactorTime,
    wall: Callable[[], float],
    pools: Callable[[Any], tuple[Any, Any]],
    passphrases: Passphrases | None = None,
    weaken_approvals: bool = False,
    clock_is_right: bool = False,
    shared: bool = False,
    engine: Any = None,
) -> Authority:
    """
    Open a state directory.

    @param pools: makes the writer pool and the reader pool of an engine.
    @param passphrases: asked for the signing keys that are sealed.
    @param weaken_approvals: whether C{approvals.json} may ask for less than it did.
    @param shared: other daemons may serve from the same database.
    @param engine: as of L{StateDirectory}.
    @param clock_is_right: C{wall} is known to be right: somebody says so, or keeps it synchronised.
    @raise ConfigurationError: if the directory cannot be used.
    @raise StoreError: if the database cannot.
    """
    now = int(wall())
    directory = StateDirectory(state, now, passphrases, engine)
    engine = directory.engine
    shared = shared or engine.shared
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        issuer = directory.issuer()
        rules = read_possible_rules(state)
        now = int(wall())  # somebody may have been asked for a passphrase meanwhile
        opened = directory.open(issuer, now, rules, weaken_approvals, clock_is_right, shared)
    except BaseException:
        lock.release()
        raise
    steady = SteadyClock(wall, clock.seconds, opened.high_water, clock_is_right)
    store = Store(
        engine,
        *pools(engine),
        steady,
        _not_written if shared else opened.mirror.append,
        claimed=opened.claimed,
        checked=opened.checked,
        reactor=clock if engine.shared else None,
    )
    store.shared = shared
    store.state = state
    store.replica = Replica(
        secrets.token_hex(8),
        socket.gethostname(),
        __version__,
        newest(),
        directory.keys.names,
        opened.rules.required,
        now,
    )
    publisher = Publisher(store, issuer, clock, wall)
    publisher.load(opened.chain, opened.policy, opened.crl, opened.status)
    approvals = Approvals(store, opened.rules, _POSSIBLE)
    description = json.dumps(describe(ROUTES)).encode()
    authority = Authority(store, issuer, publisher, approvals, steady, clock, lock, description)
    store.taken_over = authority.taken_over
    if shared:
        authority.follower = Follower(
            store, publisher, directory, opened.mirror, clock, wall, random, authority.followed
        )
    if opened.another is not None:
        authority.history.found(opened.another)
    return authority
