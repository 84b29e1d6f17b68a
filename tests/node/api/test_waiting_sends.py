# SPDX-License-Identifier: MIT
"""Messages that find no room wait as long as their senders allow, each service by itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from gmesh.client.message_frames import SendRequest
from gmesh.endtoend.limits import MAX_RELIABLE_MESSAGES
from gmesh.errors import SendRefused
from gmesh.node.api.waiting_sends import WaitingSends
from gmesh.testing.mesh import MemoryMesh


class Datagrams:
    """Has room for so many to each service."""

    def __init__(self) -> None:
        self.room = {"log": 1, "web": 1}
        self.sent: list[tuple[bytes, float, Deferred[Any]]] = []

    def send(self, node: str, service: str, data: bytes, *, timeout: float, key: str) -> Deferred[Any]:
        if not self.room[service]:
            return fail(SendRefused("busy", "full"))
        self.room[service] -= 1
        result: Deferred[Any] = Deferred(lambda _: result.errback(SendRefused("cancelled", "gave up")))
        self.sent.append((data, timeout, result))
        return self.sent[-1][2]


class Sender:
    """Sends, and keeps what became of it."""

    def __init__(self) -> None:
        self.clock, self.datagrams = Clock(), Datagrams()
        stand_in: Any = self.datagrams
        self.waiting = WaitingSends(stand_in, self.clock)
        self.became: dict[bytes, str] = {}

    def send(self, data: bytes, timeout: float = 10.0, service: str = "log") -> Deferred[Any]:
        sent = self.waiting.send(SendRequest("b", service, data, timeout))
        sent.addCallbacks(
            lambda _: self.became.update({data: "delivered"}),
            lambda failure: self.became.update({data: failure.value.reason}),
        )
        return sent


def test_they_go_in_their_order_when_there_is_room() -> None:
    """With what is left of their time; another service has its own room."""
    sender = Sender()
    for data in (b"1", b"2", b"3"):
        sender.send(data)
    sender.send(b"w", service="web")
    sender.clock.advance(4)
    sender.datagrams.room["log"] = 1
    sender.send(b"4")
    sender.clock.advance(1)
    sender.datagrams.room["log"] = 1
    sender.clock.advance(1)
    assert [(data, round(timeout)) for data, timeout, _ in sender.datagrams.sent] == [
        (b"1", 10),
        (b"w", 10),
        (b"2", 5),
        (b"3", 4),
    ]
    sender.datagrams.sent[2][2].callback(None)
    assert sender.became == {b"2": "delivered"}


def test_busy_comes_when_the_time_is_over_and_not_before() -> None:
    """Each by its own time; nothing is left on the clock."""
    sender = Sender()
    sender.send(b"1")
    sender.send(b"long", 5.0)
    sender.send(b"short", 2.0)
    sender.clock.advance(1.9)
    assert sender.became == {}
    sender.clock.advance(0.2)
    assert sender.became == {b"short": "busy"}
    sender.clock.advance(3)
    assert sender.became == {b"short": "busy", b"long": "busy"}
    assert sender.clock.getDelayedCalls() == []


def test_a_caller_that_gives_up_takes_no_room() -> None:
    """While it waits, and after it was sent."""
    sender = Sender()
    sender.send(b"1")
    sender.send(b"2").cancel()
    third = sender.send(b"3")
    sender.datagrams.room["log"] = 2
    sender.clock.advance(1)
    assert [data for data, _, _ in sender.datagrams.sent] == [b"1", b"3"]
    third.cancel()
    sender.clock.advance(1)
    assert sender.became == {b"2": "cancelled", b"3": "cancelled"}
    assert sender.clock.getDelayedCalls() == []


def test_who_gives_up_what_has_no_word_for_it_is_told_so() -> None:
    """A Deferred that was cancelled and says no more than that."""

    class Silent:
        """Takes everything, and knows nothing of giving up."""

        def begin(self, *asked: Any) -> None:
            return None

        def send(self, *asked: Any, **options: Any) -> Deferred[Any]:
            return Deferred()

    stand_in: Any = Silent()
    told: list[Any] = []
    WaitingSends(stand_in, Clock()).begin(SendRequest("b", "log", b"1", 10.0), told.append).cancel()
    assert [refusal.reason for refusal in told] == ["cancelled"]


def test_what_breaks_in_the_node_is_told_and_logged(flush_logged_errors: Any) -> None:
    """The program does not wait for an answer that never comes."""

    class Broken:
        def begin(self, *asked: Any) -> None:
            return None

        def send(self, *asked: Any, **options: Any) -> Deferred[Any]:
            return fail(ZeroDivisionError())

    stand_in: Any = Broken()
    told: list[Any] = []
    WaitingSends(stand_in, Clock()).begin(SendRequest("b", "log", b"1", 10.0), told.append)
    assert [refusal.reason for refusal in told] == ["failed"]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_several_programs_that_send_more_than_fits_wait() -> None:
    """Three times what one node may have under way to a service: all arrive, none is told that it is busy."""
    mesh = MemoryMesh.line("a", "b", "c")
    mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))

    def slow(message: Any) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        mesh.clock.callLater(0.01, done.callback, None)
        return done

    mesh.result(mesh["c"].client().serve("log", slow, concurrency=16).ready)
    outcomes: list[Any] = []
    for _ in range(3):
        client = mesh["a"].client()
        for _ in range(MAX_RELIABLE_MESSAGES):
            client.send("c", "log", b"x", timeout=60).addBoth(outcomes.append)
    mesh.run_until(lambda: len(outcomes) == 3 * MAX_RELIABLE_MESSAGES, within=60)
    assert outcomes == [b""] * (3 * MAX_RELIABLE_MESSAGES)
    mesh.stop()
