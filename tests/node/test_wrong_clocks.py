# SPDX-License-Identifier: MIT
"""Hosts without a battery: after hours without power they know only when they last heard of the time."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from node.managed_mesh import ManagedMesh
from node.memory_authority import MemoryAuthority

from gmesh.errors import PeerRefused
from gmesh.trust.documents import sign_document

HOUR = 3600.0


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a, an anchor, and b, which reaches the authority only through a; both certified at the same time."""
    made = ManagedMesh(seed=41)
    made.add("a", "anchor")
    made.add("b", "client", peers=["a"])
    made["b"].line.open = False
    made.start()
    made.run_until(lambda: made["b"].reaches("a"))
    made.run(60)
    yield made
    made.stop()


def power_cut(mesh: ManagedMesh, hours: float) -> None:
    """C{b} is off for so long, and its clock begins in 1970 again; C{a} is renewed meanwhile."""
    mesh.result(mesh["b"].stop())
    mesh.run((hours - 0.25) * HOUR)
    renew(mesh, "a")
    mesh.run(0.25 * HOUR)
    mesh["b"].skew = -mesh.wall()
    mesh["b"].restart()


def renew(mesh: ManagedMesh, name: str) -> None:
    mesh[name].heartbeat._renew_point = 0.0
    mesh[name].heartbeat.soon()
    mesh.run(30)


def test_a_late_clock_believes_the_date_of_a_certificate(mesh: ManagedMesh) -> None:
    """The authority signed it at that time: so it is that time or later, and the neighbour is let in."""
    power_cut(mesh, hours=8)
    mesh.run(30)
    assert mesh["b"].link_names == ["a"]
    assert abs(mesh["b"].runtime.member.wall() - mesh.wall()) < 1800
    mesh.run(3600)
    assert abs(mesh["b"].runtime.member.wall() - mesh.wall()) < 150
    assert mesh["b"].heartbeat.reachable


def test_a_neighbour_that_renews_while_the_status_is_old(mesh: ManagedMesh) -> None:
    """A clock that is set back is late by the age of the newest status; nobody is cut off for it."""
    mesh["b"].skew = -mesh.wall()
    mesh.authority.status_life = 4 * 3600
    mesh["b"].restart()
    mesh.run(1.9 * HOUR)
    mesh["b"].restart()
    renew(mesh, "a")
    mesh["a"].restart()
    mesh.run(60)
    assert mesh["b"].link_names == ["a"]


def test_a_clock_late_by_the_age_of_a_status_loses_no_route(mesh: ManagedMesh) -> None:
    """Half an hour at most: what others tell of themselves now is believed all the same."""
    mesh.run(1650)
    assert mesh.authority.status.body.issued_at < mesh.wall() - 1600
    mesh["b"].skew = -mesh.wall()
    mesh["b"].restart()
    mesh.run(60)
    assert mesh["b"].runtime.member.clock_behind() > 1000
    assert mesh["b"].reaches("a")
    assert mesh["a"].reaches("b")


def test_a_status_outdoes_the_date_of_a_certificate(mesh: ManagedMesh) -> None:
    """The authority's clock was a day ahead for a moment: who knows a status believes no such certificate."""
    with patch.object(mesh.issuer, "_wall", lambda: mesh.wall() + 86400):
        ahead = mesh.issuer.renew(mesh["a"].enrolled).certificate
    mesh["b"].restart()
    member, trust = mesh["b"].runtime.member, mesh["b"].runtime.member.trust
    trust.offer(mesh.issuer.publish_status(), mesh.wall())
    with pytest.raises(PeerRefused, match="starts in"):
        trust.judge_certificate(ahead, member.wall())
    assert member.wall() == mesh.wall()


def test_a_date_that_proved_wrong_is_forgotten(mesh: ManagedMesh) -> None:
    """The next status sets the time right again, back as well as ahead."""
    with patch.object(mesh.issuer, "_wall", lambda: mesh.wall() + 86400):
        ahead = mesh.issuer.renew(mesh["a"].enrolled).certificate
    mesh["b"].restart()
    member, trust = mesh["b"].runtime.member, mesh["b"].runtime.member.trust
    trust.judge_certificate(ahead, member.wall())
    assert member.wall() == ahead.body.issued_at
    trust.offer(mesh.issuer.publish_status(), member.wall())
    assert member.wall() == mesh.wall()


def test_a_date_that_somebody_else_signed_says_nothing(mesh: ManagedMesh) -> None:
    """A stranger's certificate from the future moves no clock."""
    stranger = MemoryAuthority(lambda: mesh.wall() + 3600, Random(1))
    foreign = stranger.enrol("x", "anchor").certificate
    mesh["b"].restart()
    member = mesh["b"].runtime.member
    with pytest.raises(PeerRefused, match="another network"):
        member.trust.judge_certificate(foreign, member.wall())
    forged = sign_document(replace(foreign.body, network_id=mesh.issuer.network_id), [stranger.authority])
    with pytest.raises(PeerRefused):
        member.trust.judge_certificate(forged, member.wall())
    assert member.wall() == mesh.wall()
