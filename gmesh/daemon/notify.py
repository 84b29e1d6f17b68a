# SPDX-License-Identifier: MIT
"""
What both daemons tell systemd (the C{sd_notify} datagrams) and hear from it (SIGHUP: reload; SIGTERM once).

Without C{NOTIFY_SOCKET} in the environment nothing is sent.
Tests: C{tests/daemon/test_notify.py}.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["HangupService", "Notifier", "NotifyService", "system_notifier"]


class Notifier:
    """
    Sends C{sd_notify} messages to the address systemd gave this process.

    @param environ: the environment; C{NOTIFY_SOCKET}, C{WATCHDOG_USEC} and C{WATCHDOG_PID} are read.
    @param pid: this process.
    """

    _log = Logger()

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_period = _watchdog_period(environ, pid) if name else None

    def send(self, message: str) -> None:
        """Send C{message}, for example C{READY=1}; a failure is logged once per message and forgotten."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.setblocking(False)
                notify.sendto(message.encode("utf-8"), self._address)
        except OSError as error:
            self._log.warn(
                "the service manager did not take {message}: {cause}", message=message, cause=error.strerror
            )


def _watchdog_period(environ: Mapping[str, str], pid: int) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isascii() or not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 2_000_000


class NotifyService(Service):
    """
    READY once the services before it have started, WATCHDOG at half its period, STOPPING at the end.

    Make it the last child of the daemon: services start in order and stop in reverse.
    """

    def __init__(self, notifier: Notifier, clock: IReactorTime) -> None:
        self._notifier = notifier
        self._clock = clock
        self._watchdog: LoopingCall | None = None

    def ready(self) -> None:
        """Say READY: every port listens."""
        self._notifier.send("READY=1")

    def startService(self) -> None:
        """Begin to feed the watchdog."""
        super().startService()
        period = self._notifier.watchdog_period
        if period is not None:
            self._watchdog = LoopingCall(self._notifier.send, "WATCHDOG=1")
            self._watchdog.clock = self._clock
            self._watchdog.start(period)

    def stopService(self) -> None:
        """Say STOPPING and leave the watchdog alone."""
        self._notifier.send("STOPPING=1")
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        super().stopService()


class HangupService(Service):
    """
    Reloads on SIGHUP, between RELOADING and READY, as C{Type=notify-reload} wants it (systemd.service(5)).

    The signal handler only wakes the reactor; the work is done in a turn of its own, and its
    failure is reported and leaves the daemon running.  Make it an earlier child of the daemon than its
    listeners: who sees one listen may send the signal.

    @param reload: what to do; READY waits for its Deferred, if it gives one.
    """

    _log = Logger()

    def __init__(self, reactor: Any, notifier: Notifier, reload: Callable[[], object]) -> None:
        self._reactor = reactor
        self._notifier = notifier
        self._reload = reload
        self._before: Any = None

    def privilegedStartService(self) -> None:
        """Take the signal over, before anything listens."""
        if self._before is None:
            self._before = signal.signal(signal.SIGHUP, self._signalled)

    def startService(self) -> None:
        """Take it over now, if no privileged start came before."""
        super().startService()
        self.privilegedStartService()

    def stopService(self) -> None:
        """Give it back."""
        super().stopService()
        before, self._before = self._before, None
        signal.signal(signal.SIGHUP, before)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._hangup)

    def _hangup(self) -> None:
        # systemd judges by its own clock which reload this answers; no other clock will do.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")
        done = maybeDeferred(self._reload)
        done.addErrback(self._failed)
        done.addCallback(lambda _: self._notifier.send("READY=1"))

    def _failed(self, failure: Failure) -> None:
        self._log.failure("reload failed, everything stays as it was", failure)


def system_notifier() -> Notifier:
    """The notifier of this process."""
    return Notifier(os.environ, os.getpid())
