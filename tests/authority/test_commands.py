# SPDX-License-Identifier: MIT
"""Commands and receipts: numbered, judged by the policy, handed to members, answered by signed receipts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.node.limits import RECEIPTS_A_HEARTBEAT
from gmesh.trust.documents import (
    Command,
    CommandReceipt,
    CommandTarget,
    Document,
    Status,
    add_signature,
    document_from_dict,
    parse_document,
    sign_document,
)
from gmesh.trust.keys import SigningKey
from gmesh.trust.signed_requests import NODE_TAG
from gmesh.trust.verify import verify_signatures

EVERYBODY = CommandTarget(all=True)


class Operator:
    """Makes commands and sends them."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self._made = 0

    def command(self, key: SigningKey | None = None, **changes: Any) -> Document[Command]:
        self._made += 1
        fields = {
            "network_id": self.network.network_id,
            "id": f"{self._made:032x}",
            "number": self.number() + 1,
            "command": "ping-report",
            "target": EVERYBODY,
            "arguments": {},
            "issued_at": self.network.now,
            "expires_at": self.network.now + 600,
            **changes,
        }
        return sign_document(Command(**fields), [key or self.network.keys.admin])

    def number(self) -> int:
        number: int = self.network.admin("GET", "/admin/commands").json["number"]
        return number

    def give(self, document: Document[Command], key: SigningKey | None = None) -> Any:
        return self.network.admin("POST", "/admin/commands", {"command": document.as_dict()}, key)

    def given(self, **changes: Any) -> str:
        answer = self.give(self.command(**changes))
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    def states(self, command_id: str) -> dict[str, str]:
        answer = self.network.admin("GET", f"/admin/commands/{command_id}").json
        states = {node["name"]: node["state"] for node in answer["nodes"]}
        counted = {state: number for state, number in answer["counts"].items() if number}
        assert counted == {
            state.replace("-", "_"): list(states.values()).count(state) for state in set(states.values())
        }
        return states


@pytest.fixture
def operator(network: Any) -> Operator:
    """The administrator, with commands in mind."""
    return Operator(network)


def since(network: Any, member: Any, number: int) -> Any:
    """What a member is told by /commands."""
    target = f"/commands?since={number}"
    return network.ask("GET", target, network.signed(member.node, "GET", target, tag=NODE_TAG))


def receipt(network: Any, member: Any, command_id: str, **changes: Any) -> dict[str, Any]:
    """What a member says became of a command."""
    fields = {
        "network_id": network.network_id,
        "command": command_id,
        "outcome": "done",
        "detail": "",
        "at": network.now,
        **changes,
    }
    return sign_document(CommandReceipt(**fields), [member.node]).as_dict()


def beat(network: Any, member: Any, *receipts: dict[str, Any]) -> Any:
    """A heartbeat with receipts."""
    network.clock.advance(0.01)
    value = {
        "certificate": member.certificate.as_dict(),
        "sent_ms": int(network.wall() * 1000),
        "receipts": list(receipts),
    }
    return network.node(member, "/heartbeat", value)


def test_a_command_is_numbered_named_in_the_status_and_handed_out(network: Any, operator: Operator) -> None:
    """The next status names it by number and digest; members fetch what the operator signed, once."""
    member = network.joined("pump-1")
    document = operator.command()
    assert operator.give(document).json == {"id": document.body.id, "number": 1}
    network.clock.advance(1)
    named = parse_document(network.ask("GET", "/status").body, Status).body.commands
    assert (named.number, named.digest) == (1, document.digest)
    accepted = add_signature(document, network.keys.authority)
    assert since(network, member, 0).json == {"commands": [accepted.as_dict()], "next": None}
    assert since(network, member, 1).json["commands"] == []
    network.clock.advance(600)
    assert since(network, member, 0).json["commands"] == []
    network.restart()
    again = parse_document(network.ask("GET", "/status").body, Status).body.commands
    assert (again.number, again.digest) == (1, document.digest)


def test_a7_a_command_is_published_with_both_signatures(network: Any, operator: Operator) -> None:
    """Of the operator and of the authority; one that comes with more than the first is refused."""
    document = operator.command()
    crowded = add_signature(document, network.keys.operator)
    assert operator.give(crowded).slug == "invalid-field"
    assert operator.give(document).status == 201
    shown = network.admin("GET", f"/admin/commands/{document.body.id}").json["command"]
    published = document_from_dict(shown, Command)
    signers = {"operator": network.keys.admin, "authority": network.keys.authority}
    assert len(published.signatures) == 2
    for key in signers.values():
        verify_signatures(published, {key.key_id: key.public})


def test_a_command_wakes_those_who_wait_for_a_status(network: Any, operator: Operator) -> None:
    """A long poll ends when a command is given."""
    network.clock.advance(5)
    held = parse_document(network.ask("GET", "/status").body, Status)
    got: list[Any] = []
    network.begin("GET", f"/status?after={held.digest}").addCallback(got.append)
    network.treq.flush()
    operator.given()
    network.clock.advance(1)
    network.treq.flush()
    assert parse_document(got[0].body, Status).body.commands.number == 1


