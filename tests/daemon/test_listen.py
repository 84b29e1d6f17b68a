# SPDX-License-Identifier: MIT
"""Ports and unix sockets that a daemon listens on: had or not, left by another, changed by a reload."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from daemon.certificate_files import endpoint_of, write_certificate
from daemon.held_ports import free_port
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure

from gmesh.daemon import listen
from gmesh.daemon.listen import Listeners, ListenService, describe_address, parse_server, renew_certificates
from gmesh.errors import ConfigurationError

UNIT = "gmesh-authority"


class Busy(MemoryReactorClock):
    """A reactor on whose ports somebody else sits."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


def test_a_busy_port_ends_the_daemon() -> None:
    """Not later and not quietly."""
    service = ListenService(Busy(), "tcp:7443", Factory(), "listening", UNIT)
    with pytest.raises(SystemExit, match=r"cannot listen on tcp:7443: Address already in use"):
        service.privilegedStartService()


class Late:
    """An endpoint that finds out after the start that it cannot listen."""

    def __init__(self) -> None:
        self.asked: Deferred[Any] = Deferred()

    def listen(self, factory: Factory) -> Deferred[Any]:
        return self.asked


def test_a_port_that_fails_late_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not go on without it: the cause is logged, and the reactor stops."""
    endpoint = Late()
    monkeypatch.setattr(listen, "parse_server", lambda reactor, text: endpoint)
    late: Any = MemoryReactorClock()
    stops: list[None] = []
    late.stop = lambda: stops.append(None)
    lines: list[LogEvent] = []
    monkeypatch.setattr(ListenService, "_log", Logger(observer=lines.append))
    service = ListenService(late, "later:1", Factory(), "listening", UNIT)
    service.privilegedStartService()
    service.startService()
    endpoint.asked.errback(CannotListenError("", 1, OSError(98, "Address already in use")))
    assert len(stops) == 1
    [line] = lines
    assert (line["log_level"].name, line["cause"]) == (
        "critical",
        "cannot listen on later:1: Address already in use",
    )


async def test_a_socket_of_a_running_daemon(tmp_path: Path) -> None:
    """A second daemon on one state directory is told what is in the way, and leaves the first alone."""
    endpoint = f"unix:{tmp_path}/node.sock"
    first, second = (ListenService(reactor, endpoint, Factory(), "local API", UNIT) for _ in range(2))
    first.privilegedStartService()
    with pytest.raises(SystemExit, match=r"node\.sock: another process listens there"):
        second.privilegedStartService()
    assert (tmp_path / "node.sock").is_socket()
    await first.stopService()


async def test_a_socket_left_by_a_killed_daemon(tmp_path: Path) -> None:
    """It is taken over even if another process has the dead one's number, as after a power cut."""
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (tmp_path / "node.sock.lock").symlink_to(str(os.getppid()))
    service = ListenService(reactor, f"unix:{path}:mode=660", Factory(), "local API", UNIT)
    service.privilegedStartService()
    service.startService()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await service.stopService()
    assert not path.exists()


def test_addresses_in_the_log() -> None:
    """As in an endpoint string, so that scripts can read the port."""
    assert describe_address(IPv4Address("TCP", "0.0.0.0", 7443)) == "tcp:7443"
    assert describe_address(UNIXAddress(b"/run/n")) == "unix:/run/n"


class Echo(Protocol):
    """Says back what it hears."""

    def __init__(self, ended: Deferred[None]) -> None:
        self._ended = ended

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended.callback(None)


class Asking(Protocol):
    """Hears what is said back."""

    def __init__(self) -> None:
        self.heard: Any = None

    def dataReceived(self, data: bytes) -> None:
        heard, self.heard = self.heard, None
        heard.callback(data)


