# SPDX-License-Identifier: MIT
"""The options of C{twistd gmesh-node}, and the daemon they make, on a reactor in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from zope.interface import implementer

import gmesh
from gmesh.daemon.listen import Listeners, ListenService
from gmesh.daemon.lock import LockService
from gmesh.daemon.notify import HangupService
from gmesh.node.configuration import Configuration
from gmesh.node.identity_store import IdentityStore
from gmesh.node.limits import HOLD_PATIENCE, HOLD_WINDOW
from gmesh.node.tap import UNIT, NodeService, Options, makeService
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.ceremony import next_genesis
from gmesh.trust.documents import Command, CommandTarget, add_signature, sign_document


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


def test_the_proxy_of_the_command_line_has_another_name_in_the_file(tmp_path: Path) -> None:
    """There C{proxy} is the table of the one for programs of this host."""
    (tmp_path / "node.toml").write_text('state = "/t"\nproxy_url = "http://u:pw@a:1"\n')
    file = ("--config", str(tmp_path / "node.toml"))
    assert parsed(*file).proxy_url == "http://u:pw@a:1"
    assert parsed(*file, "--proxy", "http://b:1").proxy_url == "http://b:1"
    assert "pw" not in repr(parsed(*file))
    with pytest.raises(SystemExit, match="--proxy-credentials FILE"):
        parsed("--state", "/s", "--proxy", "http://u:pw@b:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --state DIR"),
        (["--state", "s", "--peer", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--state", "s", "--advertise", "a"], "'a' is not HOST:PORT"),
        (["--config", "/nonexistent/node.toml"], "does not exist"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    """Each is one line that names what is wrong, without the pages of help, which would hide it."""
    with pytest.raises(SystemExit, match=f"^gmesh-node: .*{message}") as ended:
        parsed(*arguments)
    assert "\n" not in str(ended.value)


def test_an_unknown_option() -> None:
    """What only twistd can refuse it refuses, with the help."""
    with pytest.raises(UsageError, match="nonsense"):
        parsed("--nonsense")


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


STREAM_PARTS = (
    "gmesh.streams.mux",
    "gmesh.streams.stream",
    "gmesh.streams.segments",
    "gmesh.streams.loop",
    "gmesh.streams.endpoints",
    "gmesh.node.api.framed_leg",
    "gmesh.node.gateways.proxy",
    "gmesh.node.gateways.socks5",
    "gmesh.client.leg",
    "gmesh.client.stream_frames",
    "gmesh.client.message_frames",
    "gmesh.node.api.message_leg",
    "gmesh.node.api.stream_requests",
    "gmesh.node.api.views",
    "gmesh.node.gateways.exposures",
    "gmesh.node.gateways.forwards",
    "gmesh.streams.join",
    "gmesh.wire.stream_messages",
)
"""What carries a stream or asks for one, loaded with the first."""
OPTIONAL_PARTS = (
    "gmesh.mesh.opening",
    "gmesh.mesh.proxied",
    "gmesh.mesh.stub_node",
    "gmesh.mesh.tls",
    "gmesh.mesh.tls_transport",
    "gmesh.trust.join",
)
"""What only a node with TLS, a proxy, no table of the network or hosts that join by it needs."""


def test_an_idle_daemon_spares_what_only_its_local_api_needs(directory: Path) -> None:
    """
    Klein, Werkzeug and the metrics library are loaded with the first request, wsproto with a WebSocket, TLS
    and its roots with the first address that needs them.
    """
    spared = ["klein", "werkzeug", "prometheus_client", "wsproto", *STREAM_PARTS, *OPTIONAL_PARTS]
    program = (
        "import gc, sys\n"
        "from OpenSSL.SSL import Context\n"
        "from twisted.internet.testing import MemoryReactorClock\n"
        "from gmesh.node.tap import Options, makeService\n"
        "options = Options()\n"
        "options.parseOptions(['--state', sys.argv[1]])\n"
        "makeService(options, MemoryReactorClock()).startService()\n"
        "print(sorted(set(sys.argv[2:]) & set(sys.modules)))\n"
        "print(sum(isinstance(each, Context) for each in gc.get_objects()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory), *spared], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n0\n", done.stderr


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


def test_a_second_daemon_on_the_state_directory(directory: Path) -> None:
    """Even with another socket it ends at once: two nodes with one identity would fight over every link."""
    options = Options()
    options.parseOptions(["--state", str(directory)])
    first, second = (LockService(options.configuration.state, UNIT) for _ in range(2))
    [lock] = [
        service for service in makeService(options, MemoryReactorClock()) if type(service) is LockService
    ]
    first.startService()
    for other in (lock, second):
        with pytest.raises(SystemExit, match=f"gmesh-node: another daemon works on {directory}"):
            other.privilegedStartService()
    first.stopService()
    second.startService()
    second.stopService()


def test_check_says_what_is_wrong_or_that_all_is_well(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check starts nothing: status 0 and one line, or status 1 and the first thing that is wrong."""
    with pytest.raises(SystemExit) as ended:
        parsed("--state", str(directory), "--check")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gmesh-node: {directory} and its configuration are good: a may start\n"
    with pytest.raises(SystemExit, match="'tcq:1' is not an endpoint to listen on"):
        parsed("--state", str(directory), "--listen", "tcq:1", "--check")
    (directory / "certificate.json").write_text("{")
    with pytest.raises(SystemExit, match=r"certificate\.json is damaged"):
        parsed("--state", str(directory), "--check")


