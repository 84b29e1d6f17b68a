# SPDX-License-Identifier: MIT
"""
The processes of the bench of the authority: the daemon, the floor beside it, and their clients.

Run as C{python -m bench.authority_process ROLE OPTIONS-AS-JSON}.  The floor is a bare Klein route
that verifies one signature over the body and answers; no nonce, no database, no limits.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import LoopingCall

from bench.process import cpu_seconds, resident, run_process
from gmesh.authority.store.presence import HeardRow

TICK = 0.005
HEARTBEATS = 100_000
BACKLOG = 512  # of clients that connect at once; one that finds no room tries again a second later


class Stalls:
    """
    How long the reactor went without turning, at most, between two questions, and its longest callback.

    A turn serves every socket that is readable, so with 256 clients at once it is long by their number.
    """

    def __init__(self, reactor: Any, watched: bool) -> None:
        self._seconds = reactor.seconds
        self.longest = self.callback = 0.0
        self._last = self._seconds()
        if not watched:
            return
        for name in ("_doReadOrWrite", "runUntilCurrent"):
            setattr(reactor, name, self._timed(getattr(reactor, name)))
        LoopingCall(self._tick).start(TICK)

    def _timed(self, function: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> None:
            began = time.perf_counter()
            function(*arguments, **named)
            self.callback = max(self.callback, time.perf_counter() - began)

        return run

    def _tick(self) -> None:
        now = self._seconds()
        self.longest = max(self.longest, now - self._last - TICK)
        self._last = now


def report_on(reactor: Any, say: Any, watched: bool = True) -> Any:
    """
    Answer each word of the parent with what was used since the last one.

    @param watched: whether stalls are looked for, which has a cost of its own.
    """
    stalls, began = Stalls(reactor, watched), [cpu_seconds()]

    def heard(word: str) -> None:
        say(
            {
                "cpu": cpu_seconds() - began[0],
                "stall": stalls.longest,
                "callback": stalls.callback,
                "rss": resident(),
            }
        )
        began[0], stalls.longest, stalls.callback = cpu_seconds(), 0.0, 0.0

    return heard


def floor(reactor: Any, role: str, options: dict[str, Any], say: Any) -> Any:
    """Klein, one signature, one answer."""
    from klein import Klein
    from twisted.web.server import Site

    from gmesh.trust.encoding import b64url_decode
    from gmesh.trust.keys import verify

    app = Klein()

    @app.route("/join", methods=["POST"])
    @app.route("/heartbeat", methods=["POST"])
    async def one(request: Any) -> bytes:
        body = request.content.read()
        key = b64url_decode(request.getHeader("bench-key"), 32)
        if not verify(key, b64url_decode(request.getHeader("bench-signature"), 64), body):
            request.setResponseCode(401)
        request.setHeader("content-type", "application/json")
        request.setHeader("content-length", "11")
        return b'{"ok":true}'

    port = reactor.listenTCP(0, Site(app.resource()), backlog=BACKLOG, interface="127.0.0.1")
    say({"port": port.getHost().port})
    return report_on(reactor, say)


def product(reactor: Any, role: str, options: dict[str, Any], say: Any) -> Any:
    """The daemon as twistd composes it, with its limits out of the way and its log in a file."""
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from gmesh.authority.tap import Options, makeService

    began = time.monotonic()
    log = open(options["log"], "a", encoding="utf-8")  # noqa: SIM115  # as long as the process
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log)], redirectStandardIO=False)
    rate = "100000000/100000000"
    parsed = Options()
    here = "interface=127.0.0.1"
    arguments = {
        "--state": options["state"],
        "--listen": f"tcp:{options['port']}:backlog={BACKLOG}:{here}",
        "--metrics": f"tcp:{options['metrics']}:{here}",
        "--connections": "0",
        "--rate": options["limits"].get("rate", rate),
        "--key-rate": rate,
        "--failure-rate": options["limits"].get("failures", rate),
    }
    if "database" in options:
        arguments["--database-file"] = options["database"]
    parsed.parseOptions([word for pair in arguments.items() for word in pair])
    service = makeService(parsed, reactor)
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    say({"port": options["port"], "start": time.monotonic() - began, "rss": resident()})
    report = report_on(reactor, say, not options.get("idle"))
    presence = PresenceFlood(service._authority, say)
    words = {"heartbeats": presence.begin, "written": presence.ended, "report": report}
    return lambda word: words[word](word)


class PresenceFlood:
    """Heartbeats of very many members, as if they had all come just now."""

    def __init__(self, authority: Any, say: Any) -> None:
        self._members, self._say = authority.members, say
        self._done: Any = None

    def begin(self, word: str) -> None:
        """Have them, and begin to write them down."""
        now = int(time.time())
        said = json.dumps({"genesis": 1, "policy": 1, "crl": now, "status": now, "faults": [], "hosts": []})
        rows = [HeardRow(f"{number:032x}", now * 1000, now, said) for number in range(HEARTBEATS)]
        self._members.presence.put_back(rows)
        self._began = time.monotonic()
        self._done = self._members.flush_presence()
        self._say({"heard": HEARTBEATS})

    def ended(self, word: str) -> None:
        """Tell when all are written."""
        self._done.addCallback(lambda _: self._say({"seconds": time.monotonic() - self._began}))


class Client(Protocol):
    """One connection: a request, its whole answer, the next request."""

    def __init__(self, load: Load, queue: deque[bytes]) -> None:
        self._load, self._queue = load, queue
        self._buffer = b""
        self._done = False

    def connectionLost(self, reason: Any = None) -> None:
        if not self._done:
            raise SystemExit("a connection was closed before its last answer")

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]  # a TCP transport
        self._next()

    def _next(self) -> None:
        if not self._queue:
            self._done = True
            self.transport.loseConnection()  # type: ignore[union-attr]
            self._load.finished()
            return
        self._sent = time.perf_counter()
        self.transport.write(self._queue.popleft())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        length = int(lower[start : lower.find(b"\r\n", start) % (len(lower) + 1)])
        if len(body) < length:
            return
        self._load.answered(int(head[9:12]), time.perf_counter() - self._sent, body[:length])
        self._buffer = body[length:]
        self._load.pause(self._next)


class Load:
    """All connections of one measurement."""

    def __init__(self, reactor: Any, options: dict[str, Any], say: Any) -> None:
        self._reactor, self._say = reactor, say
        self._pace = options.get("pace", 0.0)
        self._times: list[float] = []
        self._statuses: dict[int, int] = {}
        self._wrong = b""
        queues = [deque(queue) for queue in pickle.loads(Path(options["requests"]).read_bytes())]
        if options["shared"]:
            shared = deque(request for queue in queues for request in queue)
            queues = [shared] * options["clients"]
        self._open = len(queues)
        self._began, self._cpu = time.monotonic(), cpu_seconds()
        ports = options["ports"]
        for place, queue in enumerate(queues):
            factory = ClientFactory()
            factory.buildProtocol = lambda address, queue=queue: Client(self, queue)  # type: ignore[method-assign,misc]
            factory.noisy = False
            reactor.connectTCP("127.0.0.1", ports[place % len(ports)], factory)

    def pause(self, then: Any) -> None:
        """Go on, at the pace asked for."""
        if self._pace:
            self._reactor.callLater(self._pace, then)
        else:
            then()

    def answered(self, status: int, seconds: float, body: bytes) -> None:
        """One whole answer."""
        self._times.append(seconds)
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if status >= 300 and not self._wrong:
            self._wrong = body

    def finished(self) -> None:
        """One connection has nothing more to ask."""
        self._open -= 1
        if self._open:
            return
        self._say(
            {
                "frames": len(self._times),
                "seconds": time.monotonic() - self._began,
                "cpu": cpu_seconds() - self._cpu,
                "times": sorted(self._times),
                "statuses": self._statuses,
                "wrong": self._wrong.decode(errors="replace"),
            }
        )


def client(reactor: Any, role: str, options: dict[str, Any], say: Any) -> None:
    """Ask as fast as answers come, over so many connections."""
    Load(reactor, options, say)


ROLES = {"floor": floor, "product": product, "client": client}

if __name__ == "__main__":
    run_process(ROLES[sys.argv[1]], sys.argv[1], json.loads(sys.argv[2]))
