# SPDX-License-Identifier: MIT
"""
The floors: what bare Twisted does on this machine, defined once for every other bench.

C{python -m bench.floor} prints them by themselves.
"""

from __future__ import annotations

import socket
import statistics
import time
from typing import Any

from bench.children import Process
from bench.harness import Row, alternate, arguments, progress, settle, show, throughput_row

SIZES = (100, 1024, 16_000)
RECORD = 32 * 1024


def flow(
    hops: int, payload: int, suite: str, sealed: bool, seconds: float, record: int = RECORD
) -> dict[str, Any]:
    """
    One round of the bare stack over C{hops} hops (1 or 2), each end a process.

    @return: C{{"reports": {"A": ..., ["B": ...,] "C": ...}}}, the receiver last.
    """
    options: dict[str, Any] = {
        "payload": payload,
        "suite": suite,
        "sealed": sealed,
        "seconds": seconds,
        "record": max(record, payload + 64),
        "read_size": 256 * 1024,
    }
    with Process("bench.bare", "receiver", options) as receiver:
        port = receiver.line()["port"]
        if hops == 1:
            with Process("bench.bare", "sender", {**options, "port": port}) as sender:
                last = receiver.line()
                receiver.close()
                return {"reports": {"A": sender.line(), "C": last}}
        with Process("bench.bare", "relay", {**options, "port": port}) as relay:
            through = relay.line()["port"]
            with Process("bench.bare", "sender", {**options, "port": through}) as sender:
                last = receiver.line()
                middle = relay.line()
                relay.close()
                return {"reports": {"A": sender.line(), "B": middle, "C": last}}


def echo(count: int, pace: float) -> list[float]:
    """Round trips in seconds through a bare Twisted echo, one each C{pace} seconds (0: back to back)."""
    with (
        Process("bench.bare", "echo", {}) as server,
        socket.create_connection(("127.0.0.1", server.line()["port"])) as peer,
    ):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(count):
            start = time.perf_counter()
            peer.sendall(bytes(100))
            if len(peer.recv(100, socket.MSG_WAITALL)) < 100:
                raise ConnectionError("the echo hung up")
            trips.append(time.perf_counter() - start)
            if pace:
                time.sleep(pace)
        return trips


def echo_pair(count: int, pace: float, sealed: bool = False) -> list[float]:
    """Round trips in seconds between two bare Twisted processes, with an AEAD call each way or without."""
    kind = "sealed-echo" if sealed else "echo"
    options = {"count": count, "pace": pace}
    with (
        Process("bench.bare_trip", f"{kind}-server", {}) as server,
        Process("bench.bare_trip", f"{kind}-client", {**server.line(), **options}) as client,
    ):
        trips: list[float] = client.line()["trips"]
        return trips


def handshakes(at_once: int, seconds: float) -> dict[str, Any]:
    """One round of bare XX handshakes, so many at a time: C{{"times", "seconds", "cpu"}}."""
    with Process("bench.bare_trip", "handshake-server", {}) as server:
        options = {**server.line(), "at_once": at_once, "seconds": seconds}
        before = server.cpu()
        with Process("bench.bare_trip", "handshake-client", options) as client:
            answer = client.line()
            return {**answer, "cpu": {"A": answer["cpu"], "C": server.cpu() - before}}


def latency_row(name: str, trips: list[float]) -> Row:
    """Median and 99th percentile of round trips given in seconds."""
    cuts = statistics.quantiles(trips, n=100)
    return Row(name, p50_ms=statistics.median(trips) * 1e3, p99_ms=cuts[98] * 1e3, rounds=len(trips))


def handshake_row(name: str, rounds: list[dict[str, Any]], floor: Row | None = None) -> Row:
    """Rate, latency and CPU of handshakes."""
    rates = [len(entry["times"]) / entry["seconds"] for entry in rounds]
    row = latency_row(name, [trip for entry in rounds for trip in entry["times"]])
    row.rate, row.unit, row.rounds = statistics.median(rates), "a second", len(rounds)
    row.low, row.high = min(rates), max(rates)
    row.cpu_us = {
        role: statistics.median(e["cpu"][role] * 1e6 / max(1, len(e["times"])) for e in rounds)
        for role in rounds[0]["cpu"]
    }
    row.others_busy = statistics.median(entry["others_busy"] for entry in rounds)
    if floor is not None and floor.rate:
        row.floor, row.ratio = floor.rate, row.rate / floor.rate
    return row


def main() -> None:
    """Print every floor."""
    options = arguments(__doc__).parse_args()
    rounds, seconds = settle(options)
    rows = []
    for size in SIZES:
        variants = {
            "one hop, no AEAD": lambda size=size: flow(1, size, "none", False, seconds),
            "one hop, an AEAD call each way": lambda size=size: flow(1, size, "aesgcm", False, seconds),
            "two hops, sealed": lambda size=size: flow(2, size, "aesgcm", True, seconds),
        }
        results = alternate(f"{size:,} B", rounds, variants)
        rows += [throughput_row(name, size, results[name]) for name in variants]
    for at_once in (1, 8):
        variant = {"handshake": lambda at_once=at_once: handshakes(at_once, seconds)}
        results = alternate(f"handshakes, {at_once} at a time", rounds, variant)
        rows.append(handshake_row(f"XX by the library, {at_once} at a time", results["handshake"]))
    count = 200 if options.quick else 1000
    progress("echo")
    rows.append(latency_row("echo, back to back", echo(count, 0)))
    rows.append(latency_row("echo, one each 10 ms", echo(count // 2, 0.01)))
    show("floor", rows, {"record": RECORD, "suite": "AESGCM", "malloc": "raised"}, options.json)


if __name__ == "__main__":
    main()
