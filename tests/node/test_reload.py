# SPDX-License-Identifier: MIT
"""What SIGHUP puts into force, on real sockets: ports, groups of the local API, format of the log."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.configuration import Configuration
from gmesh.node.daemon import Reload, regroup
from gmesh.node.listen import ListenService
from gmesh.node.listeners import Listeners
from gmesh.node.peer_credentials import Access, Credentials, Gate

OTHER_GROUP = 61001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to a group takes root")


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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


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

    made = Listeners(reactor, factory, "metrics", [on(free_port())])
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
    with pytest.raises(ConfigurationError, match="is no endpoint"):
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


@pytest.fixture
def local(tmp_path: Path) -> Iterator[ListenService]:
    """The socket of a local API."""
    made = ListenService(reactor, f"unix:{tmp_path / 'node.sock'}:mode=660", Factory(), "local API")
    made.startService()
    yield made


def may(gate: Gate, group: int) -> bool:
    try:
        gate.admit(Credentials(1, 65533, frozenset({group})), Access.READ)
    except RequestRefused:
        return False
    return True


@needs_root
async def test_another_group(local: ListenService, tmp_path: Path) -> None:
    """The socket and the gate are of the new group, and of the daemon's own when none is named any more."""
    gate, socket_file = Gate(), tmp_path / "node.sock"
    regroup(gate, local, Configuration(tmp_path, read_group=str(OTHER_GROUP)))
    assert socket_file.stat().st_gid == OTHER_GROUP
    assert (may(gate, OTHER_GROUP), may(gate, OTHER_GROUP + 1)) == (True, False)
    regroup(gate, local, Configuration(tmp_path))
    assert socket_file.stat().st_gid == os.getegid()
    assert may(gate, OTHER_GROUP + 1)
    await local.stopService()


async def test_a_group_that_cannot_have_it(
    local: ListenService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may ask is who might before."""

    def forbidden(path: bytes, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbidden)
    gate = Gate("7")
    with pytest.raises(ConfigurationError, match="Operation not permitted"):
        regroup(gate, local, Configuration(tmp_path, write_group=str(OTHER_GROUP)))
    assert (may(gate, 7), may(gate, OTHER_GROUP)) == (True, False)
    await local.stopService()


class Following:
    """A L{Reload} without a node: what it put into force, setting by setting."""

    def __init__(self) -> None:
        self.now = Configuration(Path("/s"))
        self.in_force: list[tuple[str, ...]] = []
        self.wrong: set[str] = set()
        nothing: Any = None
        self.reload = Reload(
            nothing,
            nothing,
            nothing,
            self.now,
            lambda: self.now,
            {("peer",): self._peer, ("read_group", "write_group"): self._groups},
        )

    def _peer(self, new: Configuration) -> None:
        if self.wrong:
            raise ConfigurationError("no", "it cannot be")
        self.in_force.append(new.peer)

    async def _groups(self, new: Configuration) -> None:
        self.in_force.append((new.read_group, new.write_group))

    async def told(self, **settings: Any) -> list[str]:
        return await self.reload._configure(Configuration(Path("/s"), **settings))


async def test_each_setting_by_itself() -> None:
    """One that cannot be put into force stays, is told, is tried again, and keeps no other back."""
    following = Following()
    following.wrong = {"peer"}
    with capturedLogs() as lines:
        assert await following.told(peer=("a:1",), write_group="7") == [
            "peer stays what it was: it cannot be"
        ]
    assert [event["log_level"].name for event in lines] == ["error"]
    assert following.in_force == [("", "7")]
    following.wrong = set()
    assert await following.told(peer=("a:1",), write_group="7") == []
    assert await following.told(peer=("a:1",), write_group="7") == []
    assert following.in_force == [("", "7"), ("a:1",)]


async def test_what_takes_a_restart() -> None:
    """It is told in one line each, at each reload until the restart."""
    following = Following()
    for _ in range(2):
        with capturedLogs() as lines:
            assert await following.told(stub=True, control="unix:/x") == [
                "control takes a restart",
                "stub takes a restart",
            ]
        assert [event["name"] for event in lines] == ["control", "stub"]
    assert await following.told() == []
