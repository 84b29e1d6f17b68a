# SPDX-License-Identifier: MIT
"""Forwards: local ports that lead to services of other nodes, each for itself."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from daemon.held_ports import free_port
from node.gateways.rig import CLOCK, Nodes
from streams.wires import Program, connect
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import LogEvent, Logger

from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.gateways import forwards
from gmesh.node.gateways.forwards import ForwardFactory, Forwards
from gmesh.node.gateways.settings import Forward

UNIT = "gmesh-node"

pytestmark = [  # Twisted 24.11 leaves the socket of a port that is busy to the collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    """What is logged."""
    found: list[LogEvent] = []
    for owner in (Forwards, ForwardFactory):
        monkeypatch.setattr(owner, "_log", Logger(observer=found.append))
    yield found


def forward(port: int, service: str = "ssh") -> Forward:
    """To a service of the other node."""
    return Forward(f"tcp:{port}:interface=127.0.0.1", "desk", service)


def forwarding(nodes: Nodes, *wanted: Forward) -> Forwards:
    """Forwards of the node under test, begun."""
    made = Forwards(CLOCK, nodes.here, UNIT, wanted)
    made.startService()
    return made


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_local_port_is_a_service_of_another_node(nodes: Nodes, kind: str, tmp_path: Path) -> None:
    """Its answer comes after the end of the question; both ends are clean."""
    far = Program()
    nodes.there.listen("ssh", lambda offer: offer.accept(far))
    port = free_port()
    wanted = forward(port) if kind == "tcp" else Forward(f"unix:{tmp_path}/ssh", "desk", "ssh")
    service = forwarding(nodes, wanted)
    near = await connect(port if kind == "tcp" else tmp_path / "ssh")
    near.transport.write(b"question")
    near.transport.loseWriteConnection()
    assert await far.ended == b"question"
    [stream] = nodes.here.open_streams()
    assert stream.local == f"forward {wanted.listen}"
    far.transport.write(b"answer")
    far.transport.loseConnection()
    assert await near.ended == b"answer"
    near.transport.loseConnection()
    assert isinstance(await near.lost, ConnectionDone)
    assert isinstance(await far.lost, ConnectionDone)
    await service.stopService()


async def test_a_refusal_is_a_reset_and_a_line(nodes: Nodes, lines: list[LogEvent]) -> None:
    """No program takes a service that is not there for one that had nothing to say."""
    port = free_port()
    service = forwarding(nodes, forward(port, "nothing"))
    near = await connect(port)
    assert isinstance(await near.lost, ConnectionLost)
    [line] = [each for each in lines if each["log_level"].name == "warn"]
    assert (line["to"], line["cause"]) == ("desk:nothing", "desk has no service nothing")
    await service.stopService()


@pytest.mark.parametrize("bound", ["MAX_FORWARDED", "MAX_FORWARDED_ALL"])
async def test_a_connection_too_many_is_a_reset_a_line_and_a_number(
    nodes: Nodes, lines: list[LogEvent], monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Of one forward, or of all: those that are open go on, and make room when they end."""
    monkeypatch.setattr(forwards, bound, 1)
    taken, counted = [Program(), Program()], Counter[str]()
    offers = iter(taken)
    nodes.there.listen("ssh", lambda offer: offer.accept(next(offers)))
    first, second = free_port(), free_port()
    service = Forwards(CLOCK, nodes.here, UNIT, [forward(first), forward(second)], partial(_add, counted))
    service.startService()
    near = await connect(first)
    near.transport.write(b"x")
    await taken[0].until(1)
    other = await connect(first if bound == "MAX_FORWARDED" else second)
    assert isinstance(await other.lost, ConnectionLost)
    assert counted == {"forward-full": 1}
    [line] = [each for each in lines if each["log_level"].name == "warn"]
    assert line["cause"].endswith("connections are open, 1 of all forwards")
    near.transport.abortConnection()
    await taken[0].lost
    again = await connect(first)
    again.transport.write(b"x")
    await taken[1].until(1)
    await service.stopService()
    assert isinstance(await again.lost, ConnectionLost)
    assert counted == {"forward-full": 1}


