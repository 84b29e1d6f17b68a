# SPDX-License-Identifier: MIT
"""openapi.json against the routes, against the answers of a whole node, against the command line."""

from __future__ import annotations

import ast
import copy
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from treq.testing import RequestTraversalAgent, StubTreq
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers

from gmesh.daemon.metrics import MetricsPage
from gmesh.node.api.access import AccessControl
from gmesh.node.api.gateway_requests import GatewayRequests
from gmesh.node.api.http import access_of
from gmesh.node.api.routes import LocalApi, description
from gmesh.node.api.start_settings import Settings
from gmesh.node.api.views import LocalNode
from gmesh.node.configuration import Configuration
from gmesh.node.gateways.gateways import Gateways
from gmesh.node.metrics import NodeCollector
from gmesh.node.reactor_lag import ReactorLag
from gmesh.testing.mesh import MemoryMesh

ROOT = Path(__file__).resolve().parents[3]
TOLD = json.loads(description())
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in TOLD["paths"].items()
    for method, operation in operations.items()
}


def test_every_route_is_described_and_nothing_else() -> None:
    """The routes and the document tell of the same methods and paths, each with what it takes."""
    served = {
        (method, re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule.rule))
        for rule in LocalApi.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    assert served == set(OPERATIONS)
    for (method, path), operation in OPERATIONS.items():
        assert access_of(method.encode(), path.encode()).value == operation["x-gmesh-access"], path
        assert operation["summary"].endswith(".")
        assert ("requestBody" in operation) == (method == "POST")
    identifiers = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_every_schema_is_used() -> None:
    """And every reference leads somewhere."""
    text = json.dumps(TOLD)
    used = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert used == set(TOLD["components"]["schemas"])


def test_the_command_line_asks_for_nothing_else() -> None:
    """Every path that a command names is a path of the description."""
    asked: set[str] = set()
    for file in (ROOT / "gmesh/cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.startswith("/v1/")
            ):
                asked.add(node.value.partition("?")[0])
    assert len(asked) >= 11
    assert asked <= set(TOLD["paths"])


def test_the_reference_names_every_path() -> None:
    """docs/local-api.rst has a line for each, with what it takes."""
    text = (ROOT / "docs/local-api.rst").read_text(encoding="utf-8")
    for (method, path), operation in OPERATIONS.items():
        spelled = re.sub(r"{(\w+)}", lambda name: name[1].upper(), path)
        assert re.search(rf"``{method} {spelled}[?`].*\b{operation['x-gmesh-access']}\b", text), path


def strict(schema: Any) -> Any:
    """A copy in which an object has the fields that are told, and no other."""
    if isinstance(schema, dict):
        made = {key: strict(value) for key, value in schema.items()}
        if "properties" in made:
            made.setdefault("additionalProperties", False)
        return made
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


def check(schema: Any, value: Any) -> None:
    """Fail unless a value is what the schema says, field for field."""
    validation = pytest.importorskip("jsonschema_rs", reason="it comes with Schemathesis")
    whole = strict(copy.deepcopy(schema)) | {"components": strict(TOLD["components"])}
    validation.validator_for(whole).validate(value)


class Heartbeat:
    """As after a failed attempt."""

    reachable = False
    troubles: dict[str, str] = {"contact": "unreachable"}  # noqa: RUF012  # read only

    def age(self) -> float:
        return 61.5


class Lines(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True

    def dataReceived(self, data: bytes) -> None:
        self.data += data


def told_path(target: str) -> str:
    """The path of the description that a target is of."""
    path = target.partition("?")[0]
    return next((told for told in TOLD["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]*", told), path)), path)


