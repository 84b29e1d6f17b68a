# SPDX-License-Identifier: MIT
"""
The node daemon itself: CPU from nothing to READY, and of three nodes in a line while nothing happens.

Ends with status 1 beyond the budgets.  The floor of the start is Python importing what a node stands on.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.harness import HERE, Row, arguments, show
from bench.idle_node import DEADLINE, TWISTD, enrol, lone_issuer

START_BUDGET = 1.0
"""Seconds of CPU until systemd hears READY."""
IDLE_BUDGET = 0.005
"""Of a core, for each node."""
SETTLE = 10.0
FLOOR = "import twisted.internet.reactor, twisted.web.server, klein, treq, cryptography, nacl, msgspec"
NAMES = ("a", "b", "c")


def cpu_seconds(pid: int) -> float:
    """What the kernel has counted for a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def import_seconds() -> float:
    """CPU of a Python that imports the libraries and ends."""
    before = os.times()
    subprocess.run([sys.executable, "-c", FLOOR], check=True, cwd=HERE)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


class Node:
    """One daemon that has said READY."""

    def __init__(self, state: Path, *peers: int) -> None:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = state / "notify"
        path.unlink(missing_ok=True)
        manager.bind(str(path))
        manager.settimeout(DEADLINE)
        dialled = [option for port in peers for option in ("--peer", f"127.0.0.1:{port}")]
        self.log = state / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*TWISTD, "gmesh-node", "--state", state, "--listen", "tcp:0:interface=127.0.0.1", *dialled],
                cwd=HERE,
                env={**os.environ, "PYTHONPATH": str(HERE), "NOTIFY_SOCKET": str(path)},
                stdout=log,
                stderr=log,
            )
        try:
            assert manager.recv(100) == b"READY=1"
            self.start = cpu_seconds(self.process.pid)
            found = re.search(r"listening on tcp:(\d+)", self.log.read_text())
            assert found is not None
            self.port = int(found[1])
        except BaseException:
            self.stop()
            raise
        finally:
            manager.close()

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return cpu_seconds(self.process.pid)

    def stop(self) -> None:
        """As systemd does."""
        self.process.terminate()
        self.process.wait()


@contextmanager
def line(directory: Path) -> Iterator[list[Node]]:
    """Three nodes, each linked to the next."""
    issuer = lone_issuer()
    with ExitStack() as stack:
        nodes: list[Node] = []
        for name in NAMES:
            enrol(issuer, name, "relay", directory / name)
            nodes.append(Node(directory / name, *(node.port for node in nodes[-1:])))
            stack.callback(nodes[-1].stop)
        yield nodes


def main() -> int:
    """Print the rows; 1 if a budget is exceeded."""
    options = arguments(__doc__).parse_args()
    seconds = 20.0 if options.quick else 60.0
    floors = [import_seconds() for _ in range(3)]
    with tempfile.TemporaryDirectory() as name, line(Path(name)) as nodes:
        starts = [node.start for node in nodes]
        time.sleep(SETTLE)
        before = [node.cpu() for node in nodes]
        began = time.monotonic()
        time.sleep(seconds)
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