def test_a_reload_is_taken_before_a_port_is_open(directory: Path) -> None:
    """The signal has its handler when the log says that the daemon listens."""
    options = Options()
    options.parseOptions(["--state", str(directory), "--listen", "tcp:7443"])
    reactor: Any = MemoryReactorClock()
    kinds = [type(service) for service in makeService(options, reactor)]
    assert kinds.index(HangupService) < min(kinds.index(Listeners), kinds.index(ListenService))


def test_reload_follows_the_configuration_file(directory: Path, tmp_path: Path) -> None:
    """Peers, addresses and log level change without a restart; a bad file is one line and changes nothing."""
    file = tmp_path / "node.toml"
    file.write_text(f'state = "{directory}"\npeer = ["10.0.0.9:7443"]\n')
    options = Options()
    options.parseOptions(["--config", str(file)])
    reactor: Any = MemoryReactorClock()
    daemon = makeService(options, reactor)
    daemon.privilegedStartService()
    daemon.startService()
    [hangup] = [service for service in daemon if isinstance(service, HangupService)]
    [node] = [service for service in daemon if isinstance(service, NodeService)]

    def targets() -> list[str]:
        return [target.address for target in node._runtime.dialler.targets]

    assert targets() == ["10.0.0.9:7443"]
    file.write_text(
        f'state = "{directory}"\npeer = ["10.0.0.8:7443"]\nadvertise = ["pump:7443"]\nstub = true\n'
    )
    with capturedLogs() as lines:
        hangup._reload()
    assert targets() == ["10.0.0.8:7443"]
    assert [event["name"] for event in lines if "restart the node" in event["log_format"]] == ["stub"]
    with capturedLogs() as lines:
        hangup._reload()
    assert [event["name"] for event in lines if "restart the node" in event["log_format"]] == ["stub"], (
        "as long as it was not restarted"
    )
    file.write_text('piers = ["10.0.0.8:7443"]\n')
    with capturedLogs() as lines:
        hangup._reload()
    assert any("did you mean peer?" in str(event.get("cause")) for event in lines)
    assert targets() == ["10.0.0.8:7443"]
    daemon.stopService()
    for _ in range(20):
        reactor.advance(1)
    assert reactor.getDelayedCalls() == []


