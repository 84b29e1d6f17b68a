# SPDX-License-Identifier: MIT
"""Whole nodes that slept longer than their certificate, and that reach the authority by an anchor alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from node.managed_mesh import ManagedMesh, ManagedNode

from gmesh.errors import GmeshError
from gmesh.mesh.limits import RENEWAL_LINK_SECONDS, RENEWAL_QUESTIONS
from gmesh.mesh.link import MeshProtocol
from gmesh.mesh.renewal_links import RenewalLink
from gmesh.testing.issuer import DAY
from gmesh.wire.frames import Kind, pack_frame

AWAY = 3 * DAY
PACE = 60


def star(lifetime: int) -> ManagedMesh:
    """a, b and c with certificates of such a life, linked."""
    made = ManagedMesh(seed=31)
    made.authority.lifetime = lifetime
    made.add("a", "anchor", lifetime=lifetime)
    for name in ("b", "c"):
        made.add(name, "client", peers=["a"], lifetime=lifetime)
    made["c"].line.open = False
    made.start()
    made.run_until(lambda: made["c"].reaches("b"))
    return made


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """The anchor a and its clients b and c, of which c has no HTTP; all linked."""
    made = star(DAY)
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


def pass_days(mesh: ManagedMesh, seconds: float, pace: int = PACE) -> None:
    """So much Unix time, at a pace at which nodes notice in time that certificates are to be renewed."""
    mesh.lapse(pace)
    mesh.run(seconds / pace)
    mesh.lapse(1)


def asleep(
    mesh: ManagedMesh, name: str, seconds: float, answers: bool = True, pace: int = PACE
) -> ManagedNode:
    """A node that was off for so long, started; the others went on, and if it C{answers} the authority."""
    node = mesh[name]
    mesh.result(node.stop())
    pass_days(mesh, seconds, pace)
    mesh.run(60)
    mesh.authority.up = answers
    node.restart()
    return node


def counted(node: ManagedNode, cause: str) -> int:
    return node.runtime.counters().get(cause, 0)


def test_d5_a_node_that_slept_longer_than_its_certificate_comes_back(mesh: ManagedMesh) -> None:
    """It renews by the anchor, gets a full link, and talks to the others, without HTTP and without hands."""
    c = asleep(mesh, "c", AWAY)
    assert mesh.wall() > c.not_after + DAY
    mesh.run_until(lambda: c.reaches("b") and mesh["b"].reaches("c"), 30)
    assert c.not_after > mesh.wall()
    assert counted(mesh["a"], "renewal-link") == 1
    heard = []
    c.runtime.datagrams.register("log", heard.append)
    mesh.result(mesh["b"].runtime.datagrams.send("c", "log", b"awake?"))
    assert [message.data for message in heard] == [b"awake?"]
    mesh.run(RENEWAL_LINK_SECONDS + 1)
    assert not c.runtime.renewals.asking and c.link_names == ["a"]


def test_d5_after_an_outage_longer_than_all_certificates(mesh: ManagedMesh) -> None:
    """The authority is away for days and comes back: the anchor renews by HTTP, and the clients by it."""
    mesh["b"].line.open = False
    mesh.authority.up = False
    pass_days(mesh, AWAY)
    assert not mesh["b"].reaches("c")
    mesh.authority.up = True
    mesh.run_until(lambda: mesh["b"].reaches("c") and mesh["c"].reaches("b"), 900)


def test_d5_nothing_but_requests_to_the_authority_passes(mesh: ManagedMesh) -> None:
    """Until it has renewed, it is nobody's neighbour, on no path, and any other frame ends the link."""
    c = asleep(mesh, "c", AWAY, answers=False)
    a = mesh["a"]
    for kind in set(Kind) - {Kind.AUTHORITY, Kind.CLOSE}:
        mesh.run_until(lambda: bool(c.runtime.renewals.asking), 120)
        assert c.link_names == [] and "c" not in a.link_names
        assert not a.reaches("c") and not mesh["b"].reaches("c") and not c.reaches("a")
        before = dict(a.runtime.counters())
        [link] = c.runtime.renewals.asking
        link._transport.send_record(pack_frame(kind, b"x" * 64))
        mesh.run_until(lambda link=link: link not in c.runtime.renewals.asking, 5)
        grown = {cause for cause, number in a.runtime.counters().items() if number > before.get(cause, 0)}
        assert grown <= {"renewal-link", "pong-unasked"}, kind


def test_d5_a_sealed_message_does_not_leave_a_node_that_is_out(mesh: ManagedMesh) -> None:
    """Its own application is told that there is no route, and nothing of it reaches the anchor."""
    c = asleep(mesh, "c", AWAY, answers=False)
    mesh.run_until(lambda: bool(c.runtime.renewals.asking), 30)
    with pytest.raises(GmeshError):
        mesh.result(c.runtime.datagrams.send("b", "log", b"x", timeout=5))
    assert [link.peer.name for link in c.runtime.renewals.asking] == ["a"]


