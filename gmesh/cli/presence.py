# SPDX-License-Identifier: MIT
"""
Who was heard of lately, so that nobody waits for a node that is away.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gmesh.cli.limits import HEARD_LATELY
from gmesh.cli.output import age, words

__all__ = ["heard_lately", "shortened", "since"]

NAMES_SHOWN = 10


def heard_lately(row: Mapping[str, Any], now: float) -> bool:
    """Whether the authority has had a heartbeat of this member not long before C{now}, Unix seconds."""
    seen = row.get("last_seen")
    return isinstance(seen, int) and now - seen <= HEARD_LATELY


def since(row: Mapping[str, Any], now: float) -> str:
    """The name of a member, and since when it is silent."""
    seen = row.get("last_seen")
    told = f"silent for {age(max(0.0, now - seen))}" if isinstance(seen, int) else "never heard of"
    return f"{words(row.get('name'))} ({told})"


def shortened(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