def _add(counted: Counter[str], cause: str) -> None:
    counted[cause] += 1


async def test_a_broken_stream_is_a_reset(nodes: Nodes) -> None:
    """Revoked, timed out, aborted: the program is told what TCP can tell."""
    far = Program()
    nodes.there.listen("ssh", lambda offer: offer.accept(far))
    port = free_port()
    service = forwarding(nodes, forward(port))
    near = await connect(port)
    near.transport.write(b"x")
    await far.until(1)
    nodes.there.break_all("revoked")
    assert isinstance(await near.lost, ConnectionLost)
    await service.stopService()


async def test_a_busy_port_is_one_line_and_the_rest_is_served(nodes: Nodes, lines: list[LogEvent]) -> None:
    """Also one that the service manager did not pass; a reload tries both again."""
    far = Program()
    nodes.there.listen("ssh", lambda offer: offer.accept(far))
    taken, free = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        wanted = [forward(taken), Forward("systemd:domain=INET:name=pump-ssh", "desk", "ssh"), forward(free)]
        service = forwarding(nodes, *wanted)
        causes = [each["cause"] for each in lines if each["log_level"].name == "error"]
        assert len(causes) == 2
        assert causes[0].endswith("Address already in use")
        assert causes[1].endswith("the service manager passed no such socket")
        near = await connect(free)
        near.transport.write(b"x")
        await far.until(1)
        assert [bool(row["trouble"]) for row in service.rows()] == [True, True, False]
        assert len(await service.follow(wanted)) == 2
    assert len(await service.follow(wanted)) == 1
    assert not near.lost.called
    near.transport.abortConnection()
    await near.lost
    await service.stopService()


async def test_a_reload_changes_one_and_touches_no_connection(nodes: Nodes) -> None:
    """One goes and one comes; what is open over the one that went, and over the one that stays, lives."""
    nodes.there.listen("ssh", lambda offer: offer.accept(Program()))
    first, second, third = (free_port() for _ in range(3))
    service = forwarding(nodes, forward(first), forward(second))
    programs = [await connect(first), await connect(second)]
    for program in programs:
        program.transport.write(b"x")
    assert await service.follow([forward(second), forward(third)]) == []
    programs.append(await connect(third))
    programs[0].transport.write(b"more")
    with pytest.raises(Exception, match="refused"):
        await connect(first)
    assert [row["listen"] for row in service.rows()] == [forward(second).listen, forward(third).listen]
    assert not any(program.lost.called for program in programs)
    for program in programs:
        program.transport.abortConnection()
        await program.lost
    await service.stopService()


async def test_a_program_that_hangs_up_before_the_stream_is_there_leaves_nothing(nodes: Nodes) -> None:
    """Whatever is opened for it is given up."""
    nodes.there.listen("ssh", lambda offer: None)
    port = free_port()
    service = forwarding(nodes, forward(port))
    near = await connect(port)
    await service.stopService()
    assert isinstance(await near.lost, ConnectionLost)


async def test_what_is_asked_for_while_it_runs_may_be_taken_back(nodes: Nodes) -> None:
    """By its number; one whose port is busy is refused, and is not there."""
    service = forwarding(nodes)
    port = free_port()
    added = await service.add(forward(port))
    with pytest.raises(ConfigurationError, match="already in use"):
        await service.add(forward(port))
    assert service.rows() == [
        {
            "id": 1,
            "listen": forward(port).listen,
            "to": "desk:ssh",
            "lasting": False,
            "trouble": None,
            "open": 0,
        }
    ]
    await service.remove(service.find(1))
    assert added.removed.called
    await service.remove(added)
    with pytest.raises(RequestRefused):
        service.find(1)
    await service.stopService()
