# SPDX-License-Identifier: MIT
"""A changed policy changes what running nodes do, at both ends and at relays, without a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node.managed_mesh import ManagedMesh, managed_line
from twisted.logger import capturedLogs

from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.node.minimum_version import parse_version
from gmesh.node.runtime import SOFTWARE
from gmesh.testing.issuer import ALLOW_ALL
from gmesh.trust.documents import Rule
from gmesh.trust.state import Freshness

BOUND = 2.0
"""Seconds from publication until every node of three in a line does what the policy says."""


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    with managed_line(seed=11, settle=30) as made:
        yield made


def send(mesh: ManagedMesh, source: str, target: str, service: str = "log") -> str:
    """What becomes of a message: delivered, or the reason why not."""
    try:
        mesh.result(mesh[source].runtime.datagrams.send(target, service, b"x", timeout=5))
    except SendRefused as refusal:
        return refusal.reason
    return "delivered"


def test_field_l12_rules_services_and_roles(mesh: ManagedMesh) -> None:
    """L12: what the policy denies by service or role is refused at once; lifting it lets it through."""
    received: list[Message] = []
    mesh["a"].runtime.datagrams.register("log", received.append)
    mesh["a"].runtime.datagrams.register("shell", received.append)
    assert send(mesh, "c", "a") == "delivered"
    deny = Rule(effect="deny", sources=("role:client",), to=("*",), services=("shell",))
    mesh.authority.publish_policy(deny, ALLOW_ALL)
    mesh.run(BOUND)
    assert (send(mesh, "c", "a"), send(mesh, "c", "a", "shell")) == ("delivered", "denied")
    assert send(mesh, "b", "a", "shell") == "delivered"
    mesh.authority.publish_policy()
    mesh.run(BOUND)
    assert send(mesh, "c", "a", "shell") == "delivered"


def test_field_l12_max_hops(mesh: ManagedMesh) -> None:
    """A limit of one hop makes the far end too far, with the reason; a higher one brings it back."""
    mesh["a"].runtime.datagrams.register("log", lambda message: None)
    mesh.authority.publish_policy(max_hops=1)
    mesh.run(BOUND)
    assert send(mesh, "c", "a") == "too-far"
    mesh.authority.publish_policy(max_hops=4)
    mesh.run(BOUND)
    assert send(mesh, "c", "a") == "delivered"


def test_target_degree() -> None:
    """A node that knows of six anchors links to as many as the policy says, and to more when it says more."""
    mesh = ManagedMesh(seed=3)
    mesh.add("a0", "anchor")
    for name in ("a1", "a2", "a3", "a4", "a5"):
        mesh.add(name, "anchor", peers=["a0"])
    mesh.add("x", "client", peers=["a0"])
    mesh.authority.publish_policy(target_degree=2)
    mesh.start()
    mesh.run_until(lambda: mesh["x"].reaches("a1", "a2", "a3", "a4", "a5"))
    mesh.run(60)
    assert len(mesh["x"].link_names) == 2
    mesh.authority.publish_policy(target_degree=5)
    mesh.run_until(lambda: len(mesh["x"].link_names) == 5, within=30)
    mesh.run(60)
    assert len(mesh["x"].link_names) == 5
    mesh.stop()


def test_field_l12_min_version(mesh: ManagedMesh) -> None:
    """Links to nodes that are too old are closed at once and stay closed; lowering it heals the mesh."""
    with capturedLogs() as lines:
        mesh.authority.publish_policy(min_version="99.1")
        mesh.run(BOUND)
    assert [node.link_names for node in mesh] == [[], [], []]
    assert any("upgrade it" in event["log_format"] for event in lines)
    mesh.run(60)
    assert all(not node.runtime.engine.table(mesh.now()) for node in mesh)
    mesh.authority.publish_policy(min_version="0.1")
    mesh.run(130)
    assert mesh["a"].reaches("b", "c")


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagedMesh]:
    """a, b and c meet each other; b alone runs what is too old for the policy it does not hold yet."""
    made = ManagedMesh(seed=5)
    made.add("a", "anchor")
    with monkeypatch.context() as older:
        older.setattr("gmesh.node.runtime.SOFTWARE", "gmesh/0.0.9")
        made.add("b", "relay", peers=["a"])
    made.add("c", "client", peers=["a", "b"])
    yield made
    made.stop()


def test_only_the_old_node_is_barred(mixed: ManagedMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others judge what their neighbour runs, even if that one closes nothing; it says what it needs."""
    monkeypatch.setattr(mixed["b"].runtime._versions, "_judge", lambda link: None)
    mixed.start()
    mixed.run_until(lambda: len(mixed["a"].link_names) == len(mixed["c"].link_names) == 2)
    with capturedLogs() as lines:
        mixed.authority.publish_policy(min_version="0.1")
        mixed.run(BOUND)
    assert [node.link_names for node in mixed] == [["c"], [], ["a"]]
    assert [event["own"] for event in lines if "upgrade it" in event["log_format"]] == ["gmesh/0.0.9"]
    mixed.run(60)
    assert [node.link_names for node in mixed] == [["c"], [], ["a"]]
    assert not mixed["a"].reaches("b")


