# SPDX-License-Identifier: MIT
"""An authority whose clock was hours or weeks ahead for a moment: no host follows it at once."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from node.managed_mesh import ManagedMesh

from gmesh.cli.doctor_documents import faults
from gmesh.node.doubted_time import TIME_STEP_SETTLE

DAY = 86_400
HOUR = 3600


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a, an anchor, and b, both of which have heard of the authority."""
    made = ManagedMesh(seed=23)
    made.add("a", "anchor")
    made.add("b", "client", peers=["a"])
    made.start()
    made.run_until(lambda: made["b"].reaches("a"))
    made.run(120)
    yield made
    made.stop()


def ahead(mesh: ManagedMesh, seconds: float) -> None:
    """The authority signs one status by a clock that is wrong."""
    with patch.object(mesh.issuer, "_wall", lambda: mesh.wall() + seconds):
        mesh.issuer.publish_status()


def off(mesh: ManagedMesh, name: str) -> float:
    """Seconds by which a node's time is ahead."""
    return mesh[name].runtime.member.wall() - mesh.wall()


@pytest.mark.parametrize("seconds", [2 * HOUR, 40 * DAY])
def test_d2_one_wrong_clock_of_the_authority_is_not_everybodys(mesh: ManagedMesh, seconds: float) -> None:
    ahead(mesh, seconds)
    mesh.run(90)
    for name in ("a", "b"):
        assert off(mesh, name) < HOUR
        assert "time-jump" in mesh[name].runtime.faults()
        (finding,) = faults(["time-jump"])
        assert "authority's" in finding.advice
    assert mesh["b"].link_names == ["a"], "no link is cut"
    mesh["b"].restart()
    mesh.run(30)
    assert off(mesh, "b") < HOUR and mesh["b"].link_names == ["a"], "nor does a restart believe it"
    mesh.issuer.publish_status()
    mesh.run(120)
    for name in ("a", "b"):
        assert mesh[name].runtime.faults() == []
        assert off(mesh, name) < 1
    mesh.run(2 * TIME_STEP_SETTLE)
    assert off(mesh, "a") < 1


def test_d2_a_certificate_dated_ahead_moves_no_clock_either(mesh: ManagedMesh) -> None:
    ahead(mesh, 2 * HOUR)
    mesh.run(90)
    with patch.object(mesh.issuer, "_wall", lambda: mesh.wall() + 2 * HOUR):
        early = mesh.issuer.renew(mesh["a"].enrolled).certificate
    member = mesh["b"].runtime.member
    with pytest.raises(Exception, match="starts in"):
        member.trust.judge_certificate(early, member.wall())
    assert off(mesh, "b") < HOUR


def test_d2_a_time_that_nobody_takes_back_counts_in_the_end(mesh: ManagedMesh) -> None:
    """Then it is this host's clock that is late, and was plausible before."""
    mesh["b"].skew = -3 * HOUR
    member = mesh["b"].runtime.member
    member.state.time_floor -= 3 * HOUR
    assert off(mesh, "b") < -2 * HOUR
    mesh.issuer.publish_status()
    mesh.run(120)
    assert off(mesh, "b") < -2 * HOUR and "time-jump" in mesh["b"].runtime.faults()
    mesh.run(TIME_STEP_SETTLE)
    assert abs(off(mesh, "b")) < 150


def test_d2_a_host_without_a_time_of_its_own_takes_the_first(mesh: ManagedMesh) -> None:
    """No battery, off for days: what it was told first is all that it has."""
    mesh.result(mesh["b"].stop())
    mesh.run(3 * HOUR)
    mesh["b"].skew = -mesh.wall()
    mesh["b"].restart()
    mesh.run(120)
    assert abs(off(mesh, "b")) < 1800 and mesh["b"].runtime.faults() == []
