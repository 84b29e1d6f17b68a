# SPDX-License-Identifier: MIT
"""
A relay: sealed datagrams from A to C through B, whole nodes as processes, against the bare sealed stack.
"""

from __future__ import annotations

import time
from typing import Any

from bench.children import Process
from bench.floor import RECORD, SIZES, flow
from bench.harness import Row, alternate, arguments, progress, settle, show, throughput_row

MODULE = "bench.relay_process"
READ_SIZE = 256 * 1024
SILENCE = 3.0
"""How long C does not read."""

ELSEWHERE = (
    "reference Genesis Mesh 1.8.1, two hops, not sealed end to end: 4,484 / 3,795 / 737 frames/s "
    "at 100 B / 1 KiB / 16 KiB; CPU us of A 125 / 159 / 1002, B 157 / 203 / 1107, C 83 / 105 / 467",
    "nebula 1.6.1 by relay moves IP packets: relay 11.6-12.9 CPU s a GB",
)
IGNORED = frozenset(
    {"handed", "established", "answered", "began", "no-session", "crl-applied", "policy-applied"}
)
"""Counters that are not losses."""


def through_relay(payload: int, flows: int, seconds: float, pause: bool = False) -> dict[str, Any]:
    """
    One round: A sends to C0 (and C1, alternating) through B.

    @param pause: C does not read for a while in the middle; what B holds and drops is looked at.
    """
    options: dict[str, Any] = {
        "suite": "aesgcm",
        "seconds": seconds,
        "payload": payload,
        "flows": flows,
        "wall": int(time.time()) - 60,
        "read_size": READ_SIZE,
    }
    with (
        Process(MODULE, "c", options) as target,
        Process(MODULE, "b", {**options, "ports": target.line()["ports"]}) as relay,
        Process(MODULE, "a", {**options, "ports": [relay.line()["port"]]}) as source,
    ):
        source.line()
        relay.say({"say": "start"})
        source.say({"say": "start"})
        looks = []
        if pause:
            for word, wait in (("pause", SILENCE / 2), ("pause", SILENCE / 2), ("resume", 0.0)):
                target.say({"say": word})
                time.sleep(wait)
                relay.say({"say": "look"})
                looks.append(relay.line())
        sent = source.line()
        relay.say({"say": "stop"})
        middle = relay.line()
        target.say({"say": "report"})
        received = target.line()
        middle["frames"] = received["frames"]
        return {"reports": {"A": sent, "B": middle, "C": received}, "looks": looks}


def losses(rounds: list[dict[str, Any]]) -> str:
    """What was lost where, by cause, over all rounds."""
    parts = []
    for role in ("A", "B", "C"):
        causes: dict[str, int] = {}
        for entry in rounds:
            for cause, number in entry["reports"][role]["counters"].items():
                if cause not in IGNORED:
                    causes[cause] = causes.get(cause, 0) + number
        parts += [f"{role} {cause} {number}" for cause, number in causes.items()]
    return ", ".join(parts) or "nothing"


def outcome(row: Row, rounds: list[dict[str, Any]]) -> Row:
    """C{row} with what became of the messages in its note."""
    text = (
        f"sent {(row.delivered or 0) + (row.dropped or 0):,}, lost {row.dropped:,}; counted: {losses(rounds)}"
    )
    row.note = f"{row.note}; {text}" if row.note else text
    return row


def paused_row(payload: int) -> Row:
    """A next link that stops reading: what the relay holds, drops, and how its memory stays."""
    entry = through_relay(payload, 1, SILENCE + 1, pause=True)
    looks = entry["looks"]
    row = throughput_row(f"C deaf for {SILENCE:g} s", payload, [{**entry, "others_busy": 0.0}])
    held = ", ".join(f"{look['held'] / 1024:,.0f}" for look in looks)
    memory = ", ".join(f"{look['rss'] / 1024:,.1f}" for look in [*looks, entry["reports"]["B"]])
    row.note = f"B holds {held} KiB for the link; RSS {memory} MiB"
    row.rate = row.low = row.high = row.mb_s = None
    row.cpu_us = {}
    return outcome(row, [entry])


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, action="append", help="payloads (all three)")
    options = parser.parse_args()
    rounds, seconds = settle(options)
    rows: list[Row] = []
    sizes = options.size or SIZES
    for number, size in enumerate(sizes, start=1):
        results = alternate(
            f"{size:,} B, size {number} of {len(sizes)}",
            rounds,
            {
                "floor": lambda size=size: flow(2, size, "aesgcm", True, seconds),
                "one": lambda size=size: through_relay(size, 1, seconds),
                "two": lambda size=size: through_relay(size, 2, seconds),
            },
        )
        floor = throughput_row("bare stack, two hops, sealed", size, results["floor"])
        rows.append(floor)
        for name, title in (("one", "A-B-C, one flow"), ("two", "A-B-C, two flows interleaved")):
            rows.append(outcome(throughput_row(title, size, results[name], floor), results[name]))
    progress("a receiver that stops reading")
    rows.append(paused_row(1024))
    show("relay", rows, {"record": RECORD, "suite": "AESGCM", "malloc": "raised"}, options.json, ELSEWHERE)


if __name__ == "__main__":
    main()
