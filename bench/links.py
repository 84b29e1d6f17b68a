# SPDX-License-Identifier: MIT
"""
Links: the real Noise and mesh layers over one hop, against bare Twisted with an AEAD call each way.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.children import Process, watch
from bench.daemon import idle_node_rss
from bench.floor import RECORD, SIZES, echo_pair, flow, handshake_row, handshakes, latency_row
from bench.harness import (
    Row,
    alternate,
    arguments,
    others_busy,
    progress,
    settle,
    show,
    throughput_row,
)
from bench.tls_files import tls_file

MODULE = "bench.link_process"
READ_SIZE = 256 * 1024
PARTS = ("data", "handshakes", "trips", "memory", "control", "carriers")
CARRIERS = ("tcp", "tls", "wss")


def common(suite: str, seconds: float, **more: Any) -> dict[str, Any]:
    """What every process of a round is told."""
    wall = int(time.time()) - 60
    return {"suite": suite, "seconds": seconds, "wall": wall, "read_size": READ_SIZE, **more}


def one_hop(payload: int, suite: str, seconds: float, **carrier: Any) -> dict[str, Any]:
    """One round of data over one link."""
    options = common(suite, seconds, payload=payload, **carrier)
    with (
        Process(MODULE, "far", options) as far,
        Process(MODULE, "source", {**options, "port": far.line()["port"]}) as source,
    ):
        sent = source.line()
        return {"reports": {"A": sent, "C": far.line()}}


def link_handshakes(at_once: int, seconds: float, known: bool, **carrier: Any) -> dict[str, Any]:
    """
    One round of whole links, made and closed: handshake, both judged, HELLO both ways.

    @param known: whether both ends saw each other's certificate before, as after a lost connection.
    """
    options = common("aesgcm", seconds, at_once=at_once, known=known, **carrier)
    with Process(MODULE, "far", options) as far:
        port = far.line()["port"]
        before = far.cpu()
        with Process(MODULE, "dialler", {**options, "port": port}) as dialler:
            answer = dialler.line()
            return {**answer, "cpu": {"A": answer["cpu"], "C": far.cpu() - before}}


def link_trips(count: int, pace: float) -> list[float]:
    """Round trips of a control frame over a link."""
    options = common("aesgcm", 0, count=count, pace=pace)
    with (
        Process(MODULE, "far", options) as far,
        Process(MODULE, "prober", {**options, "port": far.line()["port"]}) as prober,
    ):
        trips: list[float] = prober.line()["trips"]
        return trips


def link_rss(first: int, more: int) -> float:
    """
    KiB of each link more, in a process that only listens.

    @param first: links it has before: what only the first ones need, half a MiB, is no part of any link.
    """
    options = common("aesgcm", 0)
    with Process(MODULE, "far", options) as far:
        there = {**options, "port": far.line()["port"]}
        with Process(MODULE, "holder", {**there, "first": 0, "links": first}) as holder:
            holder.line()
            watch(seconds=0.5)
            before = far.rss_kib()
            with Process(MODULE, "holder", {**there, "first": first, "links": more}) as others:
                others.line()
                watch(seconds=0.5)
                return (far.rss_kib() - before) / more


@contextmanager
def shaped_pair(rate: str) -> Iterator[tuple[str, str]]:
    """
    Two network namespaces joined by a pair of interfaces that pass C{rate} each way.

    @raise OSError: where this machine does not allow that, with what it said.
    """
    names = [f"gmesh-bench-{os.getpid()}-{end}" for end in "ab"]

    def run(*words: str) -> None:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise OSError(f"{' '.join(words[:4])}: {answer.stderr.strip()}")

    try:
        for name in names:
            run("ip", "netns", "add", name)
        run(
            "ip",
            "link",
            "add",
            "veth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "veth0",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, start=1):
            inside = ("ip", "-n", name)
            run(*inside, "addr", "add", f"10.99.0.{number}/24", "dev", "veth0")
            run(*inside, "link", "set", "veth0", "up")
            run(
                *("tc", "-n", name, "qdisc", "add", "dev", "veth0", "root"),
                *("tbf", "rate", rate, "burst", "16kb", "latency", "50ms"),
            )
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def control_trips(count: int, payload: int) -> list[float]:
    """Round trips of control frames, one each 100 ms, while data saturates 10 Mbit/s in one direction."""
    with shaped_pair("10mbit") as (near, far):
        options = common("aesgcm", count * 0.1 + 5, payload=payload, count=count, pace=0.1, wait=2.0)
        enter = ("ip", "netns", "exec")
        with Process(MODULE, "far", {**options, "listen": "10.99.0.2"}, (*enter, far)) as end:
            there = {**options, "host": "10.99.0.2", "port": end.line()["port"]}
            with Process(MODULE, "loaded-prober", there, (*enter, near)) as prober:
                while True:
                    said = prober.line()
                    if "trips" in said:
                        return list(said["trips"])


def bare_websocket(payload: int, suite: str, seconds: float, pem: str) -> dict[str, Any]:
    """One round of the bare stack inside TLS and a WebSocket."""
    options: dict[str, Any] = {
        "payload": payload,
        "suite": suite,
        "sealed": False,
        "seconds": seconds,
        "record": max(RECORD, payload + 64),
        "read_size": READ_SIZE,
        "pem": pem,
    }
    with Process("bench.bare_websocket", "receiver", options) as receiver:
        there = {**options, "port": receiver.line()["port"]}
        with Process("bench.bare_websocket", "sender", there) as sender:
            last = receiver.line()
            receiver.close()
            return {"reports": {"A": sender.line(), "C": last}}


def carrier_rows(rounds: int, seconds: float) -> Iterator[Row]:
    """Links over TLS and in WebSockets against plain ones, and the latter against their own bare pipe."""
    with tls_file() as pem:
        for size in (SIZES[0], SIZES[-1]):
            results = alternate(
                f"carriers, {size:,} B",
                rounds,
                {
                    "bare": lambda size=size: bare_websocket(size, "aesgcm", seconds, pem),
                    **{
                        each: lambda size=size, each=each: one_hop(
                            size, "aesgcm", seconds, carrier=each, pem=None if each == "tcp" else pem
                        )
                        for each in CARRIERS
                    },
                },
            )
            plain = throughput_row("one link, tcp", size, results["tcp"])
            bare = throughput_row("bare pair in TLS and WebSocket", size, results["bare"], plain)
            tls = throughput_row("one link, tls", size, results["tls"], plain)
            wss = throughput_row("one link, wss", size, results["wss"], bare)
            plain.note = bare.note = tls.note = "ratio to the plain link"
            wss.note = f"ratio to the bare pair; {(wss.rate or 0) / (plain.rate or 1):.2f} of the plain link"
            yield from (plain, bare, tls, wss)
        results = alternate(
            "handshakes by carrier",
            rounds,
            {
                each: lambda each=each: link_handshakes(
                    1, seconds, True, carrier=each, pem=None if each == "tcp" else pem
                )
                for each in CARRIERS
            },
        )
        plain = handshake_row("link made and closed, tcp", results["tcp"])
        yield plain
        for each in CARRIERS[1:]:
            row = handshake_row(f"the same, {each}, TLS session resumed", results[each], plain)
            row.note = f"median {(row.p50_ms or 0) / (plain.p50_ms or 1):.2f} x the plain link's"
            yield row


def data_rows(rounds: int, seconds: float) -> Iterator[Row]:
    """One hop against the bare pair, all sizes, both suites."""
    for suite in ("aesgcm", "chacha"):
        for size in SIZES:
            results = alternate(
                f"data, {suite}, {size:,} B",
                rounds,
                {
                    "floor": lambda size=size, suite=suite: flow(1, size, suite, False, seconds),
                    "link": lambda size=size, suite=suite: one_hop(size, suite, seconds),
                },
            )
            floor = throughput_row(f"bare pair, {suite}", size, results["floor"])
            row = throughput_row(f"one link, {suite}", size, results["link"], floor)
            share = sum(floor.cpu_us.values()) / sum(row.cpu_us.values())
            row.note = f"{size} B: CPU of both ends is the floor's divided by {share:.2f}"
            yield from (floor, row)


def handshake_rows(rounds: int, seconds: float) -> Iterator[Row]:
    """Whole links against the bare library, one and eight at a time."""
    for at_once in (1, 8):
        results = alternate(
            f"handshakes, {at_once} at a time",
            rounds,
            {
                "floor": lambda at_once=at_once: handshakes(at_once, seconds),
                "link": lambda at_once=at_once: link_handshakes(at_once, seconds, True),
                "first": lambda at_once=at_once: link_handshakes(at_once, seconds, False),
            },
        )
        floor = handshake_row(f"XX by the library, {at_once} at a time", results["floor"])
        yield floor
        for key, what in (("link", "link made and closed"), ("first", "the same, first contact")):
            row = handshake_row(f"{what}, {at_once} at a time", results[key], floor)
            share = sum(floor.cpu_us.values()) / sum(row.cpu_us.values())
            row.note = f"CPU of both ends is the floor's divided by {share:.2f}"
            yield row


def trip_rows(rounds: int, count: int) -> Iterator[Row]:
    """A control frame and back against a bare echo; the ratio is of medians, below 1 is faster."""
    for name, pace in (("back to back", 0.0), ("one each 10 ms", 0.01)):
        each = count // rounds
        results = alternate(
            f"round trips, {name}",
            rounds,
            {
                "floor": lambda each=each, pace=pace: {"trips": echo_pair(each, pace)},
                "sealed": lambda each=each, pace=pace: {"trips": echo_pair(each, pace, True)},
                "link": lambda each=each, pace=pace: {"trips": link_trips(each, pace)},
            },
        )
        rows = [
            latency_row(f"{what}, {name}", [trip for entry in results[key] for trip in entry["trips"]])
            for key, what in (
                ("floor", "bare echo"),
                ("sealed", "bare echo of sealed records"),
                ("link", "round trip over a link"),
            )
        ]
        echo, sealed, link = (row.p50_ms or 1.0 for row in rows)
        rows[1].note = f"p50 is {sealed / echo:.2f} x the echo's"
        rows[2].note = f"p50 is {link / echo:.2f} x the echo's, {link / sealed:.2f} x the sealed echo's"
        yield from rows


def memory_rows() -> Iterator[Row]:
    """What an idle node holds, and each link more."""
    progress("memory")
    each = link_rss(32, 256)
    idle, asked = idle_node_rss()
    yield Row("RSS, idle gmesh-node", rate=idle / 1024, unit="MiB")
    yield Row("RSS, the same once its local API was asked", rate=asked / 1024, unit="MiB")
    yield Row("RSS, each link more", rate=each, unit="KiB")


def control_row(count: int, payload: int) -> Row:
    """Latency of control under load, or why it cannot be measured here."""
    name = "control round trip, 10 Mbit/s saturated"
    progress(name)
    try:
        entry = others_busy(lambda: {"trips": control_trips(count, payload)})
    except OSError as error:
        return Row(name, payload, note=f"not measured: network namespaces are not allowed here ({error})")
    row = latency_row(name, entry["trips"])
    row.size, row.others_busy = payload, entry["others_busy"]
    row.note = f"{payload} B: p95 {statistics.quantiles(entry['trips'], n=20)[18] * 1e3:.0f} ms"
    return row


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given again")
    options = parser.parse_args()
    rounds, seconds = settle(options)
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "data": lambda: data_rows(rounds, seconds),
        "handshakes": lambda: handshake_rows(rounds, seconds),
        "trips": lambda: trip_rows(rounds, 200 if options.quick else 1000),
        "memory": memory_rows,
        "carriers": lambda: carrier_rows(rounds, seconds),
        "control": lambda: [control_row(30 if options.quick else 100, 16_000)],
    }
    rows = [row for part in options.part or PARTS for row in parts[part]()]
    show("links", rows, {"record": RECORD, "read": READ_SIZE, "malloc": "raised"}, options.json)


if __name__ == "__main__":
    main()
