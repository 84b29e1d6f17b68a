# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.control_protocol}: frames in, frames out, and what a bad one costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh.network_doubles import TestWorld
from zope.interface.verify import verifyObject

from gmesh.errors import FrameRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory
from gmesh.mesh.control_protocol import ControlFactory
from gmesh.routing.record import decode_record
from gmesh.trust.documents import sign_document
from gmesh.wire.frames import Kind
from gmesh.wire.messages import (
    NO_HANDLE,
    CertAnswer,
    CertificateKey,
    CertRequest,
    CloseReason,
    PathReply,
    PathRequest,
)


@pytest.fixture
def world() -> Iterator[TestWorld]:
    """A world that leaves nothing behind."""
    made = TestWorld()
    yield made
    made.stop()


def test_seams(world: TestWorld) -> None:
    """Factory and protocol provide their interfaces."""
    a, _ = world.line("a", "b")
    assert verifyObject(IFrameReceiverFactory, a.control)
    assert verifyObject(IFrameReceiver, a.control.build_receiver(a.links["b"].neighbour))


@pytest.mark.parametrize("kind", sorted(ControlFactory.kinds))
def test_malformed_bodies_cost_the_link(world: TestWorld, kind: Kind) -> None:
    """A body that breaks its format ends the link, whatever the kind."""
    a, b = world.line("a", "b")
    b.links["a"].receive(kind, b"\0\0\0" + b"\xff" * 5)
    assert b.refusals == ["malformed"] and not a.links["b"].up


@given(st.sampled_from(sorted(ControlFactory.kinds)), st.binary(max_size=120))
def test_any_body(kind: Kind, body: bytes) -> None:
    """Arbitrary bytes are refused with one error and nothing else comes out."""
    receiver = FUZZ.nodes["b"].control.build_receiver(FUZZ.nodes["b"].links["a"].neighbour)
    FUZZ.nodes["b"].control.link_up(FUZZ.nodes["b"].links["a"].neighbour)
    with suppress(FrameRefused):
        receiver.frame_received(kind, memoryview(bytearray(b"\0\0\0" + body)), 0, len(body) + 3)
    FUZZ.nodes["b"].control.link_down(FUZZ.nodes["b"].links["a"].neighbour, "test")


FUZZ = TestWorld()
FUZZ.line("a", "b")


def test_certificates_are_answered(world: TestWorld) -> None:
    """CERT_REQ brings the certificates that are held, and nothing when none is."""
    a, b = world.line("a", "b")
    link = a.links["b"]
    link.sent.clear()
    wanted = (CertificateKey(a.handle, a.peer.serial), CertificateKey(b"n" * 8, 1))
    link.receive(Kind.CERT_REQ, b"\0\0\0" + CertRequest(wanted).encode())
    link.receive(Kind.CERT_REQ, b"\0\0\0" + CertRequest(wanted[1:]).encode())
    ((kind, frame),) = link.sent
    assert kind == Kind.CERT
    assert CertAnswer.decode(frame[3:]).certificates == (a.enrolled.certificate.encode(),)
    assert b.links["a"].up


def test_questions_are_limited(world: TestWorld) -> None:
    """A neighbour that asks without end is answered at a bounded rate."""
    a, _ = world.line("a", "b")
    link = a.links["b"]
    link.sent.clear()
    request = CertRequest((CertificateKey(a.handle, a.peer.serial),)).encode()
    for _ in range(500):
        link.receive(Kind.CERT_REQ, b"\0\0\0" + request)
    assert len(link.sent) == 200 and a.counters["question-ignored"] == 300


def test_bad_certificates(world: TestWorld) -> None:
    """Forged and malformed certificates count against the link; an expired one does not."""
    a, b = world.line("a", "b")
    link = b.links["a"]
    good = world.issuer.enrol("x", "client")
    stranger = sign_document(good.certificate.body, [world.issuer.new_key()])
    text = good.certificate.encode()
    at = text.index(b'"signature":"') + 20
    forged = text[:at] + (b"A" if text[at : at + 1] != b"A" else b"B") + text[at + 1 :]
    late = world.issuer.enrol("late", "client", lifetime=1)
    world.run(400)
    answer = CertAnswer((b"{}", forged, stranger.encode(), late.certificate.encode()))
    link.receive(Kind.CERT, b"\0\0\0" + answer.encode())
    assert b.counters["certificate-malformed"] == 1
    assert b.counters["certificate-bad-signature"] == 1
    assert b.counters["certificate-unknown-key"] == 1
    assert b.counters["certificate-expired"] == 1
    assert [kind for kind, _ in link.sent].count(Kind.GENESIS_REQ) == 1
    assert link.up and a.links["b"].up
    many = CertAnswer((b"{}",) * 60).encode()
    link.receive(Kind.CERT, b"\0\0\0" + many)
    assert CloseReason.PROTOCOL in link.closed


def test_announced_renewal(world: TestWorld) -> None:
    """A renewed certificate goes to every neighbour, who take it up."""
    a, b = world.line("a", "b")
    b.certified.clear()
    renewed = world.issuer.renew(a.enrolled)
    a.control.announce_certificate(renewed.certificate)
    world.run(0.1)
    assert [peer.serial for peer in b.certified] == [renewed.certificate.body.serial]


def test_path_with_proof(world: TestWorld) -> None:
    """PATH_REQ is answered with the path from the asker on, and records that list each pair both ways."""
    a, b, c, d = world.line("a", "b", "c", "d")
    world.run(5)
    link = b.links["a"]
    link.sent.clear()
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(7, d.handle).encode())
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(8, b"n" * 8).encode())
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(9, NO_HANDLE, "d").encode())
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(10, NO_HANDLE, "nobody").encode())
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(11, b.handle).encode())
    answers = [frame[3:] for kind, frame in link.sent if kind == Kind.PATH_REP]
    first, second, named, unknown, here = map(PathReply.decode, answers)
    assert first.request == 7 and first.path == (a.handle, b.handle, c.handle, d.handle) and not first.more
    listed = {
        (record.handle, peer)
        for record in (decode_record(data, b.engine.database.network_id) for data in first.records)
        for peer, _ in record.links
    }
    for one, other in ((a, b), (b, c), (c, d)):
        assert (one.handle, other.handle) in listed and (other.handle, one.handle) in listed
    assert second == PathReply(8, ()) and unknown == PathReply(10, ())
    assert named.path == first.path and here.path == (a.handle, b.handle)
    assert a.links["b"].up


def test_no_path_back_through_the_asker(world: TestWorld) -> None:
    """Who asks a neighbour whose only way leads back hears that there is none."""
    _, b, _, d = world.line("a", "b", "c", "d")
    world.run(5)
    link = b.links["c"]
    link.sent.clear()
    link.receive(Kind.PATH_REQ, b"\0\0\0" + PathRequest(7, d.handle).encode())
    assert [frame[3:] for kind, frame in link.sent if kind == Kind.PATH_REP] == [PathReply(7, ()).encode()]


def test_nothing_is_left_after_stop(world: TestWorld) -> None:
    """A link that goes down and a node that stops leave no timer behind."""
    a, b = world.line("a", "b")
    world.run(0.001)
    world.cut(a, b)
    a.updates.stop()
    b.updates.stop()
    assert world.clock.getDelayedCalls() == []
