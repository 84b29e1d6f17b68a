# SPDX-License-Identifier: MIT
"""Associations: one per far node, bounded, cut in the same turn when the node is not believed any more."""

from __future__ import annotations

import pytest
from endtoend.producers import Source
from endtoend.rig import DAY, DELAY, NOW, Fabric
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.errors import SendRefused
from gmesh.mesh.peer_identity import peer_of
from gmesh.wire.frames import Kind


def revoke(fabric, end, number=1):
    """Tell the first node only."""
    fabric.alice.trust.offer(
        fabric.network.crl(number, revoked=[(end.peer.serial, end.peer.not_after, 0)]), fabric.wall()
    )


def test_field_t6_revocation_cuts_in_the_same_turn(talking, fabric, outcomes):
    """One change of the revocation set fails what is under way and wipes the keys before anything else."""
    fabric.decide = lambda kind, header, frame: ()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    before = len(fabric.seen)
    revoke(fabric, fabric.bob)
    assert outcomes == ["revoked"]
    assert len(fabric.alice.sessions) == 0
    assert len(fabric.alice.sessions._table) == 0
    fabric.decide = lambda kind, header, frame: (DELAY,)
    received = fabric.alice.serve()
    fabric.bob.datagrams.post("alice", "log", b"from the revoked")
    fabric.run(200, step=1)
    assert received == []
    ours = [frame for frame in fabric.seen[before:] if frame[7:15] == fabric.alice.handle]
    assert [frame[2] for frame in ours] == [Kind.E2E_DATA]  # the farewell
    assert fabric.bob.sessions.counters["closed-revoked"] == 0


def test_who_revokes_says_farewell(talking, fabric):
    """The other end of a revoked session wipes its keys too, when the farewell comes through."""
    revoke(fabric, fabric.bob)
    fabric.run(0.1)
    assert fabric.bob.sessions.counters["closed-revoked"] == 1
    assert len(fabric.bob.sessions) == 0


def test_who_stops_says_farewell(talking, fabric, outcomes):
    """A node that stops closes its sessions; messages to it wait for new keys, and get there."""
    fabric.bob.stop()
    fabric.run(0.1)
    assert fabric.alice.sessions.counters["closed-shutdown"] == 1
    assert fabric.alice.sessions.established == 0
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", timeout=20))
    fabric.run(1)
    fabric.bob.boot()
    got = fabric.bob.serve()
    fabric.run(12)
    assert got == [b"x"]
    assert not isinstance(outcomes[0], str)


def test_who_has_stopped_answers_nothing(talking, fabric):
    """Frames that come after the stop begin no handshake and leave no timer."""
    fabric.alice.datagrams.post("bob", "log", b"late")
    end, fabric.bob.up = fabric.bob, True
    end.datagrams.stop()
    fabric.run(0.1)
    assert len(end.sessions) == 0
    assert end.sessions.counters["stopped"] == 1
    end.echo.stop()
    end.up = False


def test_farewell_of_a_session_before_the_last(talking, fabric):
    """A late CLOSE ends the session it came in, not the one made since."""
    fabric.decide = lambda kind, header, frame: (5.0,) if kind == Kind.E2E_DATA else (DELAY,)
    fabric.alice.stop()
    fabric.alice.boot()
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.alice.datagrams.post("bob", "log", b"new")
    fabric.run(6)
    assert fabric.bob.sessions.counters["closed-shutdown"] == 1
    assert fabric.bob.sessions.established == 1
    assert talking == [b"new"]


@pytest.mark.parametrize("ahead", ["alice", "bob"])
def test_handshake_tells_of_a_newer_crl(fabric, ahead):
    """An end that learns from the handshake of a CRL it lacks says so, once, and only it."""
    getattr(fabric, ahead).trust.offer(fabric.network.crl(7), fabric.wall())
    fabric.alice.datagrams.post("bob", "log", b"x")
    fabric.run(0.2)
    behind = {"alice": fabric.alice.behind, "bob": fabric.bob.behind}
    assert behind.pop(ahead) == []
    assert list(behind.values()) == [[7]]


def test_revocation_cuts_a_handshake(fabric, outcomes):
    """A handshake under way dies with the revocation; its answer finds nothing."""
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    revoke(fabric, fabric.bob)
    assert outcomes == ["revoked"]
    fabric.run(1)
    assert fabric.alice.sessions.counters["no-handshake"] == 1
    assert len(fabric.alice.sessions) == 0


