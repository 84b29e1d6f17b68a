# SPDX-License-Identifier: MIT
"""Ping and trace over the reserved service."""

from __future__ import annotations

import pytest
from endtoend.rig import DELAY, Fabric, Outcomes, deny


@pytest.fixture
def fabric():
    made = Fabric("alice", "bob")
    yield made
    made.stop()


@pytest.fixture
def outcomes():
    return Outcomes()


def test_ping_measures_the_round_trip(fabric, outcomes):
    """A ping counts neither the handshake before it nor a question that was lost."""
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.run(0.2)
    lost = [1]
    fabric.decide = lambda kind, header, frame: () if lost and lost.pop() else (DELAY,)
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.run(2)
    assert outcomes == [pytest.approx(2 * DELAY, abs=0.001)] * 2


def test_ping_fails_with_a_reason(fabric, outcomes):
    """An unknown node, a silent one, one without a path, and a node that stops."""
    outcomes.watch(fabric.alice.echo.ping("carol"))
    fabric.bob.stop()
    outcomes.watch(fabric.alice.echo.ping("bob", timeout=2))
    fabric.run(2.1)
    fabric.alice.unreachable.add(fabric.bob.handle)
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.alice.unreachable.clear()
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.alice.stop()
    assert outcomes == ["unknown-node", "timed-out", "no-route", "stopped"]


def test_ping_itself(fabric, outcomes):
    """A node answers itself."""
    outcomes.watch(fabric.alice.echo.ping("alice"))
    assert outcomes == [0.0]


def test_policy_does_not_cut_the_echo(fabric, outcomes):
    """A policy that denies everything leaves the means to find out."""
    fabric.offer(fabric.network.policy(2, rules=deny("*")))
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.run(1)
    assert len(outcomes) == 1 and isinstance(outcomes[0], float)


def test_only_the_asked_node_can_answer(fabric, outcomes):
    """An answer by another member, even one that knows the number, is nothing."""
    from gmesh.wire.messages import EchoMessage

    fabric.add("carol", 3)
    fabric.bob.stop()
    outcomes.watch(fabric.alice.echo.ping("bob"))
    nonce = next(iter(fabric.alice.echo._pings))
    fabric.carol.datagrams.post("alice", "_echo", EchoMessage(True, nonce, 0).encode())
    fabric.carol.datagrams.post("alice", "_echo", b"not an echo")
    fabric.run(1)
    assert outcomes == []


def test_trace_asks_every_hop(fabric, outcomes):
    """Each node on the way is asked; one that does not answer has a reason."""
    outcomes.watch(fabric.alice.echo.trace("bob", timeout=2))
    fabric.run(3)
    (hops,) = outcomes
    assert [(hop.name, hop.reason) for hop in hops] == [("relay", "unknown-node"), ("bob", None)]
    assert hops[1].rtt == pytest.approx(2 * DELAY, abs=0.001)
    outcomes.watch(fabric.alice.echo.trace("carol"))
    outcomes.watch(fabric.alice.echo.trace("alice"))
    assert outcomes[1:] == ["unknown-node", ()]
