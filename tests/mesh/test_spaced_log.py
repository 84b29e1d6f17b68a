# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.spaced_log}: what others cause is logged ever more rarely."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gmesh
from gmesh.mesh.spaced_log import SpacedLog

DAY = 86400


class Lines(list[str]):
    """What was written, formatted."""

    def __call__(self, text: str, **values: Any) -> None:
        self.append(text.format(**values))


def test_c10_the_first_lines_come_at_once_and_then_ever_fewer() -> None:
    """Five, then after 10, 20, 40 s and so on, in a day few; each says how many were left out."""
    log, lines = SpacedLog(), Lines()
    times = [
        float(now)
        for now in range(DAY)
        if log.write(lines, float(now), "flap", "n", "{name} flaps", name="n")
    ]
    assert times[:8] == [0, 1, 2, 3, 4, 14, 34, 74]
    assert lines[:5] == ["n flaps"] * 5
    assert lines[5] == "n flaps (9 more since the last line)"
    assert len(lines) < 50


def test_c10_nodes_and_causes_are_told_apart() -> None:
    """What one node causes silences no line about another, nor of another cause."""
    log, lines = SpacedLog(), Lines()
    for _ in range(100):
        log.write(lines, 0.0, "flap", "loud", "flap of loud")
    assert log.write(lines, 0.0, "flap", "quiet", "flap of quiet")
    assert log.write(lines, 0.0, "refused", "loud", "refusal of loud")
    assert len(lines) == 7


def test_c10_subjects_without_end_share_one_spacing() -> None:
    """So many are told apart, all others are one; those that rest are forgotten."""
    log, lines = SpacedLog(subjects=10), Lines()
    for number in range(1000):
        log.write(lines, 0.0, "dial", number, "dial")
    assert len(lines) == 10 + 5
    log.write(lines, 7200.0, "dial", "another", "dial of another")
    assert lines[-1] == "dial of another"


def test_c10_rest_begins_anew() -> None:
    """After an hour without it, five come at once again."""
    log, lines = SpacedLog(), Lines()
    for now in (*range(100), *range(3700, 3704)):
        log.write(lines, float(now), "flap", "n", "flap")
    assert len(lines) == 5 + 3 + 4


def test_c10_long_values_are_cut() -> None:
    """Text of others takes 200 characters of a line."""
    lines = Lines()
    SpacedLog().write(lines, 0.0, "refused", "n", "{detail}", detail="x" * 100_000)
    assert lines == ["x" * 200 + "..."]


NOT_SPACED = {
    "endtoend/application_faults.py": 2,  # the first, second, fourth and so on of a callback
    "mesh/gossip.py": 1,  # the authority signed what was taken
    "mesh/link.py": 1,  # a link that is left for a flood, which takes a minute
    "mesh/neighbours.py": 2,  # an error of ours; a node that the authority has revoked
    "mesh/twins.py": 2,  # once for each twin, which is remembered
}


def test_c10_no_line_that_a_peer_causes_is_written_past_it() -> None:
    """Where frames of others are read, a line that is not spaced has a reason above."""
    root = Path(gmesh.__file__).parent
    found = {
        path.relative_to(root).as_posix(): len(calls)
        for room in ("wire", "routing", "trust", "mesh", "endtoend")
        for path in sorted((root / room).glob("*.py"))
        if (calls := re.findall(r"\blog\.(?:info|warn|error|failure|critical)\(", path.read_text("utf-8")))
    }
    assert found == NOT_SPACED
