# SPDX-License-Identifier: MIT
"""
Bare floors of what is paid once: a Noise XX handshake by the library over TCP, and a round trip.

Each handshake carries a payload of a certificate's size whose signature is checked once at each
end, as no link can do without; a sealed byte each way shows that both ends are done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from bench.bare import BareEcho, BareHop
from bench.process import cpu_seconds, run_process

try:
    from noiseprotocol.connection import Keypair, NoiseConnection
except ImportError:
    from noise.connection import Keypair, NoiseConnection

NAME = b"Noise_XX_25519_AESGCM_BLAKE2s"
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = bytes(640)
CERTIFICATE = SIGNER.sign(BODY) + BODY
PUBLIC = SIGNER.public_key()


def _static() -> Any:
    connection = NoiseConnection.from_name(NAME)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, bytes(range(1, 33)))
    return connection.noise_protocol.keypairs["s"]


STATIC = _static()


class BareHandshake(Protocol):
    """XX, then one sealed byte each way."""

    def __init__(self, initiator: bool, done: Callable[[BareHandshake], None]) -> None:
        self.initiator, self.done = initiator, done
        self.pending = b""
        self.noise = NoiseConnection.from_name(NAME)
        self.noise.set_as_initiator() if initiator else self.noise.set_as_responder()
        self.noise.noise_protocol.keypairs["s"] = STATIC
        self.noise.start_handshake()

    def send(self, message: bytes) -> None:
        self.transport.write(len(message).to_bytes(2, "big") + message)

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        if self.initiator:
            self.send(bytes(self.noise.write_message()))

    def dataReceived(self, data: bytes) -> None:
        self.pending += data
        while len(self.pending) >= 2:
            end = 2 + int.from_bytes(self.pending[:2], "big")
            if len(self.pending) < end:
                return
            message, self.pending = self.pending[2:end], self.pending[end:]
            self.message(message)

    def message(self, message: bytes) -> None:
        noise = self.noise
        if noise.handshake_finished:
            noise.decrypt(message)
            self.done(self)
            return
        payload = bytes(noise.read_message(message))
        if payload:
            PUBLIC.verify(payload[:64], payload[64:])
        if not noise.handshake_finished:
            self.send(bytes(noise.write_message(CERTIFICATE)))
        if noise.handshake_finished:
            self.send(bytes(noise.encrypt(b"!")))

    def connectionLost(self, reason: Any = None) -> None:
        if self.initiator:
            self.done(self)


class EchoClient(Protocol):
    """One message of 100 bytes at a time, timed until it is back."""

    def __init__(self, reactor: Any, options: dict[str, Any], done: Callable[[list[float]], None]) -> None:
        self.reactor, self.options, self.done = reactor, options, done
        self.trips: list[float] = []
        self.missing = 0

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.send()

    def send(self) -> None:
        self.missing = 100
        self.sent = time.perf_counter()
        self.write(bytes(100))

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        self.trips.append(time.perf_counter() - self.sent)
        if len(self.trips) == self.options["count"]:
            self.done(self.trips)
        elif self.options["pace"]:
            self.reactor.callLater(self.options["pace"], self.send)
        else:
            self.send()


class SealedEcho(BareHop):
    """Opens each record and seals it again: one AEAD call each way at each end."""

    def __init__(self) -> None:
        super().__init__("aesgcm", self.write_record)


class SealedEchoClient(EchoClient):
    """The same messages, each a sealed record."""

    def __init__(self, reactor: Any, options: dict[str, Any], done: Callable[[list[float]], None]) -> None:
        super().__init__(reactor, options, done)
        self.hop = BareHop("aesgcm", super().dataReceived)

    def connectionMade(self) -> None:
        self.hop.transport = self.transport
        super().connectionMade()

    def write(self, data: bytes) -> None:
        self.hop.write_record(data)

    def dataReceived(self, data: bytes) -> None:
        self.hop.dataReceived(data)


def _factory(build: Callable[[], Protocol]) -> Factory:
    factory = Factory.forProtocol(build)  # type: ignore[arg-type]  # any callable will do
    factory.noisy = False
    return factory


def main(reactor: Any, role: str, options: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Start one role."""

    def finish(report: dict[str, Any]) -> None:
        say(report)
        reactor.callLater(0.2, reactor.stop)

    servers: dict[str, Callable[[], Protocol]] = {
        "echo-server": BareEcho,
        "sealed-echo-server": SealedEcho,
        "handshake-server": lambda: BareHandshake(False, lambda done: None),
    }
    if role in servers:
        port = reactor.listenTCP(0, _factory(servers[role]), backlog=1024, interface="127.0.0.1")
        say({"port": port.getHost().port})
        return
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", options["port"])
    if role in ("echo-client", "sealed-echo-client"):
        kind = EchoClient if role == "echo-client" else SealedEchoClient
        client = kind(reactor, options, lambda trips: finish({"trips": trips}))
        endpoint.connect(_factory(lambda: client))
        return
    started = time.perf_counter()
    cpu = -cpu_seconds()
    times: list[float] = []
    running = options["at_once"]

    def again() -> None:
        begun = time.perf_counter()

        def done(protocol: BareHandshake) -> None:
            nonlocal running
            if protocol.transport.connected:
                times.append(time.perf_counter() - begun)
                protocol.transport.loseConnection()
                return
            if time.perf_counter() < started + options["seconds"]:
                again()
                return
            running -= 1
            if not running:
                finish(
                    {
                        "times": times,
                        "seconds": time.perf_counter() - started,
                        "cpu": cpu + cpu_seconds(),
                    }
                )

        endpoint.connect(_factory(lambda: BareHandshake(True, done)))

    for _ in range(options["at_once"]):
        again()


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
