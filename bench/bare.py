# SPDX-License-Identifier: MIT
"""
The bare stack: what Twisted, one AEAD call a record and a hand parser can do, and nothing else.

It is the floor every figure of ours is divided by.  Layers, as thin as they can be: TCP ->
records (u16 length, AEAD) -> frames (u16 length, kind, 45 bytes of header, payload) -> a relay
that patches one header byte and forwards slices, or an application that takes its own bytes.
No limits, queues, checks or counters: a ceiling, not a product.

Run as a process: C{python -m bench.bare ROLE OPTIONS-AS-JSON}; prints one JSON line when it is
listening and one when the measured flow has ended.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from zope.interface import implementer

from bench.process import Meter, run_process

HEADER = struct.Struct(">HB45s")  # length of the rest, kind, everything a product's header carries
HEADER_SIZE = HEADER.size  # 48
TAG = 16
MAX_RECORD = 65_519
BATCH = 64 * 1024
DATA, END = 1, 2
KEY = bytes(range(32))
NONCE = struct.Struct(">4xQ")
HOP = 3  # the header byte a relay patches


class Box:
    """One AEAD with a counter, or nothing at all when the floor is measured without."""

    def __init__(self, suite: str) -> None:
        self.counter = 0
        self.aead = {"aesgcm": AESGCM, "chacha": ChaCha20Poly1305}[suite](KEY) if suite != "none" else None

    def seal(self, data: bytes) -> bytes:
        if self.aead is None:
            return data
        self.counter += 1
        return self.aead.encrypt(NONCE.pack(self.counter), data, None)

    def open(self, data: bytes | memoryview) -> bytes | memoryview:
        if self.aead is None:
            return data
        self.counter += 1
        return self.aead.decrypt(NONCE.pack(self.counter), data, None)


class BareHop(Protocol):
    """Records over TCP: feeds whole opened records to C{received}, writes sealed ones."""

    def __init__(self, suite: str, received: Callable[[bytes], None]) -> None:
        self.outbound, self.inbound = Box(suite), Box(suite)
        self.received = received
        self.pending: list[bytes] = []
        self.have = 0
        self.need = 2

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def write_record(self, plaintext: bytes) -> None:
        sealed = self.outbound.seal(plaintext)
        self.transport.write(len(sealed).to_bytes(2, "big") + sealed)

    def dataReceived(self, data: bytes) -> None:
        self.pending.append(data)
        self.have += len(data)
        if self.have < self.need:
            return
        buffer = b"".join(self.pending) if len(self.pending) > 1 else data
        view = memoryview(buffer)
        position, end = 0, len(buffer)
        self.need = 2
        while end - position >= 2:
            length = (buffer[position] << 8) | buffer[position + 1]
            if end - position - 2 < length:
                self.need = length + 2
                break
            self.received(self.inbound.open(view[position + 2 : position + 2 + length]))
            position += 2 + length
        self.pending = [buffer[position:]] if position < end else []
        self.have = end - position


@implementer(IPushProducer)
class BareSender:
    """Fills the pipe with frames of one size for some seconds, sealed end to end or not."""

    def __init__(self, hop: BareHop, options: dict[str, Any], meter: Meter, reactor: Any) -> None:
        self.hop, self.meter, self.reactor = hop, meter, reactor
        self.payload = bytes(options["payload"])
        self.record = options["record"]
        self.seconds = options["seconds"]
        self.ends = Box(options["suite"] if options["sealed"] else "none")
        self.paused = False
        self.done = False

    def start(self) -> None:
        self.meter.start()
        self.deadline = self.reactor.seconds() + self.seconds
        self.hop.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.done = True

    def resumeProducing(self) -> None:
        self.paused = False
        self.reactor.callLater(0, self.produce)

    def produce(self) -> None:
        if self.paused or self.done:
            return
        if self.reactor.seconds() >= self.deadline:
            self.finish()
            return
        payload, seal, pack = self.payload, self.ends.seal, HEADER.pack
        header = bytes(45)
        length = len(payload) + 45 + (TAG if self.ends.aead else 0)
        size = length + 3
        frames: list[bytes] = []
        filled = 0
        for _ in range(max(1, BATCH // size)):
            if filled + size > self.record and frames:
                self.hop.write_record(b"".join(frames))
                frames, filled = [], 0
            frames.append(pack(length, DATA, header) + seal(payload))
            filled += size
            self.meter.frames += 1
        self.hop.write_record(b"".join(frames))
        if not self.paused:
            self.reactor.callLater(0, self.produce)

    def finish(self) -> None:
        self.done = True
        self.hop.transport.unregisterProducer()
        self.hop.write_record(HEADER.pack(45, END, bytes(45)))


class BareReceiver:
    """The application's end: opens the seal and takes its own bytes of each payload."""

    def __init__(self, options: dict[str, Any], meter: Meter, ended: Callable[[], None]) -> None:
        self.ends = Box(options["suite"] if options["sealed"] else "none")
        self.meter, self.ended = meter, ended

    def record(self, record: bytes) -> None:
        meter = self.meter
        if not meter.started:
            meter.start()
        view = memoryview(record)
        open_ = self.ends.open if self.ends.aead else bytes
        position, end = 0, len(record)
        while position < end:
            length, kind, _header = HEADER.unpack_from(record, position)
            if kind == END:
                meter.stop()
                self.ended()
                return
            open_(view[position + HEADER_SIZE : position + 3 + length])
            meter.frames += 1
            position += 3 + length


