# SPDX-License-Identifier: MIT
"""
HTTP manners of the local API: who may ask, bodies with a cap, JSON answers, problem documents.

Tests: C{tests/node/api/test_routes.py}, C{tests/node/api/test_access.py}.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, FirstError
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource, getChildForRequest

from gmesh.daemon.browsers import ForPrograms
from gmesh.daemon.web import PROBLEM_TYPE, CappedChannel, CappedRequest, QuietSite, problem_body
from gmesh.errors import GmeshError, RequestRefused
from gmesh.node.api.access import AccessControl, Permission, peer_credentials
from gmesh.node.api.json_lines import json_line
from gmesh.node.limits import LOCAL_BODIES_LIMIT, LOCAL_BODY_LIMIT
from gmesh.stream_errors import DialRefused

__all__ = [
    "LateResource",
    "LocalRequest",
    "LocalSite",
    "access_of",
    "awaited",
    "json_response",
    "local_site",
    "plain_path",
    "problem",
    "read_object",
    "status_of",
]


T = TypeVar("T")

RECEIVE = b"/v1/receive"
CONNECT = b"/v1/connect"
ACCEPT = b"/v1/accept"
MESSAGES = b"/v1/messages"

_STATUS_OF = {
    "bad-request": 400,
    "bad-service": 400,
    "bad-timeout": 400,
    "bad-key": 400,
    "denied": 403,
    "forbidden": 403,
    "unknown-node": 404,
    "no-such-service": 404,
    "unknown-stream": 404,
    "no-such-forward": 404,
    "no-port": 409,
    "service-taken": 409,
    "too-large": 413,
    "wrong-host": 421,
    "upgrade-required": 426,
    "busy": 503,
    "no-route": 503,
    "stale": 503,
    "too-many-services": 503,
    "too-far": 503,
    "timed-out": 504,
}


def status_of(error: GmeshError | DialRefused) -> int:
    """The HTTP status that goes with a refusal."""
    return _STATUS_OF.get(error.reason, 400 if isinstance(error, RequestRefused) else 502)


_NOTHING_SAID = Headers()


class LocalRequest(CappedRequest):
    """What a program on this machine asks; the bodies of all of them together have a cap too."""

    channel: CappedChannel
    body_limit = LOCAL_BODY_LIMIT
    _held = 0
    _site: LocalSite | None = None
    _said: Headers | None = None

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """A request is whole: no form is among these, so C{Content-Type} is not parsed to look for one."""
        self._said, self.requestHeaders = self.requestHeaders, _NOTHING_SAID
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Answer."""
        if self._said is not None:
            self.requestHeaders = self._said
        super().process()

    def getRequestHostname(self) -> bytes:
        """What C{Host} says; a unix socket, which Klein would ask else, has no name."""
        here = isinstance(self.getHost(), UNIXAddress) and self.getHeader(b"host") is None
        return b"localhost" if here else bytes(super().getRequestHostname())

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, if it still fits beside those of others."""
        site = self.channel.site
        assert isinstance(site, LocalSite)
        if site.bodies + len(data) > LOCAL_BODIES_LIMIT:
            self.channel.refuse(
                503, "busy", f"others send {LOCAL_BODIES_LIMIT} bytes just now: ask again later"
            )
            return
        self._site = site
        self._held += len(data)
        site.bodies += len(data)
        super().handleContentChunk(data)

    def finish(self) -> None:
        """It is answered."""
        self._release()
        super().finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits for the answer."""
        self._release()
        super().connectionLost(reason)

    def _release(self) -> None:
        if self._site is not None:
            self._site.bodies -= self._held
        self._held = 0


class LocalSite(QuietSite):
    """
    A quiet site for programs on this machine.

    @ivar bodies: bytes of bodies that are held for requests without an answer.
    """

    def __init__(self, resource: IResource) -> None:
        super().__init__(resource, requestFactory=LocalRequest)
        self.bodies = 0


