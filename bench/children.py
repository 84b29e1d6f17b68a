# SPDX-License-Identifier: MIT
"""
The child processes of a bench: a child that ends with an error ends the bench, with that error.

While a bench waits for one child it watches them all, so the death of a far end is noticed at once
by whoever waits for the near one.  L{bench.process} is the child's side of L{Process}.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bench.process import resident

HERE = Path(__file__).resolve().parent.parent
STOP_SECONDS = 5.0
"""A child that has not ended so long after it was asked to is killed."""
GRACE = 1.0
"""Seconds for a process whose connection was lost to be known as ended."""
LAST_WORDS = 4000
"""Characters of a dead child's last words that are shown."""

_running: list[Child] = []


class ChildDied(SystemExit):
    """Ends the bench with status 1 and the words of the children that ended with an error."""


class Child:
    """
    A process whose death is noticed.

    @ivar name: what it is called in an error.
    @param command: program and arguments, run in the root of the source tree.
    @param environment: what is added to the environment.
    @param stdout: as for C{subprocess.Popen}; None for nowhere.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the child
        self.child = subprocess.Popen(
            command,
            bufsize=0,
            cwd=HERE,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=self._errors,
        )
        self._ended = os.pidfd_open(self.child.pid)
        _running.append(self)

    def cpu(self) -> float:
        """User and system CPU seconds it has used so far, start included (/proc/PID/stat)."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self) -> int:
        """Its resident memory now."""
        return resident(self.child.pid) // 1024

    def errors(self) -> str:
        """What it has written to standard error."""
        return os.pread(self._errors.fileno(), 2**24, 0).decode(errors="replace")

    def last_words(self) -> str:
        """What explains its death."""
        return self.errors()

    def ended(self, within: float = 0.0) -> bool:
        """True if it has ended, by itself or within so many seconds."""
        select.select([self._ended], [], [], within)
        return self.child.poll() is not None

    def obituary(self) -> str:
        """How it ended, and its last words."""
        status = self.child.wait(STOP_SECONDS)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{self.name} {how}\n{self.last_words()[-LAST_WORDS:]}".rstrip()

    def ask_to_end(self) -> None:
        """The end of its standard input: the bench that started it wants nothing more of it."""
        assert self.child.stdin is not None
        self.child.stdin.close()

    def close(self) -> None:
        """
        End it; what it wrote to standard error is passed on.

        @raise ChildDied: if it had ended with an error before, and no other death is being reported.
        """
        if self not in _running:
            return
        _running.remove(self)
        raised = sys.exception()
        # A peer notices the lost connection a moment before the kernel tells that the process has ended.
        died = self.ended(GRACE if isinstance(raised, OSError) else 0.0) and self.child.returncode != 0
        self.ask_to_end()
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        obituary, said = self.obituary(), self.errors()
        os.close(self._ended)
        self._errors.close()
        if self.child.stdout is not None:
            self.child.stdout.close()
        if isinstance(raised, ChildDied):
            return
        if died:
            raise ChildDied(obituary)
        sys.stderr.write(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Process(Child):
    """
    A child that speaks JSON lines: C{python -m MODULE ROLE OPTIONS} (see L{bench.process}).

    @param prefix: a command to run it by, such as C{ip netns exec NAME}.
    @param python: the interpreter, this one by default.
    """

    def __init__(
        self,
        module: str,
        role: str,
        options: dict[str, Any],
        prefix: Sequence[str] = (),
        python: str = sys.executable,
    ) -> None:
        command = [*prefix, python, "-m", module, role, json.dumps(options)]
        super().__init__(f"{module} {role}", command, stdout=subprocess.PIPE)
        self._read = b""

    def line(self) -> dict[str, Any]:
        """
        The next thing it says.

        @raise ChildDied: if it ends instead, or any child of this bench ends with an error.
        """
        assert self.child.stdout is not None
        output = self.child.stdout.fileno()
        while b"\n" not in self._read:
            watch(output)
            data = os.read(output, 2**16)
            if not data:
                raise ChildDied(self.obituary())
            self._read += data
        text, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def say(self, message: dict[str, Any]) -> None:
        """Tell it something; a child that has died meanwhile is reported when it is closed."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(message).encode() + b"\n")


def running_cpu() -> float:
    """CPU seconds of the children that run now, so far."""
    return sum(child.cpu() for child in _running)


def watch(file: int | None = None, seconds: float | None = None) -> bool:
    """
    Wait until there is something to read from a file, or for so long.

    @return: whether there is something to read.
    @raise ChildDied: as soon as a child of this bench has ended with an error.
    """
    until = None if seconds is None else time.monotonic() + seconds
    waiting = select.poll()
    if file is not None:
        waiting.register(file, select.POLLIN)
    for child in _running:
        waiting.register(child._ended, select.POLLIN)
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        found = {number for number, _ in waiting.poll(None if left is None else left * 1000)}
        ended = [child for child in _running if child._ended in found]
        if dead := [child.obituary() for child in ended if child.child.wait(STOP_SECONDS)]:
            raise ChildDied("\n".join(dead))
        for child in ended:
            waiting.unregister(child._ended)
        if file in found or not found:
            return file in found