class World:
    """The local API of a, whose neighbour is b, behind which is c."""

    def __init__(self) -> None:
        self.mesh = mesh = MemoryMesh.line("a", "b", "c")
        mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))
        mesh["c"].runtime.datagrams.register("log", lambda message: None)
        runtime, heartbeat = mesh["a"].runtime, Heartbeat()
        settings = Settings("/state", ("tcp:7443",))
        metrics = MetricsPage(NodeCollector(runtime, heartbeat, ReactorLag(mesh.clock)))  # type: ignore[arg-type]  # same
        self.node = LocalNode(runtime, heartbeat, mesh.clock, settings)  # type: ignore[arg-type]  # a double
        ids = (runtime.member.trust.network_id, runtime.member.peer.node_id)
        configuration = Configuration(Path("/state"))
        reactor = MemoryReactorClock()
        gateways = Gateways(reactor, runtime.streams, "gmesh-node", ids, configuration, AccessControl())
        gateways.startService()
        api = LocalApi(self.node, metrics.page, gateways=GatewayRequests(gateways))
        self.web = StubTreq(api.resource())
        self.agent = RequestTraversalAgent(api.resource())
        self.cooperator: Any = Cooperator(scheduler=lambda work: work() or None, started=True)

    def dial(self) -> int:
        """Open a stream to c; its number."""
        streams, far = self.mesh["a"].runtime.streams, self.mesh["c"].runtime.streams
        listening = far.listen("web", lambda offer: offer.accept(Lines()))
        protocol = self.mesh.result(streams.dial("c", "web", lambda peer: Lines()))
        listening.stopListening()
        return int(protocol.transport.stream)

    def _passes(self, got: list[Any], flush: Callable[[], None]) -> Any:
        for _ in range(400):
            flush()
            if got:
                return got[0]
            self.mesh.run(0.1)
        raise AssertionError("no answer")

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, str, bytes]:
        """Status, type and body of the answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        got: list[Any] = []
        self.web.request(method, f"http://node{target}", data=data).addBoth(got.append)
        response = self._passes(got, self.web.flush)
        whole: list[bytes] = []
        response.content().addBoth(whole.append)
        kind = response.headers.getRawHeaders("content-type")[0]
        return response.code, kind.partition(";")[0], self._passes(whole, self.web.flush)

    def stream(self, target: str, body: Any = None) -> tuple[Lines, Callable[[], None]]:
        """The lines of an answer as they come, and what hangs up; with a body it is a POST."""
        got: list[Any] = []
        producer = (
            None if body is None else FileBodyProducer(io.BytesIO(json.dumps(body).encode()), self.cooperator)
        )
        method = b"GET" if body is None else b"POST"
        self.agent.request(method, f"http://node{target}".encode(), Headers({}), producer).addBoth(got.append)
        response = self._passes(got, self.agent.flush)
        assert response.code == 200
        lines = Lines()
        response.deliverBody(lines)

        def hang_up() -> None:
            response._transport.loseConnection()
            self.agent.flush()

        return lines, hang_up

    def answers(self, method: str, target: str, body: Any = None) -> Any:
        """The answer, which is what is told of its status."""
        status, kind, data = self.ask(method, target, body)
        operation = OPERATIONS[method, told_path(target)]
        response = operation["responses"][str(status)]
        if "$ref" in response:
            response = TOLD["components"]["responses"]["Problem"]
        [(told, content)] = response["content"].items()
        assert kind == told
        value = json.loads(data) if kind.endswith("json") else data.decode()
        check(content["schema"], value)
        return value


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.mesh.stop()


def test_every_answer_is_as_described(world: World) -> None:
    """Each route, asked of a whole node that has something to tell; no field is missing, none is untold."""
    asked = [
        ("GET", "/openapi.json", None),
        ("GET", "/metrics", None),
        ("GET", "/v1/status", None),
        ("GET", "/v1/peers", None),
        ("GET", "/v1/routes", None),
        ("GET", "/v1/routes?to=c", None),
        ("GET", "/v1/nodes", None),
        ("GET", "/v1/services", None),
        ("GET", "/v1/transits", None),
        ("GET", "/v1/streams", None),
        ("GET", "/v1/whois?node=b", None),
        ("GET", "/v1/topology", None),
        ("GET", "/v1/doctor", None),
        ("GET", "/v1/connect?node=c&service=log", None),
        ("GET", "/v1/accept?service=log", None),
        ("GET", "/v1/messages", None),
        ("GET", "/v1/exposures", None),
        ("GET", "/v1/forwards", None),
        ("POST", "/v1/ping", {"node": "c", "count": 2}),
        ("POST", "/v1/trace", {"node": "c", "service": "log"}),
        ("POST", "/v1/capture", {"peer": "b", "seconds": 20}),
        ("POST", "/v1/send", {"node": "c", "service": "log", "data": "aGVsbG8="}),
        ("POST", "/v1/send", {"node": "c", "service": "log", "data": "aGVsbG8=", "key": "a key"}),
        ("POST", "/v1/receive/ack", {"ids": ["of nothing"]}),
    ]
    stop = world.node.receive("news", lambda message: None, None)
    asked.append(("DELETE", f"/v1/streams/{world.dial()}", None))
    for method, target, body in asked:
        empty = ("/v1/transits", "/v1/exposures", "/v1/forwards")
        assert world.answers(method, target, body) or target in empty, target
    stop()
    streamed = {path for (_, path), each in OPERATIONS.items() if "application/jsonl" in str(each)}
    taken_back = {"/v1/exposures/{service}", "/v1/forwards/{number}"}
    assert {told_path(target) for _, target, _ in asked} | streamed | taken_back == set(TOLD["paths"])


def lines_of(world: World, path: str, data: bytes, method: str = "GET") -> list[Any]:
    schema = OPERATIONS[method, path]["responses"]["200"]["content"]["application/jsonl"]["schema"]
    lines = [json.loads(line) for line in data.splitlines()]
    for line in lines:
        check(schema, line)
    return lines


def test_every_stream_is_as_described(world: World) -> None:
    """Each line of receive and follow."""
    lines, hang_up = world.stream("/v1/receive?service=log")
    world.mesh.result(world.mesh["c"].runtime.datagrams.send("a", "log", b"hello"))
    world.agent.flush()
    [message] = lines_of(world, "/v1/receive", lines.data)
    assert message == {"from": "c", "service": "log", "data": "aGVsbG8="}
    hang_up()
    world.dial()
    for what in ("peers", "routes", "status", "streams"):
        lines, hang_up = world.stream(f"/v1/follow?what={what}")
        world.agent.flush()
        assert lines_of(world, "/v1/follow", lines.data)[0]["event"] == "present"
        hang_up()


EXPOSE = {"service": "web", "to": "tcp:127.0.0.1:80"}
FORWARD = {"listen": "tcp:2222", "to": "c:ssh"}


@pytest.mark.parametrize(
    ("path", "body", "named"), [("/v1/exposures", EXPOSE, "service"), ("/v1/forwards", FORWARD, "id")]
)
def test_what_is_asked_for_lives_as_long_as_its_connection(
    world: World, path: str, body: Any, named: str
) -> None:
    """The row comes at once; it is in the list until the program hangs up, or another takes it back."""
    lines, hang_up = world.stream(path, body)
    [row] = lines_of(world, path, lines.data, "POST")
    assert world.answers("GET", path) == [row]
    hang_up()
    assert world.answers("GET", path) == []
    lines, hang_up = world.stream(path, body)
    [row] = lines_of(world, path, lines.data, "POST")
    assert world.answers("DELETE", f"{path}/{row[named]}") == row
    world.agent.flush()
    assert lines.ended
    assert world.answers("GET", path) == []


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/v1/exposures", {"service": "web"}, 400),
        ("POST", "/v1/exposures", EXPOSE | {"to": "unix:/run/secret.sock"}, 400),
        ("POST", "/v1/exposures", EXPOSE | {"service": "gmesh-bench"}, 400),
        ("POST", "/v1/exposures", EXPOSE | {"proxy_protocol": 1}, 400),
        ("POST", "/v1/forwards", FORWARD | {"listen": "unix:/run/x"}, 400),
        ("POST", "/v1/forwards", FORWARD | {"listen": "udp:53"}, 400),
        ("POST", "/v1/forwards", FORWARD | {"to": "c"}, 400),
        ("DELETE", "/v1/exposures/nothing", None, 404),
        ("DELETE", "/v1/forwards/99", None, 404),
        ("GET", "/v1/whois", None, 400),
        ("GET", "/v1/whois?node=nobody", None, 404),
        ("GET", "/v1/routes?to=nobody", None, 404),
        ("GET", "/v1/follow?what=weather", None, 400),
        ("GET", "/v1/receive", None, 400),
        ("GET", "/v1/connect?node=c&service=web", None, 426),
        ("DELETE", "/v1/streams/999", None, 404),
        ("DELETE", "/v1/streams/none", None, 404),
        ("POST", "/v1/ping", {"node": "nobody"}, 404),
        ("POST", "/v1/trace", {"node": "c", "more": 1}, 400),
        ("POST", "/v1/capture", {"peer": "nobody"}, 404),
        ("POST", "/v1/send", {"node": "c", "service": "nothing", "data": ""}, 404),
    ],
)
def test_refusals_are_as_described(world: World, method: str, target: str, body: Any, status: int) -> None:
    """Each is a problem document under a status that is told."""
    assert world.answers(method, target, body)["status"] == status


def test_a_service_is_received_once(world: World) -> None:
    """409 is told too."""
    stop = world.node.receive("once", lambda message: None, None)
    assert world.answers("GET", "/v1/receive?service=once")["status"] == 409
    stop()


STREAMS = {
    ("GET", "/v1/follow"),
    ("GET", "/v1/receive"),
    ("POST", "/v1/exposures"),
    ("POST", "/v1/forwards"),
}


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS.keys() - STREAMS))
def test_fuzzing_finds_no_500_and_no_undeclared_answer(world: World, method: str, path: str) -> None:
    """Whatever fits the description, or nearly does, is answered as the description says."""
    schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis is on PyPI only")
    operation = schemathesis.openapi.from_dict(TOLD)[path][method]

    @settings(
        max_examples=10,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    )
    def fuzz(case: Any) -> None:
        target = case.formatted_path + (f"?{urlencode(case.query, doseq=True)}" if case.query else "")
        value = case.body
        if isinstance(value, dict):
            value = {name: "c" if name in ("node", "peer") else item for name, item in value.items()}
            value |= {"seconds": 0.1} if "seconds" in value else {}
        body = json.dumps(value, default=str).encode() if method == "POST" else None
        assert world.answers(method, target, body) != {"status": 500}

    fuzz()
