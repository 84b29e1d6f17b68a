# SPDX-License-Identifier: MIT
"""A small real HTTP server, on a unix socket or TCP, as the far end of the command line's client code."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cli.admin_rig import make_operator, show_documents
from trust.network import NOW, Network

from gmesh.cli import operator as operator_module
from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.endpoint_text import client_place
from gmesh.cli.main import main
from gmesh.testing.issuer import Enrolled, Issuer

#: Seconds since the node of L{directory} joined.
JOINED = 1800


@dataclass
class FarEnd:
    """
    Answers requests from a table and remembers them.

    @ivar where: the endpoint for the client.
    @ivar answers: C{"METHOD /path"} -> (status, body), or a function that writes its own answer.
    @ivar requests: what was asked: (method, target, headers, body).
    """

    where: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def json(self, request: str, value: Any, status: int = 200) -> None:
        """Answer a request with JSON."""
        self.answers[request] = (status, json.dumps(value).encode())

    def problem(self, request: str, slug: str, status: int, detail: str, **more: Any) -> None:
        """Answer a request with a problem document."""
        value = {
            "type": f"urn:gmesh:problem:{slug}",
            "title": "No",
            "status": status,
            "detail": detail,
            **more,
        }
        self.json(request, value, status)


def _handler(end: FarEnd) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            end.requests.append(
                (self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            )
            answer = end.answers.get(f"{self.command} {self.path}", (404, b"{}"))
            if callable(answer):
                answer(self)
                return
            status, data = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(code, message)
            self.send_header("Content-Type", f"application/{'problem+' * (code >= 400)}json")

        def address_string(self) -> str:
            return "test"

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


class _UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "unix", 0

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


def _serve(end: FarEnd, server: ThreadingHTTPServer) -> Iterator[FarEnd]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield end
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def node_end(tmp_path: Path) -> Iterator[FarEnd]:
    """The far end on a unix socket, as the local API of a node."""
    state = tmp_path / "node"
    state.mkdir()
    path = state / "node.sock"
    end = FarEnd(f"unix:{path}")
    yield from _serve(end, _UnixServer(str(path), _handler(end)))


@pytest.fixture
def http_end() -> Iterator[FarEnd]:
    """The far end on TCP, as an authority."""
    end = FarEnd()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(end))
    end.where = f"http://127.0.0.1:{server.server_address[1]}"
    yield from _serve(end, server)


@pytest.fixture
def portal() -> Iterator[Callable[[int], str]]:
    """A function that gives the URL of a host that answers everything with this status, in HTML."""
    servers: list[ThreadingHTTPServer] = []

    class Portal(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(int(self.path.split("/")[1]))
            self.send_header("Content-Type", "text/html")
            self.send_header("Location", "http://127.0.0.1:9/login")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    def made(status: int) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Portal)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/{status}"

    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ended]:
    """A function that runs one command in this process, as a console script would."""
    for name in ("GMESH_STATE", "GMESH_OPERATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def runner(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(stop.value.code or 0), out, err)

    return runner


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A TCP port of loopback that nobody listens on, as long as the test takes."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def now() -> int:
    """The time of the test, in Unix seconds."""
    return int(time.time())


@pytest.fixture
def issuer(http_end: Any, closed_port: int, now: int) -> Issuer:
    """Root and authority; one anchor is the HTTP server of the authority, which takes connections."""
    place = client_place(http_end.where)
    assert place is not None
    anchors = [("b", f"tcp:{place.host}:{place.port}"), ("gone", f"tcp:127.0.0.1:{closed_port}")]
    made = Issuer(lambda: now - JOINED, Random(7), anchors, [http_end.where])
    http_end.answers["GET /status"] = (200, made.status.encode())
    return made


@pytest.fixture
def enrolled(issuer: Issuer) -> Enrolled:
    return issuer.enrol("a", "client")


@pytest.fixture
def directory(tmp_path: Path, issuer: Issuer, enrolled: Enrolled) -> Path:
    """The state directory of a, half an hour after it joined."""
    path = tmp_path / "node"
    issuer.write_state(enrolled, path)
    return path


@pytest.fixture
def network(http_end: Any, monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network whose authority is the far end, at its own time; waiting costs no time."""
    network = Network()
    show_documents(http_end, network)
    monkeypatch.setattr(operator_module, "RemoteAuthority", partial(RemoteAuthority, wall=lambda: NOW))
    return network


@pytest.fixture
def operator(network: Network, http_end: Any, tmp_path: Path) -> Path:
    """An operator's directory for it."""
    return make_operator(tmp_path / "operator", network, http_end.where)


@pytest.fixture
def admin(run: Callable[..., Any], operator: Path) -> Callable[..., Any]:
    """Runs C{gmesh admin} as that operator."""
    return partial(run, "admin", "--operator", operator)
