# SPDX-License-Identifier: MIT
"""Addresses in a genesis, a command, a record and state.json are text of others: dialled, or counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh, ManagedNode
from node.memory_authority import MemoryAuthority
from trust.hostile_addresses import HOSTILE

from gmesh.routing.limits import MAX_ADDRESSES

DEAD = "tcp:10.9.9.9:7443"


def anchor(name: str, endpoint: str) -> dict[str, Any]:
    return {"name": name, "endpoint": endpoint}


def targets(node: ManagedNode) -> set[str]:
    return {target.address for target in node.runtime.dialler.targets}


def counted(node: ManagedNode) -> int:
    return node.runtime.counters().get("address-not-dialled", 0)


def outcome(mesh: ManagedMesh, command: Any, name: str) -> tuple[str, str]:
    return mesh.authority.receipts[command.body.id, name]


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c, a an anchor; nobody has started."""
    made = ManagedMesh(seed=31)
    made.add("a", "anchor")
    made.add("b", "relay", peers=["a"])
    made.add("c", "client", peers=["b"])
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


@pytest.fixture
def founded() -> Iterator[ManagedMesh]:
    """The genesis names a, and others by hostile addresses; c knows nobody else, and has not started."""
    made = ManagedMesh(seed=32)
    named = [("a", "tcp:10.0.0.1:7443"), *((f"x{index}", text) for index, text in enumerate(HOSTILE))]
    made.issuer = made.authority = MemoryAuthority(made.wall, made.random, anchors=named)
    made.add("a", "anchor")
    made.add("c", "client")
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


def test_c1_odd_addresses_in_a_record_are_counted_and_the_record_stands(mesh: ManagedMesh) -> None:
    """The record is held and shown whole; of its addresses only the good one is dialled."""
    told = (*HOSTILE[2:5], "10.0.0.1:7443")
    assert len(told) == MAX_ADDRESSES
    mesh["a"].runtime.set_advertised(told)
    mesh.start()
    mesh.run_until(lambda: mesh["c"].link_names == ["a", "b"])
    assert targets(mesh["c"]) == {mesh["b"].address, "10.0.0.1:7443"}
    assert counted(mesh["c"]) == 3
    now = mesh["c"].runtime.now()
    [known] = [node for node in mesh["c"].runtime.engine.nodes(now) if node.member.name == "a"]
    assert set(known.addresses) == set(told)


def test_c1_a_record_that_comes_again_is_not_counted_again(mesh: ManagedMesh) -> None:
    """What stands there counts once; what replaces it counts anew."""
    mesh["a"].runtime.set_advertised(HOSTILE[:2])
    mesh.start()
    mesh.run_until(lambda: counted(mesh["c"]))
    mesh.run(120)
    assert counted(mesh["c"]) == 2
    mesh["a"].runtime.set_advertised((HOSTILE[0], HOSTILE[5]))
    mesh.run_until(lambda: counted(mesh["c"]) == 3, within=120)


def test_c1_tls_is_for_those_whom_a_genesis_names(mesh: ManagedMesh) -> None:
    """A record cannot have others speak TLS: no node ever told such an address."""
    mesh["a"].runtime.set_advertised(("tls:10.0.0.1:7443",))
    mesh.start()
    mesh.run_until(lambda: counted(mesh["c"]))
    assert targets(mesh["c"]) == {mesh["b"].address}


def test_c1_odd_anchors_of_a_genesis_are_counted_and_the_others_dialled(founded: ManagedMesh) -> None:
    """One release's anchors that another cannot dial split no fleet: the genesis is believed whole."""
    founded.start()
    founded.run_until(lambda: founded["c"].link_names == ["a"])
    assert targets(founded["c"]) == {"tcp:10.0.0.1:7443"}
    assert counted(founded["c"]) == len(HOSTILE)
    assert len(founded["c"].runtime.member.anchors()) == 1 + len(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE)
def test_c1_a_bootstrap_that_names_nothing_dialable_is_refused(mesh: ManagedMesh, text: str) -> None:
    """The receipt says why, nothing is stored, nothing dialled, also after a restart."""
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    command = mesh.authority.command("update-bootstrap", {"anchors": [anchor("x", text)]}, node="c")
    mesh.run(10)
    status, why = outcome(mesh, command, "c")
    assert status == "refused" and "none of the anchors" in why and "HOST:PORT" in why
    assert mesh["c"].runtime.member.state.bootstrap == {} == mesh["c"].store.state.bootstrap
    mesh["c"].restart()
    mesh.run(10)
    assert targets(mesh["c"]) <= {mesh["b"].address, mesh["a"].address}


def test_c1_a_bootstrap_stands_if_one_of_it_can_be_dialled(mesh: ManagedMesh) -> None:
    """The receipt says how many cannot; they are kept, for a later version may know them."""
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    named = [anchor("x", HOSTILE[0]), anchor("a", "tcp:10.0.0.1:7443")]
    command = mesh.authority.command("update-bootstrap", {"anchors": named}, node="c")
    mesh.run(10)
    assert outcome(mesh, command, "c") == ("done", "2 anchors, 1 of them at no address that is dialled")
    kept = [each["endpoint"] for each in mesh["c"].store.state.bootstrap["anchors"]]
    assert kept == [HOSTILE[0], "tcp:10.0.0.1:7443"]
    assert "tcp:10.0.0.1:7443" in targets(mesh["c"])


@pytest.mark.parametrize("endpoint", [DEAD, HOSTILE[0], HOSTILE[2], HOSTILE[3]])
def test_c1_the_anchors_of_the_genesis_stay_behind_a_bootstrap(founded: ManagedMesh, endpoint: str) -> None:
    """A state.json of an older release whose anchors do not answer, or are no addresses, cuts nobody off."""
    state = founded["c"].runtime.member.state
    state.bootstrap = {"genesis": 1, "anchors": [anchor("z", endpoint)]}
    founded.start()
    founded.run_until(lambda: founded["c"].link_names == ["a"])
    assert targets(founded["c"]) - {DEAD} == {"tcp:10.0.0.1:7443"}


def test_an_anchor_keeps_to_its_bootstrap_and_has_the_genesis_behind(founded: ManagedMesh) -> None:
    """To an anchor the others of a command are named targets, those of the genesis spares."""
    b = founded.add("b", "anchor")
    b.runtime.member.state.bootstrap = {"genesis": 1, "anchors": [anchor("z", DEAD)]}
    founded.start()
    founded.run_until(lambda: b.link_names == ["a"])
    spare = {target.address: target.spare for target in b.runtime.dialler.targets}
    assert spare[DEAD] is False and spare["tcp:10.0.0.1:7443"] is True


def test_c1_ten_thousand_odd_addresses_crowd_out_no_good_one(mesh: ManagedMesh) -> None:
    """However many anchors tell what nobody dials, each is counted; the one address after them is dialled."""
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    node = mesh["c"].runtime
    odd = [(index.to_bytes(8), f"{HOSTILE[3]}:{index}") for index in range(10_000)]
    told = [*odd, (bytes(8), "10.9.9.9:7443")]
    node.engine.addresses = lambda role: told
    node._dial_policy.follow_policy()
    node._dial_policy.look_for_anchors()
    assert counted(mesh["c"]) == len(odd)
    assert targets(mesh["c"]) == {mesh["b"].address, "10.9.9.9:7443"}
