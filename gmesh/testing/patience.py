# SPDX-License-Identifier: MIT
"""
How long a test waits for other processes, on a host that may stand still meanwhile.

Tests: C{tests/testing/test_patience.py}.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["STEP", "Patience"]

#: Seconds; the most of one step that counts.
STEP = 5.0


class Patience:
    """
    So many seconds, looked at again and again.

    Of the time since the last look no more than C{STEP} counts: where a host stands still for minutes, as a
    virtual machine that is moved does, those who are waited for stood still as well.

    @param now: seconds, monotonic.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._now = now
        self._looked_at = now()

    def lasts(self) -> bool:
        """Whether to wait on."""
        now = self._now()
        self._left -= min(now - self._looked_at, STEP)
        self._looked_at = now
        return self._left > 0
