# SPDX-License-Identifier: MIT
"""
The node daemon itself: CPU from nothing to READY, and of three nodes in a line while nothing happens.

Ends with status 1 beyond the budgets.  The floor of the start is Python importing what a node stands on.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.children import HERE, watch
from bench.daemon import Daemon
from bench.harness import Row, arguments, progress, show
from gmesh.testing.issuer import Issuer

START_BUDGET = 1.0
"""Seconds of CPU until systemd hears READY."""
IDLE_BUDGET = 0.005
"""Of a core, for each node."""
SETTLE = 10.0
FLOOR = "import twisted.internet.reactor, twisted.web.server, klein, treq, cryptography, nacl, msgspec"
NAMES = ("a", "b", "c")


def import_seconds() -> float:
    """CPU of a Python that imports the libraries and ends."""
    before = os.times()
    subprocess.run([sys.executable, "-c", FLOOR], check=True, cwd=HERE)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@contextmanager
def line(directory: Path) -> Iterator[list[Daemon]]:
    """Three nodes, each linked to the next."""
    issuer = Issuer.unreachable()
    with ExitStack() as stack:
        nodes: list[Daemon] = []
        for name in NAMES:
            progress(f"node {name} starts")
            issuer.write_state(issuer.enrol(name, "relay"), directory / name)
            dialled = [node.port for node in nodes[-1:]]
            nodes.append(stack.enter_context(Daemon(directory / name, *dialled)))
        yield nodes


def main() -> int:
    """Print the rows; 1 if a budget is exceeded."""
    options = arguments(__doc__).parse_args()
    seconds = 20.0 if options.quick else 60.0
    progress("imports alone")
    floors = [import_seconds() for _ in range(3)]
    with tempfile.TemporaryDirectory() as name, line(Path(name)) as nodes:
        starts = [node.start for node in nodes]
        watch(seconds=SETTLE)
        progress(f"idle for {seconds:g} s")
        before = [node.cpu() for node in nodes]
        began = time.monotonic()
        watch(seconds=seconds)
        used = [node.cpu() - then for node, then in zip(nodes, before, strict=True)]
        idle = sum(used) / len(used) / (time.monotonic() - began)
    start, floor = statistics.median(starts), statistics.median(floors)
    rows = [
        Row(
            "start to READY, CPU",
            rate=1000 * start,
            unit="ms",
            low=1000 * min(starts),
            high=1000 * max(starts),
            floor=1000 * floor,
            ratio=start / floor,
            note=f"budget {1000 * START_BUDGET:.0f} ms",
        ),
        Row(
            "idle, three in a line, CPU a node",
            rate=1e6 * idle,
            unit="us/s",
            low=1e6 * min(used) / seconds,
            high=1e6 * max(used) / seconds,
            note=f"{100 * idle:.2f} % of a core; budget {100 * IDLE_BUDGET:.1f} %; {seconds:.0f} s",
        ),
    ]
    show("node", rows, {"quick": options.quick}, options.json)
    return int(start > START_BUDGET or idle > IDLE_BUDGET)


if __name__ == "__main__":
    sys.exit(main())
