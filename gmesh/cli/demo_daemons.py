# SPDX-License-Identifier: MIT
"""The daemons of the demonstration: real C{twistd} processes, started, waited for, and always stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from gmesh.cli.demo_ports import Ports
from gmesh.errors import GmeshError

__all__ = ["WAIT_SECONDS", "Daemon", "DaemonFailed", "Daemons"]

WAIT_SECONDS = 60.0
STOP_SECONDS = 8.0
LOOK_EVERY = 0.02
MAX_LOG_READ = 64 * 1024
_LOG_PREFIX = re.compile(r"^\S+ \[[^]]*\] ")


class DaemonFailed(GmeshError):
    """A daemon ended, or did not do in time what it should."""


class Daemon:
    """
    One C{twistd} process in a session of its own, so that ^C reaches it only through us.

    @param name: what it is called in messages and where its log is.
    @param arguments: the sub-command of twistd and its options.
    """

    def __init__(self, name: str, directory: Path, arguments: list[str]) -> None:
        from gmesh.testing.twistd import start_twistd

        self.name = name
        self.log = directory / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = start_twistd(arguments, directory, log, start_new_session=True)

    def check(self) -> None:
        """@raise DaemonFailed: if it has ended, with the last line it wrote."""
        if self.process.poll() is not None:
            raise DaemonFailed("daemon-ended", f"{self.name} ended by itself: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        with open(self.log, "rb") as log:
            log.seek(max(0, self.log.stat().st_size - MAX_LOG_READ))
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        report = [
            line for line in lines if "Main loop terminated" not in line and "Server Shut Down" not in line
        ]
        return _LOG_PREFIX.sub("", report[-1]) if report else "it wrote nothing"


class Daemons:
    """
    All daemons of the demonstration, in the order they were started.

    @ivar port: called for a TCP port of loopback for a daemon to listen on, held until L{stop}.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.all: list[Daemon] = []
        self._starting = self._interrupted = False
        self.port = Ports()

    def start(self, name: str, *arguments: str | Path) -> Daemon:
        """Start one more."""
        self._starting = True
        try:
            daemon = Daemon(name, self._directory, [str(argument) for argument in arguments])
            self.all.append(daemon)
        finally:
            self._starting = False
        if self._interrupted:
            raise KeyboardInterrupt
        return daemon

    def interrupt(self) -> None:
        """For signal handlers: end the demonstration, but not in the middle of a start."""
        if self._starting:
            self._interrupted = True
        else:
            raise KeyboardInterrupt

    def wait_until(self, what: str, true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
        """
        Look again and again until something is so, while all daemons run.

        @param what: completes "waited in vain until ...".
        @raise DaemonFailed: if it does not become so, or a daemon ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            for daemon in self.all:
                daemon.check()
            if true():
                return
            if time.monotonic() > deadline:
                raise DaemonFailed("timeout", f"waited {seconds:.0f} s in vain until {what}")
            time.sleep(LOOK_EVERY)

    def stop(self) -> None:
        """Stop all, the last one first; what does not go in time is killed."""
        for daemon in reversed(self.all):
            if daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for daemon in self.all:
            try:
                daemon.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait()
        self.port.close()
