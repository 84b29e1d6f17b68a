# SPDX-License-Identifier: MIT
"""One command to fifty nodes, of which one is partitioned, one revoked and one off."""

from __future__ import annotations

from node.managed_mesh import ManagedMesh

from gmesh.mesh.limits import KeepaliveProfile

FLEET = 50
SLOW = KeepaliveProfile(ping_after=600.0, pong_within=60.0, dead_after=1800.0)


def test_receipts_of_fifty_nodes() -> None:
    """Receipts come within seconds; those of the absent when they are back, of the revoked never."""
    mesh = ManagedMesh(seed=41, profile=SLOW)
    mesh.add("a0", "anchor")
    mesh.add("a1", "anchor", peers=["a0"])
    names = [f"n{number}" for number in range(FLEET - 2)]
    for name in names:
        mesh.add(name, "client", peers=["a0", "a1"])
    mesh.start()
    mesh.run_until(lambda: all(len(mesh[name].link_names) == 2 for name in names), within=120)
    mesh.run(90)
    authority, (apart, barred, off) = mesh.authority, names[:3]
    mesh[apart].line.open = False
    for anchor in ("a0", "a1"):
        mesh.network.unreachable.add(mesh[anchor].host)
        mesh.cut(apart, anchor)
    authority.revoke_node(mesh[barred].enrolled)
    mesh.result(mesh[off].stop())
    mesh.run(5)
    command = authority.command("reload")
    mesh.run(6)
    told = {name: receipt for (one, name), receipt in authority.receipts.items() if one == command.body.id}
    assert set(told) == set(mesh.nodes) - {apart, barred, off}
    assert set(told.values()) == {("done", "reloaded")}
    mesh.network.unreachable.clear()
    mesh[apart].line.open = True
    mesh[off].runtime = mesh[off]._make()
    mesh[off].start()
    mesh.run(130)
    told = {name: receipt for (one, name), receipt in authority.receipts.items() if one == command.body.id}
    assert set(told) == set(mesh.nodes) - {barred}
    assert all(node.reloads == (node.name != barred) for node in mesh.nodes.values())
    mesh.stop()
    assert mesh.clock.getDelayedCalls() == []
