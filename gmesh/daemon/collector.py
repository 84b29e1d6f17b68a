# SPDX-License-Identifier: MIT
"""
The garbage collector of a daemon: it need not walk again and again what the start made and what stays.

Tests: C{tests/daemon/test_collector.py}.
"""

from __future__ import annotations

import gc

__all__ = ["keep_for_good"]


def keep_for_good() -> None:
    """
    Collect once, then no longer look at what lives now: modules, classes, what the daemon consists of.

    A full collection walks everything else and holds every request meanwhile.
    """
    gc.collect()
    gc.freeze()
