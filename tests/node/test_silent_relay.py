# SPDX-License-Identifier: MIT
"""A relay that keeps its links and passes nothing on: silence between the ends drives another path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from gmesh.endtoend.limits import INITIAL_RTO, REKEY_JITTER, REKEY_TIMEOUT
from gmesh.mesh.forwarding import Refusal
from gmesh.testing.mesh import MemoryMesh


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """Two relays between C{s} and C{t}."""
    made = MemoryMesh(3)
    made.add("a", "relay")
    made.add("b", "relay")
    made.add("s", "client", peers=("a", "b"))
    made.add("t", "client", peers=("a", "b"))
    made.start()
    made.run_until(lambda: made["s"].reaches("t") and made["t"].reaches("s"))
    made.run(5)
    yield made
    made.stop()


def corrupt(mesh: MemoryMesh) -> str:
    """The relay that C{s} uses passes nothing on from now on, and says nothing."""
    path = mesh["s"].path("t")
    assert path is not None
    silence(mesh, path[1])
    return path[1]


def silence(mesh: MemoryMesh, name: str) -> None:
    """This relay passes nothing on, and says nothing."""
    forwarding: Any = mesh[name].runtime.forwarding
    forwarding.judge = lambda *header: Refusal("forward-evil")
    forwarding.forget_verdicts()


def test_first_contact(mesh: MemoryMesh) -> None:
    """A handshake that nobody answers is repeated over the other relay."""
    evil = corrupt(mesh)
    taken: list[bytes] = []
    mesh["t"].runtime.datagrams.register("log", lambda message: taken.append(message.data))
    since = mesh.now()
    mesh.result(mesh["s"].runtime.datagrams.send("t", "log", b"x"))
    assert taken == [b"x"] and mesh.now() - since < REKEY_TIMEOUT + REKEY_JITTER + 0.5
    path = mesh["s"].path("t")
    assert path is not None and path[1] != evil


def test_in_a_conversation(mesh: MemoryMesh) -> None:
    """An acknowledged message is delivered once, over the other relay, after two unanswered tries."""
    taken: list[bytes] = []
    mesh["t"].runtime.datagrams.register("log", lambda message: taken.append(message.data))
    source = mesh["s"].runtime
    mesh.result(source.datagrams.send("t", "log", b"one"))
    evil = corrupt(mesh)
    since = mesh.now()
    mesh.result(source.datagrams.send("t", "log", b"two"))
    assert taken == [b"one", b"two"] and mesh.now() - since < 4 * INITIAL_RTO
    path = mesh["s"].path("t")
    assert path is not None and path[1] != evil
    assert source.counters()["blamed"] == 1


@implementer(IPushProducer)
class Writer:
    """Writes without end while it may."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.flow = mesh["s"].runtime.datagrams.open("t", "log")
        self.paused = False
        self.flow.registerProducer(self, True)
        self.call = mesh.clock.callLater(0, self.write)

    def write(self) -> None:
        """A few messages each 10 ms."""
        for _ in range(8):
            if not self.paused:
                self.flow.send(bytes(8000))
        self.call = self.mesh.clock.callLater(0.01, self.write)

    def pauseProducing(self) -> None:
        """Wait."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self.paused = False

    def stopProducing(self) -> None:
        """Nobody takes it."""

    def stop(self) -> None:
        """No more."""
        self.call.cancel()
        self.flow.unregisterProducer()


def test_unacknowledged_messages(mesh: MemoryMesh) -> None:
    """A flow whose far end says nothing for a while leaves by the other relay, too."""
    taken: list[int] = []
    mesh["t"].runtime.datagrams.register("log", lambda message: taken.append(len(message.data)))
    writer = Writer(mesh)
    mesh.run(1)
    assert len(taken) > 50
    corrupt(mesh)
    mesh.run(4)
    before = len(taken)
    mesh.run(1)
    assert len(taken) - before > 50
    assert mesh["s"].runtime.counters()["blamed"] == 1
    writer.stop()


def test_answers_go_back_the_way_that_came(mesh: MemoryMesh) -> None:
    """Who knows the bad relay is answered at once, though the other's own frames would be lost."""
    taken: list[bytes] = []
    mesh["t"].runtime.datagrams.register("log", lambda message: taken.append(message.data))
    source = mesh["s"].runtime
    mesh.result(source.datagrams.send("t", "log", b"one"))
    mesh["t"].runtime.datagrams.post("s", "nobody", b"by its own path")
    evil = corrupt(mesh)
    source.engine.unanswered(source.engine.path(mesh["t"].handle, source.now()), source.now(), False)
    since = mesh.now()
    for number in range(5):
        mesh.result(source.datagrams.send("t", "log", b"%d" % number))
    assert mesh.now() - since < INITIAL_RTO and source.counters().get("resent", 0) == 0
    path = mesh["t"].path("s")
    assert path is not None and path[1] == evil
    assert taken == [b"one", b"0", b"1", b"2", b"3", b"4"]


def test_answers_go_back_although_the_own_path_has_changed(mesh: MemoryMesh) -> None:
    """The first one too: where the last own frame went says nothing of the next."""
    source, far = mesh["s"].runtime, mesh["t"].runtime
    far.datagrams.register("log", lambda message: None)
    mesh.result(source.datagrams.send("t", "log", b"one"))
    far.datagrams.post("s", "nobody", b"by its own path")
    far.engine.unanswered(far.engine.path(mesh["s"].handle, far.now()), far.now(), False)
    own, theirs = mesh["t"].path("s"), mesh["s"].path("t")
    assert own is not None and theirs is not None and own[1] != theirs[1]
    silence(mesh, own[1])
    mesh.result(source.datagrams.send("t", "log", b"two"))
    assert source.counters().get("resent", 0) == 0