def access_of(method: bytes, path: bytes) -> Permission:
    """What a request takes: to look is to read; to send, or to take messages, is to write."""
    looks = method in (b"GET", b"HEAD") and path not in (RECEIVE, CONNECT, ACCEPT, MESSAGES)
    return Permission.READ if looks else Permission.WRITE


def plain_path(segments: Sequence[bytes]) -> bytes:
    """The path as Klein reads it, which drops slashes that repeat: no spelling of it takes less."""
    path = b"/" + b"/".join(segments)
    if path[-1:] == b"/" or b"//" in path:
        return b"/" + b"/".join(filter(None, path.split(b"/")))
    return path


class _Guarded(Resource):
    """Asks who may before anything else, so that a new route cannot forget to."""

    isLeaf = True

    def __init__(self, inner: IResource, control: AccessControl) -> None:
        super().__init__()
        self._inner = inner
        self._control = control

    def render(self, request: Any) -> Any:
        """What the inner resource answers, or why nothing is answered."""
        try:
            access = access_of(request.method, plain_path(request.postpath))
            self._control.admit(peer_credentials(request.transport), access)
        except RequestRefused as error:
            return problem(request, error.reason, 403, error.detail)
        return self._inner.render(request)


class LateResource(Resource):
    """
    A tree that is made for its first request.

    @param make: makes it.
    """

    isLeaf = True

    def __init__(self, make: Callable[[], IResource]) -> None:
        super().__init__()
        self._make = make
        self._tree: IResource | None = None

    def render(self, request: Any) -> Any:
        """What the tree answers."""
        if self._tree is None:
            self._tree = self._make()
        return getChildForRequest(self._tree, request).render(request)


def local_site(resource: IResource, control: AccessControl, names: Iterable[str] = ()) -> LocalSite:
    """
    A quiet site that knows who may ask.

    @param names: see L{ForPrograms}.
    """
    return LocalSite(ForPrograms(_Guarded(resource, control), names))


async def awaited(request: HTTPRequest, work: Awaitable[T], gone: Callable[[], None]) -> T:
    """
    What C{work} comes to, if the caller waits for it.

    @param gone: called instead of anything being logged if the caller hangs up before.
    @raise CancelledError: then; Klein, which has cancelled C{work}, makes nothing of it.
    """
    hung_up: list[Failure] = []
    request.notifyFinish().addErrback(hung_up.append)
    try:
        return await work
    except (CancelledError, FirstError, GmeshError):
        if not hung_up:
            raise
        gone()
        raise CancelledError from None


def json_response(request: IRequest, value: object, status: int = 200) -> bytes:
    """Set the headers of a JSON answer and return its body."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    return _sized(request, json_line(value))


def problem(request: IRequest, reason: str, status: int, detail: str) -> bytes:
    """Set the headers of an RFC 9457 problem and return its body."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", PROBLEM_TYPE.encode("ascii"))
    return _sized(request, problem_body(reason, reason.replace("-", " "), status, detail))


def _sized(request: IRequest, body: bytes) -> bytes:
    """What is written whole says how long it is."""
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def read_object(request: IRequest, known: Mapping[str, type], required: frozenset[str]) -> dict[str, Any]:
    """
    The JSON object in the body, with only C{known} fields of their types.

    @raise RequestRefused: naming the first field that is wrong.
    """
    assert request.content is not None
    request.content.seek(0)
    try:
        value = json.loads(request.content.read())
    except (ValueError, RecursionError) as error:
        raise RequestRefused("invalid-json", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise RequestRefused("invalid-json", "the body is not a JSON object")
    for name, field in value.items():
        expected = known.get(name)
        if type(field) is expected:
            continue
        if expected is None:
            raise RequestRefused("invalid-field", f"unknown field {name[:40]!r}")
        accepted = (int, float) if expected is float else (expected,)
        if not isinstance(field, accepted) or (isinstance(field, bool) and expected is not bool):
            raise RequestRefused("invalid-field", f"field {name!r} must be {_names[expected]}")
    for name in sorted(required - value.keys()):
        raise RequestRefused("invalid-field", f"field {name!r} is missing")
    return value


_names: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
}
