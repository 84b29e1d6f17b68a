# SPDX-License-Identifier: MIT
"""Ports of loopback for tests that must know one before somebody listens there."""

from __future__ import annotations

import atexit

from gmesh.cli.demo_ports import Ports

_HELD = Ports()
atexit.register(_HELD.close)


def free_port() -> int:
    """A port that nobody listens on, and that nobody else of this host is given while this process runs."""
    return _HELD()
