# SPDX-License-Identifier: MIT
"""How long a test waits for other processes, on a host that may stand still meanwhile."""

from __future__ import annotations

import time

#: Seconds; the most of one step that counts.
STEP = 5.0


class Patience:
    """
    So many seconds, looked at again and again.

    Of the time since the last look no more than C{STEP} counts: where a host stands still for minutes, as a
    virtual machine that is moved does, those who are waited for stood still as well.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._looked_at = time.monotonic()

    def lasts(self) -> bool:
        """Whether to wait on."""
        now = time.monotonic()
        self._left -= min(now - self._looked_at, STEP)
        self._looked_at = now
        return self._left > 0