def test_numbers_have_no_gap(network: Any, operator: Operator) -> None:
    """Any number but the next is refused and told, and a refused command uses none up."""
    for wrong in (0, 2, 2**40):
        answer = operator.give(operator.command(number=wrong))
        assert (answer.status, answer.slug, answer.json["number"]) == (409, "conflict", 1)
    assert operator.give(operator.command()).json["number"] == 1
    again = operator.command()
    assert operator.give(again).json["number"] == 2
    same_id = operator.command(id=again.body.id)
    assert operator.give(same_id).slug == "conflict"
    assert operator.number() == 2


def test_many_commands_come_in_pages(network: Any, operator: Operator) -> None:
    """A member that knows none fetches them all by following C{next}, each once."""
    member = network.joined("pump-1")
    for _ in range(40):
        network.clock.advance(1)
        operator.given()
    numbers, following = [], 0
    while following is not None:
        answer = since(network, member, following).json
        numbers += [command["signed"]["number"] for command in answer["commands"]]
        following = answer["next"]
    assert numbers == list(range(1, 41))
    page = network.admin("GET", "/admin/commands?limit=3").json
    assert [command["number"] for command in page["commands"]] == [40, 39, 38]
    page = network.admin("GET", f"/admin/commands?limit=3&after={page['next']}").json
    assert [command["number"] for command in page["commands"]] == [37, 36, 35]


