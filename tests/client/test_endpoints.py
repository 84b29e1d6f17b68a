# SPDX-License-Identifier: MIT
"""L{gmesh.client.endpoints}: a dial succeeds, or fails as one of TCP does, with its reason."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import UPGRADED, FakeDaemon, problem
from twisted.internet import error, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from gmesh.client import MeshClientEndpoint, MeshServerEndpoint
from gmesh.stream_errors import DialRefused


def endpoint(daemon: FakeDaemon, timeout: float = 30.0) -> MeshClientEndpoint:
    """A service of a node, by this daemon."""
    return MeshClientEndpoint(reactor, "Pump-07.gmesh", "web", daemon.path, timeout)


class Counting(Factory):
    """Knows whether it is in use."""

    noisy = False
    protocol = Protocol
    started = stopped = 0

    def __init__(self, daemon: FakeDaemon) -> None:
        self.tell = daemon.tell

    def startFactory(self) -> None:
        self.started += 1

    def stopFactory(self) -> None:
        self.stopped += 1
        self.tell()


async def failure_of(deferred: Deferred[Any]) -> Exception:
    """What it fails with."""
    try:
        await deferred
    except Exception as failure:
        return failure
    pytest.fail("it succeeded")


def test_they_are_endpoints_of_twisted() -> None:
    assert verifyObject(IStreamClientEndpoint, MeshClientEndpoint(reactor, "pump-07", "web"))
    assert verifyObject(IStreamServerEndpoint, MeshServerEndpoint(reactor, "web"))


@pytest_twisted.ensureDeferred
async def test_a_dial_asks_for_the_service_of_the_node(daemon: FakeDaemon) -> None:
    """The factory sees who it talks to, before the first byte."""
    factory = Counting(daemon)
    seen: list[Any] = []

    class Asking(Protocol):
        def connectionMade(self) -> None:
            seen.append(self.transport.getPeer())

    def build(peer: Any) -> Protocol:
        seen.append(peer)
        return Asking()

    factory.buildProtocol = build
    connecting = endpoint(daemon).connect(factory)
    seat = await daemon.asked()
    assert seat.head[0] == "GET /v1/connect?node=pump-07&service=web&timeout=30 HTTP/1.1"
    assert {"Connection: Upgrade", "Upgrade: gmesh-stream"} <= set(seat.head)
    seat.say(UPGRADED)
    protocol = await connecting
    assert [str(peer) for peer in seen] == ["pump-07:web"] * 2
    assert (factory.started, factory.stopped) == (1, 0)
    protocol.transport.abortConnection()
    await daemon.until(lambda: factory.stopped == 1)


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (404, "no-such-service", error.ConnectionRefusedError),
        (502, "refused", error.ConnectionRefusedError),
        (504, "timed-out", error.TimeoutError),
        (404, "unknown-node", error.UnknownHostError),
        (503, "no-route", error.NoRouteError),
        (403, "forbidden", error.ConnectError),
        (502, "no-streams", error.ConnectError),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_a_failed_connection_with_its_reason(
    daemon: FakeDaemon, status: int, slug: str, kind: type[Exception]
) -> None:
    factory = Counting(daemon)
    connecting = endpoint(daemon).connect(factory)
    (await daemon.asked()).say(problem(status, slug, "because it is so"))
    failure = await failure_of(connecting)
    assert isinstance(failure, DialRefused)
    assert isinstance(failure, kind)
    assert (failure.reason, str(failure)) == (slug, "because it is so")
    await daemon.until(lambda: factory.stopped == 1)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [(b"", "no-node"), (b"SSH-2.0-x\r\n\r\n", "bad-answer"), (b"HTTP/1.1 500 x\r\n\r\n", "bad-answer")],
)
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_does_not_answer_is_a_refusal(
    daemon: FakeDaemon, octets: bytes, reason: str
) -> None:
    factory = Counting(daemon)
    connecting = endpoint(daemon).connect(factory)
    seat = await daemon.asked()
    seat.say(octets)
    seat.close()
    failure = await failure_of(connecting)
    assert isinstance(failure, DialRefused)
    assert failure.reason == reason
    await daemon.until(lambda: factory.stopped == 1)


@pytest_twisted.ensureDeferred
async def test_without_a_daemon_the_path_is_named(daemon: FakeDaemon, tmp_path: Any) -> None:
    """Whether there is no socket, or nobody at it."""
    missing = MeshClientEndpoint(reactor, "pump-07", "web", f"{tmp_path}/none.sock")
    failure = await failure_of(missing.connect(Counting(daemon)))
    assert isinstance(failure, DialRefused)
    assert failure.reason == "no-node"
    assert f"{tmp_path}/none.sock" in failure.detail


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody who may not")
@pytest_twisted.ensureDeferred
async def test_a_socket_of_others_is_forbidden(daemon: FakeDaemon) -> None:
    os.chmod(daemon.path, 0o600)
    os.chmod(os.path.dirname(daemon.path), 0o711)
    os.seteuid(65534)
    try:
        connecting = endpoint(daemon).connect(Counting(daemon))
        failure = await failure_of(connecting)
    finally:
        os.seteuid(0)
    assert isinstance(failure, DialRefused)
    assert failure.reason == "forbidden"


@pytest_twisted.ensureDeferred
async def test_more_programs_at_once_than_the_socket_lets_wait_are_served_in_the_end(
    daemon: FakeDaemon, tmp_path: Any
) -> None:
    """The kernel refuses them without a number; a cancelled one asks no more."""
    path = f"{tmp_path}/busy.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        factory = Counting(daemon)
        dials = [MeshClientEndpoint(reactor, "pump-07", "web", path) for _ in range(6)]
        connecting = [dial.connect(factory) for dial in dials]
        given_up = connecting.pop()
        await deferLater(reactor, 0)
        given_up.cancel()
        assert isinstance(await failure_of(given_up), error.ConnectingCancelledError)
        for _ in connecting:
            accepted, _ = await deferToThread(listening.accept)
            with accepted:
                assert await deferToThread(accepted.recv, 4) == b"GET "
                accepted.sendall(problem(503, "busy", "not now"))
        for each in connecting:
            failure = await failure_of(each)
            assert isinstance(failure, DialRefused)
            assert failure.reason == "busy"
        await daemon.until(lambda: factory.stopped == 1)


@pytest_twisted.ensureDeferred
async def test_a_dial_that_takes_too_long_is_given_up(daemon: FakeDaemon) -> None:
    connecting = endpoint(daemon, timeout=0.05).connect(Counting(daemon))
    failure = await failure_of(connecting)
    assert isinstance(failure, error.TimeoutError)
    assert "web of pump-07" in str(failure)
    await daemon.until(lambda: daemon.seats and daemon.seats[0].closed)


@pytest_twisted.ensureDeferred
async def test_a_dial_can_be_cancelled(daemon: FakeDaemon) -> None:
    """Before the daemon was reached, and while it works."""
    factory = Counting(daemon)
    connecting = endpoint(daemon).connect(factory)
    connecting.cancel()
    assert isinstance(await failure_of(connecting), error.ConnectingCancelledError)
    connecting = endpoint(daemon).connect(factory)
    seat = await daemon.asked(len(daemon.seats))
    connecting.cancel()
    failure = await failure_of(connecting)
    assert isinstance(failure, error.ConnectingCancelledError)
    assert str(failure.address) == "pump-07:web"
    await daemon.until(lambda: seat.closed and factory.stopped == 2)


@pytest_twisted.ensureDeferred
async def test_a_factory_without_a_protocol_for_it_hangs_up(daemon: FakeDaemon) -> None:
    factory = Counting(daemon)
    factory.buildProtocol = lambda peer: None
    connecting = endpoint(daemon).connect(factory)
    seat = await daemon.asked()
    seat.say(UPGRADED)
    assert isinstance(await failure_of(connecting), error.NoProtocol)
    await daemon.until(lambda: seat.closed)


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_fails_at_once_hangs_up(daemon: FakeDaemon) -> None:
    class Failing(Protocol):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    connecting = connectProtocol(endpoint(daemon), Failing())
    seat = await daemon.asked()
    seat.say(UPGRADED)
    assert isinstance(await failure_of(connecting), ZeroDivisionError)
    await daemon.until(lambda: seat.closed)
