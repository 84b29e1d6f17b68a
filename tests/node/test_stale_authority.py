# SPDX-License-Identifier: MIT
"""An authority, or somebody in its place, that shows old, frozen or mixed documents: refused and told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs
from node.managed_mesh import ManagedMesh
from twisted.logger import capturedLogs

from gmesh.trust.documents import sign_document
from gmesh.trust.state import Freshness


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    made = ManagedMesh(seed=51)
    made.add("a", "client")
    made.start()
    made.run(90)
    yield made
    made.stop()


def test_rollback(mesh: ManagedMesh) -> None:
    """An older status and an older CRL change nothing; one line says so."""
    authority, trust = mesh.authority, mesh["a"].runtime.member.trust
    status, crl = authority.status, authority.crl
    authority.revoke(authority.enrol("x", "client"))
    mesh.run(90)
    held = trust.status
    authority.status, authority.crl = status, crl
    with capturedLogs() as lines:
        mesh.run(200)
    assert (trust.status, trust.crl) == (held, trust.crl)
    assert trust.crl is not crl
    causes = [str(event.get("cause")) for event in lines]
    assert sum("is the least to be believed" in cause for cause in causes) == 1
    assert not mesh["a"].heartbeat.reachable


def test_freeze(mesh: ManagedMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same status for ever: after its hour the node counts as out of touch, and its age grows."""
    authority, node = mesh.authority, mesh["a"]
    frozen = authority.status
    monkeypatch.setattr(authority, "_make_status", lambda: frozen)
    with capturedLogs() as lines:
        mesh.run(2 * 3600)
    assert node.runtime.member.trust.freshness(mesh.wall()) is Freshness.STALE
    assert not node.heartbeat.reachable
    age = node.heartbeat.age()
    assert age is not None
    assert age > 3000
    assert sum("holds newer ones back" in str(event.get("cause")) for event in lines) == 1
    monkeypatch.undo()
    mesh.run(130)
    assert node.heartbeat.reachable


def test_mix_and_match(mesh: ManagedMesh) -> None:
    """A policy that is not the one the status names is refused, with an alarm."""
    authority, trust = mesh.authority, mesh["a"].runtime.member.trust
    held = trust.policy
    named = authority.publish_policy()
    authority.policy = sign_document(structs.replace(named.body, max_hops=3), [authority.authority])
    with capturedLogs() as lines:
        mesh.run(130)
    assert trust.policy is held
    assert any(event.get("slug") == "digest-mismatch" for event in lines)
    authority.policy = named
    mesh.run(130)
    assert trust.policy == named