@pytest.mark.parametrize("key", [True, False])
def test_d5_a_revoked_node_gets_no_such_link(mesh: ManagedMesh, key: bool) -> None:
    """Neither one whose certificate the CRL names nor one whose key it names; it is told why."""
    mesh.authority.revoke(mesh["c"].enrolled, key=key)
    c = asleep(mesh, "c", AWAY)
    mesh.run(120)
    assert counted(mesh["a"], "renewal-link") == 0 and not c.runtime.renewals.asking
    [target] = c.runtime.dialler.targets
    assert target.reason == "revoked"


def test_d5_a_revocation_cuts_such_a_link(mesh: ManagedMesh) -> None:
    """In the turn that hears of it, as any other."""
    c = asleep_out = asleep_without_answers(mesh)
    mesh.authority.revoke(asleep_out.enrolled, key=True)
    mesh["a"].runtime.member.trust.offer(mesh.authority.crl, mesh.wall())
    assert not mesh["a"].runtime.renewals._serving
    mesh.run(1)
    assert not c.runtime.renewals.asking


def asleep_without_answers(mesh: ManagedMesh) -> ManagedNode:
    """c, let in to renew, while the authority does not answer."""
    c = asleep(mesh, "c", AWAY, answers=False)
    mesh.run_until(lambda: bool(c.runtime.renewals.asking), 30)
    return c


def test_d5_beyond_renew_grace_there_is_none() -> None:
    """It needs a new invite, and hears that its certificate has ended."""
    mesh = star(10 * DAY)
    c = asleep(mesh, "c", 42 * DAY, pace=1200)
    mesh.run(120)
    assert c.not_after + 30 * DAY < mesh.wall() < mesh["a"].not_after
    assert counted(mesh["a"], "renewal-link") == 0 and not c.runtime.renewals.asking
    [target] = c.runtime.dialler.targets
    assert target.reason == "expired"
    mesh.stop()


def test_d5_only_an_anchor_lets_it_in() -> None:
    """A relay has nothing to offer: it refuses as ever."""
    mesh = ManagedMesh(seed=32)
    mesh.add("r", "relay")
    mesh.add("c", "client", peers=["r"])
    mesh["c"].line.open = False
    mesh.start()
    mesh.run(30)
    c = asleep(mesh, "c", AWAY)
    mesh.run(120)
    assert counted(mesh["r"], "renewal-link") == 0 and not c.runtime.renewals.asking
    mesh.stop()


def test_d5_nothing_is_asked_of_a_relay_that_offers_to_pass_it_on() -> None:
    """Who is no anchor by its certificate is told none of what goes to the authority."""
    mesh = ManagedMesh(seed=33)
    mesh.add("r", "relay")
    mesh.add("c", "client", peers=["r"])
    mesh["c"].line.open = False
    mesh.start()
    mesh.run(30)
    asked: list[bytes] = []

    async def serve(peer: object, data: bytes) -> bytes:
        asked.append(data)
        return b"{}"

    c = asleep(mesh, "c", AWAY)
    mesh["r"].runtime.renewals.serve = serve
    mesh.run(180)
    assert counted(mesh["r"], "renewal-link") > 0
    assert asked == [] and not c.runtime.renewals.asking
    mesh.stop()


def test_d5_a_dialler_takes_no_anchor_whose_certificate_has_ended(mesh: ManagedMesh) -> None:
    """Only who dials is let in so: the other way round nothing is sealed to an ended certificate."""
    a, b = mesh["a"], mesh["b"]
    a.line.open = False
    a.heartbeat.stopService()
    pass_days(mesh, AWAY)
    mesh.run(180)
    assert a.not_after < mesh.wall() < b.not_after
    assert b.link_names == [] and not b.runtime.renewals.asking
    [target] = b.runtime.dialler.targets
    assert target.reason == "expired"
    a.heartbeat.startService()


def test_d5_its_questions_are_bounded(mesh: ManagedMesh) -> None:
    """What it asks is as bounded as any member's; what is no question, or one too many, ends the link."""
    c = asleep_without_answers(mesh)
    [link] = c.runtime.renewals.asking
    for body in (b"", b"{}", b"[1", json.dumps({"answer": "x", "code": 200, "body": ""}).encode()):
        link.send(body)
        mesh.run_until(lambda link=link: link not in c.runtime.renewals.asking, 5)
        mesh.run_until(lambda: bool(c.runtime.renewals.asking), 120)
        [link] = c.runtime.renewals.asking
    mesh.run(RENEWAL_LINK_SECONDS + 1)
    assert link not in c.runtime.renewals.asking


def test_d5_as_many_questions_as_a_link_may_have(mesh: ManagedMesh) -> None:
    """One more than that ends it."""
    c = asleep_without_answers(mesh)
    mesh.run(5)
    [ours] = c.runtime.renewals.asking
    [theirs] = mesh["a"].runtime.renewals._serving.values()
    assert isinstance(theirs, RenewalLink) and not isinstance(theirs, MeshProtocol)

    async def never(peer: object, data: bytes) -> bytes:
        await mesh.authority.news(mesh.clock)
        return b"{}"

    mesh["a"].runtime.renewals.serve = never
    for _ in range(RENEWAL_QUESTIONS):
        ours.send(b"{}")
    mesh.run(1)
    assert ours in c.runtime.renewals.asking and len(theirs.waiting) == RENEWAL_QUESTIONS
    ours.send(b"{}")
    mesh.run(1)
    assert ours not in c.runtime.renewals.asking and not theirs.waiting
