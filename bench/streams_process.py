# SPDX-License-Identifier: MIT
"""
A, B or C of a line of nodes as a process, as in L{bench.relay_process}, with byte streams from A to C.

Run as C{python -m bench.streams_process ROLE OPTIONS-AS-JSON}.  With C{local} of the options A and C listen
there for programs: the roles C{writer} and C{reader}, which reach each other through them, or through TCP
and some of C{forwarder}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.portforward import ProxyFactory
from twisted.web.resource import Resource
from zope.interface import implementer

from bench.process import Meter, cpu_seconds, resident, run_process
from bench.relay_process import POLL, SERVICE, TRIAL, _relay, make_node
from gmesh.client.endpoints import MeshClientEndpoint, MeshServerEndpoint
from gmesh.node.api.acceptors import Acceptors
from gmesh.node.api.access import AccessControl, ServiceGroups
from gmesh.node.api.entrance import EntranceFactory
from gmesh.node.api.http import local_site
from gmesh.node.api.stream_requests import StreamRequests
from gmesh.node.runtime import NodeRuntime
from gmesh.streams.mux import address_of

WRITE = 64 * 1024
PING = b"p"
PACE = 0.01
"""Seconds between a ping and an open, and so on in turn."""
FRAME = 16_000
"""What is counted as one, to compare with messages of as many bytes."""


@implementer(IPushProducer)
class Source(Protocol):
    """Writes as fast as it may until it is told to stop, then ends the stream."""

    def __init__(self, reactor: Any, done: Callable[[], None]) -> None:
        self.reactor, self.done = reactor, done
        self.data = bytes(WRITE)
        self.written = 0
        self.writing = self.scheduled = False

    def connectionMade(self) -> None:
        """Nothing is written before L{begin}."""
        self.transport.registerProducer(self, True)

    def begin(self) -> None:
        self.writing = True
        self.go_on()

    def end(self) -> None:
        self.writing = False
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def go_on(self) -> None:
        if self.writing and not self.scheduled:
            self.scheduled = True
            self.reactor.callLater(0, self.produce)

    def produce(self) -> None:
        self.scheduled = False
        while self.writing and not self.paused:
            self.written += WRITE
            self.transport.write(self.data)

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self.produce()

    def stopProducing(self) -> None:
        self.writing = False

    def connectionLost(self, reason: Any) -> None:
        self.done()


class Sink(Protocol):
    """Counts what it gets; answers a C{p} with one byte."""

    got = 0

    def __init__(self, target: Target) -> None:
        self.target = target

    def connectionMade(self) -> None:
        self.target.sinks.append(self)

    def dataReceived(self, data: bytes) -> None:
        if not self.got and data == PING:
            self.transport.write(data)
            return
        self.got += len(data)
        self.target.took(len(data))

    def connectionLost(self, reason: Any) -> None:
        self.target.sinks.remove(self)
        self.target.ended.append(self.got)
        self.target.when_ended()


class Target:
    """The application at C."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.bytes = 0
        self.sinks: list[Sink] = []
        self.ended: list[int] = []
        self.when_ended: Callable[[], None] = lambda: None

    def take(self, offer: Any) -> None:
        offer.accept(Sink(self))

    def took(self, size: int) -> None:
        if not self.meter.started:
            self.meter.start()
        self.bytes += size
        self.meter.frames = self.bytes // FRAME

    def report(self, say: Callable[[dict[str, Any]], None], **more: Any) -> None:
        """Say what has come, and what it cost."""
        self.meter.stop()
        say({**self.meter.report(), "bytes": self.bytes, **more})

    def look(self) -> dict[str, Any]:
        """How far each stream is, and what this process costs by now."""
        return {"got": [sink.got for sink in self.sinks], **cost()}


def cost() -> dict[str, Any]:
    """Memory and CPU of this process by now."""
    return {"rss": resident(), "cpu": cpu_seconds(), "at": time.monotonic()}


