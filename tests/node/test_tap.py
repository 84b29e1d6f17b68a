# SPDX-License-Identifier: MIT
"""The options of C{twistd gmesh-node}, and the daemon they make, on a reactor in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

import gmesh
from gmesh.node.configuration import Configuration
from gmesh.node.listen import ListenService, describe_address
from gmesh.node.tap import Options, makeService


def parsed(*arguments: str) -> Configuration:
    options = Options()
    options.parseOptions(list(arguments))
    return options.configuration


def test_every_option(tmp_path: Path) -> None:
    """Repeatable ones add up; nothing is listened on unless asked for."""
    assert parsed("--state", "/s") == Configuration(Path("/s"))
    arguments = (
        "--state /s --control unix:/c --listen tcp:1 --listen tcp:2 --advertise a:1 --peer b:2 --peer c:3"
    )
    assert parsed(*arguments.split()) == Configuration(
        Path("/s"), ("tcp:1", "tcp:2"), "unix:/c", ("a:1",), ("b:2", "c:3")
    )
    (tmp_path / "node.toml").write_text('state = "/t"\nlisten = ["tcp:9"]\n')
    assert parsed("--config", str(tmp_path / "node.toml")) == Configuration(Path("/t"), ("tcp:9",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --state DIR"),
        (["--state", "s", "--peer", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--state", "s", "--advertise", "a"], "'a' is not HOST:PORT"),
        (["--config", "/nonexistent/node.toml"], "does not exist"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    """Each is a usage error that names what is wrong."""
    with pytest.raises(UsageError, match=message):
        parsed(*arguments)


def test_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """Not Twisted's."""
    with pytest.raises(SystemExit) as ended:
        parsed("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gmesh {gmesh.__version__}\n"


def test_twistd_knows_it() -> None:
    """The plugin names this module without importing it."""
    [maker] = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "gmesh-node"]
    assert maker.module == "gmesh.node.tap"


def test_the_daemon_starts_and_stops(directory: Path) -> None:
    """READY needs no authority and no peer: it listens, dials, and leaves nothing behind."""
    options = Options()
    options.parseOptions(["--state", str(directory), "--listen", "tcp:7443", "--peer", "10.0.0.9:7443"])
    reactor: Any = MemoryReactorClock()
    daemon = makeService(options, reactor)
    daemon.privilegedStartService()
    daemon.startService()
    reactor.advance(1)
    assert [server[0] for server in reactor.tcpServers] == [7443]
    assert reactor.unixServers[0][0] == str(directory / "node.sock")
    stopped: list[object] = []
    daemon.stopService().addBoth(stopped.append)
    for _ in range(20):
        reactor.advance(1)
    assert len(stopped) == 1
    assert reactor.getDelayedCalls() == []


def test_a_state_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """One line for standard error, status 1."""
    options = Options()
    options.parseOptions(["--state", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"gmesh-node: .* holds no certificate") as ended:
        makeService(options, MemoryReactorClock())
    assert "\n" not in str(ended.value)


class Busy(MemoryReactorClock):
    """A reactor on whose ports somebody else sits."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


def test_a_busy_port_ends_the_daemon() -> None:
    """Not later and not quietly."""
    service = ListenService(Busy(), "tcp:7443", Factory(), "listening")
    with pytest.raises(SystemExit, match=r"cannot listen on tcp:7443: Address already in use"):
        service.privilegedStartService()


async def test_a_socket_of_a_running_daemon(tmp_path: Path) -> None:
    """A second daemon on one state directory is told what is in the way, and leaves the first alone."""
    endpoint = f"unix:{tmp_path}/node.sock"
    first, second = (ListenService(reactor, endpoint, Factory(), "local API") for _ in range(2))
    first.privilegedStartService()
    with pytest.raises(SystemExit, match=r"node\.sock: another process listens there"):
        second.privilegedStartService()
    assert (tmp_path / "node.sock").is_socket()
    await first.stopService()


def test_addresses_in_the_log() -> None:
    """As in an endpoint string, so that scripts can read the port."""
    assert describe_address(IPv4Address("TCP", "0.0.0.0", 7443)) == "tcp:7443"
    assert describe_address(UNIXAddress(b"/run/n")) == "unix:/run/n"
