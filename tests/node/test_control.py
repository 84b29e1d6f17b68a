# SPDX-License-Identifier: MIT
"""Operators' commands on whole nodes in memory: obeyed once where they are meant, answered, never forged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import ManagedMesh, managed_line
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from gmesh.errors import DocumentRefused, StoreError
from gmesh.interfaces import IControlCommand
from gmesh.node.control_commands import COMMANDS
from gmesh.trust.documents import Anchor, sign_document
from gmesh.wire.frames import Kind
from gmesh.wire.messages import DocumentPush


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """a - b - c, a an anchor that polls."""
    with managed_line(seed=5, settle=130) as made:
        yield made


def outcomes(mesh: ManagedMesh, command: Any) -> dict[str, tuple[str, str]]:
    receipts = mesh.authority.receipts
    return {name: receipt for (one, name), receipt in receipts.items() if one == command.body.id}


def test_every_command_provides_the_seam() -> None:
    """One function a command; the eight of the design are there."""
    assert all(verifyObject(IControlCommand, command) for command in COMMANDS)
    assert {command.name for command in COMMANDS} == {
        *("policy-update", "revoke-certificate", "revoke-node", "update-bootstrap"),
        *("shutdown", "reload", "log-level", "ping-report"),
    }


def test_field_l11_r6_a_command_reaches_every_node_and_is_answered_within_five_seconds(
    mesh: ManagedMesh,
) -> None:
    """From the one anchor that polls over two hops; each obeys once, each receipt arrives."""
    command = mesh.authority.command("reload")
    mesh.run(1)
    assert [node.reloads for node in mesh] == [1, 1, 1]
    mesh.run(4)
    assert outcomes(mesh, command) == {name: ("done", "reloaded") for name in "abc"}
    mesh.run(300)
    assert [node.reloads for node in mesh] == [1, 1, 1]
    assert all(node.runtime.control.receipts() == [] for node in mesh)


def test_targets(mesh: ManagedMesh) -> None:
    """A node, or a role; the others pass it on and leave it alone."""
    one = mesh.authority.command("reload", node="c")
    role = mesh.authority.command("reload", role="relay")
    mesh.run(5)
    assert [node.reloads for node in mesh] == [0, 1, 1]
    assert set(outcomes(mesh, one)) == {"c"}
    assert set(outcomes(mesh, role)) == {"b"}


def test_field_l11_obeyed_once_over_a_restart(mesh: ManagedMesh) -> None:
    """What a neighbour still passes on is known, also after a reboot."""
    mesh.authority.command("reload")
    mesh.run(5)
    mesh["c"].restart()
    mesh.run(30)
    assert mesh["c"].reloads == 1
    assert mesh["c"].runtime.counters()["command-replayed"] >= 1


def test_a_stop_in_between_is_reported(mesh: ManagedMesh) -> None:
    """Never obeyed twice: what was begun and not finished is told as failed after the restart."""
    command = mesh.authority.command("policy-update", {"version": 99}, node="c")
    mesh.run(3)
    mesh["c"].restart()
    mesh.run(10)
    assert outcomes(mesh, command) == {"c": ("failed", "the node stopped before it was done")}


def test_who_was_away_asks_for_it(mesh: ManagedMesh) -> None:
    """A node that was cut off from everybody gets the command by COMMAND_REQ from its neighbour."""
    mesh.result(mesh["c"].stop())
    command = mesh.authority.command("reload", lifetime=7200)
    mesh.run(600)
    mesh["c"].line.open = False
    mesh["c"].runtime = mesh["c"]._make()
    mesh["c"].start()
    mesh.run(60)
    assert mesh["c"].reloads == 1
    assert outcomes(mesh, command)["c"] == ("done", "reloaded"), "its receipt went through the anchor"


def test_an_expired_command_has_no_effect(mesh: ManagedMesh) -> None:
    """A partition that lasts longer than the command leaves its nodes alone; so does who says it late."""
    mesh.result(mesh["c"].stop())
    command = mesh.authority.command("reload", lifetime=60)
    mesh.run(300)
    mesh["c"].runtime = mesh["c"]._make()
    mesh["c"].start()
    mesh.run(60)
    assert mesh["c"].reloads == 0
    [neighbour] = [one for one in mesh["b"].runtime.neighbours if one.peer.name == "c"]
    neighbour.send(Kind.COMMAND, DocumentPush.of(command.body.number, command.encode()).encode())
    mesh.run(5)
    assert mesh["c"].reloads == 0
    assert mesh["c"].runtime.counters()["command-expired"] == 1


def test_field_t15_forged_and_unauthorised_commands(mesh: ManagedMesh) -> None:
    """A stranger's is dropped; of an operator whose role does not suffice the targets refuse, and say so."""
    authority = mesh.authority
    forged = authority.command("reload", signer=authority.new_key(), publish=False)
    with pytest.raises(DocumentRefused, match="not signed by any key"):
        mesh["b"].runtime.control.flood.offer(forged)
    weak = authority.command("reload", signer=authority.reader)
    mesh.run(10)
    assert [node.reloads for node in mesh] == [0, 0, 0]
    told = outcomes(mesh, weak)
    assert {outcome for outcome, _ in told.values()} == {"refused"}
    assert "role" in told["a"][1]