def test_a_reload_judges_again_who_accepts_a_service(directory: Path, tmp_path: Path) -> None:
    """C{[bind]} is in force for who comes and for who waits already, until the file has it no more."""
    file = tmp_path / "node.toml"
    file.write_text(f'state = "{directory}"\n')
    options = Options()
    options.parseOptions(["--config", str(file)])
    reactor: Any = MemoryReactorClock()
    daemon = makeService(options, reactor)
    daemon.privilegedStartService()
    daemon.startService()
    [hangup] = [service for service in daemon if isinstance(service, HangupService)]

    def accepting() -> StringTransport:
        transport = StringTransport(UNIXAddress("node.sock"))
        protocol = reactor.unixServers[0][1].buildProtocol(None)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(
            b"GET /v1/accept?service=web HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n"
        )
        return transport

    waiting = accepting()
    assert waiting.value().startswith(b"HTTP/1.1 100 Continue\r\nGmesh-Host: ")
    file.write_text(f'state = "{directory}"\n[bind]\nweb = "0"\n')
    hangup._reload()
    for transport in (waiting, accepting()):
        assert b"HTTP/1.1 403 Forbidden\r\n" in transport.value()
        assert transport.disconnecting
    reactor.advance(2)
    file.write_text(f'state = "{directory}"\n')
    hangup._reload()
    assert not accepting().disconnecting
    daemon.stopService()
    for _ in range(20):
        reactor.advance(1)


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class Literals(MemoryReactorClock):
    """A reactor whose hosts are their own addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self

    def installNameResolver(self, resolver: Any) -> Any:
        return resolver

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *others: Any) -> Any:
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        receiver.resolutionComplete()
        return self


def test_b1_d3_b21_a_running_daemon_follows_genesis_and_directory(
    directory: Path, issuer: Issuer, node: Enrolled, wall: Any
) -> None:
    """The authority is asked where a newer genesis says; a reload takes up what lies in the directory."""
    (directory / "authority.json").write_text('{"urls": ["http://10.0.0.1:1001"]}')
    options = Options()
    options.parseOptions(["--state", str(directory)])
    reactor: Any = Literals()
    daemon = makeService(options, reactor)
    daemon.privilegedStartService()
    daemon.startService()
    [hangup] = [service for service in daemon if isinstance(service, HangupService)]
    [service] = [service for service in daemon if isinstance(service, NodeService)]
    member = service._runtime.member

    def asked() -> set[int]:
        """The ports; nobody ever answers."""
        reactor.tcpClients.clear()
        for _ in range(90):
            reactor.advance(1)
        return {port for _, port, *_ in reactor.tcpClients}

    assert asked() == {1001, 80}
    change = {"authority_urls": ["http://10.0.0.2:1002"]}
    second = add_signature(next_genesis(issuer.genesis, int(wall()), change), issuer.root)
    member.trust.offer(second, wall())
    (directory / "authority.json").write_text("{}")
    IdentityStore(directory).save_document(issuer.renew(node).certificate)
    with capturedLogs() as lines:
        hangup._reload()
    assert not [event for event in lines if event["log_level"].name == "error"], lines
    assert member.certificate.body.serial > node.certificate.body.serial
    asked()
    assert asked() == {1002}
    IdentityStore(directory).save_document(
        issuer.certify(node.node_key, node.noise_key, "renamed", ("anchor",))
    )
    with capturedLogs() as lines:
        hangup._reload()
    assert any("takes a restart" in str(event.get("cause")) for event in lines)
    assert member.name == "a"
    daemon.stopService()
    for _ in range(20):
        reactor.advance(1)


class Stoppable(MemoryReactorClock):
    """A reactor that notes its end."""

    ended = False

    def stop(self) -> None:
        self.ended = True


def test_field_l11_the_shutdown_command_ends_the_process(
    directory: Path, issuer: Issuer, node: Enrolled
) -> None:
    """After the time its receipt needs the reactor stops; the receipt is on disk before."""
    options = Options()
    options.parseOptions(["--state", str(directory)])
    reactor: Any = Stoppable()
    reactor.advance(1)
    daemon = makeService(options, reactor)
    daemon.privilegedStartService()
    daemon.startService()
    [service] = [service for service in daemon if isinstance(service, NodeService)]
    now = int(service._runtime.member.wall())
    body = Command(
        network_id=issuer.network_id,
        id="0" * 32,
        number=1,
        command="shutdown",
        target=CommandTarget(node="a"),
        arguments={},
        issued_at=now,
        expires_at=now + 60,
    )
    service._runtime.control.flood.offer(sign_document(body, [issuer.authority]))
    assert '"outcome": "done"' in (directory / "state.json").read_text()
    reactor.advance(3.9)
    assert not reactor.ended
    reactor.advance(0.2)
    assert reactor.ended
    daemon.stopService()
    for _ in range(20):
        reactor.advance(1)
    assert reactor.getDelayedCalls() == []


def test_programs_have_a_moment_to_come_back_after_a_start() -> None:
    """Streams and messages to what they serve wait for them."""
    held = []
    kind = SimpleNamespace(hold=lambda window, patience: held.append((window, patience)))
    runtime: Any = SimpleNamespace(start=lambda: None, streams=kind, datagrams=kind)
    NodeService(runtime).startService()
    assert held == [(HOLD_WINDOW, HOLD_PATIENCE)] * 2