def test_revoked_initiator_is_not_answered(fabric):
    """A revoked node's handshake is dropped before an exchange; an unknown node's after judging it."""
    revoke(fabric, fabric.bob)
    fabric.bob.datagrams.post("alice", "log", b"x")
    fabric.run(0.2)
    assert fabric.alice.sessions.counters["revoked"] == 1
    fabric.alice.find_handle = lambda handle: None
    fabric.run(6)
    assert fabric.alice.sessions.counters["answered"] == 0


def test_revocation_purges_what_waits_for_a_receiver(talking, fabric):
    """Messages of a revoked node that wait for a busy receiver are not handed over."""
    got, busy = [], Deferred()

    def receiver(message):
        got.append(message.data)
        return busy

    fabric.alice.datagrams.register("slow", receiver, concurrent=1)
    for index in range(3):
        fabric.bob.datagrams.post("alice", "slow", bytes([index]))
    fabric.run(0.2)
    revoke(fabric, fabric.bob)
    busy.callback(None)
    assert got == [b"\0"]


def test_field_t7_expiry_cuts(fabric, outcomes):
    """A session ends with the certificate of its peer, and its leeway."""
    fabric.bob.certificate = fabric.network.certificate(
        "bob", serial=2, roles=("client",), not_after=NOW + 150
    )
    fabric.bob.peer = peer_of(fabric.bob.certificate)
    fabric.bob.serve()
    fabric.run(300, step=1)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    assert len(fabric.alice.sessions) == 1
    fabric.run(60, step=0.5)
    assert len(fabric.alice.sessions) == 0
    assert fabric.alice.sessions.counters["gone-expired"] == 1


def test_field_t7_renewal_saves_a_session(fabric, outcomes):
    """A newer certificate for the same keys takes the place of one that ends: nothing is cut."""
    short = fabric.network.certificate("bob", serial=2, roles=("client",), not_after=NOW + 150)
    fabric.bob.certificate, fabric.bob.peer = short, peer_of(short)
    fabric.bob.serve()
    fabric.run(300, step=1)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    renewed = fabric.network.certificate("bob", serial=12, roles=("client",), not_after=NOW + DAY)
    fabric.bob.certificate, fabric.bob.peer = renewed, peer_of(renewed)
    fabric.run(60, step=0.5)
    assert fabric.alice.sessions.established == 1
    assert fabric.alice.sessions.counters["gone-expired"] == 0


def test_authority_key_dropped(talking, fabric):
    """A genesis that no longer lists the signer of a certificate cuts its node in the same turn."""
    fabric.alice.trust.offer(fabric.network.next_genesis(authority=("another",)), fabric.wall())
    assert len(fabric.alice.sessions) == 0


def test_table_is_bounded(outcomes):
    """At the cap the least recently used idle peer makes room; when none is idle, one more is refused."""
    fabric = Fabric("bob", "carol", "dave")
    fabric.add("hub", 9, max_sessions=2)
    for name in ("bob", "carol", "dave", "bob"):
        outcomes.watch(fabric.hub.datagrams.send(name, "log", b""))
        fabric.run(1)
    assert outcomes == ["no-such-service"] * 4
    assert len(fabric.hub.sessions) == 2
    assert fabric.hub.sessions.counters["gone-evicted"] == 2
    fabric.decide = lambda kind, header, frame: ()
    fabric.run(200, step=1)
    for name in ("bob", "carol", "dave"):
        outcomes.watch(fabric.hub.datagrams.send(name, "log", b""))
    assert outcomes[4:] == ["busy"]
    fabric.stop()


def test_idle_sessions_are_wiped(talking, fabric):
    """Keys go when they may not be used any more, the peer when it was idle for ten minutes."""
    fabric.run(190, step=1)
    assert fabric.alice.sessions.established == 0
    assert len(fabric.alice.sessions) == 1
    fabric.run(420, step=1)
    assert len(fabric.alice.sessions) == len(fabric.bob.sessions) == 0
    assert fabric.clock.getDelayedCalls() == [] or all(
        call.func.__name__ == "_tick" for call in fabric.clock.getDelayedCalls()
    )


