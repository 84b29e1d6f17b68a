# SPDX-License-Identifier: MIT
"""
Neighbours that hold news back by talking: revocations reach everybody who has an honest path.

A third of each honest node's neighbours is hostile and works together; links are queues, time is virtual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

import networkx as nx
import pytest
from mesh.gossip import offer
from mesh.network_doubles import DoubleLink, TestNode, TestWorld
from twisted.internet.task import LoopingCall

from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INTEGER
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.limits import FRAME_HEADER, MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import DocumentPush, DocumentRequest

HONEST, HOSTILE, DEGREE = 16, 8, 6
ROUNDS = 6
GONE = 250
"""Entries that make a CRL of several pieces."""


class Withholder:
    """
    A member that passes no CRL on, and announces others.

    @ivar keeps: seconds from a request to its piece, or None for never.
    @ivar pauses: so many seconds it announces, so many it is still.
    """

    def __init__(self, node: TestNode, number: int, keeps: float | None, size: int, pauses: int = 0) -> None:
        self.node = node
        self.number = number
        self.keeps = keeps
        self.size = size
        self.pauses = pauses
        self.said = 0
        self.claims = 0
        node.withholds = lambda kind, frame: kind == Kind.CRL

    def link(self, victim: TestNode) -> None:
        """Have a link, and answer what is asked over it."""
        link, _ = self.node.world.connect(self.node, victim)

        def answer(kind: int, record: memoryview, start: int, end: int) -> None:
            request = DocumentRequest.decode(record[start + FRAME_HEADER : end])
            if self.keeps is None:
                return
            size = min(MAX_DOCUMENT_CHUNK, self.size - request.offset)
            piece = DocumentPush(request.number, request.digest, self.size, request.offset, bytes(size))
            self._say(link, piece, self.keeps)

        link.receivers[Kind.CRL_REQ] = answer

    def talk(self) -> None:
        """Announce a CRL that nobody made, to every neighbour; link again with those that hung up."""
        self.said += 1
        if self.pauses and self.said // self.pauses % 2:
            return
        self.claims += 1
        digest = sha256(f"{self.node.name}{self.claims // 30}".encode()).digest()
        for link in list(self.node.links.values()):
            if not link.up:
                self.link(link.far)
            else:
                self._say(link, DocumentPush(self.number, digest, self.size, 0, b""), 0.0)

    def _say(self, link: DoubleLink, push: DocumentPush, after: float) -> None:
        def arrive() -> None:
            if link.up and link.other is not None and link.other.up:
                link.other.receive(Kind.CRL, pack_frame(Kind.CRL, push.encode()))

        self.node.world.clock.callLater(link.delay + after, arrive)


LARGEST = DOCUMENT_LIMITS["crl"]
BEHAVIOURS: dict[str, Callable[[TestNode, int, int], Withholder]] = {
    "drip": lambda node, index, number: Withholder(node, MAX_INTEGER, 9.0, LARGEST),
    "drip what is named": lambda node, index, number: Withholder(node, number, 9.0, LARGEST),
    "drip in turns": lambda node, index, number: Withholder(
        node, (number, MAX_INTEGER)[index % 2], 2.0, LARGEST, 3 + index
    ),
    "lie": lambda node, index, number: Withholder(node, number, 0.0, 4 * MAX_DOCUMENT_CHUNK),
    "stall": lambda node, index, number: Withholder(node, number, None, LARGEST),
}


def revoke(world: TestWorld, first: TestNode) -> None:
    """One node hears of it from the authority: the CRL, then the status that names it."""
    crl = world.issuer.revoke(world.issuer.enrol(f"gone{int(world.now() * 1000)}", "client"))
    assert len(crl.encode()) > MAX_DOCUMENT_CHUNK
    offer(first, crl)
    offer(first, world.issuer.status)


def number_of(node: TestNode) -> int:
    """Of the CRL that it holds."""
    assert node.trust.crl is not None
    return node.trust.crl.body.number


@contextmanager
def talking(world: TestWorld, hostile: list[Withholder], every: float = 1.0) -> Iterator[None]:
    """They talk, so often."""
    calls = []
    for each in hostile:
        call = LoopingCall(each.talk)
        call.clock = world.clock
        call.start(every)
        calls.append(call)
    try:
        yield
    finally:
        for call in calls:
            call.stop()
        for each in hostile:
            each.keeps = None
        world.run(10)


def fill(world: TestWorld) -> None:
    """So many are revoked before that the CRL has several pieces."""
    for number in range(GONE):
        world.issuer.revoke(world.issuer.enrol(f"before{number}", "client"))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_c5_a_third_of_the_neighbours_holds_nothing_back(world: TestWorld, behaviour: str) -> None:
    """Each revocation is everywhere within 30 s, and at 99 of 100 nodes within 3 s."""
    fill(world)
    nodes = [world.add(f"n{number}") for number in range(HONEST)]
    for one, other in nx.random_regular_graph(DEGREE, HONEST, seed=7).edges:
        world.connect(nodes[one], nodes[other])
    delays = []
    hostile = []
    for index in range(HOSTILE):
        each = BEHAVIOURS[behaviour](world.add(f"h{index}"), index, world.issuer.crl.body.number + 1)
        for victim in range(DEGREE):
            each.link(nodes[(index * DEGREE + victim) % HONEST])
        hostile.append(each)
    with talking(world, hostile):
        world.run(2)
        for turn in range(ROUNDS):
            for each in hostile:
                each.number = max(each.number, world.issuer.crl.body.number + 1)
            world.run(20 + 7 * turn)
            revoke(world, nodes[turn])
            wanted, since = world.issuer.crl.body.number, world.now()
            missing = set(nodes)
            while missing and world.now() < since + 60:
                world.run(0.05)
                for node in [node for node in missing if number_of(node) == wanted]:
                    missing.remove(node)
                    delays.append(world.now() - since)
            assert not missing
    delays.sort()
    assert len(delays) == ROUNDS * HONEST
    assert delays[-1] <= 30
    assert delays[len(delays) * 99 // 100 - 1] <= 3


@pytest.mark.parametrize("hours", [2, pytest.param(24, marks=pytest.mark.soak)])
def test_c5_two_that_take_turns_for_a_day(world: TestWorld, hours: int) -> None:
    """What one neighbour announces is waited for by nobody, in the first minute and after hours of that."""
    fill(world)
    honest, node = world.add("honest"), world.add("node")
    world.connect(honest, node)
    hostile = [Withholder(world.add(f"h{index}"), MAX_INTEGER, 9.0, LARGEST, 30) for index in (0, 1)]
    hostile[1].said = 30
    for each in hostile:
        each.link(node)
    with talking(world, hostile, every=20.0):
        for spell in (60.0, 3600.0 * hours):
            world.run(spell)
            revoke(world, honest)
            world.run(3)
            assert number_of(node) == world.issuer.crl.body.number
    assert node.counters["document-stalled"] < 2 * (10 + hours)


def test_c5_a_new_link_is_no_new_start(world: TestWorld) -> None:
    """Who let others wait is not asked again because it links again."""
    _, node = world.line("honest", "node")
    liar = Withholder(world.add("h"), MAX_INTEGER, None, LARGEST)
    liar.link(node)
    liar.talk()
    world.run(11)
    assert node.counters["document-stalled"] == 1
    world.cut(liar.node, node)
    liar.link(node)
    liar.talk()
    link = node.links["h"]
    world.run(5)
    assert [kind for kind, _ in link.sent].count(Kind.CRL_REQ) == 0


def test_c5_a_neighbour_answers_so_many_questions_a_second(world: TestWorld) -> None:
    """A CRL of more pieces than are answered at once still comes: the rest is asked for again."""
    a, b = world.line("a", "b")
    whole = bytes(LARGEST)
    a.documents._encoded = lambda name, document: (whole, sha256(whole).digest())  # type: ignore[method-assign]
    offer(a, world.issuer.revoke(world.issuer.enrol("gone", "client")))
    world.run(8)
    assert a.counters["question-ignored"] > 0
    assert b.counters["crl-refused"] == 1, "it came whole, and is none"
