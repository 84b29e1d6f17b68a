# SPDX-License-Identifier: MIT
"""
The bare stack inside TLS and a WebSocket: C{wsproto} and Twisted's TLS, and nothing of ours.

The floor of links in WebSockets.  Run as a process, like L{bench.bare}, whose senders and receivers it wraps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request

from bench.bare import BareHop, BareReceiver, BareSender
from bench.process import Meter, run_process


class Web(Protocol):
    """One end; the hop on it is connected when the WebSocket is there."""

    def __init__(self, hop: BareHop, client: bool, made: Callable[[], None]) -> None:
        self.hop, self.client, self.made = hop, client, made
        self.web = WSConnection(ConnectionType.CLIENT if client else ConnectionType.SERVER)

    def connectionMade(self) -> None:
        if self.client:
            self.transport.write(bytes(self.web.send(Request(host="bench", target="/"))))

    def dataReceived(self, data: bytes) -> None:
        self.web.receive_data(data)
        for event in self.web.events():
            if isinstance(event, BytesMessage):
                self.hop.dataReceived(bytes(event.data))
            elif isinstance(event, Request):
                self.transport.write(bytes(self.web.send(AcceptConnection())))
                self.hop.makeConnection(self)
            elif isinstance(event, AcceptConnection):
                self.hop.makeConnection(self)
                self.made()

    def connectionLost(self, reason: Any) -> None:
        self.hop.connectionLost(reason)

    # what a hop does with its transport

    def write(self, data: bytes) -> None:
        self.transport.write(bytes(self.web.send(BytesMessage(data))))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.transport.setTcpNoDelay(enabled)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.transport.unregisterProducer()


class _Serve(ServerFactory):
    noisy = False

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self.build = build

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.build()


class _Dial(ClientFactory):
    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self.instance = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.instance


def main(reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Start one role: C{receiver} or C{sender}."""
    meter = Meter()

    def report_and_stop(*_: Any) -> None:
        if meter.started:
            meter.stop()
        say(meter.report())
        reactor.callLater(0.2, reactor.stop)

    if role == "receiver":
        receiver = BareReceiver(options, meter, report_and_stop)
        with open(options["pem"], "rb") as file:
            context = PrivateCertificate.loadPEM(file.read()).options()
        factory = _Serve(lambda: Web(BareHop(options["suite"], receiver.record), False, lambda: None))
        port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        say({"port": port.getHost().port})
    elif role == "sender":
        hop = BareHop(options["suite"], lambda record: None)
        sender = BareSender(hop, options, meter, reactor)
        hop.connectionLost = report_and_stop  # type: ignore[method-assign]  # one-shot hook of a bench
        web = Web(hop, True, sender.start)
        reactor.connectSSL("127.0.0.1", options["port"], _Dial(web), CertificateOptions())
    else:
        raise SystemExit(f"unknown role {role}")


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
