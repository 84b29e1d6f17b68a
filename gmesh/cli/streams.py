# SPDX-License-Identifier: MIT
"""
C{streams}: the byte streams of the node, and what went through them.

Tests: C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.cli.follow import follow, follow_option
from gmesh.cli.http import Endpoint
from gmesh.cli.local import node_command, read_list
from gmesh.cli.output import Column, age, id_column, listing, wide_option

__all__ = ["streams"]

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(value: Any) -> str:
    """A number of bytes in the largest unit that leaves a digit before the point."""
    if not isinstance(value, int | float):
        return "-"
    unit = 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


@node_command
@wide_option
@follow_option
def streams(where: Endpoint, as_json: bool, follow_it: bool) -> None:
    """List the byte streams that are open on this node: with whom, which way, and how much."""
    if follow_it:
        return follow(where, "streams", as_json)
    columns = [
        Column("id", "id"),
        Column("peer", "peer"),
        id_column("node id", "node_id"),
        Column("service", "service"),
        Column("way", "direction"),
        Column("here", "local"),
        Column("state", "state"),
        Column("sent", "sent", size),
        Column("received", "received", size),
        Column("age", "age", age),
    ]
    listing(columns, read_list(where, "/v1/streams"), "no streams", as_json)
