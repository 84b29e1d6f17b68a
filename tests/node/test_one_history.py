# SPDX-License-Identifier: MIT
"""What a node makes of an authority that forgot, or is two: shown to it, told, and believed no further."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh
from node.memory_authority import MemoryAuthority
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from gmesh.cli.doctor_documents import faults
from gmesh.cli.doctor_findings import Level
from gmesh.mesh.limits import DIAL_TWIN_RETRY
from gmesh.node.metrics import NodeCollector
from gmesh.node.reactor_lag import ReactorLag
from gmesh.trust.limits import EPOCH
from gmesh.wire.messages import CloseReason


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    made = ManagedMesh(seed=5)
    made.add("a", "anchor")
    made.add("b", "client", peers=["a"])
    made.start()
    made.run_until(lambda: made["b"].reaches("a"))
    made.run(120)
    yield made
    made.stop()


class Bodies:
    """What heartbeats say."""

    def __init__(self, mesh: ManagedMesh) -> None:
        self.said: list[dict[str, Any]] = []
        signed = mesh.authority._signed

        def listen(method: str, target: str, headers: dict[str, str], data: bytes) -> Any:
            body, name = signed(method, target, headers, data)
            if "sent_ms" in body:
                self.said.append({"name": name, **body})
            return body, name

        mesh.authority._signed = listen  # type: ignore[method-assign]  # an ear at the door

    def of(self, name: str) -> dict[str, Any]:
        return [body for body in self.said if body["name"] == name][-1]


class Snapshot:
    """The authority as it was, to be put back."""

    def __init__(self, authority: MemoryAuthority) -> None:
        kept = ("_number", "_serial", "crl", "policy", "status", "_revoked_nodes", "_revoked_keys")
        self.authority = authority
        self.kept = {name: copy.copy(getattr(authority, name)) for name in kept}

    def put_back(self) -> None:
        for name, value in self.kept.items():
            setattr(self.authority, name, copy.copy(value))


def levels(mesh: ManagedMesh, name: str) -> set[Level]:
    return {finding.level for finding in faults(mesh[name].runtime.faults())}


def sample(mesh: ManagedMesh, name: str, metric: str) -> dict[str, float]:
    node = mesh[name]
    lag = ReactorLag(mesh.clock)  # type: ignore[arg-type]  # never started
    families = NodeCollector(node.runtime, node.heartbeat, lag).collect()
    return {
        "".join(each.labels.values()): each.value
        for family in families
        for each in family.samples
        if each.name == f"gmesh_node_{metric}"
    }


def test_a5_d1_an_authority_of_yesterday_is_shown_what_it_signed(mesh: ManagedMesh) -> None:
    traitor = mesh.issuer.enrol("traitor", "client")
    before = Snapshot(mesh.authority)
    mesh.authority.revoke(traitor, key=True)
    mesh.run(120)
    held = mesh["b"].runtime.member.trust.status
    assert held is not None
    bodies = Bodies(mesh)
    before.put_back()
    with capturedLogs() as events:
        mesh.run(3600)
    shown = bodies.of("b")
    assert shown["status"] == held.as_dict()
    assert "fell-back" in shown["faults"] and len(shown["boot_id"]) == 16
    assert mesh["a"].runtime.member.trust.revoked(traitor.certificate.body.serial, traitor.node_key.key_id)
    for name in ("a", "b"):
        assert levels(mesh, name) == {Level.FAIL}
        assert sample(mesh, name, "authority_fell_back") == {"": 1.0}
    assert len([e for e in events if "contradicts what it once signed" in e["log_format"]]) == 2
    assert len(events) < 40, "no loop of lines"


def test_d1_whoever_was_revoked_stays_so_when_the_numbers_catch_up(mesh: ManagedMesh) -> None:
    traitor = mesh.issuer.enrol("traitor", "client")
    before = Snapshot(mesh.authority)
    mesh.authority.revoke(traitor, key=True)
    mesh.run(120)
    before.put_back()
    with capturedLogs() as events:
        for number in range(12):
            mesh.authority.revoke(mesh.issuer.enrol(f"other-{number}", "client"))
            mesh.run(60)
    for name in ("a", "b"):
        trust = mesh[name].runtime.member.trust
        assert trust.status is not None and trust.status.body.number > before.kept["status"].body.number + 2
        assert trust.revoked(traitor.certificate.body.serial, traitor.node_key.key_id)
        assert "crl-fork" in mesh[name].runtime.faults()
        assert sample(mesh, name, "authority_alarms")["crl-fork"] >= 1
        assert mesh[name].link_names, "no neighbour is blamed"
    assert len([e for e in events if "alarm {slug}: " in e["log_format"]]) <= 2 * 3 * 16


def test_a6_two_statuses_of_one_number_are_a_fault_that_outlives_a_restart(mesh: ManagedMesh) -> None:
    bodies = Bodies(mesh)
    mesh.authority._number -= 1
    mesh.authority.publish_status()
    with capturedLogs() as events:
        mesh.run(1800)
    assert len([e for e in events if "alarm {slug}: " in e["log_format"]]) == 2, "one each"
    assert "digest-mismatch" in bodies.of("b")["faults"] and "status" in bodies.of("b")
    mesh["b"].restart()
    assert "digest-mismatch" in mesh["b"].runtime.faults()
    assert levels(mesh, "b") == {Level.FAIL}
    mesh.authority._number += EPOCH
    mesh.authority.publish_status()
    mesh.run(180)
    assert mesh["b"].runtime.faults() == []
    assert "status" not in bodies.of("b")


def test_a5_an_answer_that_a_newer_one_overtook_is_no_fault(mesh: ManagedMesh) -> None:
    """The long poll was quicker than the heartbeat."""
    node = mesh["a"]
    held = node.runtime.member.trust.status
    assert held is not None
    newer = mesh.authority.publish_status()
    node.runtime.member.trust.offer(newer, mesh.wall())
    mesh.result(Deferred.fromCoroutine(node.heartbeat._apply(held, held)))
    assert node.runtime.faults() == []


def test_c16_a_node_reports_which_neighbour_runs_twice(mesh: ManagedMesh) -> None:
    bodies = Bodies(mesh)
    for boot_id in (b"11111111", b"22222222", b"11111111"):
        mesh["b"].runtime._boot_id = boot_id
        mesh["b"].runtime.neighbours.close(CloseReason.SHUTDOWN)
        mesh.run(120)
        assert mesh["b"].link_names == ["a"]
    assert bodies.of("a")["faults"] == ["twin:b"]
    assert levels(mesh, "a") == {Level.WARN}
    assert sample(mesh, "a", "twins") == {"": 1.0}


def test_c16_a_node_that_is_refused_for_its_twin_reports_that(mesh: ManagedMesh) -> None:
    bodies = Bodies(mesh)
    for link in mesh["a"].runtime.links():
        link.close(CloseReason.TWIN)
    mesh.run(120)
    assert mesh["b"].link_names == []
    assert bodies.of("b")["faults"] == ["twin"]
    assert levels(mesh, "b") == {Level.FAIL}
    mesh.run(DIAL_TWIN_RETRY)
    assert mesh["b"].link_names == ["a"]
