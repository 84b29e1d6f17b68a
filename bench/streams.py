# SPDX-License-Identifier: MIT
"""
Byte streams from A to C through B, whole nodes as processes, against a flow of messages in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.children import Process
from bench.floor import RECORD, latency_row
from bench.harness import Row, alternate, arguments, others_busy, progress, settle, show, throughput_row
from bench.relay import READ_SIZE, through_relay
from bench.streams_process import FRAME

MODULE = "bench.streams_process"
OPENS = 300
PACED = 100
"""Opens one after the other, and so many more in turn with pings: no more than a peer may at once."""
IDLE = 1000
IDLE_PAUSE = 0.006
"""So that no more are opened in a second than a peer may."""
IDLE_SECONDS = 10.0
FAIR = 50
FAIR_SECONDS = 2.0


@contextmanager
def line(**options: Any) -> Iterator[tuple[Process, Process, Process]]:
    """A, B and C, linked in a line, with keys."""
    options = {
        "suite": "aesgcm",
        "wall": int(time.time()) - 60,
        "read_size": READ_SIZE,
        "flows": 1,
        **options,
    }
    with (
        Process(MODULE, "c", options) as target,
        Process(MODULE, "b", {**options, "ports": target.line()["ports"]}) as relay,
        Process(MODULE, "a", {**options, "ports": [relay.line()["port"]]}) as source,
    ):
        source.line()
        yield source, relay, target


def bulk(seconds: float, streams: int = 1) -> dict[str, Any]:
    """One round: so many streams side by side write for so long."""
    with line(seconds=seconds, streams=streams) as (source, relay, target):
        relay.say({"say": "start"})
        source.say({"say": "bulk"})
        source.line()
        sent = source.line()
        relay.say({"say": "stop"})
        middle = relay.line()
        target.say({"say": "report"})
        received = target.line()
        if received["bytes"] != sent["bytes"]:
            raise SystemExit(f"{sent['bytes']:,} bytes were written, {received['bytes']:,} arrived")
        middle["frames"] = received["frames"]
        return {"reports": {"A": sent, "B": middle, "C": received}}


def through_programs(seconds: float) -> dict[str, Any]:
    """One round: a program at A writes to one at C, each by the local API of its node."""
    with (
        tempfile.TemporaryDirectory() as directory,
        line(local=f"{directory}/") as (source, relay, target),
        Process(MODULE, "reader", {"local": f"{directory}/c"}) as reader,
        Process(MODULE, "writer", {"local": f"{directory}/a", "seconds": seconds}) as writer,
    ):
        reader.line()
        nodes = {"A": source, "B": relay}
        for node in nodes.values():
            node.say({"say": "start"})
        return written(writer, reader, nodes, {"C": target})


def forwarded(seconds: float) -> dict[str, Any]:
    """One round: the same number of processes, which pass on plain TCP."""
    with ExitStack() as stack:
        reader = stack.enter_context(Process(MODULE, "reader", {}))
        port, between = reader.line()["port"], {}
        for name in "CBA":
            between[name] = stack.enter_context(
                Process(MODULE, "forwarder", {"port": port, "read_size": READ_SIZE})
            )
            port = between[name].line()["port"]
            between[name].say({"say": "start"})
        writer = stack.enter_context(Process(MODULE, "writer", {"port": port, "seconds": seconds}))
        return written(writer, reader, dict(reversed(between.items())), {})


def written(
    writer: Process, reader: Process, between: Mapping[str, Process], last: Mapping[str, Process]
) -> dict[str, Any]:
    """Have a program write to another, and ask what stands between them for what it cost."""
    writer.say({"say": "begin"})
    sent = writer.line()
    reports = {"writer": sent}
    for word, processes in (("stop", between), ("report", last)):
        for name, process in processes.items():
            process.say({"say": word})
            reports[name] = process.line()
    reader.say({"say": "report"})
    reports["reader"] = reader.line()
    if reports["reader"]["bytes"] != sent["bytes"]:
        raise SystemExit(f"{sent['bytes']:,} bytes were written, {reports['reader']['bytes']:,} arrived")
    for report in reports.values():
        report["frames"] = reports["reader"]["frames"]
    return {"reports": reports}


def opens() -> dict[str, Any]:
    """One round of opens, one after the other, and then in turn with pings."""
    with line(count=OPENS, paced=PACED) as (source, _, _target):
        source.say({"say": "opens"})
        return source.line()


def fairness() -> dict[str, Any]:
    """Many streams side by side: what each got in the same two seconds."""
    with line(seconds=FAIR_SECONDS + 2, streams=FAIR) as (source, _, target):
        source.say({"say": "bulk"})
        source.line()
        looks = []
        for wait in (1.0, FAIR_SECONDS):
            time.sleep(wait)
            target.say({"say": "look"})
            looks.append(target.line()["got"])
        source.line()
        return {"shares": sorted(after - before for before, after in zip(*looks, strict=True))}


def idle() -> dict[str, Any]:
    """What a thousand streams cost on which nothing happens."""
    with line(count=IDLE, pause=IDLE_PAUSE) as (source, _, target):
        target.say({"say": "look"})
        far = [target.line()]
        source.say({"say": "idle"})
        answer = source.line()
        target.say({"say": "look"})
        far.append(target.line())
        near = [answer["before"], answer["after"]]
        time.sleep(IDLE_SECONDS)
        for process, looks in ((source, near), (target, far)):
            process.say({"say": "look"})
            looks.append(process.line())
        return {
            name: {
                "mib": (looks[1]["rss"] - looks[0]["rss"]) / 2**20,
                "core": (looks[2]["cpu"] - looks[1]["cpu"]) / (looks[2]["at"] - looks[1]["at"]),
            }
            for name, looks in (("A", near), ("C", far))
        }


def open_rows(rounds: int) -> list[Row]:
    """Opens a second, and how long one takes to its first byte beside a ping."""
    results = alternate("opens", rounds, {"opens": opens})["opens"]
    rates = [OPENS / entry["seconds"] for entry in results]
    trips = latency_row("open to first byte", [trip for entry in results for trip in entry["trips"]])
    pings = latency_row("ping", [trip for entry in results for trip in entry["pings"]])
    trips.rate, trips.unit, trips.low, trips.high = (
        statistics.median(rates),
        "opens/s",
        min(rates),
        max(rates),
    )
    ratios = [statistics.median(entry["trips"]) / statistics.median(entry["pings"]) for entry in results]
    trips.ratio = statistics.median(ratios)
    trips.note = "ratio of medians to a ping, C answers with the first byte"
    trips.others_busy = statistics.median(entry["others_busy"] for entry in results)
    return [pings, trips]


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
    options = arguments(__doc__).parse_args()
    rounds, seconds = settle(options)
    results = alternate(
        "bulk",
        rounds,
        {
            "flow": lambda: through_relay(FRAME, 1, seconds),
            "one": lambda: bulk(seconds),
            "many": lambda: bulk(seconds, FAIR),
            "programs": lambda: through_programs(seconds),
            "forwarded": lambda: forwarded(seconds),
        },
    )
    flow = throughput_row("a flow of messages", FRAME, results["flow"])
    rows = [flow]
    for name, title in (("one", "one stream"), ("many", f"{FAIR} streams")):
        rows.append(throughput_row(title, FRAME, results[name], flow))
    plain = throughput_row("plain TCP, three forwarders between programs", FRAME, results["forwarded"])
    programs = throughput_row("one stream between programs", FRAME, results["programs"], flow)
    if programs.rate and plain.rate:
        programs.note = f"{programs.rate / plain.rate:.2f} of plain TCP through as many processes"
    rows += [programs, plain]
    rows += open_rows(rounds)
    rows += other_rows()
    show("streams", rows, {"record": RECORD, "suite": "AESGCM", "malloc": "raised", "hops": 2}, options.json)


if __name__ == "__main__":
    main()