class BareRelay:
    """Patches a header byte of each frame and forwards the run as one slice, pausing hop by hop."""

    def __init__(self, meter: Meter, ended: Callable[[], None]) -> None:
        self.meter, self.ended = meter, ended
        self.next: BareHop | None = None

    def record(self, record: bytes) -> None:
        meter = self.meter
        if not meter.started:
            meter.start()
        assert self.next is not None
        run = bytearray(record)
        position, end, ended = 0, len(run), False
        unpack = HEADER.unpack_from
        while position < end:
            length, kind, _header = unpack(run, position)
            run[position + HOP] += 1
            meter.frames += 1
            ended = ended or kind == END
            position += 3 + length
        self.next.write_record(bytes(run))
        if ended:
            meter.frames -= 1
            meter.stop()
            self.ended()


@implementer(IPushProducer)
class _Ingress:
    """Pauses the link that feeds the relay while the link it feeds is full."""

    def __init__(self, hop: BareHop) -> None:
        self.hop = hop

    def pauseProducing(self) -> None:
        self.hop.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.hop.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.hop.transport.loseConnection()


class BareEcho(Protocol):
    """Sends back what it gets: the floor of a round trip."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class _Serve(ServerFactory):
    noisy = False

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self.build = build

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.build()


class _Dial(ClientFactory):
    noisy = False

    def __init__(self, protocol: Protocol, made: Callable[[], None]) -> None:
        self.instance, self.made = protocol, made
        inner = protocol.connectionMade

        def connection_made() -> None:
            inner()
            made()

        protocol.connectionMade = connection_made  # type: ignore[method-assign]  # one-shot hook of a bench

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.instance


def main(reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Start one role: C{receiver}, C{relay}, C{sender} or C{echo}."""
    meter = Meter()

    def report_and_stop() -> None:
        say(meter.report())
        reactor.callLater(0.2, reactor.stop)

    if role == "echo":
        port = reactor.listenTCP(0, _Serve(BareEcho), interface="127.0.0.1")
        say({"port": port.getHost().port})
    elif role == "receiver":
        receiver = BareReceiver(options, meter, report_and_stop)
        port = reactor.listenTCP(
            0, _Serve(lambda: BareHop(options["suite"], receiver.record)), interface="127.0.0.1"
        )
        say({"port": port.getHost().port})
    elif role == "relay":
        relay = BareRelay(meter, report_and_stop)
        onward = BareHop(options["suite"], lambda record: None)
        relay.next = onward

        def accept() -> Protocol:
            hop = BareHop(options["suite"], relay.record)
            onward.transport.registerProducer(_Ingress(hop), True)
            return hop

        port = reactor.listenTCP(0, _Serve(accept), interface="127.0.0.1")
        reactor.connectTCP(
            "127.0.0.1", options["port"], _Dial(onward, lambda: say({"port": port.getHost().port}))
        )
    elif role == "sender":
        hop = BareHop(options["suite"], lambda record: None)
        sender = BareSender(hop, options, meter, reactor)

        def lost(reason: Any) -> None:
            meter.stop()
            report_and_stop()

        hop.connectionLost = lost  # type: ignore[method-assign]  # one-shot hook of a bench
        reactor.connectTCP("127.0.0.1", options["port"], _Dial(hop, sender.start))
    else:
        raise SystemExit(f"unknown role {role}")


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