def main(
    reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    """Start one role."""
    roles = {
        "a": _source,
        "b": _relay,
        "c": _target,
        "writer": _writer,
        "reader": _reader,
        "forwarder": _forwarder,
    }
    return roles[role](reactor, options, say)


def open_to_programs(reactor: Any, node: NodeRuntime, path: str) -> None:
    """The local API of a node, as the daemon makes it, as far as it is about streams."""
    access = AccessControl()
    acceptors = Acceptors(node.streams, access, ServiceGroups(), reactor)
    requests = StreamRequests(
        node.streams, acceptors, access, lambda service: address_of(node.member.peer, service), reactor
    )
    entrance = EntranceFactory(local_site(Resource(), access), requests.judge, reactor)
    UNIXServerEndpoint(reactor, path).listen(entrance)


def _reader(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    """A program that takes the service at C, or a TCP port."""
    target = Target()
    factory = Factory.forProtocol(lambda: Sink(target))
    if "local" in options:
        endpoint = MeshServerEndpoint(reactor, SERVICE, socket=options["local"])
        endpoint.listen(factory).addCallback(lambda _: say({"ready": True}))
    else:
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        listening.addCallback(lambda port: say({"port": port.getHost().port}))

    def told(word: str) -> None:
        """Report once all has come."""
        if target.ended:
            target.report(say)
        else:
            target.when_ended = lambda: target.report(say)

    return told


def _writer(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    """A program that reaches it through A, or by TCP."""
    meter = Meter()

    def ended() -> None:
        meter.stop()
        meter.frames = source.written // FRAME
        say({**meter.report(), "bytes": source.written})

    source = Source(reactor, ended)
    endpoint: Any
    if "local" in options:
        endpoint = MeshClientEndpoint(reactor, "c0", SERVICE, socket=options["local"])
    else:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", options["port"])

    def connected(_: object) -> None:
        meter.start()
        source.begin()
        reactor.callLater(options["seconds"], source.end)

    def told(word: str) -> None:
        endpoint.connect(Factory.forProtocol(lambda: source)).addCallback(connected)

    return told


def _forwarder(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    """What only passes on, as Twisted does it."""
    meter = Meter()
    port = reactor.listenTCP(0, ProxyFactory("127.0.0.1", options["port"]), interface="127.0.0.1")
    say({"port": port.getHost().port})

    def told(word: str) -> None:
        if word == "start":
            meter.start()
        else:
            meter.stop()
            say(meter.report())

    return told


def _target(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
    node = make_node(reactor, "c0", options, [])
    target = Target()
    if "local" in options:
        open_to_programs(reactor, node, options["local"] + "c")
        target.meter.start()
    else:
        node.streams.listen(SERVICE, target.take)
    node.datagrams.register(SERVICE, lambda message: None)
    say({"ports": [reactor.listenTCP(0, node.accepting(), interface="127.0.0.1").getHost().port]})

    def told(word: str) -> None:
        if word == "look":
            say(target.look())
            return
        target.report(say, counters=node.counters())

    return told


class Dialler:
    """What A does, each to be begun by a word of the bench."""

    def __init__(self, reactor: Any, node: NodeRuntime, options: dict[str, Any], say: Any) -> None:
        self.reactor, self.node, self.options, self.say = reactor, node, options, say
        self.meter = Meter()
        self.sources: list[Source] = []
        self.left = 0

    def bulk(self) -> None:
        """Streams that write for some seconds, side by side; the report comes when all have ended."""
        self.left = self.options["streams"]
        for _ in range(self.left):
            self.node.streams.dial("c0", SERVICE, self._source).addErrback(self._failed)

    def _source(self, address: object) -> Source:
        source = Source(self.reactor, self._ended)
        self.sources.append(source)
        if len(self.sources) == self.options["streams"]:
            self.reactor.callLater(0.2, self._begin)
        return source

    def _begin(self) -> None:
        self.meter.start()
        self.say({"begun": True})
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
        """Streams one after the other, each until its first byte is back; then some in turn with pings."""
        self.trips: list[float] = []
        self.pings: list[float] = []
        self.meter.start()
        self._open()

    def _open(self) -> None:
        self.at = time.perf_counter()
        self.node.streams.dial("c0", SERVICE, lambda address: Asker(self)).addErrback(self._failed)

    def answered(self) -> None:
        """The first byte of a stream is back."""
        if not self.meter.stopped:
            self.meter.frames += 1
            if self.meter.frames == self.options["count"]:
                self.meter.stop()
                self.reactor.callLater(PACE, self._ping)
            else:
                self._open()
        else:
            self.trips.append(time.perf_counter() - self.at)
            self.reactor.callLater(PACE, self._ping)

    def _ping(self) -> None:
        self.at = time.perf_counter()
        self.node.echo.ping("c0").addCallbacks(self._pong, self._failed)

    def _pong(self, _: float) -> None:
        self.pings.append(time.perf_counter() - self.at)
        if len(self.trips) < self.options["paced"]:
            self.reactor.callLater(PACE, self._open)
        else:
            self.say({"trips": self.trips, "pings": self.pings, **self.meter.report()})

    def idle(self) -> None:
        """Open some streams a second, and leave them; then say what they cost."""
        self.before = cost()
        self._open_idle(0)

    def _open_idle(self, opened: int) -> None:
        if opened == self.options["count"]:
            self.say(
                {"before": self.before, "after": cost(), "streams": len(self.node.streams.open_streams())}
            )
            return
        dialled = self.node.streams.dial("c0", SERVICE, lambda address: Protocol())
        pause = self.options["pause"]
        dialled.addCallback(lambda _: self.reactor.callLater(pause, self._open_idle, opened + 1))
        dialled.addErrback(self._failed)

    def look(self) -> None:
        """What this process costs by now."""
        self.say(cost())

    def start(self) -> None:
        """Count from now on: the programs write."""
        self.meter.start()

    def stop(self) -> None:
        """They have written."""
        self.meter.stop()
        self.say({**self.meter.report(), "counters": self.node.counters()})

    def _failed(self, failure: Any) -> None:
        raise SystemExit(f"A: {failure.value!r}")


class Asker(Protocol):
    """Writes one byte, and is done with the answer."""

    def __init__(self, dialler: Dialler) -> None:
        self.dialler = dialler

    def connectionMade(self) -> None:
        self.transport.write(PING)

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()
        self.dialler.answered()


def _source(
    reactor: Any, options: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> Callable[[str], None]:
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
