# SPDX-License-Identifier: MIT
"""kill -9 of all that carries messages, under load: what is acknowledged is neither lost nor repeated."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live.stream_rig import Row, free_port

pytestmark = [pytest.mark.live, pytest.mark.soak]

PROGRAM = Path(__file__).with_name("keyed_program.py")
ROUNDS = 200
PROGRESS = 50
"""Messages acknowledged between two kills."""
VICTIMS = "sender", "receiver", "a", "b", "c"


class Load:
    """Three daemons in a row, a sender and a receiver, and what is known of each."""

    def __init__(self, directory: Path) -> None:
        self.row = Row(directory, free_port())
        self.row.start()
        self.records = {"sender": directory / "sent", "receiver": directory / "served"}
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.memory: dict[str, list[int]] = {name: [] for name in VICTIMS}
        for name in self.records:
            self.begin(name)

    def begin(self, name: str) -> None:
        """Start a program or a daemon."""
        if name not in self.records:
            self.row.mesh[name].start()
            return
        node, act = {"sender": ("a", "send"), "receiver": ("c", "serve")}[name]
        command = [sys.executable, str(PROGRAM), str(self.row.state(node) / "node.sock"), act]
        self.programs[name] = subprocess.Popen([*command, str(self.records[name])], stderr=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """As by a power cut; how much memory it had is kept."""
        process = self.programs.get(name) or self.row.mesh[name]._process
        assert process is not None
        status = Path(f"/proc/{process.pid}/status").read_text()
        self.memory[name].append(int(status.partition("VmRSS:")[2].split()[0]))
        if name in self.records:
            process.kill()
            process.wait()
        else:
            self.row.mesh[name].kill()

    def acknowledged(self) -> int:
        """How many the sender knows of."""
        return self.records["sender"].read_bytes().count(b"done ")

    def go_on(self) -> None:
        """Wait for a number of further messages."""
        before = self.acknowledged()
        self.row.mesh.wait(lambda: self.acknowledged() >= before + PROGRESS)

    def lines(self, name: str) -> list[tuple[str, str, int]]:
        """The record of a program; the last line of a life may be cut off."""
        words = [line.split() for line in self.records[name].read_text().splitlines()]
        return [(line[0], line[1], int(line[2])) for line in words if len(line) == 3]

    def stop(self) -> None:
        """End everything."""
        for process in self.programs.values():
            process.kill()
            process.wait()
        self.row.mesh.stop()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Running."""
    made = Load(tmp_path)
    yield made
    made.stop()


def test_two_hundred_kills(load: Load, record_property: Callable[[str, object], None]) -> None:
    """Nothing acknowledged is missing or handed out again; what comes again says so; memory stays."""
    load.row.mesh.wait(lambda: load.records["sender"].exists())
    load.go_on()
    for number in range(ROUNDS):
        victim = VICTIMS[number % len(VICTIMS)]
        load.kill(victim)
        load.begin(victim)
        load.go_on()
    for process in load.programs.values():
        process.kill()
        process.wait()
    served, sent = load.lines("receiver"), load.lines("sender")
    ended = {key for what, key, _ in served if what == "ended"}
    done = {key: at for what, key, at in sent if what == "done"}
    handed: set[str] = set()
    lost = done.keys() - ended
    repeated = [key for what, key, at in served if what in ("given", "again") and done.get(key, at) < at]
    unmarked = []
    for what, key, _ in served:
        if what == "given" and key in handed:
            unmarked.append(key)
        handed.add(key)
    sizes = {
        name: (statistics.median(kept[:8]), statistics.median(kept[-8:]))
        for name, kept in load.memory.items()
    }
    again = sum(what == "again" for what, _, _ in served)
    for name, value in (("acknowledged", len(done)), ("again", again), ("KiB first and last", sizes)):
        record_property(name, value)
    assert (lost, repeated, unmarked) == (set(), [], [])
    assert len(done) >= ROUNDS * PROGRESS and again > 0
    assert all(last < 1.25 * first for first, last in sizes.values())
