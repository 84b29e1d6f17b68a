# SPDX-License-Identifier: MIT
"""
The routes of the local API: Klein on the C{--control} endpoint, a unix socket whose file mode decides who
gets in.

Imported with the first request, since an idle node can spare the memory of Klein and what is beside it.
Tests: C{tests/node/api/test_routes.py}, C{tests/node/api/test_openapi.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from gmesh.daemon.metrics import METRICS_TYPE
from gmesh.errors import GmeshError, RequestRefused
from gmesh.mesh.limits import CAPTURE_FRAMES, CAPTURE_SECONDS
from gmesh.node.api.access import AnswerAccess, peer_credentials
from gmesh.node.api.entrance import MESSAGES_UPGRADE, UPGRADE
from gmesh.node.api.gateway_requests import EXPOSURE_FIELDS, FORWARD_FIELDS, GatewayRequests
from gmesh.node.api.http import MESSAGES, awaited, json_response, problem, read_object, status_of
from gmesh.node.api.json_lines import JsonLines, TableLines
from gmesh.node.api.message_requests import DirectRoutes, MessageRequests, argument, keep_open
from gmesh.node.api.views import LocalNode
from gmesh.node.limits import PING_COUNT_LIMIT

if TYPE_CHECKING:
    from gmesh.node.gateways.exposures import Exposed
    from gmesh.node.gateways.forwards import Forwarded

__all__ = ["LocalApi", "description"]


@cache
def description() -> bytes:
    """C{openapi.json}: OpenAPI 3.1, written by hand; tests hold it against what is answered."""
    return files("gmesh.node").joinpath("openapi.json").read_bytes()


class LocalApi:
    """
    The Klein routes over one node.  L{description} has each; who may ask is decided before
    (L{gmesh.node.api.http.local_site}).

    @param metrics: makes the page C{/metrics}.
    @param gone: called for each caller that hung up before its answer.
    @param gateways: what programs may ask of exposures and forwards.
    @param answers: who may have an answer that goes on.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        node: LocalNode,
        metrics: Callable[[], bytes] = bytes,
        gone: Callable[[], None] = lambda: None,
        gateways: GatewayRequests | None = None,
        answers: AnswerAccess | None = None,
    ) -> None:
        self._node = node
        self._gateways = gateways
        self._gone = gone
        self._metrics = metrics
        self._answers = answers or AnswerAccess()
        self._messages = MessageRequests(node, self._answers)

    def resource(self) -> IResource:
        """All routes, those of messages by a shorter way."""
        messages = {
            (b"POST", b"/v1/send"): self._messages.send,
            (b"GET", b"/v1/receive"): self._messages.receive,
            (b"POST", b"/v1/receive/ack"): self._messages.acknowledge,
        }
        return DirectRoutes(self.app.resource(), messages, self._failed, self._gone)

    @app.handle_errors(Exception)
    def _failed(self, request: IRequest, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, HTTPException):
            status = error.code or 500
            return problem(request, _slug(error.name), status, error.name)
        if isinstance(error, GmeshError):
            return problem(request, error.reason, status_of(error), error.detail)
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

    @app.route("/v1/streams", methods=["GET"])
    def _streams(self, request: Request) -> bytes:
        return json_response(request, self._node.streams.rows())

    @app.route("/v1/streams/<int:stream>", methods=["DELETE"])
    def _end_stream(self, request: Request, stream: int) -> bytes:
        self._node.streams.end(stream)
        return json_response(request, {"ended": stream})

    @app.route("/v1/whois", methods=["GET"])
    def _whois(self, request: Request) -> bytes:
        return json_response(request, self._node.whois(argument(request, "node")))

    @app.route("/v1/topology", methods=["GET"])
    def _topology(self, request: Request) -> bytes:
        return json_response(request, self._node.topology())

    @app.route("/v1/doctor", methods=["GET"])
    def _doctor(self, request: Request) -> bytes:
        return json_response(request, self._node.doctor())

    @app.route("/v1/follow", methods=["GET"])
    async def _follow(self, request: Request) -> bytes:
        lines = TableLines(request, self._node.table(argument(request, "what")), self._node.wall)
        self._answers.reader(lines, peer_credentials(request.transport))
        return await keep_open(lines, self._node.on_change(lines.look))

    @app.route("/v1/ping", methods=["POST"])
    async def _ping(self, request: Request) -> bytes:
        body = read_object(request, {"node": str, "count": int}, frozenset({"node"}))
        count = body.get("count", 1)
        if not 1 <= count <= PING_COUNT_LIMIT:
            raise RequestRefused("invalid-field", f"field 'count' must be 1 to {PING_COUNT_LIMIT}")
        trips = await awaited(request, self._node.ping(body["node"], count), self._gone)
        return json_response(request, {"node": body["node"], "rtt_ms": [round(trip, 3) for trip in trips]})

    @app.route("/v1/trace", methods=["POST"])
    async def _trace(self, request: Request) -> bytes:
        body = read_object(request, {"node": str, "service": str}, frozenset({"node"}))
        asked = self._node.trace(body["node"], body.get("service", "*"))
        return json_response(request, await awaited(request, asked, self._gone))

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
        asked = self._node.capture(body["peer"], seconds, count)
        return json_response(request, await awaited(request, asked, self._gone))

    @app.route("/v1/send", methods=["POST"])
    async def _send(self, request: Request) -> bytes:
        return await self._messages.send(request)

    @app.route("/v1/connect", methods=["GET"])
    @app.route("/v1/accept", methods=["GET"])
    @app.route("/v1/messages", methods=["GET"])
    def _stream(self, request: Request) -> bytes:
        """Only HTTP gets here: a stream leaves it with the first request (L{gmesh.node.api.entrance})."""
        upgrade = MESSAGES_UPGRADE if request.path == MESSAGES else UPGRADE
        request.setHeader(b"upgrade", upgrade.encode("ascii"))
        request.setHeader(b"connection", b"Upgrade")
        detail = f"ask on a connection of its own, with Connection: Upgrade and Upgrade: {upgrade}"
        return problem(request, "upgrade-required", 426, detail)

    @app.route("/v1/exposures", methods=["GET"])
    def _exposures(self, request: Request) -> bytes:
        return json_response(request, self._asked.gateways.exposures.rows())

    @app.route("/v1/exposures", methods=["POST"])
    async def _expose(self, request: Request) -> bytes:
        body = read_object(request, EXPOSURE_FIELDS, frozenset({"service", "to"}))
        return await self._while_asked(request, self._asked.expose(body, peer_credentials(request.transport)))

    @app.route("/v1/exposures/<service>", methods=["DELETE"])
    async def _expose_no_more(self, request: Request, service: str) -> bytes:
        found = self._asked.gateways.exposures.find(service)
        await self._asked.take_back(found, peer_credentials(request.transport))
        return json_response(request, found.row())

    @app.route("/v1/forwards", methods=["GET"])
    def _forwards(self, request: Request) -> bytes:
        return json_response(request, self._asked.gateways.forwards.rows())

    @app.route("/v1/forwards", methods=["POST"])
    async def _forward(self, request: Request) -> bytes:
        body = read_object(request, FORWARD_FIELDS, frozenset(FORWARD_FIELDS))
        asked = await self._asked.forward(body, peer_credentials(request.transport))
        return await self._while_asked(request, asked)

    @app.route("/v1/forwards/<int:number>", methods=["DELETE"])
    async def _forward_no_more(self, request: Request, number: int) -> bytes:
        found = self._asked.gateways.forwards.find(number)
        await self._asked.take_back(found, peer_credentials(request.transport))
        return json_response(request, found.row())

    @property
    def _asked(self) -> GatewayRequests:
        assert self._gateways is not None
        return self._gateways

    async def _while_asked(self, request: Request, gateway: Exposed | Forwarded) -> bytes:
        """Keep what was asked for until the program hangs up, or another takes it back."""
        lines = JsonLines(request)
        try:
            lines.begin()
            lines.write(gateway.row())
            await gateway.removed
            if gateway.ended_by:
                lines.write({**gateway.row(), "ended_by": gateway.ended_by})
            lines.close()
        finally:
            await self._asked.end(gateway)
            lines.end()
        return b""

    @app.route("/v1/receive", methods=["GET"])
    async def _receive(self, request: Request) -> bytes:
        return await self._messages.receive(request)

    @app.route("/v1/receive/ack", methods=["POST"])
    async def _acknowledge(self, request: Request) -> bytes:
        return await self._messages.acknowledge(request)


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")
