# SPDX-License-Identifier: MIT
"""Programs that watch who offers a service, at the daemon's end of the frames of messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gmesh.client.message_frames import FrameType, MessageFrame, MessageFrameReader, pack_text, read_failed
from gmesh.endtoend.services import Services
from gmesh.endtoend.turn_end import TurnEnd
from gmesh.node.api.message_leg import LegNode, MessageLeg
from gmesh.node.limits import MAX_LEG_SERVICES

F = FrameType


class Node:
    """Has a table of services, and counts how often it is made."""

    def __init__(self) -> None:
        self.offered: dict[str, list[str]] = {"log": ["a"]}
        self.made = 0
        self.tell: list[Callable[[], object]] = []
        datagrams: Any = SimpleNamespace(turn=TurnEnd(), services=Services(Clock()))
        self.leg_node = LegNode(
            datagrams, dict, {"services": self._rows}, lambda cause: None, self._follow, Clock()
        )

    def _rows(self) -> list[dict[str, Any]]:
        self.made += 1
        return [{"service": service, "nodes": list(nodes)} for service, nodes in self.offered.items()]

    def _follow(self, tell: Callable[[], object]) -> Callable[[], None]:
        self.tell.append(tell)
        return lambda: self.tell.remove(tell)

    def look(self) -> None:
        for tell in tuple(self.tell):
            tell()


class Program:
    """A connection, and what the node said on it."""

    def __init__(self, node: Node) -> None:
        self.leg = MessageLeg(node.leg_node, 1000, lambda service: None)
        self.transport = StringTransport()
        self.leg.makeConnection(self.transport)
        self.heard()

    def say(self, kind: FrameType, tag: int, body: bytes = b"") -> None:
        self.leg.dataReceived(MessageFrame(kind, tag, body).encode())

    def heard(self) -> list[tuple[int, Any]]:
        frames = MessageFrameReader().feed(self.transport.value())
        self.transport.clear()
        return [(frame.tag, self._read(frame)) for frame in frames if frame.kind is not F.WELCOME]

    def _read(self, frame: MessageFrame) -> Any:
        if frame.kind is F.FAILED:
            return read_failed(frame.body)[0]
        assert frame.kind is F.ANSWER
        return {row["service"]: row["nodes"] for row in json.loads(frame.body)}


def test_who_is_there_and_each_change() -> None:
    """Of one service or of all; nothing is said while nothing changes, and nothing after LEAVE."""
    node = Node()
    program = Program(node)
    program.say(F.WATCH, 1, pack_text("log"))
    program.say(F.WATCH, 2, pack_text(""))
    assert program.heard() == [(1, {"log": ["a"]}), (2, {"log": ["a"]})]
    node.look()
    assert program.heard() == []
    node.offered["web"] = ["b"]
    node.look()
    assert program.heard() == [(2, {"log": ["a"], "web": ["b"]})]
    del node.offered["log"]
    node.look()
    assert program.heard() == [(1, {}), (2, {"web": ["b"]})]
    program.say(F.LEAVE, 1)
    program.say(F.LEAVE, 2)
    assert node.tell == []


def test_a_table_is_made_once_for_all_that_watch() -> None:
    """And not at all once nobody does."""
    node = Node()
    programs = [Program(node) for _ in range(5)]
    for program in programs:
        program.say(F.WATCH, 1, pack_text("log"))
    node.made = 0
    node.look()
    assert node.made == 1
    for program in programs:
        program.leg.connectionLost(Failure(ConnectionDone()))
    node.look()
    assert (node.made, node.tell) == (1, [])


def test_a_program_that_does_not_read_costs_no_memory() -> None:
    """What changed meanwhile is one change."""
    node = Node()
    program = Program(node)
    program.say(F.WATCH, 1, pack_text("log"))
    program.heard()
    program.transport.producer.pauseProducing()
    for number in range(100):
        node.offered["log"] = [f"n{number}"]
        node.look()
    assert program.heard() == []
    program.transport.producer.resumeProducing()
    assert program.heard() == [(1, {"log": ["n99"]})]


def test_watches_are_bounded() -> None:
    """So many a connection, one a tag."""
    program = Program(Node())
    for tag in range(MAX_LEG_SERVICES):
        program.say(F.WATCH, tag, pack_text("log"))
    program.heard()
    program.say(F.WATCH, 0, pack_text("log"))
    program.say(F.WATCH, 9999, pack_text("log"))
    assert program.heard() == [(0, "bad-request"), (9999, "busy")]


def test_no_message_goes_to_what_is_gmeshs_own() -> None:
    """The services that no policy cuts are not for programs."""
    program = Program(Node())
    body = bytes(4) + pack_text("b") + pack_text("_authority") + pack_text("") + b"x"
    program.say(F.SEND, 7, body)
    assert program.heard() == [(7, "bad-service")]
