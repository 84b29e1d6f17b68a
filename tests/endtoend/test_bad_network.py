# SPDX-License-Identifier: MIT
"""Messages over networks that lose, copy and reorder: never twice, never lost in silence."""

from __future__ import annotations

from endtoend.rig import DELAY, Fabric, Outcomes
from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.endtoend import limits
from gmesh.wire.frames import Kind

schedules = st.lists(
    st.sampled_from([(), (0.01,), (0.01, 0.02), (0.05,), (0.3,), (0.02, 0.7), (2.0,), (0.01, 7.0)]),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(schedules, st.integers(0, 3))
def test_exactly_once_whatever_the_relay_does(schedule, restarts):
    """Loss, duplicates and reordering, then a fair network: each message is handed over exactly once."""
    fabric, outcomes = Fabric("alice", "bob"), Outcomes()
    fate = iter(schedule)
    fabric.decide = lambda kind, header, frame: next(fate, (DELAY,))
    to_alice, to_bob = fabric.alice.serve(), fabric.bob.serve()
    sent_to_bob, sent_to_alice = [], []
    for index in range(8):
        data = bytes([index]) * (1 if index % 3 else limits.FRAGMENT_SIZE + 1)
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", data, timeout=60))
        sent_to_bob.append(data)
        if index % 2:
            outcomes.watch(fabric.bob.datagrams.send("alice", "log", data, timeout=60))
            sent_to_alice.append(data)
        fabric.run(0.2 * restarts, step=0.05)
    fabric.run(60, step=0.05)
    assert sorted(to_bob) == sorted(sent_to_bob)
    assert sorted(to_alice) == sorted(sent_to_alice)
    assert all(not isinstance(outcome, str) for outcome in outcomes)
    fabric.run(10, step=0.1)
    assert len(to_bob) == 8
    fabric.stop()


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from([0, 0.05, 0.2, 0.4]), st.floats(0, 0.4))
def test_at_most_once_on_a_bad_network(seed, loss, copies):
    """Minutes of loss, copies and disorder, with renewals: never twice, and acknowledged means delivered."""
    fabric = Fabric("alice", "bob", seed=seed)

    def decide(kind, header, frame):
        count = 0 if fabric.rng.random() < loss else 1 + (fabric.rng.random() < copies)
        return [fabric.rng.uniform(0.005, 0.3) for _ in range(count)]

    fabric.decide = decide
    got = {"alice": fabric.alice.serve(), "bob": fabric.bob.serve()}
    acknowledged = {"alice": [], "bob": []}
    for index in range(90):
        source, target = ("alice", "bob") if fabric.rng.random() < 0.6 else ("bob", "alice")
        data = index.to_bytes(2, "big")
        end = getattr(fabric, source)
        sending = end.datagrams.send(target, "log", data, timeout=20)
        sending.addCallbacks(lambda _, t=target, d=data: acknowledged[t].append(d), lambda failure: None)
        fabric.run(2, step=0.2)
    fabric.run(25, step=0.2)
    for name in ("alice", "bob"):
        assert len(got[name]) == len(set(got[name]))
        assert set(acknowledged[name]) <= set(got[name])
    if not loss:
        assert sum(map(len, acknowledged.values())) == 90
    fabric.stop()


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_make_before_break_whatever_the_handshakes_meet(seed, loss):
    """Handshakes of both ends are lost, late and crossed; the data between them all arrives."""
    fabric = Fabric("alice", "bob", seed=seed)

    def decide(kind, header, frame):
        if kind == Kind.E2E_DATA:
            return [fabric.rng.uniform(0.005, 0.5)]
        return [] if fabric.rng.random() < loss else [fabric.rng.uniform(0.005, 2.0)]

    fabric.decide = decide
    got = {"alice": fabric.alice.serve(), "bob": fabric.bob.serve()}
    ends = {"alice": fabric.bob, "bob": fabric.alice}
    sent = {"alice": [], "bob": []}
    for index in range(400):
        if index == 200:
            for end in ends.values():  # both grow impatient at the same time
                for association in end.associations:
                    now = fabric.clock.seconds()
                    end.sessions._handshakes._begin(association.keys, now, now)
        for target, end in ends.items():
            if fabric.rng.random() < 0.5:
                data = index.to_bytes(2, "big")
                end.datagrams.post(target, "log", data)
                sent[target].append(data)
        fabric.run(1, step=0.25)
    fabric.run(20, step=0.25)
    assert {name: sorted(data) for name, data in got.items()} == sent
    fabric.stop()
