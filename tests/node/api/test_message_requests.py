# SPDX-License-Identifier: MIT
"""Messages over HTTP from program to program, through three nodes: what each answer means."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from gmesh.endtoend import limits
from gmesh.errors import RequestRefused
from gmesh.node.api.access import AccessControl, AnswerAccess, Credentials
from gmesh.node.api.http import local_site
from gmesh.node.api.routes import LocalApi
from gmesh.node.api.views import LocalNode, Settings
from gmesh.testing.mesh import MemoryMesh


class Program:
    """A connection to the local API of a node."""

    def __init__(self, world: World, site: Any) -> None:
        self.world = world
        self.channel = site.buildProtocol(None)
        self.transport = StringTransport(UNIXAddress("node.sock"))
        self.channel.makeConnection(self.transport)
        self._read = 0
        self._gone = False

    def ask(self, method: str, path: str, body: Any = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
        self.channel.dataReceived(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    def send(self, data: bytes, service: str = "log", **more: Any) -> None:
        row = {"node": "c", "service": service, "data": base64.b64encode(data).decode(), **more}
        self.ask("POST", "/v1/send", row)

    def answers(self) -> list[tuple[int, Any]]:
        """The answers that are whole, by the length that each says."""
        found, rest = [], self.transport.value()
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            size = int({name.lower(): value for name, value in fields.items()}[b"content-length"])
            found.append((int(head.split(b" ")[1]), json.loads(rest[:size])))
            rest = rest[size:]
        return found

    def lines(self) -> list[dict[str, Any]]:
        """What came since the last time of an answer that goes on."""
        _, _, body = self.transport.value().partition(b"\r\n\r\n")
        rows = [json.loads(line) for line in body.split(b"\r\n") if line.startswith(b"{")]
        new, self._read = rows[self._read :], len(rows)
        return new

    def hang_up(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.channel.connectionLost(Failure(ConnectionDone()))


class World:
    """Three nodes in a line, with a local API at both ends."""

    def __init__(self) -> None:
        self.programs: list[Program] = []
        self.access = AccessControl()
        self.forbidden = ""
        self.mesh = mesh = MemoryMesh.line("a", "b", "c")
        mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))
        self.sites = {name: self.site(name) for name in ("a", "c")}

    def site(self, name: str) -> Any:
        heartbeat: Any = SimpleNamespace(age=lambda: None, reachable=False, troubles={})
        runtime = self.mesh[name].runtime
        node = LocalNode(runtime, heartbeat, self.mesh.clock, Settings("/state"))
        answers = AnswerAccess(self.access, self.serves)
        api = LocalApi(node, bytes, lambda: runtime.count("caller-gone"), answers=answers)
        return local_site(api.resource(), self.access)

    def serves(self, service: str, credentials: Credentials | None) -> None:
        if service == self.forbidden:
            raise RequestRefused("forbidden", f"[bind] {service} takes another group")

    def program(self, name: str) -> Program:
        self.programs.append(Program(self, self.sites[name]))
        return self.programs[-1]

    def receiver(self, service: str = "log", ack: int = 1) -> Program:
        program = self.program("c")
        program.ask("GET", f"/v1/receive?service={service}&ack={ack}")
        return program

    def acknowledge(self, *identifiers: str, **more: Any) -> Any:
        program = self.program("c")
        program.ask("POST", "/v1/receive/ack", {"ids": list(identifiers), **more})
        return program.answers()[0][1]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for program in made.programs:
        program.hang_up()
    made.mesh.stop()
    assert made.mesh.clock.getDelayedCalls() == []


def test_200_means_that_the_program_acknowledged(world: World) -> None:
    """Not that it was received; and a connection serves one request after the other."""
    receiver, sender = world.receiver(), world.program("a")
    sender.send(b"one")
    world.mesh.run(3)
    (line,) = receiver.lines()
    assert line["data"] == "b25l" and sender.answers() == []
    assert world.acknowledge(line["id"]) == {"settled": 1, "unknown": []}
    world.mesh.run(1)
    ((status, answer),) = sender.answers()
    assert status == 200 and answer["delivered"] is True and 3000 <= answer["rtt_ms"] <= 4100
    sender.send(b"two", service="nothing")
    world.mesh.run(1)
    assert [status for status, _ in sender.answers()] == [200, 404]


def test_a_question_and_its_answer_are_one_call(world: World) -> None:
    """What the receiver acknowledges with comes back."""
    receiver, sender = world.receiver(), world.program("a")
    sender.send(b"how warm?")
    world.mesh.run(1)
    (line,) = receiver.lines()
    world.acknowledge(line["id"], answer=base64.b64encode(b"21.5").decode())
    world.mesh.run(1)
    ((status, answer),) = sender.answers()
    assert status == 200 and base64.b64decode(answer["answer"]) == b"21.5"


def test_a_program_refuses_in_its_own_words(world: World) -> None:
    """The sender gets 502 refused, and the words."""
    receiver, sender = world.receiver(), world.program("a")
    sender.send(b"one")
    world.mesh.run(1)
    world.acknowledge(*[line["id"] for line in receiver.lines()], refused="too hot")
    world.mesh.run(1)
    ((status, problem),) = sender.answers()
    assert (status, problem["type"]) == (502, "urn:gmesh:problem:refused")
    assert problem["detail"].endswith(": too hot")


def test_a_program_that_is_killed_has_acknowledged_nothing(world: World) -> None:
    """What it had comes to the next one, marked; only what that acknowledges is 200."""
    first = world.receiver()
    senders = [world.program("a") for _ in range(3)]
    for number, sender in enumerate(senders):
        sender.send(b"%d" % number, timeout=60)
    world.mesh.run(1)
    assert len(first.lines()) == 3
    first.hang_up()
    world.mesh.run(5)
    second = world.receiver()
    world.mesh.run(1)
    lines = second.lines()
    assert [line["redelivered"] for line in lines] == [True] * 3
    world.acknowledge(*[line["id"] for line in lines[:2]])
    second.hang_up()
    world.mesh.run(limits.RECEIVER_RETURNS + 1)
    told = [sender.answers()[0] for sender in senders]
    assert [status for status, _ in told] == [200, 200, 502]
    assert told[2][1]["type"] == "urn:gmesh:problem:receiver-gone"


def test_a_slow_program_makes_its_senders_wait(world: World) -> None:
    """More than all queues hold, at 20 ms each: every one is 200, and none lost."""
    receiver = world.receiver()
    senders = [world.program("a") for _ in range(limits.MAX_RELIABLE_MESSAGES + 100)]
    for number, sender in enumerate(senders):
        sender.send(b"%d" % number, timeout=100)
    got: list[str] = []
    for _ in range(1300):
        waiting = receiver.lines()
        got += [line["data"] for line in waiting]
        for start in range(0, len(waiting), 8):
            world.acknowledge(*[line["id"] for line in waiting[start : start + 8]])
            world.mesh.run(0.16)
        if len(got) == len(senders):
            break
        world.mesh.run(0.05)
    world.mesh.run(2)
    assert len(set(got)) == len(got) == len(senders)
    assert {sender.answers()[0][0] for sender in senders} == {200}


def test_busy_comes_when_the_time_of_the_sender_is_over(world: World) -> None:
    """A program that reads nothing: those that found no room get 503 then, and not before."""
    receiver = world.receiver(ack=1)
    room = limits.SERVICE_CONCURRENT + limits.SERVICE_QUEUE_MESSAGES
    senders = [world.program("a") for _ in range(room + 3)]
    for sender in senders:
        sender.send(b"", timeout=5)
    world.mesh.run(4.8)
    assert [sender.answers() for sender in senders] == [[]] * len(senders)
    world.mesh.run(1)
    told = sorted(sender.answers()[0][0] for sender in senders)
    assert told == [503] * 3 + [504] * room
    assert len(receiver.lines()) == limits.SERVICE_CONCURRENT


def test_a_key_goes_with_its_message(world: World) -> None:
    """And answers for it the second time."""
    receiver, sender = world.receiver(), world.program("a")
    sender.send(b"one", key="order-7")
    world.mesh.run(1)
    (line,) = receiver.lines()
    assert line["key"] == "order-7" and "redelivered" not in line
    world.acknowledge(line["id"])
    world.mesh.run(1)
    sender.send(b"one", key="order-7")
    world.mesh.run(1)
    assert [status for status, _ in sender.answers()] == [200, 200]
    assert receiver.lines() == []
    sender.send(b"one", key="\n")
    assert sender.answers()[-1][0] == 400


def test_without_acknowledgements_written_is_done(world: World) -> None:
    """200 says no more; a second program is refused."""
    receiver, sender = world.receiver(ack=0), world.program("a")
    sender.send(b"one")
    world.mesh.run(1)
    assert [status for status, _ in sender.answers()] == [200]
    assert receiver.lines() == [{"from": "a", "service": "log", "data": "b25l"}]
    second = world.receiver(ack=0)
    assert second.answers()[0][0] == 409


def test_two_programs_share_a_service(world: World) -> None:
    """Both ask with ack=1, and each message goes to one."""
    receivers = [world.receiver() for _ in range(2)]
    for number in range(10):
        world.program("a").send(b"%d" % number)
    world.mesh.run(1)
    assert [len(receiver.lines()) for receiver in receivers] == [5, 5]


def test_a_caller_that_hangs_up_is_a_number(world: World) -> None:
    """No line in the log, whether the message waits here, is under way, or is held there."""
    receiver = world.receiver()
    with capturedLogs() as logged:
        for seconds in (0.0, 0.001, 1.0):
            sender = world.program("a")
            sender.send(b"x")
            world.mesh.run(seconds)
            sender.hang_up()
        world.mesh.run(3)
        world.acknowledge(*[line["id"] for line in receiver.lines()])
        world.mesh.run(3)
    assert [event for event in logged if event.get("log_failure")] == []
    assert world.mesh["a"].runtime.counters()["caller-gone"] == 3


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": "x"}, {"ids": [1]}, {"ids": ["x"] * 1025}, {"ids": ["x"], "refused": 1}]
)
def test_bad_acknowledgements(world: World, body: dict[str, Any]) -> None:
    """Refused, each with the field that is wrong."""
    program = world.program("c")
    program.ask("POST", "/v1/receive/ack", body)
    ((status, problem),) = program.answers()
    assert (status, problem["type"]) == (400, "urn:gmesh:problem:invalid-field")


def test_a_service_that_bind_keeps_from_a_user_is_not_received(world: World) -> None:
    """Over HTTP as over a connection of messages."""
    world.forbidden = "log"
    [(status, problem)] = world.receiver().answers()
    assert (status, problem["detail"]) == (403, "[bind] log takes another group")


@pytest.mark.parametrize("ack", [0, 1])
def test_who_receives_is_judged_again(world: World, ack: int) -> None:
    """The last line names the rule, the answer is whole, and the name is free; other services go on."""
    receiver, other = world.receiver(ack=ack), world.receiver("news", ack)
    world.forbidden = "log"
    world.access.admitted.judge()
    assert receiver.lines() == [{"ended_by": "[bind] log takes another group"}]
    assert receiver.transport.value().endswith(b"\r\n0\r\n\r\n")
    world.access.admitted.judge()
    assert receiver.lines() == []
    sender = world.program("a")
    sender.send(b"one", timeout=1)
    sender.send(b"two", "news", timeout=1)
    world.mesh.run(3)
    assert [line["data"] for line in other.lines()] == ["dHdv"]


def test_who_follows_is_judged_again(world: World) -> None:
    """By the group that may read; who has hung up is asked about no more."""
    follower, gone = world.program("c"), world.program("c")
    for program in (follower, gone):
        program.ask("GET", "/v1/follow?what=status")
        assert [line["event"] for line in program.lines()] == ["present"]
    gone.hang_up()
    world.access.become(AccessControl(read="62001", write="62002"))
    world.access.admitted.judge()
    [line] = follower.lines()
    assert line == {"ended_by": "the caller must be known: use the unix socket"}
    assert follower.transport.value().endswith(b"\r\n0\r\n\r\n")
    assert gone.lines() == []
