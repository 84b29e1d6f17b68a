# SPDX-License-Identifier: MIT
"""Sessions of who is not believed any more, or says goodbye: over in the same turn."""

from __future__ import annotations

import pytest
from endtoend.rig import DAY, DELAY, NOW

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
    from twisted.internet.defer import Deferred

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