def on(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


def listened(port: int) -> bool:
    """Whether somebody listens there; it is not connected to, so nothing is left of the question."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


@pytest.fixture
def ended() -> Deferred[None]:
    """Fires when the connection to L{Echo} has ended."""
    return Deferred()


@pytest.fixture
def listeners(ended: Deferred[None]) -> Iterator[Listeners]:
    """On one port."""

    def factory() -> Factory:
        return Factory.forProtocol(partial(Echo, ended))

    made = Listeners(reactor, factory, "metrics", UNIT, [on(free_port())])
    made.privilegedStartService()
    made.startService()
    yield made


def port_of(listeners: Listeners) -> int:
    [text] = listeners._ports
    return int(text.split(":")[1])


async def test_another_port(listeners: Listeners, ended: Deferred[None]) -> None:
    """The old one is closed, the new one is open, and what was connected stays so."""
    old, new = port_of(listeners), free_port()
    asking: Any = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", old), Asking())
    await listeners.follow([on(new)])
    assert (listened(old), listened(new)) == (False, True)
    asking.heard = Deferred()
    asking.transport.write(b"still there?")
    assert await asking.heard == b"still there?"
    asking.transport.loseConnection()
    await ended
    await listeners.follow([])
    assert not listened(new)
    await listeners.stopService()


async def test_the_same_port_of_another_interface(listeners: Listeners) -> None:
    """It can be had, since the old one is let go first."""
    port = port_of(listeners)
    await listeners.follow([f"tcp:{port}:interface=0.0.0.0"])
    assert listened(port)
    await listeners.stopService()


# Twisted 24.11 leaves a socket that could not be bound to the collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_port_that_cannot_be_had(listeners: Listeners) -> None:
    """Everything is as before, those that could be had included."""
    old, free = port_of(listeners), free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = int(taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="Address already in use"):
            await listeners.follow([on(free), on(busy)])
    assert (listened(old), listened(free)) == (True, False)
    assert list(listeners._ports) == [on(old)]
    with pytest.raises(ConfigurationError, match="is not an endpoint"):
        await listeners.follow(["tcq:1"])
    assert listened(old)
    await listeners.stopService()
    assert not listened(old)


async def test_one_after_the_other(listeners: Listeners) -> None:
    """Two reloads at once end as the second says."""
    first, second = free_port(), free_port()
    both = [ensureDeferred(listeners.follow([on(port)])) for port in (first, second)]
    for each in both:
        await each
    assert (listened(first), listened(second)) == (False, True)
    await listeners.stopService()


def test_d15_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    """It is refused before anything starts, with its limit; the longest one that fits is taken."""
    long = str(tmp_path / "x")
    fits = long + "y" * (107 - len(long))
    parse_server(None, f"unix:{fits}:mode=660")
    with pytest.raises(ConfigurationError, match="has at most 107 bytes: name a shorter one"):
        parse_server(None, f"unix:{fits}z:mode=660")


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted does
async def test_d12_certificate_files_are_read_again(tmp_path: Path) -> None:
    """New connections get the new certificate; files that cannot be used change nothing, and are named."""
    first = write_certificate(tmp_path, "first")
    daemon, ended = MultiService(), DeferredQueue[None]()

    class Quiet(Protocol):
        def connectionLost(self, reason: Failure = connectionDone) -> None:
            ended.put(None)

    factory = Factory.forProtocol(Quiet)
    factory.noisy = False
    Listeners(reactor, lambda: factory, "listening", UNIT, [endpoint_of(tmp_path, 0)]).setServiceParent(
        daemon
    )
    daemon.startService()
    [[service]] = daemon
    port = service._port.getHost().port

    async def served() -> str:
        found = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=30)
        await ended.get()
        return found

    assert await served() == first
    second = write_certificate(tmp_path, "second")
    assert await served() == first
    assert renew_certificates(daemon) == []
    assert await served() == second
    key = (tmp_path / "tls.key").read_bytes()
    write_certificate(tmp_path, "third")
    (tmp_path / "tls.key").write_bytes(key)
    [told] = renew_certificates(daemon)
    assert "goes on with the certificate it has" in told
    (tmp_path / "tls.pem").unlink()
    [told] = renew_certificates(daemon)
    assert "tls.pem" in told and "goes on with the certificate it has" in told
    assert await served() == second
    await daemon.stopService()
