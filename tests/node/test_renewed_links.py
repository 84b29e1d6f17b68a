# SPDX-License-Identifier: MIT
"""Links outlive the certificates and keys under which they were made."""

from __future__ import annotations

import pytest
from node.managed_mesh import ManagedMesh

from gmesh.mesh.limits import REDIAL_SPREAD


@pytest.mark.parametrize("renewing", ["a", "b"])
@pytest.mark.parametrize("rekeyed", [False, True])
def test_a_renewal_costs_no_moment_without_a_link(renewing: str, rekeyed: bool) -> None:
    """Under the same keys the link goes on; for a new Noise key there is another one before it ends."""
    mesh = ManagedMesh(seed=51)
    mesh.add("a", "anchor")
    mesh.add("b", "client", peers=["a"])
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("b") and mesh["b"].reaches("a"))
    node = mesh[renewing]
    before, first = node.runtime.member.certificate.body, mesh["b"].link("a")
    if rekeyed:
        node.runtime.member.state.noise_made_at = 1
    node.heartbeat._renew_point = 0.0
    node.heartbeat.soon()
    gaps = []

    def linked_throughout() -> bool:
        gaps.append(not (mesh["a"].link_names and mesh["b"].link_names))
        return mesh.now() >= end

    end = mesh.now() + REDIAL_SPREAD + 10
    mesh.clock.callLater(REDIAL_SPREAD + 10, lambda: None)
    mesh.run_until(linked_throughout, within=60)
    assert not any(gaps)
    after = node.runtime.member.certificate.body
    assert after.serial > before.serial
    assert (after.noise_key != before.noise_key) == rekeyed
    assert (mesh["b"].link("a") is not first) == rekeyed
    other = mesh["b" if renewing == "a" else "a"]
    assert other.link(renewing).peer.serial == after.serial
    mesh.stop()
