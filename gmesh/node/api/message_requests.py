# SPDX-License-Identifier: MIT
"""
Messages over HTTP: sent, received, acknowledged; asked for so often that no routing of Klein is in their way.

Tests: C{tests/node/api/test_message_requests.py}, C{tests/node/api/test_routes.py}.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from gmesh.endtoend.limits import DEFAULT_TIMEOUT, MAX_TIMEOUT
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import RequestRefused
from gmesh.node.api.access import AnswerAccess, peer_credentials
from gmesh.node.api.http import json_response, plain_path, read_object
from gmesh.node.api.json_lines import JsonLines
from gmesh.node.api.message_lines import Acknowledgements, MessageLines
from gmesh.node.api.views import LocalNode
from gmesh.node.limits import MAX_ACKNOWLEDGED

__all__ = ["DirectRoutes", "MessageRequests", "argument", "keep_open"]

Handler = Callable[[Request], Coroutine[Deferred[Any], Any, bytes]]


class MessageRequests:
    """
    Answers the requests about messages.

    @param answers: who may receive.
    @param entropy: as C{os.urandom}.
    """

    def __init__(
        self,
        node: LocalNode,
        answers: AnswerAccess,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._node = node
        self._answers = answers
        self._acknowledgements = Acknowledgements(entropy)

    async def send(self, request: Request) -> bytes:
        """C{POST /v1/send}: answered when the far program is done with the message."""
        fields = {"node": str, "service": str, "data": str, "timeout": float, "key": str}
        body = read_object(request, fields, frozenset({"node", "service", "data"}))
        timeout = float(body.get("timeout", DEFAULT_TIMEOUT))
        if not 0 < timeout <= MAX_TIMEOUT:
            raise RequestRefused("invalid-field", f"field 'timeout' must be above 0, at most {MAX_TIMEOUT:g}")
        data = _bytes(body, "data")
        service = _service(body["service"])
        trip, answer = await self._node.send(body["node"], service, data, timeout, body.get("key", ""))
        row: dict[str, Any] = {"delivered": True, "rtt_ms": round(trip, 3)}
        if answer:
            row["answer"] = base64.b64encode(answer).decode("ascii")
        return json_response(request, row)

    async def receive(self, request: Request) -> bytes:
        """C{GET /v1/receive}: the messages of a service, until the program hangs up or may not go on."""
        service, owner = _service(argument(request, "service")), _owner(request)
        acknowledged = argument(request, "ack", "0")
        if acknowledged not in ("0", "1"):
            raise RequestRefused("invalid-field", "give ack=1, or leave it out")
        shared = acknowledged == "1"
        lines = MessageLines(request, self._acknowledgements if shared else None, owner)
        self._answers.server(lines, service, peer_credentials(request.transport))
        return await keep_open(lines, self._node.receive(service, lines.message, owner, shared))

    async def acknowledge(self, request: Request) -> bytes:
        """C{POST /v1/receive/ack}: the program is done with messages, or refuses them."""
        fields = {"ids": list, "refused": str, "answer": str}
        body = read_object(request, fields, frozenset({"ids"}))
        identifiers = body["ids"]
        if not 0 < len(identifiers) <= MAX_ACKNOWLEDGED or not all(
            isinstance(identifier, str) for identifier in identifiers
        ):
            raise RequestRefused("invalid-field", f"field 'ids' must be 1 to {MAX_ACKNOWLEDGED} strings")
        unknown = self._acknowledgements.settle(
            identifiers, _owner(request), body.get("refused"), _bytes(body, "answer")
        )
        return json_response(request, {"settled": len(identifiers) - len(unknown), "unknown": unknown})


class DirectRoutes(Resource):
    """
    Hands the requests that programs make most to their handlers.

    @param inner: has all others.
    @param handlers: by method and path.
    @param failed: the answer to a request whose handler failed.
    @param gone: called for each caller that hung up before its answer.
    """

    isLeaf = True

    def __init__(
        self,
        inner: IResource,
        handlers: Mapping[tuple[bytes, bytes], Handler],
        failed: Callable[[Any, Failure], bytes],
        gone: Callable[[], None],
    ) -> None:
        super().__init__()
        self._inner = inner
        self._handlers = handlers
        self._failed = failed
        self._gone = gone

    def render(self, request: Request) -> Any:
        """What a handler answers, in its time; or what the inner resource does."""
        handler = self._handlers.get((request.method, plain_path(request.postpath or ())))
        if handler is None:
            return self._inner.render(request)
        answering = Deferred.fromCoroutine(handler(request))
        hung_up: list[Failure] = []

        def gone(failure: Failure) -> None:
            hung_up.append(failure)
            if not request.startedWriting:  # else an answer that goes on
                self._gone()
            answering.cancel()

        def failed(failure: Failure) -> bytes:
            return b"" if hung_up else self._failed(request, failure)

        def write(body: bytes) -> None:
            if not hung_up:
                request.write(body)
                request.finish()

        request.notifyFinish().addErrback(gone)
        answering.addErrback(failed).addCallback(write)
        return NOT_DONE_YET


async def keep_open(lines: JsonLines, stop: Callable[[], None]) -> bytes:
    """Let an answer go on until the client hangs up, which cancels this, or may not go on."""
    try:
        lines.begin()
        await lines.over
    finally:
        stop()
        lines.end()
    return b""


def argument(request: Request, name: str, default: str | None = None) -> str:
    """@raise RequestRefused: if the query does not name it exactly once, or at most once with a default."""
    values = (request.args or {}).get(name.encode(), [])
    if not values and default is not None:
        return default
    if len(values) != 1:
        raise RequestRefused("invalid-field", f"give {name} once: ?{name}=...")
    return str(values[0].decode("utf-8", "replace"))


def _bytes(body: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(body.get(name, ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestRefused("invalid-field", f"field {name!r} must be base64") from error


def _owner(request: Request) -> object:
    """The user whose program asks; all that cannot be told apart are one."""
    credentials = peer_credentials(request.transport)
    return None if credentials is None else credentials.uid


def _service(text: str) -> str:
    if not valid_service(text) or is_reserved(text):
        raise RequestRefused(
            "invalid-field", "a service is a-z, 0-9 and -, with a letter or digit at both ends"
        )
    return text