def test_what_a_cut_calls_back_meets_the_new_decisions(fabric, outcomes):
    """A caller whose message fails by a revocation cannot, in that turn, send to another revoked node."""
    carol, late = fabric.add("carol", 3), []
    got = carol.serve()
    fabric.alice.datagrams.prepare(fabric.bob.peer)  # the first to be cut
    sender = fabric.alice.datagrams.open("carol", "log")
    sender.send(b"keys")
    fabric.run(0.2)

    def failed(failure):
        try:
            for _ in range(12):
                sender.send(bytes(limits.INITIAL_BATCH))
        except SendRefused as refusal:
            late.append(refusal.reason)

    sender.send(b"first of a turn")
    fabric.alice.datagrams.send("bob", "log", b"").addErrback(failed)
    crl = fabric.network.crl(revoked=[(serial, NOW + DAY, 0) for serial in (2, 3)])
    fabric.alice.trust.offer(crl, fabric.wall())
    fabric.run(0.2)
    assert late == ["revoked"]
    assert got == [b"keys", b"first of a turn"]


def test_giving_up_leaves_nothing(talking, fabric, outcomes):
    """Fragments, queued frames, waiting callers, messages and timers: all of it goes with the one object."""
    fabric.alice.serve()
    fabric.decide = lambda kind, header, frame: () if frame[7:15] == fabric.alice.handle else (DELAY,)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    carol, called = fabric.add("carol", 3), []
    for _ in range(3):
        fabric.alice.datagrams.post("carol", "log", b"x")
    fabric.alice.datagrams.prepare(carol.peer, lambda: called.append(1))
    associations = list(fabric.alice.associations)
    assert len(associations) == len(fabric.alice.sessions) == 2
    for end in (fabric.bob, carol):
        fabric.alice.trust.offer(
            fabric.network.crl(
                end.peer.serial, revoked=[(serial, NOW + DAY, 0) for serial in range(2, end.peer.serial + 1)]
            ),
            fabric.wall(),
        )
    assert outcomes == ["revoked"]
    assert len(fabric.alice.associations) == 0
    fabric.run(10)
    assert called == []
    for association in associations:
        keys = association.keys
        assert list(keys.sessions()) == [] and not keys.pending and keys.attempt is None
        assert len(association.reliable) == 0 and association.waiting == []


def test_a_producer_of_an_evicted_peer_goes_on(outcomes):
    """A sender whose association was evicted gets another with its next message."""
    fabric = Fabric("bob", "carol")
    fabric.add("hub", 9, max_sessions=1)
    got = fabric.bob.serve()
    source = Source(fabric.hub.datagrams.open("bob", "log"))
    source.produce(3)
    fabric.run(1)
    source.produce(3)
    fabric.run(0.1)
    outcomes.watch(fabric.hub.datagrams.send("carol", "log", b""))
    fabric.run(0.1)
    assert outcomes == ["no-such-service"]
    source.produce(3)
    fabric.run(0.1)
    assert not source.paused and source.refused == []
    assert got == source.sent and len(got) == 4 + 1
    assert fabric.hub.sessions.counters["gone-evicted"] == 2
    fabric.stop()


def test_a_peer_that_was_evicted_hands_nothing_over_twice(outcomes):
    """Its message, whose acknowledgement was lost, is known when it is repeated over new keys."""
    fabric = Fabric("bob", "carol")
    fabric.add("hub", 9, max_sessions=1)
    got = fabric.hub.serve()
    fabric.bob.datagrams.post("hub", "log", b"keys")
    fabric.run(0.2)

    def lose(kind, header, frame):
        if header.source == fabric.hub.handle and header.destination == fabric.bob.handle:
            return ()
        return (DELAY,)

    fabric.decide = lose
    outcomes.watch(fabric.bob.datagrams.send("hub", "log", b"once", timeout=30))
    fabric.run(0.2)
    fabric.hub.datagrams.post("carol", "log", b"x")
    fabric.decide = lambda kind, header, frame: (DELAY,)
    fabric.run(0.1)
    [association] = fabric.bob.associations
    association.keys.current.due_at = 0.0  # bob begins a handshake with its next frame
    fabric.run(29)
    assert fabric.hub.sessions.counters["gone-evicted"] >= 1
    assert fabric.hub.sessions.counters["repeated"] >= 1
    assert got == [b"keys", b"once"]
    assert len(outcomes) == 1 and not isinstance(outcomes[0], str)
    fabric.stop()
