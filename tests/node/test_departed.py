# SPDX-License-Identifier: MIT
"""Nodes that are members no more: what is told of them, and that it outlives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh

from gmesh.errors import RequestRefused, SendRefused
from gmesh.mesh.limits import MAX_DEPARTED
from gmesh.mesh.members import Departed, FormerMembers
from gmesh.mesh.peer_identity import peer_of
from gmesh.node.api.whois import whois
from gmesh.node.node_state import NodeState
from gmesh.testing.issuer import Issuer
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.state import TrustState


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b and c - b, all known to each other; c is for ten minutes only, and renews after five."""
    made = ManagedMesh(seed=72)
    made.add("a", "anchor")
    made.add("b", "relay", peers=["a"])
    made.add("c", "client", peers=["b"], lifetime=600)
    made.start()
    made.run_until(lambda: made["a"].reaches("c") and made["b"].reaches("c"))
    yield made
    for node in made:
        if node.running:
            node.stop()
    made.run(30)


def told_by_b(mesh: ManagedMesh, text: str = "c") -> dict[str, Any]:
    return whois(mesh["b"].runtime, text)


def ended(mesh: ManagedMesh) -> int:
    """Stop c and live on until its certificate has ended; when that was."""
    end = mesh["c"].not_after
    mesh.result(mesh["c"].stop())
    mesh.run(end + CERTIFICATE_LEEWAY + 10 - mesh.wall())
    return end


def test_a_revoked_node_is_told_of_after_a_restart(mesh: ManagedMesh) -> None:
    """The same as before it, though no certificate of it is held any more."""
    crl = mesh.authority.revoke(mesh["c"].enrolled)
    mesh.run(90)
    before = told_by_b(mesh)
    assert before["revoked"] and not before["expired"]
    assert before["node_id"] == mesh["c"].enrolled.node_key.key_id
    assert before["revocation"]["crl_number"] == crl.body.number
    mesh["b"].restart()
    assert told_by_b(mesh) == before
    assert told_by_b(mesh, before["node_id"][:10]) == before


def test_a_node_whose_certificate_ended(mesh: ManagedMesh) -> None:
    """When it ended is told, also to whoever sends to it, and after a restart; it is not revoked."""
    end = ended(mesh)
    for _ in range(2):
        told = told_by_b(mesh)
        assert (told["expired"], told["revoked"], told["certificate"]["not_after"]) == (True, False, end)
        assert (told["roles"], told["reachable"], told["revocation"]) == (["client"], False, None)
        with pytest.raises(SendRefused) as refused:
            mesh.result(mesh["b"].runtime.datagrams.send("c", "log", b"x", timeout=5))
        assert refused.value.reason == "expired"
        mesh["b"].restart()


def test_one_that_ended_and_is_revoked_later(mesh: ManagedMesh) -> None:
    """By the CRL that says so, known since it came."""
    ended(mesh)
    mesh.authority.revoke(mesh["c"].enrolled)
    before = mesh.wall()
    mesh.run(90)
    told = told_by_b(mesh)
    assert told["expired"] and told["revoked"]
    assert told["revocation"]["known_at"] >= int(before)


def test_one_that_is_back(mesh: ManagedMesh) -> None:
    """A new certificate makes it a member as any other."""
    ended(mesh)
    mesh["b"].runtime.directory.add(mesh.issuer.renew(mesh["c"].enrolled).certificate)
    told = told_by_b(mesh)
    assert (told["expired"], told["revoked"]) == (False, False)
    assert told["node_key"] is not None
    assert "c" not in mesh["b"].runtime.member.state.departed


def test_beginnings(mesh: ManagedMesh) -> None:
    """A name that departed goes before the beginning of a member's name; of several departed it tells."""
    departed = mesh["b"].runtime.directory.former
    for name in ("pump", "pump-1", "pump-2"):
        departed.gone(peer_of(mesh.issuer.enrol(name, "client").certificate), mesh.wall())
    mesh["b"].runtime.directory.add(mesh.issuer.enrol("pump-3", "client").certificate)
    assert told_by_b(mesh, "pump")["name"] == "pump"
    assert told_by_b(mesh, "pump-3")["name"] == "pump-3"
    assert told_by_b(mesh, "pump-2")["name"] == "pump-2"
    departed.back("pump")
    assert told_by_b(mesh, "pump")["name"] == "pump-3"
    departed.gone(peer_of(mesh.issuer.enrol("valve-1", "client").certificate), mesh.wall())
    departed.gone(peer_of(mesh.issuer.enrol("valve-2", "client").certificate), mesh.wall())
    with pytest.raises(RequestRefused, match="valve-1, valve-2"):
        told_by_b(mesh, "valve")
    with pytest.raises(RequestRefused, match="no node is known"):
        told_by_b(mesh, "")


def test_the_own_certificate(mesh: ManagedMesh) -> None:
    """A node that is revoked says so of itself, by its name."""
    assert mesh["b"].runtime.member.standing() == "valid"
    mesh.authority.revoke(mesh["b"].enrolled)
    mesh.run(90)
    told = told_by_b(mesh, "b")
    assert (told["revoked"], told["path"]) == (True, ["b"])
    assert mesh["b"].runtime.member.standing() == "revoked"


def test_the_own_certificate_that_ended(mesh: ManagedMesh) -> None:
    """With nobody to renew it, a node knows that it is no member any more."""
    assert mesh["c"].runtime.member.standing() == "valid"
    ended(mesh)
    assert mesh["c"].runtime.member.standing() == "expired"


def test_the_last_to_go_are_kept() -> None:
    """Up to a number."""
    issuer = Issuer(lambda: 1e9, Random(1))
    departures = FormerMembers(TrustState(issuer.network_id, [issuer.genesis]))
    peer = peer_of(issuer.enrol("x", "client").certificate)
    for number in range(MAX_DEPARTED + 3):
        departures.gone(replace(peer, name=f"n{number}"), 0)
    assert list(departures.nodes) == [f"n{number}" for number in range(3, MAX_DEPARTED + 3)]


def test_nonsense_is_not_remembered() -> None:
    """Damaged entries of state.json cost themselves only; the rest is written and read as it was."""
    good = Departed("0" * 32, 3, ("client",), 1, 0, 9, 5, 2)
    state = NodeState(departed={"x": good})
    value = state.to_dict()
    value["departed"] |= {"y": {"serial": "3"}, "z": 3, "w": value["departed"]["x"] | {"roles": [1]}}
    assert NodeState.from_dict(value).departed == {"x": good}
