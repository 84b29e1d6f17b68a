# SPDX-License-Identifier: MIT
"""
The programs of L{bench.streams}: one that writes, one that reads, and what passes on plain TCP between them.

Run as C{python -m bench.streams_programs ROLE OPTIONS-AS-JSON}.  With C{local} of the options they reach each
other by the local API of the nodes that listen there, else by TCP.  They live for all rounds: each is a
connection of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.portforward import ProxyFactory
from zope.interface import implementer

from bench.process import Meter, run_process
from bench.relay_process import SERVICE
from gmesh.client.endpoints import MeshClientEndpoint, MeshServerEndpoint

WRITE = 64 * 1024
PING = b"p"
FRAME = 16_000
"""What is counted as one, to compare with messages of as many bytes."""

Say = Callable[[dict[str, Any]], None]


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
        self.target.left(self)


class Target:
    """Where the bytes of one round arrive: measured from the first one until the last stream has ended."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.begin()

    def begin(self) -> None:
        """The next round."""
        self.meter = Meter()
        self.bytes = 0
        self.when_ended: Callable[[], None] = lambda: None

    def took(self, size: int) -> None:
        if not self.meter.started:
            self.meter.start()
        self.bytes += size

    def left(self, sink: Sink) -> None:
        self.sinks.remove(sink)
        if not self.sinks:
            self.meter.stop()
            self.when_ended()

    @property
    def over(self) -> bool:
        """True once all has come."""
        return self.meter.stopped > 0

    def report(self, say: Say, **more: Any) -> None:
        """Say what has come, and what it cost."""
        self.meter.frames = self.bytes // FRAME
        say({**self.meter.report(), "bytes": self.bytes, **more})


def main(reactor: Any, role: str, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    """Start one role."""
    return {"writer": _writer, "reader": _reader, "forwarder": _forwarder}[role](reactor, options, say)


def _reader(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
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
        if word == "begin":
            target.begin()
        elif target.over:
            target.report(say)
        else:
            target.when_ended = lambda: target.report(say)

    return told


def _writer(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    """A program that reaches it through A, or by TCP."""
    endpoint: Any
    if "local" in options:
        endpoint = MeshClientEndpoint(reactor, "c0", SERVICE, socket=options["local"])
    else:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", options["port"])

    def told(word: str) -> None:
        meter = Meter()

        def ended() -> None:
            meter.stop()
            meter.frames = source.written // FRAME
            say({**meter.report(), "bytes": source.written})

        def connected(_: object) -> None:
            meter.start()
            source.begin()
            reactor.callLater(options["seconds"], source.end)

        source = Source(reactor, ended)
        endpoint.connect(Factory.forProtocol(lambda: source)).addCallback(connected)

    return told


def _forwarder(reactor: Any, options: dict[str, Any], say: Say) -> Callable[[str], None]:
    """What only passes on, as Twisted does it."""
    port = reactor.listenTCP(0, ProxyFactory("127.0.0.1", options["port"]), interface="127.0.0.1")
    say({"port": port.getHost().port})
    meter = Meter()

    def told(word: str) -> None:
        nonlocal meter
        if word == "start":
            meter = Meter()
            meter.start()
        else:
            meter.stop()
            say(meter.report())

    return told


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
