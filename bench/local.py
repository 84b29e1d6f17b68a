# SPDX-License-Identifier: MIT
"""
Messages of programs through the daemons of their hosts, two hops, each dealt with by the far program.

Beside it, in the same run: messages inside two nodes, without programs; and with C{--against DIR} the HTTP
API of another commit, checked out in DIR with a virtual environment in C{DIR/.venv}, by daemons of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.children import Child, Process
from bench.floor import latency_row
from bench.harness import Row, alternate, arguments, settle, show, throughput_row
from bench.node import line
from bench.process import resident
from bench.relay import READ_SIZE

MODULE = "bench.local_process"
IDLE = 1000
IDLE_BUDGET = 8.0
"""MiB that the daemon may need for them."""
MISSING = "NOT RUN: give --against DIR"
CLOCK = os.sysconf("SC_CLK_TCK")
_ELSEWHERE = """
import json, sys, pathlib
from bench.node import line
with line(pathlib.Path(sys.argv[1])) as nodes:
    pids = [(node.process if hasattr(node, "process") else node.child).pid for node in nodes]
    print(json.dumps(pids), flush=True)
    sys.stdin.read()
"""


def cpu_of(pid: int) -> float:
    """User and system CPU seconds of a process so far (/proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


@dataclass
class Programs:
    """A caller, a server, and what is between them: processes by name, in order."""

    caller: Process
    pids: Mapping[str, int]

    def run(self, size: int, at_once: int, seconds: float) -> dict[str, Any]:
        """One round: so many messages under way for so long."""
        self.caller.say({"say": json.dumps({"size": size, "at_once": at_once, "seconds": seconds})})
        self.caller.line()
        before = {name: cpu_of(pid) for name, pid in self.pids.items()}
        report = self.caller.line()
        cpu = {name: cpu_of(pid) - before[name] for name, pid in self.pids.items()}
        common = {"frames": report["frames"], "seconds": report["seconds"]}
        return {
            "reports": {name: {"cpu": used, **common} for name, used in cpu.items()},
            "trips": report["trips"],
            "refused": report["refused"],
        }


def programs(stack: ExitStack, directory: Path, daemons: list[int], http: bool, ask: bool) -> Programs:
    """A caller and a server at the two ends of a line of daemons."""
    options = {"http": http, "ask": ask}
    server, caller = (
        stack.enter_context(Process(MODULE, role, {**options, "socket": str(directory / name / "node.sock")}))
        for role, name in (("server", "c"), ("caller", "a"))
    )
    server.line()
    caller.line()
    between = dict(zip(("A", "B", "C"), daemons, strict=True))
    return Programs(caller, {"caller": caller.child.pid, **between, "server": server.child.pid})


def inside(stack: ExitStack) -> Programs:
    """Both ends inside nodes."""
    options = {"suite": "aesgcm", "wall": int(time.time()) - 60, "read_size": READ_SIZE, "flows": 1}
    target = stack.enter_context(Process(MODULE, "c", options))
    relay = stack.enter_context(Process(MODULE, "b", {**options, "ports": target.line()["ports"]}))
    source = stack.enter_context(Process(MODULE, "a", {**options, "ports": [relay.line()["port"]]}))
    source.line()
    return Programs(source, {"A": source.child.pid, "B": relay.child.pid, "C": target.child.pid})


@contextmanager
def line_of(checkout: Path, directory: Path) -> Iterator[list[int]]:
    """Three daemons of another commit, as its own bench starts them: their process ids."""
    python = str(checkout.absolute() / ".venv/bin/python")
    command = ["env", "-C", str(checkout), python, "-c", _ELSEWHERE, str(directory)]
    with Child(f"daemons of {checkout}", command, stdout=subprocess.PIPE) as other:
        assert other.child.stdout is not None
        yield json.loads(other.child.stdout.readline() or "[]")


def rate_rows(
    what: str, size: int, at_once: int, rounds: int, seconds: float, variants: dict[str, Programs]
) -> dict[str, Row]:
    """Messages a second by each of several ways, taken in turn."""
    runs = {name: partial(each.run, size, at_once, seconds) for name, each in variants.items()}
    results = alternate(what, rounds, runs)
    rows = {name: throughput_row(f"{what}, {name}", size, results[name]) for name in variants}
    for name, row in rows.items():
        trips = latency_row(name, [trip for entry in results[name] for trip in entry["trips"]])
        row.unit, row.p50_ms, row.p99_ms = "messages/s", trips.p50_ms, trips.p99_ms
        row.dropped = sum(entry["refused"] for entry in results[name])
        if row.dropped:
            row.note = f"{row.dropped:,} were refused and sent again; "
    return rows


def bound(row: Row, floor: Row, least: float) -> None:
    """How many times the rate of another."""
    assert row.rate is not None and floor.rate is not None
    row.floor, row.ratio = floor.rate, row.rate / floor.rate
    row.note = f"{row.note}at least {least:g} x {floor.name} is wanted"


def idle_row(directory: Path, daemon: int) -> Row:
    """What a thousand programs cost, each with a service, and with nothing to do."""
    before = resident(daemon)
    with Process(MODULE, "idle", {"socket": str(directory / "c" / "node.sock"), "count": IDLE}) as idle:
        idle.line()
        time.sleep(1.0)
        used = (resident(daemon) - before) / 2**20
    return Row(
        f"{IDLE:,} idle receivers of {IDLE:,} services",
        rate=used,
        unit="MiB more",
        floor=IDLE_BUDGET,
        ratio=used / IDLE_BUDGET,
    )


def main() -> None:
    """Print the rows."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="a checkout whose HTTP API is measured too"
    )
    options = parser.parse_args()
    rounds, seconds = settle(options)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        here, there = Path(name) / "here", Path(name) / "there"
        here.mkdir()
        there.mkdir()
        daemons = [node.child.pid for node in stack.enter_context(line(here))]
        rows = [idle_row(here, daemons[-1])]
        floor = {"inside nodes": inside(stack)}
        old = stack.enter_context(line_of(options.against, there)) if options.against else []
        shown = rows + measure(here, daemons, there, old, floor, rounds, seconds)
    show("local", shown, {"against": str(options.against), "quick": options.quick}, options.json)


def measure(
    here: Path,
    daemons: list[int],
    there: Path,
    old: list[int],
    floor: dict[str, Programs],
    rounds: int,
    seconds: float,
) -> list[Row]:
    """The rows about messages."""
    rows: list[Row] = []
    with ExitStack() as stack:
        both = {**floor, "programs": programs(stack, here, daemons, http=False, ask=False)}
        one = rate_rows("one at a time", 100, 1, rounds, seconds, both)
        ours, within = one["programs"], one["inside nodes"]
        assert ours.p50_ms is not None and within.p50_ms is not None
        ours.ratio, ours.floor = ours.p50_ms / within.p50_ms, None
        ours.note = f"p50 is {ours.ratio:.2f} x that inside nodes, at most 2.2 is wanted"
        large = rate_rows("64 at once", 16384, 64, rounds, seconds, both)
        bound(large["programs"], large["inside nodes"], 0.5)
        if old:
            both["HTTP of DIR"] = programs(stack, there, old, http=True, ask=False)
        many = rate_rows("256 at once", 100, 256, rounds, seconds, both)
        bound(many["programs"], many["inside nodes"], 0.4)
        rows += [*one.values(), *many.values(), *large.values()]
        rows.append(against("256 at once, programs by HTTP of DIR", many, 15))
    with ExitStack() as stack:
        asked = {"programs": programs(stack, here, daemons, http=False, ask=True)}
        if old:
            asked["HTTP of DIR"] = programs(stack, there, old, http=True, ask=True)
        answered = rate_rows("request and answer, 32 at once", 100, 32, rounds, seconds, asked)
        rows += [
            *answered.values(),
            against("request and answer, programs by HTTP of DIR", answered, 8),
        ]
    with ExitStack() as stack:
        plain = {"HTTP": programs(stack, here, daemons, http=True, ask=False)}
        if old:
            plain["HTTP of DIR"] = programs(stack, there, old, http=True, ask=False)
        by_http = rate_rows("32 at once", 100, 32, rounds, seconds, plain)
        rows += by_http.values()
        rows.append(Row("CPU of the daemons a message by HTTP, by that of DIR", note=MISSING))
        if old:
            costs = {name: sum(row.cpu_us[each] for each in "ABC") for name, row in by_http.items()}
            rows[-1] = Row(
                rows[-1].name,
                rate=costs["HTTP"],
                unit="us",
                floor=costs["HTTP of DIR"],
                ratio=costs["HTTP"] / costs["HTTP of DIR"],
                note="at most 0.5 is wanted",
            )
    return rows


def against(name: str, rows: dict[str, Row], least: float) -> Row:
    """A row for a ratio that can be missing."""
    if "HTTP of DIR" not in rows:
        return Row(name, note=MISSING)
    ours, other = rows["programs"], rows["HTTP of DIR"]
    row = Row(name, rate=ours.rate, unit=ours.unit)
    bound(row, other, least)
    return row


if __name__ == "__main__":
    main()
