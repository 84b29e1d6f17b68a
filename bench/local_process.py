# SPDX-License-Identifier: MIT
"""
The programs of L{bench.local}: a caller and a server, by C{gmesh.client}, by HTTP, or with a node inside.

Run as C{python -m bench.local_process ROLE OPTIONS-AS-JSON}: the role C{server} takes messages, C{caller}
sends them; C{a}, C{b} and C{c} are both with the relay between them, as in L{bench.relay_process}; C{idle}
has many services on which nothing happens.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from bench.process import run_process
from bench.relay_process import POLL, SERVICE, _relay, make_node
from gmesh.client import Mesh

ANSWERS = "bench-answers"
WARM = 0.3
TIMEOUT = 10.0
AGAIN = 0.01
"""Seconds after which what was refused is sent again."""

Say = Callable[[dict[str, Any]], None]
Told = Callable[[str], object]
Send = Callable[[bytes], Deferred[Any]]


class Load:
    """
    Keeps so many messages under way for some seconds.

    @param send: sends one; fires when its receiver is done with it.
    @param word: what the bench says: JSON of C{size}, C{at_once} and C{seconds}.
    """

    def __init__(self, reactor: Any, send: Send, say: Say, word: str) -> None:
        order = json.loads(word)
        self.reactor, self.send, self.say = reactor, send, say
        self.payload = bytes(order["size"])
        self.seconds = order["seconds"]
        self.until = float("inf")
        self.over = False
        self.trips: list[float] = []
        self.refused = 0
        reactor.callLater(WARM, self.begin)
        for _ in range(order["at_once"]):
            self.one()

    def begin(self) -> None:
        """It is warm: count from now on."""
        self.trips.clear()
        self.began = time.perf_counter()
        self.until = self.began + self.seconds
        self.say({"begun": True})

    def one(self) -> None:
        """Send one message, and the next when it is dealt with."""
        self.send(self.payload).addCallbacks(self.arrived, self.failed, callbackArgs=(time.perf_counter(),))

    def arrived(self, _: object, at: float) -> None:
        """One is dealt with."""
        now = time.perf_counter()
        if self.over:
            return
        self.trips.append(now - at)
        if now < self.until:
            self.one()
            return
        self.over = True
        report = {"frames": len(self.trips), "seconds": now - self.began, "refused": self.refused}
        self.say({**report, "trips": self.trips[:5000]})

    def failed(self, failure: Any) -> None:
        """It was refused: an application sends it again a moment later."""
        if not self.over:
            self.refused += 1
            self.reactor.callLater(AGAIN, self.one)


class Caller(Protocol):
    """Requests by HTTP on a connection that is kept, one after the other."""

    transport: Any

    def __init__(self) -> None:
        self.read = b""
        self.waiting: Deferred[bytes] | None = None

    def send(self, node: str, service: str, data: bytes) -> Deferred[bytes]:
        """C{POST /v1/send}; fires with its answer."""
        text = base64.b64encode(data).decode("ascii")
        body = json.dumps({"node": node, "service": service, "data": text, "timeout": TIMEOUT}).encode()
        self.transport.write(
            b"POST /v1/send HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.waiting = waiting = Deferred()
        return waiting

    def dataReceived(self, data: bytes) -> None:
        """An answer, whole or in chunks."""
        self.read += data
        head, end, body = self.read.partition(b"\r\n\r\n")
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            whole = body.endswith(b"0\r\n\r\n")
        else:
            _, found, rest = lowered.partition(b"content-length: ")
            whole = bool(found) and len(body) >= int(rest.partition(b"\r\n")[0])
        if end and whole and self.waiting is not None:
            self.read = b""
            waiting, self.waiting = self.waiting, None
            if not head.startswith(b"HTTP/1.1 200"):
                waiting.errback(RuntimeError(f"{head[:60]!r} {body[:300]!r}"))
            else:
                waiting.callback(body)


class Callers:
    """As many connections as there are requests at once."""

    def __init__(self, reactor: Any, path: str) -> None:
        self.reactor, self.path = reactor, path
        self.free: deque[Caller] = deque()

    def send(self, node: str, service: str, data: bytes) -> Deferred[bytes]:
        """As L{Caller.send}, by a connection that is free."""
        if not self.free:
            opened = connectProtocol(UNIXClientEndpoint(self.reactor, self.path), Caller())
            return opened.addCallback(self._by, node, service, data)
        return self._by(self.free.popleft(), node, service, data)

    def _by(self, caller: Caller, node: str, service: str, data: bytes) -> Deferred[bytes]:
        def answered(result: Any) -> Any:
            self.free.append(caller)
            return result

        return caller.send(node, service, data).addBoth(answered)


class Lines(Protocol):
    """C{GET /v1/receive}: calls C{took} with the data of each line."""

    transport: Any

    def __init__(self, service: str, took: Callable[[bytes], object], ready: Callable[[], object]) -> None:
        self.service, self.took, self.ready = service, took, ready
        self.rest = b""
        self.began = False

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(
            b"GET /v1/receive?service=%s HTTP/1.1\r\nHost: node\r\n\r\n" % self.service.encode()
        )

    def dataReceived(self, data: bytes) -> None:
        """A row has a line for itself, whatever the chunks are."""
        if not self.began:
            self.began = True
            self.ready()
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self.took(base64.b64decode(json.loads(line)["data"]))


class Asking:
    """Questions by messages of HTTP: the far program sends the answer as a message of its own."""

    def __init__(self, callers: Callers) -> None:
        self.callers = callers
        self.numbers = itertools.count(1)
        self.waiting: dict[bytes, Deferred[bytes]] = {}

    def ask(self, data: bytes) -> Deferred[bytes]:
        """Fires when the answer has come."""
        number = next(self.numbers).to_bytes(8, "big")
        self.waiting[number] = answer = Deferred()
        self._send(number + data[8:])
        return answer

    def _send(self, data: bytes) -> None:
        """What is refused is sent again a moment later."""
        sent = self.callers.send("c", SERVICE, data)
        sent.addErrback(lambda _: self.callers.reactor.callLater(AGAIN, self._send, data))

    def took(self, data: bytes) -> None:
        """An answer."""
        waiting = self.waiting.pop(data[:8], None)
        if waiting is not None:
            waiting.callback(data)


def main(reactor: Any, role: str, options: dict[str, Any], say: Say) -> Told | None:
    """Start one role."""
    roles = {"a": _a, "b": _relay, "c": _c, "caller": _caller, "server": _server, "idle": _idle}
    return roles[role](reactor, options, say)


def _caller(reactor: Any, options: dict[str, Any], say: Say) -> Told:
    """@param options: C{socket}, C{http} and C{ask}: whether an answer is wanted."""
    if not options["http"]:
        mesh = Mesh(options["socket"])
        return _try(reactor, lambda data: mesh.send("c", SERVICE, data, timeout=TIMEOUT), say)
    callers = Callers(reactor, options["socket"])
    if not options["ask"]:
        return _try(reactor, lambda data: callers.send("c", SERVICE, data), say)
    asking = Asking(callers)
    asked = Lines(
        ANSWERS, asking.took, lambda: asking.ask(bytes(8)).addCallback(lambda _: say({"ready": True}))
    )
    connectProtocol(UNIXClientEndpoint(reactor, options["socket"]), asked)
    return lambda word: Load(reactor, asking.ask, say, word)


def _try(reactor: Any, send: Send, say: Say) -> Told:
    """One trial at a time, until it came through: there are keys, and a way there and back."""

    def look() -> None:
        send(b"trial").addCallbacks(lambda _: say({"ready": True}), lambda _: reactor.callLater(POLL, look))

    look()
    return lambda word: Load(reactor, send, say, word)


def _server(reactor: Any, options: dict[str, Any], say: Say) -> None:
    """@param options: as of L{_caller}."""
    if not options["http"]:

        def handle(message: Any) -> bytes | None:
            return message.data if options["ask"] else None

        serving = Mesh(options["socket"]).serve(SERVICE, handle, concurrency=1024)
        serving.ready.addCallback(lambda _: say({"ready": True}))
        return
    callers = Callers(reactor, options["socket"])

    def answer(data: bytes) -> None:
        callers.send("a", ANSWERS, data).addErrback(lambda _: reactor.callLater(AGAIN, answer, data))

    def took(data: bytes) -> None:
        if options["ask"]:
            answer(data)

    connectProtocol(
        UNIXClientEndpoint(reactor, options["socket"]), Lines(SERVICE, took, lambda: say({"ready": True}))
    )


def _idle(reactor: Any, options: dict[str, Any], say: Say) -> None:
    """So many programs, each with a service of its own."""
    served = [
        Mesh(options["socket"]).serve(f"idle-{number}", lambda message: None).ready
        for number in range(options["count"])
    ]
    gatherResults(served).addCallback(lambda _: say({"ready": True}))


def _a(reactor: Any, options: dict[str, Any], say: Say) -> Told:
    node = make_node(reactor, "a", options, options["ports"])

    return _try(reactor, lambda data: node.datagrams.send("c0", SERVICE, data, timeout=TIMEOUT), say)


def _c(reactor: Any, options: dict[str, Any], say: Say) -> None:
    node = make_node(reactor, "c0", options, [])
    node.datagrams.register(SERVICE, lambda message: None)
    say({"ports": [reactor.listenTCP(0, node.accepting(), interface="127.0.0.1").getHost().port]})


if __name__ == "__main__":
    run_process(main, sys.argv[1], json.loads(sys.argv[2]))
