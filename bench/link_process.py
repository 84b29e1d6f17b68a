# SPDX-License-Identifier: MIT
"""
One end of a link as a process: the real Noise and mesh layers, without routing and end-to-end seal.

Run as C{python -m bench.link_process ROLE OPTIONS-AS-JSON}.  Both ends make the same network from
the same seed, so nothing but a port number has to be passed between them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from zope.interface import implementer

from bench.process import Meter, cpu_seconds, run_process
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.mesh.carriers import Carriers
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.handshake_gate import HandshakeGate
from gmesh.mesh.hop_sessions import HopSessions
from gmesh.mesh.join_links import Joins
from gmesh.mesh.limits import HandshakeLimits
from gmesh.mesh.link import MeshContext, MeshFactory
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.noise import NoiseContext
from gmesh.mesh.peer_identity import Peer, PeerVerifier
from gmesh.mesh.renewal_links import Renewals
from gmesh.mesh.tls import TlsTrust
from gmesh.node.listening import mesh_server
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.messages import DIGEST_SIZE, CloseReason, Hello
from gmesh.wire.noise import StaticKey
from gmesh.wire.paths import FrameTemplate, pack_counter, read_path
from gmesh.wire.suites import Suite

SUITES = {"aesgcm": Suite.AESGCM_BLAKE2S, "chacha": Suite.CHACHAPOLY_BLAKE2S}
NEAR = tuple(f"near{number}" for number in range(320))
"""Who may dial; C{far} listens."""

BATCH = 64 * 1024
END = b"the end"
UNLIMITED = HandshakeLimits(**{each.name: 10**9 for each in fields(HandshakeLimits)})
CONTROL = 200
"""A kind without meaning, for control frames that come straight back."""


@cache
def network(wall: int) -> tuple[Issuer, dict[str, Enrolled]]:
    """The network of every process of a round, which was made at C{wall}."""
    issuer = Issuer(lambda: wall, Random(1))
    return issuer, {each: issuer.enrol(each, "relay") for each in ("far", *NEAR)}


def served(options: dict[str, Any]) -> str:
    """The endpoint string of the end that listens: plain, or with a file for TLS and perhaps a WebSocket."""
    interface, pem = options.get("listen", "127.0.0.1"), options.get("pem")
    if pem is None:
        return f"tcp:0:backlog=1024:interface={interface}"
    web = "ws:" if options["carrier"] == "wss" else ""
    return f"{web}tls:0:privateKey={pem}:certKey={pem}:backlog=1024:interface={interface}"


def client(reactor: Any, options: dict[str, Any]) -> IStreamClientEndpoint:
    """The endpoint of the end that dials: where a carrier is named, as a node does."""
    carrier, port = options.get("carrier"), options["port"]
    if carrier is None:
        return TCP4ClientEndpoint(reactor, options.get("host", "127.0.0.1"), port)
    trust = TlsTrust(options["pem"] or "", strict=True)
    return Carriers(reactor, lambda: trust).endpoint(f"{carrier}://localhost:{port}")


class BenchNode:
    """What C{node.runtime} composes, up to the links."""

    def __init__(
        self, reactor: Any, name: str, options: dict[str, Any], *receivers: IFrameReceiverFactory
    ) -> None:
        wall, suite = options["wall"], SUITES[options["suite"]]
        issuer, enrolled = network(wall)
        self.handles = {each: node.handle for each, node in enrolled.items()}
        own = enrolled[name]
        trust = TrustState(issuer.network_id, issuer.genesis_chain)
        for document in issuer.documents:
            trust.offer(document, wall)
        build = PeerVerifier if options.get("known", True) else _Forgetful
        verifier = build(trust, lambda: own.certificate, time.time)
        counters = Counters()
        refusals = Refusals(reactor, counters)
        self.neighbours = Neighbours(
            own.node_key.public,
            verifier.judge,
            lambda: 10**6,
            reactor,
            counters,
            records=Asked(reactor),
            certificates=Asked(reactor),
        )
        dispatcher = Dispatcher()
        for factory in receivers:
            dispatcher.register(factory)
        static = StaticKey(own.noise_key.private)
        boot = Random(name).randbytes(8)
        noise = NoiseContext(
            clock=reactor,
            sessions=HopSessions(trust.network_id, lambda: static),
            suites=lambda: (suite,),
            verifier=verifier,
            gate=HandshakeGate(reactor, UNLIMITED),
            refusals=refusals,
        )
        context = MeshContext(
            clock=reactor,
            wall=time.time,
            random=Random(2),
            neighbours=self.neighbours,
            dispatcher=dispatcher,
            hello=lambda initiator, observed: Hello(
                boot, initiator, int(time.time() * 1000), 1, 0, 0, 0, 1, bytes(DIGEST_SIZE), "bench", observed
            ),
            refusals=refusals,
            budgets=ControlBudgets(reactor, time.thread_time),
            renewals=Renewals(reactor, verifier.judge_ended, counters),
            joins=Joins(reactor, counters),
            counters=counters,
        )
        self.mesh = MeshFactory(context, noise)
        self.noise = noise
        self.counters = counters


class _Forgetful(PeerVerifier):
    """Meets everybody for the first time: nothing read or verified before is used."""

    def verify(self, payload: bytes, remote_static: bytes | None) -> Peer:
        self._read.clear()
        self._trust._certificates._good.clear()
        return super().verify(payload, remote_static)


@implementer(IFrameReceiverFactory)
class Receivers:
    """Builds one kind of receiver for each link and remembers them."""

    def __init__(self, kinds: set[int], build: Callable[[ILink], IFrameReceiver]) -> None:
        self.kinds = frozenset(kinds)
        self.build = build

    def build_receiver(self, neighbour: Neighbour) -> IFrameReceiver:
        return self.build(neighbour.link)


@implementer(IFrameReceiver)
class Idle:
    """Takes frames and does nothing; base of the others."""

    def __init__(self, link: ILink) -> None:
        self.link = link

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        pass


class Sink(Idle):
    """The application's end: takes its own bytes of each payload, as the bare receiver does."""

    def __init__(self, link: ILink, meter: Meter, ended: Callable[[], None]) -> None:
        super().__init__(link)
        self.meter, self.ended = meter, ended
        self.payload = 0

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        meter = self.meter
        if not meter.started:
            meter.start()
            self.payload = read_path(record, start, end)[1] - start
        data = bytes(record[start + self.payload : end])
        if data == END:
            meter.stop()
            self.ended()
            return
        meter.frames += 1


