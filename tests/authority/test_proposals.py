# SPDX-License-Identifier: MIT
"""What may be proposed, what a proposal speaks of, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authority.network import Network
from authority.test_approvals import require, revoked, second_administrator
from authority.test_commands import Operator
from authority.test_true_now import fresh_key, text_of

from gmesh.trust.documents import Command, CommandTarget, document_from_dict, sign_document
from gmesh.trust.keys import SigningKey
from gmesh.trust.limits import MAX_NUMBER

COMMAND = ("POST /admin/commands", "POST /admin/policies")


@pytest.fixture
def second(network: Network) -> SigningKey:
    """The other administrator."""
    return second_administrator(network)


def waiting(network: Network) -> list[dict[str, Any]]:
    """What waits."""
    found: list[dict[str, Any]] = network.admin("GET", "/admin/approvals").json["approvals"]
    return found


def actions(network: Network) -> list[tuple[str, str]]:
    """Action and outcome of the audit's rows."""
    entries = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    return [(entry["row"]["action"], entry["row"]["outcome"]) for entry in entries]


def test_a7_a_proposal_is_shown_without_its_signature(network: Network, second: SigningKey) -> None:
    """Nobody can take a command from the list; who approves what the list shows approves the signed one."""
    require(network, 2, *COMMAND)
    operator = Operator(network)
    shutdown = operator.command(command="shutdown")
    assert operator.give(shutdown).status == 202
    (shown,) = waiting(network)
    one = network.admin("GET", f"/admin/approvals/{shown['id']}", key=network.keys.reader)
    signature = shutdown.as_dict()["signatures"][0]["signature"]
    for text in (json.dumps(shown), one.body.decode(), network.admin("GET", "/admin/commands").body.decode()):
        assert signature not in text
    assert shown["body"] == {"command": {**shutdown.as_dict(), "signatures": []}}
    assert network.admin("POST", "/admin/commands", shown["body"], second).status == 201
    published = network.admin("GET", f"/admin/commands/{shutdown.body.id}").json["command"]
    signers = {signer for signer, _ in document_from_dict(published, Command).signatures}
    assert signers == {network.keys.admin.key_id, network.keys.authority.key_id}


def test_a12_nobody_proposes_what_they_may_not_do(network: Network, second: SigningKey) -> None:
    """A reader's shutdown, another's key, garbage, a node that is not there: refused, and nothing waits."""
    require(network, 2, *COMMAND, "POST /admin/revocations", "POST /admin/invites")
    reader, operator = network.keys.reader, Operator(network)
    assert operator.give(operator.command(reader, command="shutdown"), reader).slug == "forbidden-role"
    assert operator.give(operator.command(reader, number=MAX_NUMBER), reader).slug == "conflict"
    replace = f"/admin/operators/{second.key_id}"
    assert network.admin("POST", replace, {"key": fresh_key(network)}, reader).slug == "forbidden-role"
    for _ in range(10):
        network.clock.advance(60)
        garbage = {"command": {"signed": {"type": "command"}, "signatures": []}}
        assert network.admin("POST", "/admin/commands", garbage, reader).slug == "invalid-field"
    assert network.admin("POST", "/admin/revocations", {"node": "nobody"}).slug == "not-found"
    assert network.admin("POST", "/admin/policies", {"text": {"rules": "all"}}).slug == "invalid-field"
    assert waiting(network) == []


def test_a12_a_key_has_few_proposals_open(network: Network, second: SigningKey) -> None:
    """Eight; the ninth waits until one was withdrawn, is done or has ended; others have room of their own."""
    require(network, 2, "POST /admin/invites")

    def propose(key: SigningKey | None = None) -> Any:
        body = {"invite_key": fresh_key(network), "name": "p", "roles": ["client"]}
        return network.admin("POST", "/admin/invites", body, key)

    first, *_ = [propose().json["id"] for _ in range(8)]
    assert propose().slug == "conflict"
    assert propose(second).status == 202
    assert network.admin("DELETE", f"/admin/approvals/{first}").status == 204
    assert propose().status == 202 and propose().slug == "conflict"
    network.clock.advance(86_401)
    assert propose().status == 202


def test_a12_a_proposal_is_found_by_its_id_and_withdrawn_by_its_proposer(
    network: Network, second: SigningKey
) -> None:
    """Not by anybody else; what is gone is not found."""
    require(network, 2, "POST /admin/backup")
    name = network.admin("POST", "/admin/backup").json["id"]
    target = f"/admin/approvals/{name}"
    (listed,) = waiting(network)
    assert network.admin("GET", target, key=network.keys.reader).json == listed
    assert listed["proposed_by"] == network.keys.admin.key_id
    assert network.admin("DELETE", target, key=second).slug == "forbidden-role"
    assert network.admin("DELETE", target).status == 204
    assert network.admin("GET", target).slug == network.admin("DELETE", target).slug == "not-found"
    assert actions(network).count(("withdraw-approval", "done")) == 1
    assert network.admin("POST", "/admin/backup", key=second).status == 202, (
        "a vote for it counts for nothing"
    )


