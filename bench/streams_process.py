# SPDX-License-Identifier: MIT
"""
A, B or C of a line of nodes as a process, as in L{bench.relay_process}, with byte streams from A to C.

Run as C{python -m bench.streams_process ROLE OPTIONS-AS-JSON}.  The line lives for many rounds: C and B are
told that one begins, A what to do in it.  With C{local} of the options A and C listen there for programs
(L{bench.streams_programs}).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.web.resource import Resource

from bench.process import Meter, cpu_seconds, resident, run_process
from bench.relay_process import POLL, SERVICE, TRIAL, Receiver, Sender, make_node
from bench.streams_programs import FRAME, PING, Say, Sink, Source, Target
from gmesh.node.api.acceptors import Acceptors
from gmesh.node.api.access import AccessControl, ServiceGroups
from gmesh.node.api.entrance import EntranceFactory
from gmesh.node.api.http import local_site
from gmesh.node.api.stream_requests import StreamRequests
from gmesh.node.runtime import NodeRuntime
from gmesh.streams.mux import address_of

PACE = 0.01
"""Seconds between a ping and an open, and so on in turn."""


def cost() -> dict[str, Any]:
    """Memory and CPU of this process by now."""
    return {"rss": resident(), "cpu": cpu_seconds(), "at": time.monotonic()}


def main(reactor: Any, role: str, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    """Start one role."""
    return {"a": _source, "b": _relay, "c": _target}[role](reactor, options, say)


def open_to_programs(reactor: Any, node: NodeRuntime, path: str) -> None:
    """The local API of a node, as the daemon makes it, as far as it is about streams."""
    access = AccessControl()
    acceptors = Acceptors(node.streams, access, ServiceGroups(), reactor)
    requests = StreamRequests(
        node.streams, acceptors, access, lambda service: address_of(node.member.peer, service), reactor
    )
    entrance = EntranceFactory(local_site(Resource(), access), requests.judge, reactor)
    UNIXServerEndpoint(reactor, path).listen(entrance)


class Observed:
    """What a node costs in one round, seen from outside."""

    def __init__(self, node: NodeRuntime, say: Say) -> None:
        self.node, self.say = node, say
        self.meter = Meter()

    def start(self) -> None:
        """Count from now on."""
        self.meter = Meter()
        self.meter.start()

    def stop(self) -> None:
        """It is over."""
        self.meter.stop()
        self.say({**self.meter.report(), "counters": self.node.counters()})

    def look(self) -> None:
        """What this process costs by now."""
        self.say(cost())


def _relay(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    node = make_node(reactor, "b", options, options["ports"])
    observed = Observed(node, say)
    say({"port": reactor.listenTCP(0, node.accepting(), interface="127.0.0.1").getHost().port})
    return lambda word: getattr(observed, word)()


class Server(Observed):
    """C: what comes by streams, or as messages."""

    def __init__(self, node: NodeRuntime, say: Say) -> None:
        super().__init__(node, say)
        self.target = Target()
        self.receiver = Receiver(1)

    def begin(self) -> None:
        """The next round."""
        self.target.begin()
        self.receiver = Receiver(1)

    def report(self) -> None:
        """What has come by streams, and what it cost."""
        self.target.report(self.say, counters=self.node.counters())

    def messages(self) -> None:
        """What has come as messages."""
        self.say({**self.receiver.meter.report(), "counters": self.node.counters()})

    def shares(self) -> None:
        """How far each stream is."""
        self.say({"got": [sink.got for sink in self.target.sinks]})


def _target(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    node = make_node(reactor, "c0", options, [])
    server = Server(node, say)
    if "local" in options:
        open_to_programs(reactor, node, options["local"] + "c")
    else:
        node.streams.listen(SERVICE, lambda offer: offer.accept(Sink(server.target)))
    node.datagrams.register(SERVICE, lambda message: server.receiver.take(message))
    say({"ports": [reactor.listenTCP(0, node.accepting(), interface="127.0.0.1").getHost().port]})
    return lambda word: getattr(server, word)()


class Dialler(Observed):
    """What A does, each to be begun by a word of the bench."""

    def __init__(self, reactor: Any, node: NodeRuntime, options: dict[str, Any], say: Say) -> None:
        super().__init__(node, say)
        self.reactor, self.options = reactor, options
        self.sources: list[Source] = []
        self.left = 0

    def flow(self) -> None:
        """Messages for some seconds."""
        sender = Sender(self.reactor, self.node, {**self.options, "payload": FRAME, "flows": 1})
        sender.start(lambda: self.say({**sender.meter.report(), "counters": self.node.counters()}))

    def one(self) -> None:
        """One stream that writes for some seconds; the report comes when it has ended."""
        self._write(1)

    def many(self) -> None:
        """As many as the options say, side by side."""
        self._write(self.options["streams"])

    def _write(self, count: int) -> None:
        self.meter = Meter()
        self.sources = []
        self.left = count
        for _ in range(count):
            self.node.streams.dial("c0", SERVICE, self._source).addErrback(self._failed)

    def _source(self, address: object) -> Source:
        source = Source(self.reactor, self._ended)
        self.sources.append(source)
        if len(self.sources) == self.left:
            self.reactor.callLater(0.2, self._begin)
        return source

    def _begin(self) -> None:
        self.meter.start()
        for source in self.sources:
            source.begin()
        self.reactor.callLater(self.options["seconds"], self._stop)

    def _stop(self) -> None:
        for source in self.sources:
            source.end()

    def _ended(self) -> None:
        self.left -= 1
        if not self.left:
            self.meter.stop()
            written = sum(source.written for source in self.sources)
            self.meter.frames = written // FRAME
            self.say({**self.meter.report(), "counters": self.node.counters(), "bytes": written})

    def opens(self) -> None:
        """Streams, some at a time, each until its first byte is back."""
        self.meter = Meter()
        self.meter.start()
        self.begun = 0
        for _ in range(self.options["abreast"]):
            self._open_next()

    def _open_next(self) -> None:
        if self.begun < self.options["count"]:
            self.begun += 1
            self._dial(self._opened)

    def _opened(self) -> None:
        self.meter.frames += 1
        if self.meter.frames == self.options["count"]:
            self.meter.stop()
            self.say(self.meter.report())
        self._open_next()

    def trips(self) -> None:
        """Opens in turn with pings: how long each takes to its first byte."""
        self.trip_times: list[float] = []
        self.ping_times: list[float] = []
        self._ping()

    def _ping(self) -> None:
        self.at = time.perf_counter()
        self.node.echo.ping("c0").addCallbacks(self._pong, self._failed)

    def _pong(self, _: float) -> None:
        self.ping_times.append(time.perf_counter() - self.at)
        if len(self.trip_times) < self.options["paced"]:
            self.reactor.callLater(PACE, self._trip)
        else:
            self.say({"trips": self.trip_times, "pings": self.ping_times})

    def _trip(self) -> None:
        self.at = time.perf_counter()
        self._dial(self._tripped)

    def _tripped(self) -> None:
        self.trip_times.append(time.perf_counter() - self.at)
        self.reactor.callLater(PACE, self._ping)

    def _dial(self, answered: Callable[[], None]) -> None:
        self.node.streams.dial("c0", SERVICE, lambda address: Asker(answered)).addErrback(self._failed)

    def idle(self) -> None:
        """Open some streams a second, and leave them; then say what they cost."""
        self.before = cost()
        self._open_idle(0)

    def _open_idle(self, opened: int) -> None:
        if opened == self.options["count"]:
            self.say({"before": self.before, "after": cost()})
            return
        dialled = self.node.streams.dial("c0", SERVICE, lambda address: Protocol())
        pause = self.options["pause"]
        dialled.addCallback(lambda _: self.reactor.callLater(pause, self._open_idle, opened + 1))
        dialled.addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        raise SystemExit(f"A: {failure.value!r}")


class Asker(Protocol):
    """Writes one byte, and is done with the answer."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self.answered = answered

    def connectionMade(self) -> None:
        self.transport.write(PING)

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()
        self.answered()


def _source(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    node = make_node(reactor, "a", options, options["ports"])
    dialler = Dialler(reactor, node, options, say)
    if "local" in options:
        open_to_programs(reactor, node, options["local"] + "a")

    def look() -> None:
        """One trial at a time, until it came through: there are keys, and a way there and back."""
        trial = node.datagrams.send("c0", SERVICE, TRIAL, timeout=30)
        trial.addCallbacks(lambda _: say({"ready": True}), lambda failure: reactor.callLater(POLL, look))

    look()
    return lambda word: getattr(dialler, word)()


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