def test_field_t15_a_policy_that_comes_later_allows_it(mesh: ManagedMesh) -> None:
    """A command whose signer nobody knows yet waits for the policy that names him."""
    authority = mesh.authority
    newcomer = authority.new_key()
    command = authority.command("reload", signer=newcomer, publish=False)
    with pytest.raises(DocumentRefused, match="not signed by any key"):
        mesh["b"].runtime.control.flood.offer(command)
    authority.operator = newcomer
    authority.publish_policy()
    mesh.run(5)
    assert [node.reloads for node in mesh] == [1, 1, 1]


def test_documents_named_by_a_command(mesh: ManagedMesh) -> None:
    """policy-update, revoke-node and revoke-certificate answer when the document is in force."""
    authority = mesh.authority
    policy = authority.publish_policy()
    update = authority.command("policy-update", {"version": policy.body.version})
    crl = authority.revoke(mesh.issuer.enrol("x", "client"))
    revoke = authority.command("revoke-node", {"crl": crl.body.number})
    missing = authority.command("revoke-certificate", {"crl": 10**6}, node="c")
    mesh.run(6)
    assert set(outcomes(mesh, update).values()) == {("done", f"policy {policy.body.version}")}
    assert set(outcomes(mesh, revoke).values()) == {("done", f"crl {crl.body.number}")}
    mesh.run(40)
    assert outcomes(mesh, missing)["c"][0] == "failed"
    assert "did not come" in outcomes(mesh, missing)["c"][1]


def test_bootstrap_shutdown_log_level_and_ping(mesh: ManagedMesh) -> None:
    """Each takes effect on its target, and the receipt says what."""
    authority = mesh.authority
    levels: list[LogLevel] = []
    mesh["c"].runtime.control.node.set_log_level = levels.append
    anchors = [{"name": "a", "endpoint": "tcp:10.0.0.1:7443"}]
    commands = {
        "update-bootstrap": authority.command("update-bootstrap", {"anchors": anchors}, node="c"),
        "log-level": authority.command("log-level", {"level": "debug"}, node="c"),
        "ping-report": authority.command("ping-report", {"nodes": ["a", "nobody"]}, node="c"),
        "shutdown": authority.command("shutdown", node="c"),
    }
    mesh.run(10)
    told = {name: outcomes(mesh, command)["c"] for name, command in commands.items()}
    assert told["update-bootstrap"] == ("done", "1 anchors")
    assert mesh["c"].runtime.member.anchors() == (Anchor(name="a", endpoint="tcp:10.0.0.1:7443"),)
    assert "tcp:10.0.0.1:7443" in [target.address for target in mesh["c"].runtime.dialler.targets]
    assert told["log-level"] == ("done", "level debug")
    assert levels == [LogLevel.debug]
    assert told["ping-report"][1].startswith("a 4.")
    assert told["ping-report"][1].endswith("nobody unknown-node")
    assert told["shutdown"] == ("done", "stopping")
    assert mesh["c"].stopped
    authority.rotate_authority_key()
    mesh.run(130)
    assert mesh["c"].runtime.member.anchors() == (), "a newer genesis names others"


@pytest.mark.parametrize(
    ("name", "arguments", "detail"),
    [
        ("fly", {}, "this version does not know fly"),
        ("reload", {"now": True}, "reload takes no argument now"),
        ("policy-update", {}, "the argument version is missing"),
        ("policy-update", {"version": "1"}, "version of policy-update must be a number"),
        ("update-bootstrap", {"anchors": []}, "there must be 1 to 64 anchors"),
        (
            "update-bootstrap",
            {"anchors": [1]},
            'not an anchor: each is written {"name": "NAME", "endpoint": "HOST:PORT"}',
        ),
        ("log-level", {"level": "loud"}, "level must be one of debug, info, warn, error, critical"),
    ],
)
def test_bad_arguments_are_refused_in_a_receipt(
    mesh: ManagedMesh, name: str, arguments: dict[str, Any], detail: str
) -> None:
    """The operator reads which argument is wrong."""
    authority = mesh.authority
    command = authority.command(name, arguments, node="a", signer=authority.authority)
    mesh.run(5)
    assert outcomes(mesh, command) == {"a": ("refused", detail)}


def test_a_full_disk_obeys_nothing(mesh: ManagedMesh) -> None:
    """What could be obeyed twice is not obeyed at all."""
    mesh["b"].store.fault = StoreError("unwritable", "No space left on device")
    command = mesh.authority.command("reload", node="b")
    mesh.run(5)
    assert mesh["b"].reloads == 0
    assert outcomes(mesh, command)["b"][0] == "failed"
    mesh["b"].store.fault = None


def test_the_same_command_signed_again_is_the_same_command(mesh: ManagedMesh) -> None:
    """Another signature over it makes another document, not another order."""
    command = mesh.authority.command("reload", node="c")
    mesh.run(5)
    again = sign_document(command.body, [mesh.authority.operator, mesh.authority.authority])
    assert not mesh["b"].runtime.control.flood.offer(again)
    mesh.run(5)
    assert mesh["c"].reloads == 1
