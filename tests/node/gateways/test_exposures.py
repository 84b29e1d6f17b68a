# SPDX-License-Identifier: MIT
"""Exposures: a program that knows nothing of the mesh serves a node of it; dead targets are refusals."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node.gateways.rig import CLOCK, NETWORK, Nodes
from streams.wires import Program, Served, serve
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.logger import LogEvent, Logger

from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.gateways.exposures import Exposures
from gmesh.node.gateways.proxy_header import proxy_header
from gmesh.node.gateways.settings import Exposure, Target
from gmesh.stream_errors import DialRefused, ServiceRefused, StreamLost


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    """What is logged."""
    found: list[LogEvent] = []
    monkeypatch.setattr(Exposures, "_log", Logger(observer=found.append))
    yield found


def exposing(nodes: Nodes, *wanted: Exposure, own: Any = tuple) -> Exposures:
    """Exposures of the node under test, begun."""
    made = Exposures(CLOCK, nodes.here, NETWORK, nodes.own_id, own, wanted)
    made.startService()
    return made


@asynccontextmanager
async def target(path: Path | None = None, said: Any = None) -> AsyncIterator[tuple[Served, Target]]:
    """A program that serves, and where."""
    served = await serve(lambda: Program(*([said] if said else [])), path)
    yield served, Target(path=str(path)) if path else Target("127.0.0.1", int(str(served.address)))
    await served.close()
    for program in served.made:
        program.transport.abortConnection()
        await program.lost


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_program_of_this_host_answers_another_node(nodes: Nodes, kind: str, tmp_path: Path) -> None:
    """It hears the end of the question, and answers after it; both ends are clean."""
    async with target(tmp_path / "t" if kind == "unix" else None) as (served, where):
        service = exposing(nodes, Exposure("web", where))
        dialler = Program()
        await nodes.dial("web", dialler)
        dialler.transport.write(b"question")
        dialler.transport.loseWriteConnection()
        [program] = served.made
        assert await program.ended == b"question"
        [stream] = nodes.here.open_streams()
        assert stream.local == f"exposure of {where}"
        program.transport.write(b"answer")
        program.transport.loseConnection()
        assert await dialler.ended == b"answer"
        dialler.transport.loseConnection()
        await dialler.lost
        assert [row["service"] for row in service.rows()] == ["web"]
        service.stopService()


async def test_a_service_that_speaks_first_is_heard_behind_a_header(nodes: Nodes, tmp_path: Path) -> None:
    """It is told who is there before anything else, once, and need not be asked."""
    async with target() as (served, where):
        service = exposing(nodes, Exposure("ssh", where, proxy_protocol=2))
        dialler = Program()
        await nodes.dial("ssh", dialler)
        header = proxy_header(NETWORK, nodes.there.address("ssh"), nodes.own_id)
        [program] = served.made
        assert await program.until(len(header)) == header
        program.transport.write(b"SSH-2.0-x\r\n")
        assert await dialler.until(11) == b"SSH-2.0-x\r\n"
        dialler.transport.write(b"SSH-2.0-y\r\n")
        assert await program.until(len(header) + 11) == header + b"SSH-2.0-y\r\n"
        service.stopService()
        dialler.transport.abortConnection()
        await dialler.lost


async def test_a_dead_target_is_a_refusal_that_names_no_address(nodes: Nodes, lines: list[LogEvent]) -> None:
    """Who dials hears it before sending a byte; the address is in the log of this host."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        service = exposing(nodes, Exposure("web", Target("127.0.0.1", port)))
        with pytest.raises(ServiceRefused) as refused:
            await nodes.dial("web", Program())
    assert (refused.value.reason, refused.value.detail) == ("refused", "the service web does not answer")
    [line] = [each for each in lines if each["log_level"].name == "warn"]
    assert (line["service"], line["target"]) == ("web", f"tcp:127.0.0.1:{port}")
    service.stopService()


async def test_a_target_that_takes_too_long_is_unreachable(nodes: Nodes) -> None:
    """The queue of its socket is full, so nobody answers: after connect_timeout that is said."""
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(busy.getsockname())
        where = Target("127.0.0.1", busy.getsockname()[1])
        service = exposing(nodes, Exposure("web", where, connect_timeout=0.2))
        with pytest.raises(DialRefused) as refused:
            await nodes.dial("web", Program())
        assert refused.value.reason == "unreachable"
        service.stopService()


async def test_a_missing_socket_below_home_is_explained(nodes: Nodes, lines: list[LogEvent]) -> None:
    """systemd shows the daemon an empty /home, which nobody thinks of."""
    service = exposing(nodes, Exposure("db", Target(path="/home/nobody/there")))
    with pytest.raises(ServiceRefused):
        await nodes.dial("db", Program())
    assert "ProtectHome" in lines[-1]["cause"]
    service.stopService()


