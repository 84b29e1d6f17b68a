# SPDX-License-Identifier: MIT
"""
A, B or C of a line of nodes as a process: the real composition of a node, without files and daemon.

Run as C{python -m bench.relay_process ROLE OPTIONS-AS-JSON}.  All make the same network from the
same seed, so nothing but a port number has to be passed between them.  C hosts as many nodes as
there are flows, each behind a link of its own, so that frames for them alternate at B.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from bench.process import Meter, resident, run_process
from gmesh.endtoend.datagram_sender import DatagramSender
from gmesh.errors import SendRefused
from gmesh.node.composition import Environment
from gmesh.node.identity_store import Identity, NodeState
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.issuer import Issuer
from gmesh.testing.memory_store import MemoryStore

SUITES = {"aesgcm": "Noise_XX_25519_AESGCM_BLAKE2s", "chacha": "Noise_XX_25519_ChaChaPoly_BLAKE2s"}
NAMES = ("a", "b", "c0", "c1")
SERVICE = "bench"
BATCH = 64 * 1024
END = b"the end"
TRIAL = b"trial"
POLL = 0.05


def make_node(reactor: Any, name: str, options: dict[str, Any], ports: list[int]) -> NodeRuntime:
    """One node as the daemon composes it, that dials these ports; started."""
    issuer = Issuer(lambda: options["wall"], Random(1), suites=(SUITES[options["suite"]],))
    enrolled = {each: issuer.enrol(each, "relay" if each == "b" else "client") for each in NAMES}[name]
    identity = Identity(
        node_key=enrolled.node_key,
        noise_key=enrolled.noise_key,
        certificate=enrolled.certificate,
        network_id=issuer.network_id,
        genesis_chain=issuer.genesis_chain,
        documents=issuer.documents,
        floors={},
        state=NodeState(),
    )
    node = NodeRuntime(
        identity,
        MemoryStore(),
        Environment(
            clock=reactor,
            wall=time.time,
            random=Random(name),
            entropy=os.urandom,
            connect=lambda target, avoid: clientFromString(reactor, f"tcp:{target}"),
            cpu=time.thread_time,
        ),
        peers=[f"127.0.0.1:{port}" for port in ports],
    )
    node.start()
    return node


@implementer(IPushProducer)
class Tap:
    """One flow of a sender, as the node pauses it."""

    def __init__(self, sender: Sender, flow: DatagramSender) -> None:
        self.sender, self.flow = sender, flow
        flow.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.sender.paused.add(self)

    def resumeProducing(self) -> None:
        self.sender.paused.discard(self)
        self.sender.go_on()

    def stopProducing(self) -> None:
        self.sender.running = False


class Sender:
    """Sends to every node of C in turn for some seconds, paused while there is no room for any."""

    def __init__(self, reactor: Any, node: NodeRuntime, options: dict[str, Any]) -> None:
        self.reactor, self.node = reactor, node
        self.seconds = options["seconds"]
        self.payload = bytes(options["payload"])
        self.names = [f"c{number}" for number in range(options["flows"])]
        self.meter = Meter()
        self.refused = 0
        self.paused: set[Tap] = set()
        self.running = False
        self.scheduled = False

    def start(self, ended: Callable[[], None]) -> None:
        self.ended = ended
        self.flows = [self.node.datagrams.open(name, SERVICE) for name in self.names]
        self.taps = [Tap(self, flow) for flow in self.flows]
        self.meter.start()
        self.deadline = self.reactor.seconds() + self.seconds
        self.running = True
        self.go_on()

    def go_on(self) -> None:
        if not self.scheduled and not self.paused:
            self.scheduled = True
            self.reactor.callLater(0, self.produce)

    def produce(self) -> None:
        self.scheduled = False
        if self.paused or not self.running:
            return
        if self.reactor.seconds() >= self.deadline:
            self.running = False
            self.finish()
            return
        payload, paused, sends, sent = self.payload, self.paused, [flow.send for flow in self.flows], 0
        try:
            for _ in range(max(1, BATCH // (len(payload) + 64) // len(sends))):
                for send in sends:
                    send(payload)
                    sent += 1
                if paused:
                    break
        except SendRefused:
            self.refused += 1
        self.meter.frames += sent
        self.go_on()

    def finish(self) -> None:
        for flow in self.flows:
            flow.unregisterProducer()
        self.meter.stop()
        self.left = len(self.names)
        for name in self.names:
            self.node.datagrams.send(name, SERVICE, END, timeout=30).addCallback(self.over)

    def over(self, _: object) -> None:
        self.left -= 1
        if not self.left:
            self.ended()


class Receiver:
    """The application's end: counts what it is handed, until every flow has said so."""

    def __init__(self, flows: int) -> None:
        self.meter = Meter()
        self.left = flows

    def take(self, message: Any) -> None:
        meter = self.meter
        if not meter.started:
            if message.data == TRIAL:
                return
            meter.start()
        if message.data == END:
            self.left -= 1
            if not self.left:
                meter.stop()
            return
        meter.frames += 1


def main(
    reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    """Start one role; told C{start} and C{report} by the bench."""
    if role == "a":
        return _source(reactor, options, say)
    if role == "b":
        return _relay(reactor, options, say)
    return _target(reactor, options, say)


def _source(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    node = make_node(reactor, "a", options, options["ports"])
    sender = Sender(reactor, node, options)

    def ended() -> None:
        say({**sender.meter.report(), "refused": sender.refused, "counters": node.counters()})

    waiting = set(sender.names)

    def reached(_: object, name: str) -> None:
        waiting.discard(name)
        if not waiting:
            say({"ready": True})

    def look(name: str) -> None:
        """One trial at a time, until it came through: there are keys, and a way there and back."""
        trial = node.datagrams.send(name, SERVICE, TRIAL, timeout=30)
        trial.addCallbacks(reached, lambda failure: reactor.callLater(POLL, look, name), callbackArgs=(name,))

    for name in sender.names:
        look(name)
    return lambda word: sender.start(ended)


def _relay(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    node = make_node(reactor, "b", options, options["ports"])
    meter = Meter()
    port = reactor.listenTCP(0, node.accepting(), interface="127.0.0.1")
    say({"port": port.getHost().port})

    def told(word: str) -> None:
        if word == "start":
            meter.start()
            return
        if word == "stop":
            meter.stop()
        held = sum(link.backlog for link in node.links())
        say({**meter.report(), "counters": node.counters(), "rss": resident() // 1024, "held": held})

    return told


def _target(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    receiver = Receiver(options["flows"])
    nodes = [make_node(reactor, f"c{number}", options, []) for number in range(options["flows"])]
    ports = []
    for node in nodes:
        node.datagrams.register(SERVICE, receiver.take)
        ports.append(reactor.listenTCP(0, node.accepting(), interface="127.0.0.1").getHost().port)
    say({"ports": ports})

    def told(word: str) -> None:
        if word == "report":
            counters: dict[str, int] = {}
            for node in nodes:
                for cause, number in node.counters().items():
                    counters[cause] = counters.get(cause, 0) + number
            say({**receiver.meter.report(), "counters": counters})
            return
        for node in nodes:
            for link in node.links():
                transport: Any = link._transport.transport  # the reader of a socket has no name above it
                transport.pauseProducing() if word == "pause" else transport.resumeProducing()

    return told


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
