# SPDX-License-Identifier: MIT
"""
Timers that may be there, and may have come already.

Tests: C{tests/mesh/test_timers.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall

__all__ = ["cancel_calls"]


def cancel_calls(*calls: IDelayedCall | None) -> None:
    """Those that still wait come no more."""
    for call in calls:
        if call is not None and call.active():
            call.cancel()
