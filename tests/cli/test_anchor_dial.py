# SPDX-License-Identifier: MIT
"""gmesh join by an anchor behind a web server or a proxy: it gets through, or says in one line why not."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli.test_anchor_link import World
from mesh.sockets_world import Authority
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Ping, Pong, RejectConnection, Request

from gmesh.cli.anchor_link import AnchorLink
from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.http import Unreachable
from gmesh.cli.join import enrol

NAME = "anchor.invalid"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A network whose anchor joins hosts, no proxy of the environment, and nobody who knows L{NAME}."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, *options: Any, **more: Any) -> Any:
        if host == NAME:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *options, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = World(tmp_path)
    yield made
    made.anchor.close()


class Front:
    """Takes connections on loopback, one after the other, and gives each to C{serve}, in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._serve = serve
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                return
            with taken, suppress(OSError):  # whoever hangs up, of the two ends
                taken.settimeout(20)
                self._serve(taken)

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def joined(world: World, place: str) -> None:
    """As the command does by this anchor."""
    link = AnchorLink(place, world.invite)
    try:
        assert enrol(world.invite, world.state, RemoteAuthority((), anchors=[link])).body.name == "pump"
    finally:
        link.close()


def onward(world: World) -> socket.socket:
    host, _, port = world.anchor.place.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def test_d5_by_a_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for the anchor, whose name nobody else knows."""
    asked = []

    def serve(taken: socket.socket) -> None:
        asked.append(taken.recv(65536))
        with onward(world) as anchor:
            taken.sendall(b"HTTP/1.1 200 yes\r\n\r\n")
            ends = {taken: anchor, anchor: taken}
            while True:
                for ready in select.select(list(ends), [], [], 20)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ends[ready].sendall(data)

    with Front(serve) as front:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{front.port}")
        joined(world, f"{NAME}:7443")
    assert asked[0].startswith(b"CONNECT anchor.invalid:7443 HTTP/1.1\r\n") and world.joins() == 1


def test_d5_a_proxy_that_does_not_let_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its word is what is told, as nothing leads there directly."""

    def serve(taken: socket.socket) -> None:
        taken.recv(65536)
        taken.sendall(b"HTTP/1.1 403 no\r\n\r\n")

    with Front(serve) as front:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{front.port}")
        with pytest.raises(Unreachable, match=r"does not let through to anchor.invalid:7443"):
            joined(world, f"{NAME}:7443")


def server_tls(directory: Path) -> ssl.SSLContext:
    """A certificate that nobody trusts, of another host."""
    Authority(directory).endpoint("other.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf.pem", directory / "leaf.key")
    return context


@pytest.mark.live  # real sockets, with a thread between them
def test_d5_in_a_websocket_of_a_web_server(world: World, tmp_path: Path) -> None:
    """Messages are cut as the web server likes, and pings are answered; TLS decides nothing."""
    context, seen = server_tls(tmp_path), []

    def serve(taken: socket.socket) -> None:
        with context.wrap_socket(taken, server_side=True) as below, onward(world) as anchor:
            anchor.settimeout(20)
            web = WSConnection(ConnectionType.SERVER)
            while True:
                ready = select.select([below, anchor], [], [], 0 if below.pending() else 20)[0]
                if below in ready or below.pending():
                    data = below.recv(65536)
                    if not data:
                        return
                    web.receive_data(data)
                for event in web.events():
                    if isinstance(event, Request):
                        seen.append((event.target, tuple(event.subprotocols)))
                        below.sendall(web.send(AcceptConnection(subprotocol="gmesh")) + web.send(Ping(b"?")))
                    elif isinstance(event, Pong):
                        seen.append(bytes(event.payload))
                    elif isinstance(event, BytesMessage):
                        anchor.sendall(event.data)
                    else:
                        return
                if anchor in ready:
                    data = anchor.recv(100)
                    if not data:
                        return
                    below.sendall(web.send(BytesMessage(data)))

    with Front(serve) as front:
        joined(world, f"wss://127.0.0.1:{front.port}/some/path")
    assert set(seen) == {("/some/path", ("gmesh",)), b"?"} and world.joins() == 1


@pytest.mark.parametrize("answer", ["404", "none", "another"])
def test_d5_a_web_server_without_one(world: World, tmp_path: Path, answer: str) -> None:
    """It says so, answers no HTTP, or has the WebSocket of another program."""
    context = server_tls(tmp_path)

    def serve(taken: socket.socket) -> None:
        with context.wrap_socket(taken, server_side=True) as below:
            web = WSConnection(ConnectionType.SERVER)
            web.receive_data(below.recv(65536))
            assert isinstance(next(web.events()), Request)
            said = {
                "404": lambda: web.send(RejectConnection(status_code=404)),
                "none": lambda: b"SSH-2.0-OpenSSH\r\n",
                "another": lambda: web.send(AcceptConnection()),
            }
            below.sendall(said[answer]())

    with (
        Front(serve) as front,
        pytest.raises(Unreachable, match=r"the anchor at wss://127.* is not reached: .*web"),
    ):
        joined(world, f"wss://127.0.0.1:{front.port}/some/path")
