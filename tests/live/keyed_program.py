# SPDX-License-Identifier: MIT
"""
Two programs that are killed: SOCKET send RECORD, which gives each message a key and sends it until it is
acknowledged, also after it was started again; and SOCKET serve RECORD.

Each line of a record is written before what follows from it: what happened, the key, monotonic nanoseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from gmesh.client import GivenMessage, Mesh
from gmesh.errors import SendRefused

AT_ONCE = 32
TIMEOUT = 60.0
CLOCK: Any = reactor


class Record:
    """What one program knows, over all its lives."""

    def __init__(self, path: str) -> None:
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        self.before = [line.split() for line in lines]
        self._file = open(path, "a", encoding="ascii")  # noqa: SIM115  # until the program is killed

    def write(self, what: str, key: str) -> None:
        """Before anything that follows from it."""
        self._file.write(f"{what} {key} {time.monotonic_ns()}\n")
        self._file.flush()


async def send(mesh: Mesh, record: Record) -> None:
    """Without end; first what was begun and not acknowledged in an earlier life."""
    begun = {line[1] for line in record.before if line[0] == "begun"}
    done = {line[1] for line in record.before if line[0] == "done"}
    left, number = sorted(begun - done), len(begun)

    async def one() -> None:
        nonlocal number
        while True:
            if left:
                key = left.pop()
            else:
                key, number = f"k{number}", number + 1
                record.write("begun", key)
            while not await sent(key):
                await deferLater(CLOCK, 0.1)
            record.write("done", key)

    async def sent(key: str) -> bool:
        try:
            await mesh.send("c", "log", key.encode() + b" " * 100, TIMEOUT, key)
        except SendRefused as refusal:
            record.write(f"refused-{refusal.reason}", key)
            return False
        return True

    for _ in range(AT_ONCE):
        ensureDeferred(one())
    await Deferred[None]()


async def serve(mesh: Mesh, record: Record) -> None:
    """Take a while with each."""

    async def deal(message: GivenMessage) -> None:
        key = message.data.decode().strip()
        record.write("again" if message.redelivered else "given", key)
        await deferLater(CLOCK, 0.005)
        record.write("ended", key)

    mesh.serve("log", deal, concurrency=16)
    await Deferred[None]()


def main(path: str, act: str, record: str) -> None:
    """Until killed."""
    programs = {"send": send, "serve": serve}
    ensureDeferred(programs[act](Mesh(path), Record(record)))
    CLOCK.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
