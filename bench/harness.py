# SPDX-License-Identifier: MIT
"""
Measures honestly: real processes, floor and product in alternation, CPU beside wall, noise named.

Virtual cores have fast and slow spells, so only ratios of medians taken in alternation within one
run mean anything; a row taken while others used the machine is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.children import running_cpu

NOISY_CORES = 0.3
QUIET_CORES = 0.35
QUIET_WAIT = 5.0
BEGAN = time.monotonic()
PACKAGES = ("twisted", "cryptography", "noiseprotocol", "klein", "msgspec", "zope.interface")


@dataclass
class Row:
    """One line of a table; figures are medians over the rounds."""

    name: str
    size: int | None = None
    rate: float | None = None
    unit: str = "frames/s"
    mb_s: float | None = None
    cpu_us: dict[str, float] = field(default_factory=dict)
    p50_ms: float | None = None
    p99_ms: float | None = None
    floor: float | None = None
    ratio: float | None = None
    rounds: int = 0
    low: float | None = None
    high: float | None = None
    others_busy: float | None = None
    delivered: int | None = None
    dropped: int | None = None
    note: str = ""


def busy_seconds() -> float:
    """CPU seconds all processes of this machine have used since boot (/proc/stat)."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of this bench and its children, those that run and those that have ended."""
    return sum(os.times()[:4]) + running_cpu()


def wait_until_quiet() -> None:
    """Give other work a bounded chance to end before a measurement."""
    until = time.monotonic() + QUIET_WAIT
    while time.monotonic() < until:
        before, start = busy_seconds(), time.monotonic()
        time.sleep(0.3)
        if (busy_seconds() - before) / (time.monotonic() - start) < QUIET_CORES:
            return


def others_busy(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run one round; adds C{others_busy}, cores used by processes that are not ours."""
    before, own, start = busy_seconds(), own_seconds(), time.monotonic()
    answer = run()
    others = busy_seconds() - before - (own_seconds() - own)
    answer["others_busy"] = max(0.0, others / (time.monotonic() - start))
    return answer


def progress(text: str) -> None:
    """Say on standard error what is measured next, after how many seconds."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def alternate(
    what: str, rounds: int, variants: dict[str, Callable[[], dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """Run every variant once a round, in turn, C{rounds} times; each is announced as one of C{what}."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for number in range(1, rounds + 1):
        for name, run in variants.items():
            progress(f"{what}: round {number} of {rounds}, {name}")
            wait_until_quiet()
            results[name].append(others_busy(run))
    return results


def throughput_row(name: str, size: int, rounds: list[dict[str, Any]], floor: Row | None = None) -> Row:
    """A row from rounds whose last process is the receiver: {process: report}."""
    reports = [entry["reports"] for entry in rounds]
    rates = [list(report.values())[-1]["frames"] / list(report.values())[-1]["seconds"] for report in reports]
    middle = statistics.median(rates)
    row = Row(
        name,
        size,
        rate=middle,
        mb_s=middle * size / 1e6,
        cpu_us={
            role: statistics.median(r[role]["cpu"] * 1e6 / max(1, r[role]["frames"]) for r in reports)
            for role in reports[0]
        },
        rounds=len(rates),
        low=min(rates),
        high=max(rates),
        others_busy=statistics.median(entry["others_busy"] for entry in rounds),
        delivered=sum(list(report.values())[-1]["frames"] for report in reports),
        dropped=sum(
            next(iter(report.values()))["frames"] - list(report.values())[-1]["frames"] for report in reports
        ),
    )
    if floor is not None and floor.rate:
        row.floor = floor.rate
        row.ratio = middle / floor.rate
        if (row.low or 0) <= (floor.high or 0) and (floor.low or 0) <= (row.high or 0):
            row.note = "ranges overlap: no difference"
    return row


def versions() -> dict[str, Any]:
    """What was measured, for the reader of a result."""
    from cryptography.hazmat.backends.openssl import backend

    return {
        "python": platform.python_version(),
        "pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "openssl": backend.openssl_version_text(),
        **{name: version(name) for name in PACKAGES},
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()} x {os.cpu_count()}"
    return platform.machine()


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options every bench takes."""
    parser = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--quick", action="store_true", help="shorter and fewer rounds: a smoke test, not a figure"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each variant (5, or 2 with --quick)")
    return parser


def settle(options: argparse.Namespace) -> tuple[int, float]:
    """(rounds, seconds a round) from the options."""
    return options.rounds or (3 if options.quick else 5), 0.4 if options.quick else 1.0


def show(
    bench: str, rows: list[Row], settings: dict[str, Any], as_json: bool, elsewhere: Sequence[str] = ()
) -> None:
    """Print the result, as a table or as one JSON object."""
    if as_json:
        print(
            json.dumps(
                {
                    "bench": bench,
                    "versions": versions(),
                    "cpu": cpu_model(),
                    "settings": settings,
                    "rows": [asdict(row) for row in rows],
                }
            )
        )
        return
    table = Table(title=f"bench/{bench}", title_justify="left")
    for heading in (
        "what",
        "size",
        "median",
        "range",
        "MB/s",
        "p50 / p99 ms",
        "floor",
        "ratio",
        "CPU us",
        "others busy",
    ):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in rows:
        noisy = row.others_busy is not None and row.others_busy > NOISY_CORES
        table.add_row(
            row.name,
            "" if row.size is None else f"{row.size:,}",
            "" if row.rate is None else f"{row.rate:,.0f} {row.unit}",
            "" if row.low is None else f"{row.low:,.0f}-{row.high:,.0f}",
            "" if row.mb_s is None else f"{row.mb_s:,.1f}",
            "" if row.p50_ms is None else f"{row.p50_ms:.3f} / {row.p99_ms or 0:.3f}",
            "" if row.floor is None else f"{row.floor:,.0f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "  ".join(f"{role} {cost:.2f}" for role, cost in row.cpu_us.items()),
            "" if row.others_busy is None else f"{row.others_busy:.2f}{' noisy' if noisy else ''}",
        )
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"  {row.name}: {row.note}", highlight=False)
    for line in elsewhere:
        console.print(f"  elsewhere: {line}", highlight=False)
    console.print("  " + ", ".join(f"{name} {value}" for name, value in versions().items()), highlight=False)
    console.print(f"  {cpu_model()}; {settings}", highlight=False)