def test_the_policy_says_who_may_give_what(network: Any, operator: Operator) -> None:
    """The signer's role and the caller's must both suffice; what the policy does not list is nobody's."""
    keys = network.keys
    assert operator.give(operator.command(keys.reader), keys.reader).status == 201
    shut = {"command": "shutdown"}
    for signer, caller, what in (
        (keys.operator, keys.operator, shut),
        (keys.admin, keys.operator, shut),
        (keys.operator, keys.admin, shut),
        (keys.admin, keys.admin, {"command": "format-disk"}),
    ):
        network.clock.advance(100)  # each has a row of the audit, if it is not one of many
        assert operator.give(operator.command(signer, **what), caller).slug == "forbidden-role"
    assert operator.give(operator.command(**shut)).status == 201
    rows = [entry["row"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    commands = [(row["action"], row["outcome"]) for row in rows if "command" in row["action"]]
    refused = ("POST /admin/commands", "refused: forbidden-role")
    assert commands == [("command", "done"), *[refused] * 4, ("command", "done")]


def test_bad_commands_are_refused(network: Any, operator: Operator) -> None:
    """Strangers' and forged signatures, another network, no such node, ended or endless validity."""
    now = network.now
    cases = {
        "unknown-key": operator.command(network.keys.signing()),
        "wrong-network": operator.command(network_id="0" * 32),
        "not-found": operator.command(target=CommandTarget(node="nobody")),
        "expired": operator.command(issued_at=now - 600, expires_at=now - 1),
        "invalid-field": operator.command(expires_at=now + 8 * 86_400),
    }
    for slug, document in cases.items():
        assert operator.give(document).slug == slug
    assert operator.give(operator.command(issued_at=now + 300)).slug == "invalid-field"
    forged = operator.command().as_dict()
    forged["signed"]["command"] = "shutdown"
    answer = network.admin("POST", "/admin/commands", {"command": forged})
    assert answer.slug == "bad-signature"
    assert operator.number() == 0


def test_receipts_are_kept_and_shown(network: Any, operator: Operator) -> None:
    """Each target shows as done, refused with its reason, revoked or not answered; others are not listed."""
    pumps = [network.joined(f"pump-{number}") for number in range(4)]
    network.joined("gate", role="anchor")
    command = operator.given(target=CommandTarget(role="client"))
    assert beat(network, pumps[0], receipt(network, pumps[0], command)).status == 200
    refusal = receipt(network, pumps[1], command, outcome="refused", detail="not configured")
    assert beat(network, pumps[1], refusal).status == 200
    network.admin("POST", "/admin/revocations", {"node": "pump-2"})
    assert operator.states(command) == {
        "pump-0": "done",
        "pump-1": "refused",
        "pump-2": "revoked",
        "pump-3": "no-answer",
    }
    answer = network.admin("GET", f"/admin/commands/{command}").json
    assert answer["nodes"][1]["detail"] == "not configured"
    page = network.admin("GET", f"/admin/commands/{command}?limit=1&after=pump-0").json
    assert [node["name"] for node in page["nodes"]] == ["pump-1"] and page["next"] == "pump-1"
    alone = operator.given(target=CommandTarget(node="gate"))
    assert operator.states(alone) == {"gate": "no-answer"}
    assert network.admin("GET", f"/admin/commands/{'0' * 32}").slug == "not-found"


def test_the_first_receipt_stands(network: Any, operator: Operator) -> None:
    """Sent again, or changed, it changes nothing; and it outlives a restart."""
    member = network.joined("pump-1")
    command = operator.given()
    first = receipt(network, member, command)
    for sent in (first, first, receipt(network, member, command, outcome="failed")):
        assert beat(network, member, sent).status == 200
    network.restart()
    assert operator.states(command) == {"pump-1": "done"}


def test_receipts_nobody_believes_are_dropped(network: Any, operator: Operator) -> None:
    """Another's, of another network, for another's command, or none at all: dropped and counted."""
    member, other = network.joined("pump-1"), network.joined("pump-2")
    everybody = operator.given()
    others = operator.given(target=CommandTarget(node="pump-2"))
    forged = receipt(network, member, everybody)
    forged["signed"]["outcome"] = "failed"
    bad = {
        "unknown-key": receipt(network, other, everybody),
        "bad-signature": forged,
        "wrong-network": receipt(network, member, everybody, network_id="0" * 32),
        "unknown-command": receipt(network, member, "f" * 32),
        "not-a-target": receipt(network, member, others),
        "wrong-type": member.certificate.as_dict(),
        "invalid-field": {},
    }
    good = receipt(network, member, everybody)
    assert beat(network, member, *bad.values(), good).status == 200
    assert dict(network.authority.commands.dropped) == dict.fromkeys(bad, 1)
    assert operator.states(everybody) == {"pump-1": "done", "pump-2": "no-answer"}
    assert operator.states(others) == {"pump-2": "no-answer"}


def test_whom_a_command_concerns_is_not_for_a_member_to_say(network: Any, operator: Operator) -> None:
    """A member that shows its certificate with another name in it answers for nobody."""
    member = network.joined("pump-1")
    network.joined("pump-2")
    others = operator.given(target=CommandTarget(node="pump-2"))
    shown = member.certificate.as_dict()
    shown["signed"]["name"] = "pump-2"
    network.clock.advance(1)
    value = {
        "certificate": shown,
        "sent_ms": int(network.wall() * 1000),
        "receipts": [receipt(network, member, others)],
    }
    assert network.node(member, "/heartbeat", value).slug == "unknown-certificate"
    assert operator.states(others) == {"pump-2": "no-answer"}


def test_commands_are_for_members_and_operators(network: Any, operator: Operator) -> None:
    """A stranger, and a revoked node, are told nothing."""
    member = network.joined("pump-1")
    operator.given()
    assert network.ask("GET", "/commands?since=0").slug == "unsigned"
    assert since(network, member, 0).status == 200
    assert network.admin("GET", "/commands?since=0", key=network.keys.reader).status == 200
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert since(network, member, 0).slug == "unknown-key"
    assert json.loads(network.admin("GET", "/commands?since=9").body) == {"commands": [], "next": None}


def test_after_a_restore_numbers_go_on_above_all_before(network: Any, operator: Operator) -> None:
    """Commands of the lost days are unknown, their receipts dropped; the next number is of the new epoch."""
    member = network.joined("pump-1")
    taken = network.path / "backups" / network.admin("POST", "/admin/backup").json["file"]
    lost = operator.given()
    network.stop()
    network.clock.advance(5)
    restored = network.restore(taken, accept_lost_revocations=True)
    network.clock.advance(1)
    network.start()
    first = restored.epoch * SERIALS_PER_EPOCH
    status = parse_document(network.ask("GET", "/status").body, Status).body
    assert (status.commands.number, operator.number()) == (first, first)
    assert beat(network, member, receipt(network, member, lost)).status == 200
    assert dict(network.authority.commands.dropped) == {"unknown-command": 1}
    assert operator.give(operator.command()).json["number"] == first + 1


def test_what_need_not_be_kept_of_receipts_takes_no_decision(network: Any, operator: Operator) -> None:
    """Forged, unknown, or answered before: a member makes nobody wait with those, however often they come."""
    member = network.joined("pump-1")
    answered, asked = operator.given(), operator.given()
    before = receipt(network, member, answered)
    assert beat(network, member, before).status == 200
    forged = receipt(network, member, asked)
    forged["signed"]["outcome"] = "failed"
    decided = network.authority.store.decided
    assert beat(network, member, before, forged, receipt(network, member, "f" * 32)).status == 200
    assert dict(network.authority.commands.dropped) == {"bad-signature": 1, "unknown-command": 1}
    assert network.authority.store.decided == decided
    assert beat(network, member, before, forged, receipt(network, member, asked)).status == 200
    assert network.authority.store.decided == decided + 1
    assert operator.states(answered) == operator.states(asked) == {"pump-1": "done"}


def test_a_heartbeat_has_as_many_receipts_as_nodes_send(network: Any, operator: Operator) -> None:
    member = network.joined("pump-1")
    good = receipt(network, member, operator.given())
    assert beat(network, member, *[good] * RECEIPTS_A_HEARTBEAT).status == 200
    assert beat(network, member, *[good] * (RECEIPTS_A_HEARTBEAT + 1)).slug == "invalid-field"
