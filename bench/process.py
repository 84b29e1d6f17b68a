# SPDX-License-Identifier: MIT
"""One measured process: its meter, and the JSON lines it speaks to the program that started it."""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def raise_malloc_thresholds() -> None:
    """The thresholds the shipped units set, for floor and product alike (glibc mallopt(3))."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, 4_194_304)
    libc.mallopt(M_TOP_PAD, 1_048_576)
    libc.mallopt(M_MMAP_THRESHOLD, 1_048_576)


def cpu_seconds() -> float:
    """User and system CPU this process has used, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Meter:
    """Counts frames between start and stop, and what they cost in CPU and wall time."""

    def __init__(self) -> None:
        self.frames = 0
        self.started = 0.0
        self.stopped = 0.0

    def start(self) -> None:
        self.cpu = -cpu_seconds()
        self.faults = -resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self.started = time.monotonic()

    def stop(self) -> None:
        if self.started and not self.stopped:
            self.stopped = time.monotonic()
            self.cpu += cpu_seconds()
            self.faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def report(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "frames": self.frames,
            "seconds": self.stopped - self.started,
            "cpu": self.cpu,
            "minor_faults": self.faults,
            "rss_kib": usage.ru_maxrss,
        }


def run_process(main: Callable[..., None], role: str, options: dict[str, Any]) -> None:
    """Run C{main(reactor, role, options, say)} until it stops the reactor or its parent goes away."""
    raise_malloc_thresholds()
    from twisted.internet import fdesc, reactor

    if options.get("read_size"):
        from twisted.internet.abstract import FileDescriptor

        FileDescriptor.bufferSize = options["read_size"]

    def say(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    class ParentGone:
        """Standard input at end of file: the bench that started us is gone."""

        def fileno(self) -> int:
            return 0

        def logPrefix(self) -> str:
            return "parent"

        def doRead(self) -> None:
            if fdesc.readFromFD(0, lambda data: None) not in (None, 0):
                reactor.removeReader(self)
                reactor.stop()

        def connectionLost(self, reason: Any) -> None:
            pass

    reactor.callWhenRunning(lambda: reactor.addReader(ParentGone()))
    reactor.callWhenRunning(main, reactor, role, options, say)
    reactor.run()