async def test_a_reset_of_the_program_reaches_who_dialled(nodes: Nodes) -> None:
    """And the other way round: neither takes half an answer for a whole one."""
    async with target() as (served, where):
        service = exposing(nodes, Exposure("web", where))
        one, other = Program(), Program()
        await nodes.dial("web", one)
        served.made[0].transport.abortConnection()
        assert isinstance(await one.lost, StreamLost)
        await nodes.dial("web", other)
        nodes.here.break_all("revoked")
        assert isinstance(await other.lost, StreamLost)
        assert not served.made[1].ended.called or served.made[1].lost
        service.stopService()


async def test_who_gives_up_while_the_target_is_connected_leaves_nothing(
    nodes: Nodes, lines: list[LogEvent]
) -> None:
    """The connection under way is given up with the stream, and the target is not called dead for it."""
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(busy.getsockname())
        service = exposing(nodes, Exposure("web", Target("127.0.0.1", busy.getsockname()[1])))
        dialling = nodes.there.dial("pump-07", "web", lambda peer: Program(), timeout=0.2)
        with pytest.raises(DialRefused):
            await dialling
        assert service.rows()[0]["open"] == 0
        assert [line for line in lines if line["log_level"].name == "warn"] == []
        service.stopService()


async def test_what_is_taken_back_while_the_target_is_connected_is_refused(nodes: Nodes) -> None:
    """Nothing is open yet, so nothing lives on."""

    def doors() -> list[Any]:  # asked for once there is a connection, which is compared to them
        service.follow([])
        return []

    async with target() as (_, where):
        service = exposing(nodes, Exposure("web", where), own=doors)
        with pytest.raises(ServiceRefused) as refused:
            await nodes.dial("web", Program())
        assert refused.value.reason == "no-such-service"
        service.stopService()


async def test_the_doors_of_the_daemon_are_no_target(nodes: Nodes, tmp_path: Path) -> None:
    """Not its control socket, by whatever path, and not a port of its own, by whatever name of this host."""
    async with target(tmp_path / "node.sock") as (_, door), target() as (_, port):
        (tmp_path / "other").symlink_to(tmp_path / "node.sock")
        own = [UNIXAddress(door.path.encode()), IPv4Address("TCP", "127.0.0.1", port.port)]
        service = exposing(nodes, own=lambda: own)
        for path in (door.path, str(tmp_path / "other"), f"{tmp_path}/../{tmp_path.name}/node.sock"):
            with pytest.raises(ConfigurationError, match="is a door of this daemon"):
                service.add(Exposure("web", Target(path=path)))
        late = Target(path=str(tmp_path / "late"))
        service.add(Exposure("late", late))
        Path(late.path).symlink_to(tmp_path / "node.sock")
        service.add(Exposure("api", Target("localhost", port.port)))
        for name in ("late", "api"):
            with pytest.raises(ServiceRefused):
                await nodes.dial(name, Program())
        service.stopService()


async def test_a_reload_changes_one_exposure_and_touches_no_stream(nodes: Nodes) -> None:
    """What is new comes, what is gone goes, and a stream of what is gone lives on."""
    async with target() as (_, where):
        service = exposing(nodes, Exposure("web", where), Exposure("ssh", where))
        dialler = Program(lambda program, data: None)
        await nodes.dial("ssh", dialler)
        assert service.follow([Exposure("web", where), Exposure("db", where)]) == []
        assert [row["service"] for row in service.rows()] == ["db", "web"]
        with pytest.raises(ServiceRefused) as refused:
            await nodes.dial("ssh", Program())
        assert refused.value.reason == "no-such-service"
        dialler.transport.write(b"still here")
        assert not dialler.lost.called
        service.stopService()
        dialler.transport.abortConnection()
        await dialler.lost


async def test_one_that_cannot_be_is_a_line_and_the_others_are(nodes: Nodes, lines: list[LogEvent]) -> None:
    """A name that a program has taken; the next reload tries again."""
    listening = nodes.here.listen("web", lambda offer: None)
    wanted = [Exposure("web", Target("127.0.0.1", 1)), Exposure("ssh", Target("127.0.0.1", 2))]
    service = exposing(nodes, *wanted)
    assert [each["cause"] for each in lines if each["log_level"].name == "error"] == [
        "web is not exposed: web has a taker already"
    ]
    assert [row["service"] for row in service.rows()] == ["ssh"]
    listening.stopListening()
    assert service.follow(wanted) == []
    service.stopService()


def test_what_is_asked_for_while_it_runs_may_be_taken_back(nodes: Nodes) -> None:
    """By its name; a name that is not exposed is said to be none."""
    service = exposing(nodes)
    exposed = service.add(Exposure("web", Target("127.0.0.1", 1)))
    assert service.rows() == [
        {
            "service": "web",
            "to": "tcp:127.0.0.1:1",
            "proxy_protocol": 0,
            "connect_timeout": 10.0,
            "lasting": False,
            "open": 0,
        }
    ]
    service.follow([])
    assert not exposed.removed.called
    service.remove(service.find("web"))
    assert exposed.removed.called
    service.remove(exposed)
    with pytest.raises(RequestRefused):
        service.find("web")
    service.stopService()