def test_a12_a_refused_vote_leaves_nothing_of_the_action(network: Network, second: SigningKey) -> None:
    """What is tried to see whether it could be done is undone: documents, files and all."""
    require(network, 2, *COMMAND, "POST /admin/backup")
    before = {path: path.read_bytes() for path in network.path.glob("genesis*.json")}
    policy = network.ask("GET", "/policy").body
    assert network.admin("POST", "/admin/policies", {"text": text_of(network)}).status == 202
    first = network.genesis
    body = msgspec.structs.replace(
        first.body, version=2, network_id=network.network_id, previous=first.digest
    )
    genesis = {"genesis": sign_document(body, [network.keys.root]).as_dict()}
    assert network.admin("POST", "/admin/genesis", genesis).status == 202
    assert network.admin("POST", "/admin/backup").status == 202
    assert network.ask("GET", "/policy").body == policy
    assert network.ask("GET", "/genesis").body == first.encode()
    assert {path: path.read_bytes() for path in network.path.glob("genesis*.json")} == before
    assert not (network.path / "backups").exists()
    assert {"publish-policy", "publish-genesis", "backup"}.isdisjoint(
        action for action, _ in actions(network)
    )
    shown = next(row["body"] for row in waiting(network) if row["target"] == "/admin/genesis")
    assert shown["genesis"]["signatures"] == []
    assert network.admin("POST", "/admin/genesis", shown, second).status == 201
    assert json.loads((network.path / "genesis.json").read_bytes())["signed"]["version"] == 2


def test_a13_a_policy_proposed_before_another_was_published_ends(
    network: Network, second: SigningKey
) -> None:
    """Who approves it is told, and it is gone; proposed anew it may be approved."""
    require(network, 2, "POST /admin/policies")
    old, emergency = text_of(network), text_of(network)
    emergency["rules"] = []
    assert network.admin("POST", "/admin/policies", {"text": old}).status == 202
    for key in (None, second):
        answer = network.admin("POST", "/admin/policies", {"text": emergency}, key)
    assert answer.status == 201
    late = network.admin("POST", "/admin/policies", {"text": old}, second)
    assert late.slug == "conflict" and "policy has changed" in late.json["detail"]
    assert text_of(network)["rules"] == [] and waiting(network) == []
    assert ("end-approval", "done") in actions(network)
    assert network.admin("POST", "/admin/policies", {"text": old}, second).status == 202
    assert network.admin("POST", "/admin/policies", {"text": old}).status == 201


def test_a13_a_vote_for_a_name_that_changed_hands_ends(network: Network, second: SigningKey) -> None:
    """pump-1 was another node when its revocation was proposed."""
    network.joined("pump-1")
    require(network, 2, "POST /admin/revocations")
    order = {"node": "pump-1", "reason": "superseded"}
    assert network.admin("POST", "/admin/revocations", order).status == 202
    other = {"node": "pump-1"}
    assert network.admin("POST", "/admin/revocations", other, second).status == 202
    assert network.admin("POST", "/admin/revocations", other).status == 201
    network.joined("pump-1")
    late = network.admin("POST", "/admin/revocations", order, second)
    assert late.slug == "conflict" and "node_id has changed" in late.json["detail"]
    assert revoked(network) == []
    assert network.admin("POST", "/admin/revocations", order, second).status == 202


def test_a13_no_vote_for_an_enrolment_before_a_host_has_asked(network: Network, second: SigningKey) -> None:
    """Nor for other keys than those that ask now."""
    member = network.invite("pump-1", approve=True)
    require(network, 2, "POST /admin/enrolments/<id>", "POST /admin/invites")
    (invite,) = network.admin("GET", "/admin/invites").json["invites"]
    target = f"/admin/enrolments/{invite['id']}"
    approve = {"decision": "approve", "node_id": member.node.key_id}
    assert network.admin("POST", target, approve).slug == "not-found"
    assert network.join(member).status == 202
    assert network.admin("POST", target, approve).status == 202
    (shown,) = waiting(network)
    assert shown["speaks_of"]["name"] == "pump-1"
    assert len(shown["speaks_of"]["node_key"]) == len(shown["speaks_of"]["noise_key"]) == 43
    assert network.admin("POST", target, approve, second).status == 200
    assert network.join(member).status == 201


def test_a13_a_command_proposed_under_another_policy_ends(network: Network, second: SigningKey) -> None:
    """The policy decides who may give it, and the node is the one that had the name."""
    network.joined("pump-1")
    require(network, 2, *COMMAND)
    operator = Operator(network)
    command = operator.command(target=CommandTarget(node="pump-1"))
    assert operator.give(command).status == 202
    (shown,) = waiting(network)
    assert shown["speaks_of"].keys() == {"policy", "node_id"}
    for key in (None, second):
        answer = network.admin("POST", "/admin/policies", {"text": text_of(network)}, key)
    assert answer.status == 201
    late = network.admin("POST", "/admin/commands", shown["body"], second)
    assert late.slug == "conflict" and "policy has changed" in late.json["detail"]


def test_a_restore_ends_what_waited(network: Network, second: SigningKey, tmp_path: Path) -> None:
    """A vote that was withdrawn after the backup does not come back with it."""
    require(network, 2)
    body = {"key": fresh_key(network), "role": "administer"}
    proposed = network.admin("POST", "/admin/operators", body)
    backup = network.path / "backups" / network.admin("POST", "/admin/backup").json["file"]
    assert network.admin("DELETE", f"/admin/approvals/{proposed.json['id']}").status == 204
    for name in ("crl", "policy"):
        (tmp_path / name).write_bytes(network.ask("GET", f"/{name}").body)
    network.stop()
    network.restore(backup, [tmp_path / "crl"], [tmp_path / "policy"])
    network.clock.advance(1)
    network.start()
    assert waiting(network) == []
    assert network.admin("POST", "/admin/operators", body, second).status == 202
