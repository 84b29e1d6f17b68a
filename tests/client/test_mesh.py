# SPDX-License-Identifier: MIT
"""The mesh as Twisted programs see it, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import problem
from client.message_daemon import MessageDaemon
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from gmesh.client import Mesh
from gmesh.client.mesh import MARGIN
from gmesh.client.serving import Serving
from gmesh.errors import SendRefused


@pytest_twisted.async_yield_fixture
async def daemon(tmp_path: Path) -> AsyncIterator[MessageDaemon]:
    made = MessageDaemon(reactor, str(tmp_path / "node.sock"))
    await made.start()
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def mesh(daemon: MessageDaemon) -> AsyncIterator[Mesh]:
    made = Mesh(daemon.path)
    yield made
    await closed(daemon, made)


async def closed(daemon: MessageDaemon, *meshes: Mesh) -> None:
    """Close them, and wait until the daemon has noticed."""
    for mesh in meshes:
        mesh.close()
    while any(leg.transport.connected for leg in daemon.legs):
        await turn()


async def turn() -> None:
    """Let the sockets have their turn."""
    await deferLater(reactor, 0.001)  # type: ignore[arg-type]  # the module stands for the reactor


async def reason_of(sent: Deferred[Any]) -> tuple[str, str]:
    with pytest.raises(SendRefused) as refused:
        await sent
    return refused.value.reason, refused.value.detail


@pytest_twisted.ensureDeferred
async def test_a_question_and_its_answer(mesh: Mesh) -> None:
    """One call here, one handler there, a coroutine or not."""

    async def asked(message: Any) -> bytes:
        return message.data.upper() + str((message.source, message.roles)).encode()

    mesh.serve("ask", asked)
    mesh.serve("plain", lambda message: None)
    assert await mesh.request("here", "ask", b"how warm?") == b"HOW WARM?('here', ('client', 'pump'))"
    assert await mesh.send("here", "plain", b"x") == b""


@pytest_twisted.ensureDeferred
async def test_refusals_say_why(mesh: Mesh, flush_logged_errors: Any) -> None:
    """Of the receiver its own words; of a bug in it nothing; of the node the reason."""

    async def hot(message: Any) -> None:
        raise SendRefused("refused", "too hot")

    def broken(message: Any) -> None:
        raise ZeroDivisionError("a secret")

    mesh.serve("hot", hot)
    mesh.serve("broken", broken)
    assert (await reason_of(mesh.send("here", "hot", b"")))[1].endswith(": too hot")
    assert (await reason_of(mesh.send("here", "broken", b"")))[1].endswith(": the receiver failed")
    assert (await reason_of(mesh.send("here", "nothing", b"")))[0] == "no-such-service"
    assert (await reason_of(mesh.send("nobody", "log", b"")))[0] == "unknown-node"
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


@pytest_twisted.ensureDeferred
async def test_more_than_the_node_allows_wait_here(mesh: Mesh) -> None:
    """Three thousand at once: each is answered, none busy."""

    async def double(message: Any) -> bytes:
        return message.data * 2

    mesh.serve("double", double, concurrency=1024)
    sent = [mesh.send("here", "double", b"%d" % number, timeout=60) for number in range(3000)]
    answers = await gatherResults(sent)
    assert answers == [b"%d" % number * 2 for number in range(3000)]


@pytest_twisted.ensureDeferred
async def test_a_program_that_ends_gives_back_what_it_had(daemon: MessageDaemon, mesh: Mesh) -> None:
    """Another of the same user gets it, marked."""
    first, given = Mesh(daemon.path), []

    def keep(message: Any) -> Deferred[None]:
        given.append(message)
        return Deferred()

    await first.serve("log", keep).ready
    sent = mesh.send("here", "log", b"x")
    while not given:
        await turn()
    await closed_alone(daemon, first)
    seen = []
    mesh.serve("log", seen.append)
    assert await sent == b""
    assert [(message.data, message.redelivered) for message in (*given, *seen)] == [
        (b"x", False),
        (b"x", True),
    ]


async def closed_alone(daemon: MessageDaemon, mesh: Mesh) -> None:
    """Close one while others stay."""
    connected = sum(leg.transport.connected for leg in daemon.legs)
    mesh.close()
    while sum(leg.transport.connected for leg in daemon.legs) == connected:
        await turn()


@pytest_twisted.ensureDeferred
async def test_two_programs_share_a_service(daemon: MessageDaemon, mesh: Mesh) -> None:
    """Each message goes to one of them."""
    other, seen = Mesh(daemon.path), ([], [])
    for program, got in zip((mesh, other), seen, strict=True):

        async def keep(message: Any, got: list[bytes] = got) -> None:
            await turn()
            got.append(message.data)

        await program.serve("log", keep).ready
    await gatherResults([mesh.send("here", "log", b"%d" % number) for number in range(20)])
    assert sorted(len(got) for got in seen) == [10, 10]
    await closed_alone(daemon, other)


@pytest_twisted.ensureDeferred
async def test_the_daemon_comes_back(daemon: MessageDaemon, mesh: Mesh) -> None:
    """Services are served again; what had a key is sent again, what had none is not known; new ones wait."""
    gate: list[Deferred[None]] = []

    def hold(message: Any) -> Deferred[None] | None:
        if len(gate) >= 2:
            return None
        gate.append(Deferred())
        return gate[-1]

    await mesh.serve("log", hold).ready
    keyed, plain = mesh.send("here", "log", b"x", key="k"), mesh.send("here", "log", b"y")
    while len(gate) < 2:
        await turn()
    await daemon.stop()
    assert (await reason_of(plain))[0] == "node-lost"
    later = mesh.send("here", "log", b"z")
    await daemon.start()
    assert await keyed == await later == b""


@pytest_twisted.ensureDeferred
async def test_what_is_asked_before_the_node_has_said_welcome(daemon: MessageDaemon, mesh: Mesh) -> None:
    """It is asked once: a service that is asked for twice would break the protocol."""
    mesh.serve("first", lambda message: None)
    assert mesh._connecting is not None
    await mesh._connecting
    assert mesh._connection is not None and not mesh._connection.welcome
    second, left = mesh.serve("log", lambda message: None), mesh.serve("left", lambda message: None)
    left.ready.addErrback(lambda _: None)
    left.stop()
    await second.ready
    assert await mesh.nodes() and daemon.counted == []
    assert daemon.datagrams.services.names == ["first", "log"]


@pytest_twisted.ensureDeferred
async def test_what_comes_while_a_service_is_left(daemon: MessageDaemon, mesh: Mesh) -> None:
    """What its handler has may still end; of the rest the senders hear at once that there is no receiver."""
    gate: list[Deferred[None]] = []

    def hold(message: Any) -> Deferred[None]:
        serving.stop()
        gate.append(Deferred())
        return gate[-1]

    serving = mesh.serve("log", hold)
    await serving.ready
    begun, *crossing = [mesh.send("here", "log", b"x", timeout=5) for _ in range(3)]
    for sent in crossing:
        assert (await reason_of(sent))[0] == "no-such-service"
    gate.pop().callback(None)
    assert await begun == b"" and not gate


def test_what_was_read_before_the_daemon_came_back_says_nothing() -> None:
    """The node counts its messages anew on each connection."""
    serving = Serving(lambda serving: None, 1, "log", lambda message: None, 64)
    serving.last = 7
    assert serving.leaving().body == b"\0\0\0\7"
    serving.frame()
    assert serving.leaving().body == bytes(4)


@pytest_twisted.ensureDeferred
async def test_cancelled_and_late(daemon: MessageDaemon, mesh: Mesh) -> None:
    """The node hears of the first; the time allowed holds with a node and without one."""
    served = mesh.serve("log", lambda message: Deferred())
    await served.ready
    sent = mesh.send("here", "log", b"x")
    await turn()
    sent.cancel()
    assert (await reason_of(sent))[0] == "cancelled"
    assert (await reason_of(mesh.send("here", "log", b"x", timeout=0.05)))[0] == "timed-out"
    alone = Mesh(daemon.path + ".missing")
    waiting = alone.send("here", "log", b"x", timeout=-1.95)
    assert (await reason_of(waiting))[0] == "timed-out"
    alone.close()


@implementer(IStreamClientEndpoint)
class Nowhere:
    """Connects never."""

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return Deferred()


@pytest_twisted.ensureDeferred
async def test_what_was_closed_answers_at_once(mesh: Mesh) -> None:
    """Whatever is asked of it; nothing waits for a daemon any more."""
    mesh.close()
    serving = mesh.serve("log", lambda message: None)
    watch = mesh.watch()
    for asked in (mesh.send("b", "log", b"x"), mesh.nodes(), mesh.services(), serving.ready):
        with pytest.raises(SendRefused, match="closed"):
            await asked
    with pytest.raises(SendRefused, match="closed"):
        await anext(watch)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_listen_that_waits_for_a_daemon_ends_with_the_connection(tmp_path: Path, when: str) -> None:
    """Nothing asks for its streams when the daemon comes: not that either which is begun later."""
    clock, told = MemoryReactorClock(), list[Any]()
    mesh = Mesh(str(tmp_path / "node.sock"), clock)
    if when == "after":
        mesh.close()
    mesh.listen("shell", Factory()).addErrback(told.append)
    if when == "before":
        assert not told
        mesh.close()
    assert [failure.value.reason for failure in told] == ["stopped"]
    clock.advance(10)
    assert clock.getDelayedCalls() == []


def test_messages_to_a_daemon_that_stays_away_leave_nothing(tmp_path: Path) -> None:
    """Neither what waits nor its number is kept once its time is over."""
    clock = MemoryReactorClock()
    mesh = Mesh(str(tmp_path / "node.sock"), clock)
    told: list[Any] = []
    mesh.send("b", "log", b"x", timeout=10_000.0).addErrback(told.append)
    for _ in range(1000):
        mesh.send("b", "log", b"x", timeout=1.0).addErrback(told.append)
        clock.advance(4.0)
    assert {failure.value.reason for failure in told} == {"timed-out"}
    assert len(mesh._waiting) < 200
    mesh.close()
    assert clock.getDelayedCalls() == []


def test_many_that_end_shortly_one_after_the_other_are_looked_at_together() -> None:
    """Each look is at all of them: it ends those of 50 ms."""

    class Counting(Clock):
        asked = 0

        def callLater(self, *call: Any, **options: Any) -> Any:
            self.asked += 1
            return super().callLater(*call, **options)

    clock = Counting()
    reactor: Any = clock
    mesh, late = Mesh(Nowhere(), reactor), list[float]()
    for number in range(1000):
        sent = mesh.send("here", "log", b"x", timeout=number / 1000)
        sent.addErrback(lambda _, due=MARGIN + number / 1000: late.append(clock.seconds() - due))
    for _ in range(3200):
        clock.advance(0.001)
    assert len(late) == 1000 and min(late) > -0.001 and max(late) < 0.06
    assert clock.asked < 30
    mesh.close()


@pytest_twisted.ensureDeferred
async def test_who_is_there_and_all_at_once(mesh: Mesh) -> None:
    """nodes, services; to a role, to those that have the service, to named ones: one result a node."""
    mesh.serve("log", lambda message: None)
    assert [row["name"] for row in await mesh.nodes()] == ["here", "there", "gone"]
    assert await mesh.services() == [{"service": "log", "nodes": ["here"]}]
    assert await mesh.send_to("log", b"x") == {"here": b""}
    found = await mesh.send_to("log", b"x", role="pump")
    assert found["here"] == b"" and isinstance(found["there"], SendRefused) and len(found) == 2
    assert set(await mesh.send_to("log", b"x", nodes=["here"])) == {"here"}


@pytest_twisted.ensureDeferred
async def test_a_service_that_may_not_be_served(mesh: Mesh) -> None:
    """Its Deferred says why."""
    with pytest.raises(SendRefused) as refused:
        await mesh.serve("_echo", lambda message: None).ready
    assert refused.value.reason == "bad-service"
    serving = mesh.serve("log", lambda message: None)
    await serving.ready
    serving.stop()
    assert (await reason_of(mesh.send("here", "log", b"")))[0] == "no-such-service"


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_does_not_serve_this_user(tmp_path: Path) -> None:
    """All that waits is told why; the log has one line, however often it is tried again."""
    path = str(tmp_path / "node.sock")
    asked: list[int] = []

    class Refusing(Protocol):
        transport: Any

        def dataReceived(self, data: bytes) -> None:
            asked.append(1)
            self.transport.write(problem(403, "forbidden", "that takes the group pumps"))
            self.transport.loseConnection()

    port = await UNIXServerEndpoint(reactor, path).listen(Factory.forProtocol(Refusing))
    lines: list[str] = []
    observe = partial(_keep_warnings, lines)
    globalLogPublisher.addObserver(observe)
    mesh = Mesh(path)
    serving, watching = mesh.serve("log", lambda message: None), mesh.watch()
    sent = mesh.send("here", "log", b"x")
    expected = "forbidden", "that takes the group pumps"
    assert await reason_of(sent) == await reason_of(serving.ready) == expected
    with pytest.raises(SendRefused):
        await watching.__anext__()
    while len(asked) < 3:
        assert await reason_of(mesh.send("here", "log", b"x")) == expected
    mesh.close()
    globalLogPublisher.removeObserver(observe)
    await port.stopListening()
    assert lines == [f"no connection to the node at {path}: that takes the group pumps"]


def _keep_warnings(lines: list[str], event: Any) -> None:
    if event["log_level"] is LogLevel.warn and event["log_namespace"].startswith("gmesh.client"):
        lines.append(formatEvent(event))
