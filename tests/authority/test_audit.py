# SPDX-License-Identifier: MIT
"""What the audit says: each admission, change and refusal of an operator, in the words of one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from authority.state_files import POLICY_TEXT

from gmesh.trust.documents import AuthorityKey, Command, CommandTarget, sign_document
from gmesh.trust.encoding import b64url_encode

Row = tuple[str, str, str]
"""Who (admin, or a node's name), action, target."""


def invited(network: Any) -> list[Row]:
    network.invite("pump-1")
    return [("admin", "invite", "pump-1")]


def withdrawn(network: Any) -> list[Row]:
    invite = network.invite("pump-1").invite.key.key_id
    assert network.admin("DELETE", f"/admin/invites/{invite}").status == 204
    return [("admin", "withdraw-invite", "pump-1")]


def decided(decision: str) -> Callable[[Any], list[Row]]:
    def decide(network: Any) -> list[Row]:
        member = network.invite("pump-1", approve=True)
        assert network.join(member).status == 202
        target = f"/admin/enrolments/{member.invite.key.key_id}"
        asked = {"decision": decision, "node_id": member.node.key_id}
        assert network.admin("POST", target, asked).status == 200
        return [
            (member.node.key_id, "request-enrolment", "pump-1"),
            ("admin", f"{decision}-enrolment", "pump-1"),
        ]

    return decide


def joined(network: Any) -> list[Row]:
    member = network.joined("pump-1")
    return [(member.node.key_id, "join", "pump-1")]


def renewed(network: Any) -> list[Row]:
    member = network.joined("pump-1")
    assert network.renew(member, network.keys.noise()).status == 201
    return [(member.node.key_id, "renew", "pump-1")]


def revoked(network: Any) -> list[Row]:
    network.joined("pump-1")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    return [("admin", "revoke", "pump-1")]


def policy(network: Any) -> list[Row]:
    assert network.admin("POST", "/admin/policies", {"version": 1}).status == 201
    return [("admin", "publish-policy", "2")]


def operators(network: Any) -> list[Row]:
    first, second = network.keys.signing(), network.keys.signing()
    body = {"key": b64url_encode(first.public), "role": "read"}
    assert network.admin("POST", "/admin/operators", body).status == 201
    body = {"key": b64url_encode(second.public)}
    assert network.admin("POST", f"/admin/operators/{first.key_id}", body).status in (200, 201)
    assert network.admin("DELETE", f"/admin/operators/{second.key_id}").status == 200
    return [
        ("admin", "add-operator", first.key_id),
        ("admin", "operators-policy", "2"),
        ("admin", "replace-operator", first.key_id),
        ("admin", "operators-policy", "3"),
        ("admin", "remove-operator", second.key_id),
        ("admin", "operators-policy", "4"),
    ]


def genesis(network: Any) -> list[Row]:
    (entry,) = network.genesis.body.authority
    more = AuthorityKey(
        key=b64url_encode(network.keys.signing().public),
        valid_from=network.now + 9_000_000,
        valid_to=entry.valid_to,
    )
    body = msgspec.structs.replace(
        network.genesis.body,
        version=2,
        network_id=network.network_id,
        previous=network.genesis.digest,
        authority=(entry, more),
    )
    document = sign_document(body, [network.keys.root])
    assert network.admin("POST", "/admin/genesis", {"genesis": document.as_dict()}).status == 201
    return [("admin", "publish-genesis", "2")]


def backup(network: Any) -> list[Row]:
    assert network.admin("POST", "/admin/backup").status == 201
    return [("admin", "backup", "")]


def command(network: Any) -> list[Row]:
    text = {**POLICY_TEXT, "control": {"reload": "operate"}}
    assert network.admin("POST", "/admin/policies", {"text": text}).status == 201
    body = Command(
        network_id=network.network_id,
        id="c" * 32,
        number=1,
        command="reload",
        target=CommandTarget(all=True),
        arguments={},
        issued_at=network.now,
        expires_at=network.now + 60,
    )
    document = sign_document(body, [network.keys.admin])
    assert network.admin("POST", "/admin/commands", {"command": document.as_dict()}).status == 201
    return [("admin", "command", "reload")]


CHANGES = [
    invited,
    withdrawn,
    decided("approve"),
    decided("reject"),
    joined,
    renewed,
    revoked,
    policy,
    operators,
    genesis,
    backup,
    command,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__qualname__.split(".")[0])
def test_each_change_is_a_row(network: Any, change: Callable[[Any], list[Row]]) -> None:
    """Who, what, to what, and the request it came by; and the mirror says the same."""
    expected = change(network)
    entries = network.admin("GET", "/admin/audit").json["entries"]
    rows = [entry["row"] for entry in entries[-len(expected) :]]
    names = {network.keys.admin.key_id: "admin"}
    found = [(names.get(row["actor"], row["actor"]), row["action"], row["target"]) for row in rows]
    assert found == expected
    assert all(row["outcome"] == "done" and len(row["request_id"]) == 16 for row in rows)
    network.clock.advance(1)  # who follows a database that is shared writes the file
    mirrored = [json.loads(line) for line in (network.path / "audit.jsonl").read_text().splitlines()]
    assert mirrored == entries


def test_what_an_operator_was_refused_is_a_row(network: Any) -> None:
    """With the reason; and what a stranger was refused is not."""
    network.admin("DELETE", f"/admin/invites/{'0' * 32}")
    network.admin("POST", "/admin/policies", {"version": 1}, network.keys.operator)
    before = network.admin("GET", "/admin/audit").json["entries"]
    rows = [(entry["row"]["action"], entry["row"]["outcome"]) for entry in before[-2:]]
    assert rows == [
        ("DELETE /admin/invites/<id>", "refused: not-found"),
        ("POST /admin/policies", "refused: forbidden-role"),
    ]
    assert network.admin("DELETE", f"/admin/invites/{'0' * 32}", key=network.keys.signing()).status == 401
    assert network.join(network.member(network.keys.signing())).status == 403
    assert network.admin("GET", "/admin/audit").json["entries"] == before


def refusals(network: Any) -> list[dict[str, Any]]:
    """The audit's rows about what a reader was refused."""
    entries = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    rows = [entry["row"] for entry in entries]
    return [row for row in rows if row["actor"] == network.keys.reader.key_id]


def test_a26_refusals_in_a_loop_are_one_row_a_minute(network: Any) -> None:
    """Each counted, none lost when the daemon stops; what comes after a pause has a row of its own."""
    for _ in range(600):
        network.clock.advance(1)
        headers = network.signed(network.keys.reader, "POST", "/admin/backup")
        assert network.ask("POST", "/admin/backup", headers).slug == "forbidden-role"
    rows = refusals(network)
    assert 5 <= len(rows) <= 11
    said = {(row["action"], row["outcome"]) for row in rows}
    assert said == {("POST /admin/backup", "refused: forbidden-role")}
    network.restart()
    counted = [row.get("count", 1) for row in refusals(network)]
    assert sum(counted) == 600
    network.clock.advance(300)
    assert network.admin("POST", "/admin/backup", key=network.keys.reader).slug == "forbidden-role"
    assert "count" not in refusals(network)[-1] and refusals(network)[-1]["request_id"]


def test_a26_what_was_refused_is_not_answered_again(network: Any) -> None:
    """Also those that are only counted are used up: played again, the request is a replay."""
    for _ in range(3):
        headers = network.signed(network.keys.operator, "DELETE", f"/admin/invites/{'0' * 32}")
        assert network.ask("DELETE", f"/admin/invites/{'0' * 32}", headers).slug == "not-found"
        assert network.ask("DELETE", f"/admin/invites/{'0' * 32}", headers).slug == "replayed"
