# SPDX-License-Identifier: MIT
"""A member that causes lines of log at its neighbour, of each kind there is: few are written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node.logged import measured

from gmesh.testing.hostile import BEHAVIOURS, Hostile
from gmesh.testing.mesh import MemoryMesh

HOUR = 3600
MOST = 1_000_000 // 24
"""Bytes an hour: 1 MB a day."""


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The hostile C{h}, an anchor, is linked to C{v}, and that to C{b}."""
    made = MemoryMesh(9)
    made.add("v", "relay")
    made.add("b", "relay", peers=("v",))
    made.add("h", "anchor", peers=("v",))
    made.start()
    made.run_until(lambda: made["h"].link_names == ["v"] and made["b"].link_names == ["v"])
    made.run(100)
    yield made
    made.stop()


KINDS = (
    "equivocation",
    "junk documents",
    "forged policies",
    "junk certificates",
    "malformed frames",
    "links that come and go",
    "addresses where nobody is",
)
"""Those that cause lines of log."""


@pytest.mark.parametrize("kind", KINDS)
def test_c10_an_hour_of_it_is_little_log(mesh: MemoryMesh, kind: str) -> None:
    """All daemons of the mesh together write less than a megabyte a day is in an hour."""
    hostile = Hostile(mesh, "h")
    with measured() as text:
        hostile.begin(kind)
        mesh.run(HOUR)
        hostile.stop()
    assert hostile.turn >= HOUR / BEHAVIOURS[kind].every
    assert text.getvalue() or mesh["v"].runtime.counters().get("policy-unknown-key", 0) > HOUR / 5
    assert len(text.getvalue()) <= MOST, text.getvalue()[-3000:]
