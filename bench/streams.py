# SPDX-License-Identifier: MIT
"""
Byte streams from A to C through B, whole nodes as processes, against a flow of messages in the same run.

Each line of processes is started once, and every round of every variant runs in it, in turn with the others.
A peer may open 200 streams a second, and 400 at once: rounds of opens keep to that, so their rate is what an
open costs, not what the limit lets through.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.children import Process
from bench.floor import RECORD, latency_row
from bench.harness import Row, alternate, arguments, others_busy, progress, settle, show, throughput_row
from bench.streams_iroh import Iroh
from bench.streams_programs import FRAME

NODE = "bench.streams_process"
PROGRAM = "bench.streams_programs"
OPENS = 150
"""Opened in a round, and as often one after the other as some at a time."""
ABREAST = 16
PACED = 50
"""So many more in turn with pings; all in a round are no more than a peer may open at once."""
OPENS_REST = 2.0
"""Seconds after which a peer may open as many again."""
IDLE = 1000
IDLE_PAUSE = 0.006
"""So that no more are opened in a second than a peer may."""
IDLE_SECONDS = 10.0
FAIR = 50
FAIR_SECONDS = 2.0


def started(stack: ExitStack, module: str, role: str, options: dict[str, Any]) -> Process:
    """A process that lives as long as C{stack}."""
    return stack.enter_context(Process(module, role, options))


def checked(sent: dict[str, Any], received: dict[str, Any]) -> None:
    """Nothing may be lost of a stream."""
    if received["bytes"] != sent["bytes"]:
        raise SystemExit(f"{sent['bytes']:,} bytes were written, {received['bytes']:,} arrived")


class Line:
    """
    A, B and C, linked in a line, with keys.

    @param relays: 1, or 0 to leave out B.
    @param options: as L{bench.streams_process} takes them.
    """

    def __init__(self, stack: ExitStack, relays: int = 1, **options: Any) -> None:
        options = {
            "suite": "aesgcm",
            "wall": int(time.time()) - 60,
            "streams": FAIR,
            **options,
        }
        self.target = started(stack, NODE, "c", options)
        self.between: dict[str, Process] = {}
        ports = self.target.line()["ports"]
        if relays:
            relay = self.between["B"] = started(stack, NODE, "b", {**options, "ports": ports})
            ports = [relay.line()["port"]]
        self.source = started(stack, NODE, "a", {**options, "ports": ports})
        self.source.line()

    def round(self, what: str, report: str = "report") -> dict[str, Any]:
        """One round: A does C{what}, and C is asked for its report."""
        self.target.say({"say": "begin"})
        for process in self.between.values():
            process.say({"say": "start"})
        self.source.say({"say": what})
        sent = self.source.line()
        middle = {}
        for name, process in self.between.items():
            process.say({"say": "stop"})
            middle[name] = process.line()
        self.target.say({"say": report})
        received = self.target.line()
        for each in middle.values():
            each["frames"] = received["frames"]
        if "bytes" in sent:
            checked(sent, received)
        return {"reports": {"A": sent, **middle, "C": received}}

    def ask(self, what: str) -> dict[str, Any]:
        """What A answers to a word."""
        self.source.say({"say": what})
        return self.source.line()


class Programs:
    """
    A program that writes to another, and what stands between them.

    @param between: measured too, in the order of the bytes.
    """

    def __init__(
        self, stack: ExitStack, reader: Process, between: Mapping[str, Process], **options: Any
    ) -> None:
        self.reader, self.between = reader, between
        self.writer = started(stack, PROGRAM, "writer", options)

    def round(self) -> dict[str, Any]:
        """One round: one connection of some seconds."""
        self.reader.say({"say": "begin"})
        for process in self.between.values():
            process.say({"say": "start"})
        self.writer.say({"say": "write"})
        sent = self.writer.line()
        reports = {"writer": sent}
        for name, process in self.between.items():
            process.say({"say": "stop"})
            reports[name] = process.line()
        self.reader.say({"say": "report"})
        reports["reader"] = self.reader.line()
        checked(sent, reports["reader"])
        for report in reports.values():
            report["frames"] = reports["reader"]["frames"]
        return {"reports": reports}


def through_nodes(stack: ExitStack, seconds: float) -> Programs:
    """Programs at A and C, each at the local API of its node."""
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    line = Line(stack, local=f"{directory}/", seconds=seconds)
    reader = started(stack, PROGRAM, "reader", {"local": f"{directory}/c"})
    reader.line()
    nodes = {"A": line.source, **line.between, "C": line.target}
    return Programs(stack, reader, nodes, local=f"{directory}/a", seconds=seconds)


def through_forwarders(stack: ExitStack, seconds: float) -> Programs:
    """The same number of processes, which pass on plain TCP."""
    reader = started(stack, PROGRAM, "reader", {})
    port, between = reader.line()["port"], {}
    for name in "CBA":
        between[name] = started(stack, PROGRAM, "forwarder", {"port": port})
        port = between[name].line()["port"]
    return Programs(stack, reader, dict(reversed(between.items())), port=port, seconds=seconds)


def bulk_rows(rounds: int, seconds: float, iroh: Iroh | str) -> list[Row]:
    """Bytes a second: a flow of messages, streams in the nodes' processes, between programs, elsewhere."""
    with ExitStack() as stack:
        progress("processes start")
        line = Line(stack, seconds=seconds)
        programs, forwarders = through_nodes(stack, seconds), through_forwarders(stack, seconds)
        variants = {
            "flow": lambda: line.round("flow", "messages"),
            "one": lambda: line.round("one"),
            "many": lambda: line.round("many"),
            "programs": programs.round,
            "forwarded": forwarders.round,
        }
        if isinstance(iroh, Iroh):
            iroh.start(stack, seconds)
            direct = Line(stack, relays=0, seconds=seconds)
            variants |= {"one hop": lambda: direct.round("one"), "iroh": iroh.round}
        results = alternate("bulk", rounds, variants)
    flow = throughput_row("a flow of messages", FRAME, results["flow"])
    rows = [flow]
    for name, title in (("one", "one stream"), ("many", f"{FAIR} streams")):
        rows.append(throughput_row(title, FRAME, results[name], flow))
    plain = throughput_row("plain TCP, three forwarders between programs", FRAME, results["forwarded"])
    between = throughput_row("one stream between programs", FRAME, results["programs"], flow)
    if between.rate and plain.rate:
        between.note = f"{between.rate / plain.rate:.2f} of plain TCP through as many processes"
    rows += [between, plain]
    if isinstance(iroh, Iroh):
        rows.append(throughput_row("one stream, one hop", FRAME, results["one hop"], flow))
        rows.append(throughput_row(iroh.title, FRAME, results["iroh"], flow))
    return rows


