# SPDX-License-Identifier: MIT
"""
Timers that a stepped clock neither stalls nor fires.

Twisted's reactors keep their timers by C{time.time()}: on an appliance whose clock is set back a
day at boot every timer would wait a day longer.  Ours run on the monotonic clock instead.
Tests: C{tests/daemon/test_monotonic.py}, C{tests/live/test_node_daemon.py}.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from twisted.logger import Logger

__all__ = ["keep_monotonic_time"]

_log = Logger()


def keep_monotonic_time(reactor: Any) -> bool:
    """
    Have a reactor keep its timers by the monotonic clock from now on.

    Call it before anything is scheduled: calls that wait already were given another clock's time.
    Twisted reads C{reactor.seconds()} as the time of day only for access logs, which we do not write.

    @return: False, with a warning, if something is scheduled already; nothing is changed then.
    """
    if reactor.seconds is monotonic:
        return True
    if reactor.getDelayedCalls():
        _log.warn("timers are scheduled already: they stay on the wall clock, a step of which moves them")
        return False
    reactor.seconds = monotonic
    return True