@implementer(IPushProducer)
class Source(Idle):
    """Fills the link with frames of one size for some seconds, paused when the link is full."""

    def __init__(
        self,
        link: ILink,
        node: BenchNode,
        reactor: Any,
        options: dict[str, Any],
        meter: Meter,
        ended: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(link)
        self.reactor, self.meter, self.ended = reactor, meter, ended
        self.template = FrameTemplate((node.handles[NEAR[0]], node.handles["far"]), 7)
        self.payload = bytes(options["payload"])
        self.seconds = options["seconds"]
        self.paused = False
        self.counter = 0
        reactor.callLater(0.2, self.start)

    def start(self) -> None:
        self.meter.start()
        self.deadline = self.reactor.seconds() + self.seconds
        self.link.register_sender(self.template.flow, self)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        payload, head, send = self.payload, self.template.head, self.link.send_data
        flow = self.template.flow
        counter = self.counter
        while not self.paused:
            if self.reactor.seconds() >= self.deadline:
                self.paused = True
                self.counter = counter
                self.reactor.callLater(0, self.finish)
                return
            for _ in range(max(1, BATCH // (len(payload) + 64))):
                send(head(pack_counter(counter), len(payload)), flow, payload)
                counter += 1
                if self.paused:
                    break
        self.counter = counter

    def finish(self) -> None:
        self.meter.frames = self.counter
        self.link.unregister_sender(self.template.flow)
        head = self.template.head(pack_counter(self.counter), len(END))
        self.link.send_data(head, self.template.flow, END)
        self.meter.stop()
        self.ended(self.meter.report())


class Mirror(Idle):
    """Sends every control frame straight back."""

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        self.link.send_control(kind, bytes(record[start + 3 : end]))


class Prober(Idle):
    """Sends control frames of 100 bytes, one at a time, and times their return."""

    def __init__(
        self, link: ILink, reactor: Any, options: dict[str, Any], done: Callable[[list[float]], None]
    ):
        super().__init__(link)
        self.reactor, self.options, self.done = reactor, options, done
        self.trips: list[float] = []
        reactor.callLater(options.get("wait", 0.2), self.send)

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.link.send_control(CONTROL, bytes(97))

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        self.trips.append(time.perf_counter() - self.sent)
        if len(self.trips) == self.options["count"]:
            self.done(self.trips)
        elif self.options["pace"]:
            self.reactor.callLater(self.options["pace"], self.send)
        else:
            self.send()


class Dialler:
    """Makes links, so many at a time, and ends each as soon as it is up."""

    def __init__(self, reactor: Any, options: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self.reactor, self.done = reactor, done
        self.endpoint = client(reactor, options)
        self.nodes = [
            BenchNode(reactor, name, options, Receivers({CONTROL}, Idle))
            for name in NEAR[: options["at_once"]]
        ]
        self.times: list[float] = []
        self.started = time.perf_counter()
        self.cpu = -cpu_seconds()
        self.deadline = self.started + options["seconds"]
        self.running = len(self.nodes)
        for node in self.nodes:
            self.next(node)

    def next(self, node: BenchNode) -> None:
        now = time.perf_counter()
        if now < self.deadline:
            self.endpoint.connect(node.mesh.dialling(_Dial(self, node)))
            return
        self.running -= 1
        if not self.running:
            self.done({"times": self.times, "seconds": now - self.started, "cpu": self.cpu + cpu_seconds()})


class Holder:
    """
    Makes one link from each of so many nodes, one after another, keeps them, and says when all are there.

    All at once would show what the other end needs for so many handshakes at a time.
    """

    def __init__(self, reactor: Any, options: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self.reactor, self.options, self.done = reactor, options, done
        self.endpoint = client(reactor, options)
        self.names = list(NEAR[options["first"] :][: options["links"]])
        self.nodes: list[BenchNode] = []
        self.next()

    def next(self) -> None:
        if len(self.nodes) == len(self.names):
            self.done({"links": len(self.nodes)})
            return
        name = self.names[len(self.nodes)]
        node = BenchNode(self.reactor, name, self.options, Receivers({CONTROL}, self.built))
        self.nodes.append(node)
        self.endpoint.connect(node.mesh.dialling())

    def built(self, link: ILink) -> IFrameReceiver:
        self.reactor.callLater(0, self.next)
        return Idle(link)


class _Dial:
    suite_turn = 0

    def __init__(self, dialler: Dialler, node: BenchNode) -> None:
        self.dialler, self.node = dialler, node
        self.started = time.perf_counter()

    def linked(self, peer: Any) -> None:
        self.dialler.times.append(time.perf_counter() - self.started)
        self.node.neighbours.close(CloseReason.SHUTDOWN)

    def ended(self, reason: str, peer: Any) -> None:
        self.dialler.next(self.node)


def main(reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Start one role; C{far...} listens, the others dial C{options["port"]}."""
    meter = Meter()

    def finish(report: dict[str, Any]) -> None:
        say(report)
        reactor.callLater(0.2, reactor.stop)

    def listen(node: BenchNode) -> None:
        listening = mesh_server(reactor, served(options)).listen(node.mesh.accepting())
        listening.addCallback(lambda port: say({"port": port.getHost().port}))

    def dial(node: BenchNode) -> None:
        client(reactor, options).connect(node.mesh.dialling())

    def end(link: ILink) -> IFrameReceiver:
        return Sink(link, meter, lambda: finish(meter.report()))

    def begin(link: ILink) -> IFrameReceiver:
        return Source(link, node, reactor, options, meter, say)

    def probe(link: ILink) -> IFrameReceiver:
        return Prober(link, reactor, options, lambda trips: finish({"trips": trips}))

    near = NEAR[0]
    data, control = {int(Kind.E2E_DATA)}, {CONTROL}
    if role == "far":
        listen(BenchNode(reactor, "far", options, Receivers(data, end), Receivers(control, Mirror)))
    elif role == "source":
        node = BenchNode(reactor, near, options, Receivers(data, begin))
        dial(node)
    elif role == "prober":
        dial(BenchNode(reactor, near, options, Receivers(control, probe)))
    elif role == "loaded-prober":
        node = BenchNode(reactor, near, options, Receivers(data, begin), Receivers(control, probe))
        dial(node)
    elif role == "dialler":
        Dialler(reactor, options, finish)
    elif role == "holder":
        Holder(reactor, options, say)
    else:
        raise SystemExit(f"unknown role {role}")


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
