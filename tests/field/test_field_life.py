# SPDX-License-Identifier: MIT
"""What other meshes were seen to get wrong, on whole nodes in memory: each test is named after its row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node.managed_mesh import ManagedMesh, managed_line

from gmesh.errors import SendRefused


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c; a is the anchor."""
    with managed_line(seed=31, settle=60) as made:
        yield made


def send(mesh: ManagedMesh, source: str, target: str) -> str:
    try:
        mesh.result(mesh[source].runtime.datagrams.send(target, "log", b"x", timeout=5))
    except SendRefused as refusal:
        return refusal.reason
    return "delivered"


def test_field_t5_a_revoked_node_is_cut_and_every_node_shows_the_new_number(mesh: ManagedMesh) -> None:
    """Within a second of the revocation, two hops from the anchor that heard of it."""
    mesh["a"].runtime.datagrams.register("log", lambda message: None)
    assert send(mesh, "c", "a") == "delivered"
    mesh.authority.revoke_node(mesh["c"].enrolled)
    mesh.run(1)
    number = mesh.authority.crl.body.number
    assert [mesh[name].runtime.member.numbers()["crl"] for name in "ab"] == [number, number]
    assert mesh["b"].link_names == ["a"]
    assert not mesh["a"].reaches("c")
    assert send(mesh, "c", "a") != "delivered"


def test_field_t9_a_peer_that_never_answers_delays_nothing() -> None:
    """The first heartbeat comes as if the peer were not listed."""
    mesh = ManagedMesh(seed=32)
    mesh.add("a", "anchor")
    mesh.network.unreachable.add(mesh["a"].host)
    mesh.add("b", "relay", peers=["a"])
    mesh["b"].start()
    mesh.run(0.1)
    assert "b" in mesh.authority.heard
    assert mesh["b"].heartbeat.reachable
    mesh.result(mesh["b"].stop())


def test_field_l1_a_restarted_relay_is_back_within_ten_seconds(mesh: ManagedMesh) -> None:
    """Nobody does anything about it."""
    mesh["b"].restart()
    assert mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"), within=10) <= 10


def test_field_l2_a_renewal_survives_a_restart(mesh: ManagedMesh) -> None:
    """The new certificate was on disk before it was used."""
    mesh["c"].heartbeat._renew_point = 0.0
    mesh["c"].heartbeat.soon()
    mesh.run(30)
    serial = mesh["c"].runtime.member.peer.serial
    assert serial > mesh["c"].enrolled.certificate.body.serial
    mesh["c"].restart()
    assert mesh["c"].runtime.member.peer.serial == serial
    mesh.run_until(lambda: mesh["c"].reaches("a"), within=30)


def test_field_l7_everybody_knows_everybody_in_a_chain(mesh: ManagedMesh) -> None:
    """Within one flood, by name."""
    for node in mesh:
        known = {one.member.name for one in node.runtime.engine.nodes(mesh.now())}
        assert known == {"a", "b", "c"}


def test_field_r1_a_silent_death_is_known_within_sixteen_seconds(mesh: ManagedMesh) -> None:
    """At both nodes that are left; nothing circles until then."""
    mesh.silence("b", "c")
    took = mesh.run_until(lambda: not mesh["a"].reaches("c") and not mesh["b"].reaches("c"), within=20)
    assert took <= 16.5


def test_field_r1_a_closed_socket_is_known_within_a_second(mesh: ManagedMesh) -> None:
    """By the record of the neighbour that saw it."""
    mesh.network.unreachable.add(mesh["b"].host)
    mesh.cut("b", "c")
    assert mesh.run_until(lambda: not mesh["a"].reaches("c"), within=2) <= 1


def test_field_l8_the_result_of_a_send_is_what_became_of_it(mesh: ManagedMesh) -> None:
    """Delivered, no such service, no such node, no way: never "sent"."""
    assert send(mesh, "a", "c") == "no-such-service"
    assert send(mesh, "a", "nobody") == "unknown-node"
    mesh["c"].runtime.datagrams.register("log", lambda message: None)
    assert send(mesh, "a", "c") == "delivered"
    mesh.network.unreachable.add(mesh["b"].host)
    mesh.cut("b", "c")
    mesh.run(2)
    assert send(mesh, "a", "c") == "no-route"
