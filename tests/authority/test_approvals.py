# SPDX-License-Identifier: MIT
"""Operations that take several operators; a new key in the place of an operator's; policy explained."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.network import WHO_VOTES

from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.errors import GmeshError
from gmesh.trust.encoding import b64url_encode

REVOKE = "POST /admin/revocations"
PUMP = {"node": "pump-1", "reason": "superseded"}


def require(network: Any, required: int, *operations: str) -> None:
    """Restart with an approvals.json."""
    network.stop()
    rules = {"required": required, "operations": [*WHO_VOTES, *operations]}
    (network.path / APPROVALS_FILE).write_text(json.dumps(rules))
    network.clock.advance(1)
    network.start()


def second_administrator(network: Any, approver: Any = None) -> Any:
    """Another operator who may do everything; approved where that takes two."""
    key = network.keys.signing()
    body = {"key": b64url_encode(key.public), "role": "administer", "name": "second"}
    if approver is not None:
        assert network.admin("POST", "/admin/operators", body).status == 202
    assert network.admin("POST", "/admin/operators", body, approver).status == 201
    return key


@pytest.fixture
def second(network: Any) -> Any:
    """Revoking takes two; there are two administrators and an operator."""
    network.joined("pump-1")
    network.joined("pump-2")
    key = second_administrator(network)
    require(network, 2, REVOKE)
    return key


def revoked(network: Any) -> list[str]:
    """The names of revoked members."""
    nodes = network.admin("GET", "/admin/nodes").json["nodes"]
    return [node["name"] for node in nodes if node["revoked"]]


def test_the_second_who_asks_for_the_same_does_it(network: Any, second: Any) -> None:
    """202 and nothing done for the first, however spelled; done for the second; all of it audited."""
    first = network.admin("POST", "/admin/revocations", PUMP)
    assert first.status == 202
    assert (first.json["state"], first.json["votes"], first.json["required"]) == ("pending", 1, 2)
    assert revoked(network) == []
    (waiting,) = network.admin("GET", "/admin/approvals").json["approvals"]
    assert (waiting["id"], waiting["method"], waiting["target"]) == (
        first.json["id"],
        "POST",
        "/admin/revocations",
    )
    assert {name: value for name, value in waiting["body"].items() if value is not None} == PUMP
    assert [vote["key_id"] for vote in waiting["votes"]] == [network.keys.admin.key_id]
    reordered = dict(reversed(PUMP.items()))
    assert network.admin("POST", "/admin/revocations", reordered, second).status == 201
    assert revoked(network) == ["pump-1"]
    assert network.admin("GET", "/admin/approvals").json["approvals"] == []
    rows = [entry["row"] for entry in network.admin("GET", "/admin/audit").json["entries"]][-3:]
    assert [(row["actor"], row["action"]) for row in rows] == [
        (network.keys.admin.key_id, "approve"),
        (second.key_id, "approve"),
        (second.key_id, "revoke"),
    ]


def test_nobody_approves_twice(network: Any, second: Any) -> None:
    """The same key again, or the same request replayed, counts nothing."""
    assert network.admin("POST", "/admin/revocations", PUMP).status == 202
    again = network.admin("POST", "/admin/revocations", PUMP)
    assert (again.status, again.slug) == (409, "conflict")
    body = json.dumps(PUMP).encode()
    headers = network.signed(second, "POST", "/admin/revocations", body)
    assert network.ask("POST", "/admin/revocations", headers, body).status == 201
    assert network.ask("POST", "/admin/revocations", headers, body).slug == "replayed"


def test_an_altered_request_is_another(network: Any, second: Any) -> None:
    """What the second operator changes begins its own collection; neither is done."""
    assert network.admin("POST", "/admin/revocations", PUMP).status == 202
    for altered in ({"node": "pump-2", "reason": "superseded"}, {**PUMP, "reason": "unspecified"}):
        assert network.admin("POST", "/admin/revocations", altered, second).status == 202
    assert revoked(network) == []
    assert len(network.admin("GET", "/admin/approvals").json["approvals"]) == 3


def test_an_expired_approval_counts_nothing(network: Any, second: Any) -> None:
    """After a day the collection is over, and the next request begins a new one."""
    assert network.admin("POST", "/admin/revocations", PUMP).status == 202
    network.clock.advance(86_401)
    assert network.admin("GET", "/admin/approvals").json["approvals"] == []
    assert network.admin("POST", "/admin/revocations", PUMP, second).json["votes"] == 1
    assert network.admin("POST", "/admin/revocations", PUMP).status == 201


def test_only_votes_of_those_who_still_may_count(network: Any, second: Any) -> None:
    """An operator too low has no vote; one removed since has none any more."""
    third = second_administrator(network, second)
    assert network.admin("POST", "/admin/revocations", PUMP, network.keys.reader).slug == "forbidden-role"
    assert network.admin("POST", "/admin/revocations", PUMP, third).status == 202
    assert network.admin("DELETE", f"/admin/operators/{third.key_id}").status == 202
    assert network.admin("DELETE", f"/admin/operators/{third.key_id}", key=second).status == 200
    assert network.admin("POST", "/admin/revocations", PUMP, second).json["votes"] == 1
    assert network.admin("POST", "/admin/revocations", PUMP, network.keys.operator).status == 201


def test_an_approved_request_that_is_refused_is_told_and_may_come_again(network: Any, second: Any) -> None:
    """Its approvals are not used up, so it is done once it can be."""
    body = {"key": b64url_encode(network.keys.signing().public)}
    third, target = network.keys.reader, f"/admin/operators/{network.keys.operator.key_id}"
    assert network.admin("POST", target, body).status == 202
    assert network.admin("POST", target, body, third).slug == "forbidden-role"
    assert network.admin("POST", target, body, second).status == 201


def test_votes_outlive_a_restart_and_other_operations_need_none(network: Any, second: Any) -> None:
    """What waits is durable; what is not listed is done at once."""
    assert network.admin("POST", "/admin/revocations", PUMP).status == 202
    network.restart()
    assert network.admin("POST", "/admin/revocations", PUMP, second).status == 201
    network.joined("pump-3")


def test_where_the_policy_names_the_role_lower_votes_do_not_count(network: Any, second: Any) -> None:
    """A reader's vote does not carry an administrator's command."""
    require(network, 2, REVOKE)
    fresh = {"key": b64url_encode(network.keys.signing().public)}
    target = f"/admin/operators/{network.keys.operator.key_id}"
    assert network.admin("POST", target, fresh, network.keys.reader).slug == "forbidden-role"
    assert network.admin("POST", target, fresh).json["votes"] == 1
    assert network.admin("POST", target, fresh, second).status == 201


RULES = {
    "too many": ({"required": 3, "operations": [*WHO_VOTES, REVOKE]}, "only 1 may administer"),
    "unknown operation": ({"required": 1, "operations": ["POST /admin/revoke"]}, "there are .*revocations"),
    "a read": ({"required": 1, "operations": ["GET /admin/nodes"]}, "no operation"),
    "not the form": ({"needed": 2}, "approvals.json"),
}


@pytest.mark.parametrize("case", RULES)
def test_bad_rules_are_refused_at_start(network: Any, case: str) -> None:
    """More than there are administrators, or an operation that is none: told, with what there is."""
    rules, told = RULES[case]
    network.stop()
    path = network.path / APPROVALS_FILE
    path.write_text(json.dumps(rules))
    network.clock.advance(1)
    with pytest.raises(GmeshError, match=told) as refused:
        network.start()
    assert refused.value.reason == "bad-approvals" and "\n" not in refused.value.detail
    path.unlink()
    network.start()


def test_enough_administrators_stay_for_the_rules(network: Any, second: Any) -> None:
    """With two required, neither of two administrators can be removed."""
    target = f"/admin/operators/{second.key_id}"
    assert network.admin("DELETE", target).slug == "last-administrator"


# A new key for an operator.


# Policy explained.
