# SPDX-License-Identifier: MIT
"""
The local API: what programs on this machine, the command line first, may ask of the node.

Klein on the C{--control} endpoint, a unix socket whose file mode decides who gets in.
Tests: C{tests/node/test_local_api.py}.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from gmesh.daemon.metrics import METRICS_TYPE
from gmesh.endtoend.limits import DEFAULT_TIMEOUT, MAX_TIMEOUT
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import GmeshError, RequestRefused
from gmesh.mesh.limits import CAPTURE_FRAMES, CAPTURE_SECONDS
from gmesh.node.description import description
from gmesh.node.following import Follower
from gmesh.node.limits import PING_COUNT_LIMIT
from gmesh.node.local_http import json_response, problem, read_object
from gmesh.node.local_views import ILocalViews
from gmesh.node.streams import MessageStream

__all__ = ["ILocalNode", "LocalApi"]


_STATUS_OF = {
    "bad-service": 400,
    "bad-timeout": 400,
    "denied": 403,
    "forbidden": 403,
    "unknown-node": 404,
    "no-such-service": 404,
    "service-taken": 409,
    "too-large": 413,
    "busy": 503,
    "no-route": 503,
    "stale": 503,
    "too-far": 503,
    "timed-out": 504,
}


class ILocalNode(Protocol):
    """What the API needs of a node: L{gmesh.node.runtime.NodeRuntime} and a double in tests."""

    @property
    def views(self) -> ILocalViews:
        """What is asked about more than one table."""

    def status(self) -> dict[str, Any]:
        """The C{status} object."""

    def peers(self) -> list[dict[str, Any]]:
        """The direct neighbours."""

    def routes(self) -> list[dict[str, Any]]:
        """The cheapest path to every reachable node."""

    def alternatives(self, name: str) -> list[dict[str, Any]]:
        """The paths to one node, the best first, each without the relays of those before it."""

    def nodes(self) -> list[dict[str, Any]]:
        """Every node known from its record."""

    def services(self) -> list[dict[str, Any]]:
        """The services with a receiver on this node."""

    def transits(self) -> list[dict[str, Any]]:
        """The paths of others that passed through this node, with kind and size of the first frame."""

    def ping(self, name: str, count: int) -> Awaitable[list[float]]:
        """Round trips in milliseconds."""

    def trace(self, name: str, service: str) -> Awaitable[dict[str, Any]]:
        """The path to a node; to each hop the round trip, and what the policy says of a service of it."""

    def capture(self, name: str, seconds: float, count: int) -> Awaitable[list[dict[str, Any]]]:
        """The headers of the frames on the link to a neighbour, for so long or so many."""

    def send(self, name: str, service: str, data: bytes, timeout: float) -> Awaitable[float]:
        """Deliver and return the round trip in milliseconds."""

    def receive(self, service: str, receiver: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Hand messages for C{service} to C{receiver(source name, data)}; returns what stops it."""


