# SPDX-License-Identifier: MIT
"""One measured process: its meter, and the JSON lines it speaks to the program that started it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
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


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process holds now, this one by default (/proc/PID/statm)."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


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


def end_with_first_failure() -> Callable[[], None]:
    """
    From now on a failure that nobody handles ends this process with its traceback and status 1.

    Twisted would log it and go on, and the bench would wait for an answer that never comes.

    @return: a function that leaves failures alone again.
    """
    from twisted.logger import eventAsText, globalLogPublisher

    def observe(event: Any) -> None:
        # Failures that the reactor itself catches still come as events of twisted.python.log.
        if "log_failure" in event or event.get("isError"):
            sys.stderr.write(eventAsText(event, includeTimestamp=False, includeSystem=False) + "\n")
            sys.stderr.flush()
            os._exit(1)

    globalLogPublisher.addObserver(observe)
    return lambda: globalLogPublisher.removeObserver(observe)


def run_process(
    main: Callable[..., Callable[[str], object] | None], role: str, options: dict[str, Any]
) -> None:
    """
    Run C{main(reactor, role, options, say)} until it stops the reactor or its parent goes away.

    An exception that nobody handles ends it with status 1.

    What C{main} returns, if anything, is called with each word the parent says.
    """
    raise_malloc_thresholds()
    from twisted.internet import fdesc, reactor
    from twisted.internet.error import ReactorNotRunning

    if options.get("read_size"):
        from twisted.internet.abstract import FileDescriptor

        FileDescriptor.bufferSize = options["read_size"]

    def say(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    leave_failures = end_with_first_failure()
    told: list[Callable[[str], object] | None] = []

    def heard(data: bytes) -> None:
        for line in data.splitlines():
            if told and told[0] is not None:
                told[0](json.loads(line)["say"])

    class Parent:
        """Standard input: at its end the bench that started us is gone."""

        def fileno(self) -> int:
            return 0

        def logPrefix(self) -> str:
            return "parent"

        def doRead(self) -> None:
            if fdesc.readFromFD(0, heard) not in (None, 0):
                self.connectionLost(None)

        def connectionLost(self, reason: Any) -> None:
            leave_failures()
            reactor.removeReader(self)
            with contextlib.suppress(ReactorNotRunning):
                reactor.stop()

    reactor.callWhenRunning(lambda: reactor.addReader(Parent()))
    reactor.callWhenRunning(lambda: told.append(main(reactor, role, options, say)))
    reactor.run()
