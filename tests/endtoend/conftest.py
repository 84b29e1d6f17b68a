# SPDX-License-Identifier: MIT
"""Two ends, and what most tests of this layer begin with."""

from __future__ import annotations

import pytest
from endtoend.rig import Fabric, Outcomes


@pytest.fixture
def fabric():
    made = Fabric("alice", "bob")
    yield made
    made.stop()


@pytest.fixture
def outcomes():
    return Outcomes()


@pytest.fixture
def talking(fabric):
    """Two nodes with a session; what the second receives."""
    got = fabric.bob.serve()
    fabric.alice.datagrams.post("bob", "log", b"first")
    fabric.run(0.2)
    assert got == [b"first"]
    got.clear()
    return got


@pytest.fixture
def flow(fabric):
    """A flow from alice to a service of bob, keys there."""
    fabric.got = fabric.bob.serve()
    made = fabric.alice.datagrams.open("bob", "log")
    made.send(b"first")
    fabric.run(0.2)
    assert fabric.got == [b"first"]
    fabric.got.clear()
    fabric.seen.clear()
    return made
