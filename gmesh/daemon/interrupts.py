# SPDX-License-Identifier: MIT
"""
^C of a daemon: while it starts it ends it without a traceback, while it stops it changes nothing.

Python raises C{KeyboardInterrupt} wherever it is, so a start that is interrupted while it imports would end
in a traceback; Twisted handles signals only from when its reactor runs.
Tests: C{tests/daemon/test_interrupts.py}, C{tests/live/test_harsh_world.py}.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import ServiceMaker

__all__ = ["DaemonMaker", "end_quietly", "stop_once"]


class DaemonMaker(ServiceMaker):
    """What twistd finds of a daemon: nothing of it is imported before ^C ends it quietly."""

    @property
    def options(self) -> Any:
        """The options of the daemon that twistd is told to run."""
        end_quietly()
        return super().options


def end_quietly() -> None:
    """From now on SIGINT ends the process as SIGTERM does, unless it is handled or ignored already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop_once(reactor: Any) -> None:
    """
    Have both signals stop the reactor once it runs, and change nothing while the daemon stops.

    Twisted takes SIGINT over only from Python's own handler, so it is done here after L{end_quietly}; and
    it would log a failure of each that comes while it stops.
    """

    def started() -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, reactor.sigInt)

    def stopping() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    reactor.addSystemEventTrigger("before", "startup", started)
    reactor.addSystemEventTrigger("before", "shutdown", stopping)