def test_an_old_node_that_starts_under_the_policy(mesh: ManagedMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downgraded under a policy it holds, it says at its start that it must be upgraded, before any link."""
    mesh.authority.publish_policy(min_version="0.1")
    mesh.run(BOUND)
    mesh["b"].kill()
    monkeypatch.setattr("gmesh.node.runtime.SOFTWARE", "gmesh/0.0.9")
    with capturedLogs() as lines:
        mesh["b"].restart()
    assert [event["own"] for event in lines if "upgrade it" in event["log_format"]] == ["gmesh/0.0.9"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("gmesh/1.4.2", (1, 4, 2)), ("1.10", (1, 10)), ("2.0.0", (2,)), ("0.1.0.dev3", (0, 1)), ("x", ())],
)
def test_versions_compare_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """1.10 is newer than 1.9, and 2.0 is 2."""
    assert parse_version(text) == numbers


def test_our_own_version_can_be_compared() -> None:
    """What HELLO says of us is a version."""
    assert parse_version(SOFTWARE) > ()


def test_field_l12_stale_grace(mesh: ManagedMesh) -> None:
    """Without a status for longer than the grace messages stop, links stay; its return heals it."""
    authority = mesh.authority
    mesh["a"].runtime.datagrams.register("log", lambda message: None)
    authority.publish_policy(stale_grace=2 * 3600)
    mesh.run(BOUND)
    assert send(mesh, "c", "a") == "delivered"
    authority.up = False
    mesh.run(2 * 3600)
    assert {node.runtime.member.trust.freshness(mesh.wall()) for node in mesh} == {Freshness.STALE}
    assert send(mesh, "c", "a") == "delivered"
    mesh.run(3700)
    assert send(mesh, "c", "a") == "stale"
    assert [node.link_names for node in mesh] == [["b"], ["a", "c"], ["b"]]
    assert mesh["c"].heartbeat.age() > 3 * 3600
    for name in ("b", "c"):
        mesh[name].line.open = False
    authority.up = True
    mesh.run(120)
    assert send(mesh, "c", "a") == "delivered", "one informed node is enough"


def test_authority_requests_pass_while_stale(mesh: ManagedMesh) -> None:
    """_authority by way of the anchor is what still works: renewal and heartbeat of a node without HTTP."""
    authority = mesh.authority
    authority.publish_policy(stale_grace=60)
    mesh.run(BOUND)
    mesh["c"].line.open = False
    status = authority.status
    mesh.run(60)
    for name in ("a", "b"):
        mesh[name].line.open = False
    mesh.run(3700)
    assert send(mesh, "c", "b") == "stale"
    authority.heard.clear()
    mesh["a"].line.forward_only = True
    mesh.run(130)
    assert "c" in authority.heard
    assert mesh["c"].runtime.member.trust.status.body.number > status.body.number


def test_services_are_told_to_everybody(mesh: ManagedMesh) -> None:
    """What has a receiver is in the node record; what lost it is not; gmesh's own never are."""

    def told() -> dict[str, tuple[str, ...]]:
        nodes = mesh["a"].runtime.engine.nodes(mesh.now())
        return {node.member.name: node.services for node in nodes}

    registration = mesh["c"].runtime.datagrams.register("log", lambda message: None)
    mesh["c"].runtime.datagrams.register("web", lambda message: None)
    mesh.run(10)
    assert told() == {"a": (), "b": (), "c": ("log", "web")}
    registration.unregister()
    mesh.run(10)
    assert told()["c"] == ("web",)


def test_a_revoked_node_is_told_as_revoked(mesh: ManagedMesh) -> None:
    """To send to it is refused as revoked, not as unknown; a name that was never there is unknown."""
    mesh.authority.revoke_node(mesh["c"].enrolled)
    mesh.run(BOUND)
    assert send(mesh, "a", "c") == "revoked"
    assert send(mesh, "a", "d") == "unknown-node"
