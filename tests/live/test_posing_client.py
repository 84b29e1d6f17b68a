# SPDX-License-Identifier: MIT
"""A member written from docs/protocol alone that forges handshakes of others, beside two real nodes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from select import select
from typing import Any

import pytest
from live.node_rig import LISTEN, LocalConnection, ask, listening_port, until
from live.outside_node import OutsideNode, handle

from gmesh.testing.issuer import Issuer

pytestmark = pytest.mark.live

RATE = 40
SENDS = 8


class Attack:
    """
    Forged handshakes from C{source} to C{target}, as if handed on by C{outside}, at a steady rate.

    @ivar sent: how many so far.
    """

    def __init__(self, outside: OutsideNode, source: bytes, target: bytes) -> None:
        self.outside, self.source, self.target = outside, source, target
        self.sent = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self.outside.pose(self.source, self.target, 2**62 + self.sent)
                self.sent += 1
                while select([self.outside.socket], [], [], 1 / RATE)[0]:
                    self.outside.take()
        except Exception as error:
            self.error = error


@contextmanager
def attacking(outside: OutsideNode, source: bytes, target: bytes) -> Iterator[Attack]:
    """The attack goes on in a thread of its own, and nothing ends it before its time."""
    attack = Attack(outside, source, target)
    thread = threading.Thread(target=attack.run)
    thread.start()
    try:
        yield attack
    finally:
        attack.ended.set()
        thread.join()
    assert attack.error is None


def certified(state: Path) -> bytes:
    """The handle of a node."""
    return handle(json.loads((state / "certificate.json").read_bytes())["signed"])


def test_c3_two_nodes_talk_while_a_client_poses_as_their_hop(
    start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer
) -> None:
    """Forty forged handshakes a second: each is refused, every message between the others is delivered."""
    states = {name: enrol(name, role) for name, role in (("b", "anchor"), ("v", "client"), ("c", "client"))}
    b = start("gmesh-node", "--state", states["b"], "--listen", LISTEN)
    port = listening_port(b)
    outside = OutsideNode(enrol("m", "client"), issuer.genesis.body.suites[0])
    with closing(outside):
        outside.connect(("127.0.0.1", port))
        for name in ("v", "c"):
            node = start("gmesh-node", "--state", states[name], "--peer", f"127.0.0.1:{port}")
            node.wait_for("Link to b at .* is up")
        for name, other in (("v", "c"), ("c", "v")):
            until(lambda name=name, other=other: other in routes(states[name]))
        reader = LocalConnection(states["c"] / "node.sock")
        reader.request("GET", "/v1/receive?service=log")
        stream = reader.getresponse()
        with attacking(outside, certified(states["v"]), certified(states["c"])) as attack:
            until(lambda: attack.sent >= 2 * RATE)
            answers = []
            for _ in range(SENDS):
                message = {"node": "c", "service": "log", "data": "aGk="}
                answers.append(ask(states["v"], "POST", "/v1/send", message))
        assert [(code, answer.get("delivered")) for code, answer in answers] == [(200, True)] * SENDS
        told = [json.loads(stream.readline()) for _ in range(SENDS)]
        assert told == [{"from": "v", "service": "log", "data": "aGk="}] * SENDS
        reader.close()
        until(lambda: counters(states["b"]).get("forward-through-client") == attack.sent)
        assert "handshake-flood" not in counters(states["c"])


def counters(state: Path) -> dict[str, int]:
    counted: dict[str, int] = ask(state, "GET", "/v1/status")[1]["counters"]
    return counted


def routes(state: Path) -> list[str]:
    """The names of the nodes that one has a way to."""
    return [route["name"] for route in ask(state, "GET", "/v1/routes")[1]]
