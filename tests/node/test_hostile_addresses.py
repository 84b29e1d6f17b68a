# SPDX-License-Identifier: MIT
"""Addresses in a genesis, a command, a record and state.json are text of others: dialled, or counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh, ManagedNode
from node.memory_authority import MemoryAuthority
from trust.hostile_addresses import HOSTILE
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from gmesh.routing.limits import MAX_ADDRESSES
from gmesh.trust.address_scope import Scope

DEAD = "tcp:10.9.9.9:7443"


class LogCapture:
    """What is logged, a line each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))


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


def test_a_record_carries_addresses_of_every_kind(mesh: ManagedMesh) -> None:
    """An anchor behind a firewall is dialled as its record says: over TCP, TLS or WebSocket."""
    told = ("10.0.0.1:7443", "tls://10.0.0.1", "wss://a.example/mesh")
    mesh["a"].runtime.set_advertised(told)
    mesh.start()
    mesh.run_until(lambda: set(told) <= targets(mesh["c"]))
    assert counted(mesh["c"]) == 0


NEAR = (
    "127.0.0.1:22",
    "[::1]:1",
    "localhost:1",
    "169.254.169.254:80",
    "[fe80::1]:1",
    "wss://[fd00:ec2::254]/latest",
    "tls://[::ffff:127.0.0.1]",
    "0.0.0.0:1",
)


@pytest.mark.parametrize("text", NEAR)
def test_c1_no_record_leads_to_this_host_or_its_metadata(mesh: ManagedMesh, text: str) -> None:
    """Loopback, the link and the secrets of a cloud are counted and not dialled; an option lets them in."""
    mesh["a"].runtime.set_advertised((text,))
    mesh.start()
    mesh.run_until(lambda: counted(mesh["c"]))
    assert targets(mesh["c"]) == {mesh["b"].address}
    mesh["c"].runtime.lead_to(Scope.ANY)
    mesh.run_until(lambda: text in targets(mesh["c"]))


def test_c1_with_public_alone_no_record_leads_into_the_site(mesh: ManagedMesh) -> None:
    """A node in a plant that others shall not knock about in."""
    mesh["a"].runtime.set_advertised(("10.0.0.1:7443",))
    mesh["c"].runtime.lead_to(Scope.PUBLIC)
    mesh.start()
    mesh.run_until(lambda: counted(mesh["c"]))
    assert targets(mesh["c"]) == {mesh["b"].address}


def test_c1_no_command_leads_to_this_host(mesh: ManagedMesh) -> None:
    """What an operator's command names is judged as a record is; it stands, and is not dialled."""
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    mesh.authority.command("update-bootstrap", {"anchors": [anchor("x", "tcp:127.0.0.1:22")]}, node="c")
    mesh.run(10)
    assert "tcp:127.0.0.1:22" not in targets(mesh["c"]) and counted(mesh["c"]) == 1


def test_a_mesh_on_one_machine_needs_no_option(founded: ManagedMesh) -> None:
    """Where a genesis names an anchor at loopback, records may lead there too."""
    named = [("a", "tcp:127.0.0.1:7443")]
    founded.issuer = founded.authority = MemoryAuthority(founded.wall, founded.random, anchors=named)
    c = founded.add("d", "client").runtime
    c.engine.addresses = lambda role: [(bytes(8), "127.0.0.1:1")]
    c._dial_policy.look_for_anchors()
    assert {target.address for target in c.dialler.targets} == {"tcp:127.0.0.1:7443", "127.0.0.1:1"}


def test_an_endpoint_string_with_parameters_is_told_what_to_write(founded: ManagedMesh) -> None:
    """An anchor with parameters is passed over, with its new spelling in the log, once."""
    lines: list[str] = []
    observer = LogCapture(lines)
    named = [("a", "tls:a.example:8443:trustRoots=/etc/gmesh/ca")]
    founded.issuer = founded.authority = MemoryAuthority(founded.wall, founded.random, anchors=named)
    node = founded.add("d", "client")
    globalLogPublisher.addObserver(observer)
    try:
        node.runtime._dial_policy.tell()
        node.runtime._dial_policy.tell()
    finally:
        globalLogPublisher.removeObserver(observer)
    [line] = [line for line in lines if "trustRoots" in line]
    assert "write tls://a.example:8443" in line and "--tls-ca" in line


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