@contextmanager
def opening(**options: Any) -> Iterator[Line]:
    """A line of its own."""
    with ExitStack() as stack:
        yield Line(stack, **options)


def open_rows(rounds: int) -> list[Row]:
    """Opens a second, and how long one takes to its first byte beside a ping."""
    with (
        opening(count=OPENS, paced=PACED, abreast=1) as serial,
        opening(count=OPENS, abreast=ABREAST) as wide,
    ):

        def trips() -> dict[str, Any]:
            time.sleep(OPENS_REST)
            return serial.ask("trips")

        results = alternate(
            "opens",
            rounds,
            {"serial": lambda: serial.ask("opens"), "wide": lambda: wide.ask("opens"), "trips": trips},
        )
    looks = results["trips"]
    pings = latency_row("ping", [trip for entry in looks for trip in entry["pings"]])
    first = latency_row("open to first byte", [trip for entry in looks for trip in entry["trips"]])
    medians = [statistics.median(entry["trips"]) / statistics.median(entry["pings"]) for entry in looks]
    first.ratio = statistics.median(medians)
    first.note = "ratio of medians to a ping, C answers with the first byte"
    first.others_busy = statistics.median(entry["others_busy"] for entry in looks)
    return [
        pings,
        first,
        open_rate("opens, one after the other", results["serial"]),
        open_rate(f"opens, {ABREAST} at a time", results["wide"]),
    ]


def open_rate(title: str, results: Sequence[dict[str, Any]]) -> Row:
    """Streams opened, answered and closed a second."""
    rates = [entry["frames"] / entry["seconds"] for entry in results]
    row = Row(title, rate=statistics.median(rates), unit="opens/s", low=min(rates), high=max(rates))
    row.cpu_us = {"A": statistics.median(entry["cpu"] * 1e6 / entry["frames"] for entry in results)}
    row.others_busy = statistics.median(entry["others_busy"] for entry in results)
    return row


def fairness() -> dict[str, Any]:
    """Many streams side by side: what each got in the same two seconds."""
    with opening(seconds=FAIR_SECONDS + 2) as line:
        line.source.say({"say": "many"})
        looks = []
        for wait in (1.0, FAIR_SECONDS):
            time.sleep(wait)
            line.target.say({"say": "shares"})
            looks.append(line.target.line()["got"])
        line.source.line()
        return {"shares": sorted(after - before for before, after in zip(*looks, strict=True))}


def idle() -> dict[str, Any]:
    """What a thousand streams cost on which nothing happens."""
    with opening(count=IDLE, pause=IDLE_PAUSE) as line:
        line.target.say({"say": "look"})
        far = [line.target.line()]
        answer = line.ask("idle")
        line.target.say({"say": "look"})
        far.append(line.target.line())
        near = [answer["before"], answer["after"]]
        time.sleep(IDLE_SECONDS)
        for process, looks in ((line.source, near), (line.target, far)):
            process.say({"say": "look"})
            looks.append(process.line())
        return {
            name: {
                "mib": (looks[1]["rss"] - looks[0]["rss"]) / 2**20,
                "core": (looks[2]["cpu"] - looks[1]["cpu"]) / (looks[2]["at"] - looks[1]["at"]),
            }
            for name, looks in (("A", near), ("C", far))
        }


def other_rows() -> list[Row]:
    """Fairness, and what idle streams cost."""
    progress("fairness")
    shares = others_busy(fairness)
    middle = statistics.median(shares["shares"])
    fair = Row(f"{FAIR} streams, {FAIR_SECONDS:g} s", others_busy=shares["others_busy"])
    least, most = shares["shares"][0] / middle, shares["shares"][-1] / middle
    fair.note = f"the least got {least:.2f} of the median, the most {most:.2f}"
    progress("idle streams")
    costs = others_busy(idle)
    quiet = Row(f"{IDLE:,} idle streams", others_busy=costs["others_busy"])
    quiet.note = "; ".join(
        f"{name} {costs[name]['mib']:.1f} MiB, {costs[name]['core'] * 100:.2f} % of a core" for name in "AC"
    )
    return [fair, quiet]


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--iroh", metavar="PYTHON", help="an interpreter that has iroh (this one)")
    options = parser.parse_args()
    rounds, seconds = settle(options)
    iroh = Iroh.found(options.iroh)
    rows = bulk_rows(rounds, seconds, iroh)
    rows += open_rows(rounds)
    rows += other_rows()
    elsewhere = [iroh.about if isinstance(iroh, Iroh) else iroh]
    settings = {"record": RECORD, "suite": "AESGCM", "malloc": "raised", "hops": 2}
    show("streams", rows, settings, options.json, elsewhere)


if __name__ == "__main__":
    main()
