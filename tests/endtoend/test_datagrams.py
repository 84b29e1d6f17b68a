# SPDX-License-Identifier: MIT
"""Datagrams: delivered once, to whom they should be, or refused with a reason."""

from __future__ import annotations

import pytest
from endtoend.rig import DELAY

from gmesh.endtoend import limits


def test_field_t2_delivers_with_identity(fabric, outcomes):
    """A message reaches its receiver with the certified name, id and roles of its sender."""
    messages = []
    fabric.bob.datagrams.register("log", messages.append)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"hello"))
    fabric.run(1)
    assert [(m.source_name, m.source_id, m.roles, m.service, m.data) for m in messages] == [
        ("alice", fabric.alice.peer.node_id, ("client",), "log", b"hello")
    ]
    assert outcomes[0].rtt == pytest.approx(2 * DELAY, abs=0.001)


def test_field_t1_relay_sees_no_payload(fabric, outcomes):
    """Neither the data nor the name of the service is in any byte that a relay holds."""
    canary = b"CANARY-7f3a" * 20
    got = fabric.bob.serve("secret-service")
    outcomes.watch(fabric.alice.datagrams.send("bob", "secret-service", canary))
    fabric.alice.datagrams.post("bob", "secret-service", canary)
    fabric.run(1)
    assert got == [canary, canary]
    everything = b"".join(fabric.seen)
    assert b"CANARY" not in everything
    assert b"secret-service" not in everything


def test_without_acknowledgement(fabric, outcomes):
    """Without an acknowledgement the Deferred fires at once, and nothing is repeated."""
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one", acknowledge=False))
    assert outcomes[0].rtt is None
    fabric.run(1)
    assert got == [b"one"]


def test_to_itself(fabric, outcomes):
    """A node reaches its own services without any frame."""
    got = fabric.alice.serve()
    outcomes.watch(fabric.alice.datagrams.send("alice", "log", b"me"))
    outcomes.watch(fabric.alice.datagrams.send("alice", "nobody", b"me"))
    assert got == [b"me"]
    assert outcomes[0].rtt == 0.0
    assert outcomes[1] == "no-such-service"
    assert fabric.seen == []


@pytest.mark.parametrize("size", [0, 1, limits.FRAGMENT_SIZE, limits.FRAGMENT_SIZE + 1, limits.MAX_DATAGRAM])
def test_field_t11_sizes(fabric, outcomes, size):
    """Every size up to the limit arrives whole, cut by the source and joined by the destination only."""
    got = fabric.bob.serve()
    data = bytes(index % 251 for index in range(size))
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", data))
    fabric.run(2)
    fabric.alice.datagrams.post("bob", "log", data)
    fabric.run(1)
    assert got == [data, data]
    assert all(len(frame) <= 16 * 1024 + 200 for frame in fabric.seen)


def test_no_such_service(fabric, outcomes):
    """A service without a receiver answers so, at once."""
    outcomes.watch(fabric.alice.datagrams.send("bob", "nobody", b""))
    fabric.run(0.2)
    assert outcomes == ["no-such-service"]


def test_stop_fails_what_is_under_way(fabric, outcomes):
    """Stopping fails every message with a reason and leaves no timer."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.alice.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["stopped", "stopped"]