class LocalApi:
    """
    The Klein routes over one node.  C{openapi.json} beside this module describes each; who may ask is
    decided before (L{gmesh.node.local_http.local_site}).

    @param metrics: makes the page C{/metrics}.
    """

    app = Klein()
    _log = Logger()

    def __init__(self, node: ILocalNode, metrics: Callable[[], bytes] = bytes) -> None:
        self._node = node
        self._metrics = metrics

    @app.handle_errors(Exception)
    def _failed(self, request: IRequest, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, HTTPException):
            status = error.code or 500
            return problem(request, _slug(error.name), status, error.name)
        if isinstance(error, GmeshError):
            default = 400 if isinstance(error, RequestRefused) else 502
            return problem(request, error.reason, _STATUS_OF.get(error.reason, default), error.detail)
        self._log.failure("the local API failed", failure=failure)
        return problem(request, "internal", 500, "the node failed on this request; its log says why")

    @app.route("/openapi.json", methods=["GET"])
    def _description(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        return description()

    @app.route("/metrics", methods=["GET"])
    def _page(self, request: Request) -> bytes:
        request.setHeader(b"content-type", METRICS_TYPE)
        return self._metrics()

    @app.route("/v1/status", methods=["GET"])
    def _status(self, request: Request) -> bytes:
        return json_response(request, self._node.status())

    @app.route("/v1/peers", methods=["GET"])
    def _peers(self, request: Request) -> bytes:
        return json_response(request, self._node.peers())

    @app.route("/v1/routes", methods=["GET"])
    def _routes(self, request: Request) -> bytes:
        named = request.args.get(b"to")
        if named is None:
            return json_response(request, self._node.routes())
        return json_response(request, self._node.alternatives(named[0].decode("ascii", "replace")))

    @app.route("/v1/nodes", methods=["GET"])
    def _nodes(self, request: Request) -> bytes:
        return json_response(request, self._node.nodes())

    @app.route("/v1/services", methods=["GET"])
    def _services(self, request: Request) -> bytes:
        return json_response(request, self._node.services())

    @app.route("/v1/transits", methods=["GET"])
    def _transits(self, request: Request) -> bytes:
        return json_response(request, self._node.transits())

    @app.route("/v1/whois", methods=["GET"])
    def _whois(self, request: Request) -> bytes:
        return json_response(request, self._node.views.whois(_argument(request, "node")))

    @app.route("/v1/topology", methods=["GET"])
    def _topology(self, request: Request) -> bytes:
        return json_response(request, self._node.views.topology())

    @app.route("/v1/doctor", methods=["GET"])
    def _doctor(self, request: Request) -> bytes:
        return json_response(request, self._node.views.doctor())

    @app.route("/v1/follow", methods=["GET"])
    async def _follow(self, request: Request) -> bytes:
        views = self._node.views
        follower = Follower(request, views.table(_argument(request, "what")), views.wall)
        stop = views.on_change(follower.look)
        try:
            follower.begin()
            # As in L{_receive}: ended by the client alone.
            await Deferred()
        finally:
            stop()
            follower.end()
        return b""

    @app.route("/v1/ping", methods=["POST"])
    async def _ping(self, request: Request) -> bytes:
        body = read_object(request, {"node": str, "count": int}, frozenset({"node"}))
        count = body.get("count", 1)
        if not 1 <= count <= PING_COUNT_LIMIT:
            raise RequestRefused("invalid-field", f"field 'count' must be 1 to {PING_COUNT_LIMIT}")
        trips = await self._node.ping(body["node"], count)
        return json_response(request, {"node": body["node"], "rtt_ms": [round(trip, 3) for trip in trips]})

    @app.route("/v1/trace", methods=["POST"])
    async def _trace(self, request: Request) -> bytes:
        body = read_object(request, {"node": str, "service": str}, frozenset({"node"}))
        return json_response(request, await self._node.trace(body["node"], body.get("service", "*")))

    @app.route("/v1/capture", methods=["POST"])
    async def _capture(self, request: Request) -> bytes:
        fields = {"peer": str, "seconds": float, "count": int}
        body = read_object(request, fields, frozenset({"peer"}))
        seconds, count = float(body.get("seconds", 5.0)), body.get("count", 1000)
        if not 0 < seconds <= CAPTURE_SECONDS:
            raise RequestRefused(
                "invalid-field", f"field 'seconds' must be above 0, at most {CAPTURE_SECONDS:g}"
            )
        if not 1 <= count <= CAPTURE_FRAMES:
            raise RequestRefused("invalid-field", f"field 'count' must be 1 to {CAPTURE_FRAMES}")
        return json_response(request, await self._node.capture(body["peer"], seconds, count))

    @app.route("/v1/send", methods=["POST"])
    async def _send(self, request: Request) -> bytes:
        fields = {"node": str, "service": str, "data": str, "timeout": float}
        body = read_object(request, fields, frozenset({"node", "service", "data"}))
        timeout = float(body.get("timeout", DEFAULT_TIMEOUT))
        if not 0 < timeout <= MAX_TIMEOUT:
            raise RequestRefused("invalid-field", f"field 'timeout' must be above 0, at most {MAX_TIMEOUT:g}")
        try:
            data = base64.b64decode(body["data"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestRefused("invalid-field", "field 'data' must be base64") from error
        trip = await self._node.send(body["node"], _service(body["service"]), data, timeout)
        return json_response(request, {"delivered": True, "rtt_ms": round(trip, 3)})

    @app.route("/v1/receive", methods=["GET"])
    async def _receive(self, request: Request) -> bytes:
        values = (request.args or {}).get(b"service", [])
        if len(values) != 1:
            raise RequestRefused("invalid-field", "give the service once: /v1/receive?service=NAME")
        service = _service(values[0].decode("utf-8", "replace"))
        stream = MessageStream(request, service)
        stop = self._node.receive(service, stream.message)
        try:
            stream.begin()
            # The client's hanging up cancels this coroutine; nothing else ends it.
            await Deferred()
        finally:
            stop()
            stream.end()
        return b""


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")


def _argument(request: Request, name: str) -> str:
    """@raise RequestRefused: if the query does not name it exactly once."""
    values = (request.args or {}).get(name.encode(), [])
    if len(values) != 1:
        raise RequestRefused("invalid-field", f"give {name} once: ?{name}=...")
    return str(values[0].decode("utf-8", "replace"))


def _service(text: str) -> str:
    if not valid_service(text) or is_reserved(text):
        raise RequestRefused(
            "invalid-field", "a service is a-z, 0-9 and -, with a letter or digit at both ends"
        )
    return text
