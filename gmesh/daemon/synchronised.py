# SPDX-License-Identifier: MIT
"""
Whether anybody keeps this host's clock right, as far as a daemon may know.

The kernel says so after NTP has set it (adjtimex(2)); a sandbox may forbid that question, and
systemd-timesyncd leaves a file, too.  No answer means no.
Tests: C{tests/daemon/test_synchronised.py}.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

__all__ = ["clock_synchronised"]

TIMESYNCD = Path("/run/systemd/timesync/synchronized")
"""Made by systemd-timesyncd(8) at the first synchronisation since the boot."""
_TIMEX_BYTES = 512
"""More than any C{struct timex}; all zero it asks and sets nothing."""
_TIME_ERROR = 5
"""The kernel's word for a clock that is not synchronised (adjtimex(2))."""


def _adjtimex() -> int:
    ask = getattr(ctypes.CDLL(None), "adjtimex", None)
    return -1 if ask is None else int(ask(ctypes.create_string_buffer(_TIMEX_BYTES)))


def clock_synchronised(state: Callable[[], int] = _adjtimex, mark: Path = TIMESYNCD) -> bool:
    """
    True if the clock is known to be synchronised.

    @param state: what adjtimex(2) returns: below 0 for no answer.
    """
    try:
        return mark.exists() or 0 <= state() < _TIME_ERROR
    except OSError:
        return False
