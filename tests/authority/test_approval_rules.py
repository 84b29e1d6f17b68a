# SPDX-License-Identifier: MIT
"""Rules that nobody gets around alone: no door beside them, and none taken away without a word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authority.network import WHO_VOTES
from authority.test_approvals import second_administrator
from authority.test_reload import reload

from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.errors import GmeshError
from gmesh.trust.encoding import b64url_encode

BACKUP = "POST /admin/backup"
OWN_RULES = "who starts on a database that daemons share goes by the rules that it holds: test_replicas"


@pytest.fixture
def two(network: Any) -> Any:
    """A second administrator, who is needed for rules of two."""
    return second_administrator(network)


def rule(network: Any, required: int, *operations: str) -> None:
    """Write the file."""
    rules = {"required": required, "operations": list(operations)}
    (network.path / APPROVALS_FILE).write_text(json.dumps(rules))


def told(network: Any) -> list[tuple[str, int, list[str]]]:
    """What the audit says of the rules: outcome, how many, for which operations."""
    entries = [entry["row"] for entry in network.admin("GET", "/admin/audit?limit=500").json["entries"]]
    rows = [row for row in entries if row["action"] == "approval-rules"]
    return [(row["outcome"], row["required"], row["operations"]) for row in rows]


@pytest.mark.parametrize("door", WHO_VOTES)
def test_a11_rules_without_one_of_the_doors_to_a_vote_are_refused(network: Any, two: Any, door: str) -> None:
    """At load, with the name of what is missing and why; whatever else they are about."""
    rule(network, 2, BACKUP, *(operation for operation in WHO_VOTES if operation != door))
    with pytest.raises(GmeshError, match=f"gets around it, for {door} is missing: ") as refused:
        reload(network)
    assert refused.value.reason == "bad-approvals"
    assert network.admin("POST", "/admin/backup").status == 201, "the rules before hold on"


def test_a11_a_policy_is_a_door_to_commands(network: Any, two: Any) -> None:
    """It says which role may give them."""
    rule(network, 2, *WHO_VOTES, "POST /admin/commands")
    with pytest.raises(GmeshError, match="POST /admin/policies is missing"):
        reload(network)
    rule(network, 2, *WHO_VOTES, "POST /admin/commands", "POST /admin/policies")
    reload(network)


def test_a11_an_invite_is_a_door_to_who_is_admitted(network: Any, two: Any) -> None:
    """Who writes one that asks for no approval approves alone."""
    rule(network, 2, *WHO_VOTES, "POST /admin/enrolments/<id>")
    with pytest.raises(GmeshError, match="POST /admin/invites is missing"):
        reload(network)
    rule(network, 2, *WHO_VOTES, "POST /admin/enrolments/<id>", "POST /admin/invites")
    reload(network)


def test_a11_nobody_votes_twice_by_a_key_put_in_the_place_of_anothers(network: Any, two: Any) -> None:
    """Neither in that of a reader, nor of the other administrator, nor of one's own."""
    rule(network, 2, *WHO_VOTES, BACKUP)
    reload(network)
    assert network.admin("POST", "/admin/backup").status == 202
    for owner in (network.keys.reader, two, network.keys.admin):
        fresh = network.keys.signing()
        body = {"key": b64url_encode(fresh.public)}
        assert network.admin("POST", f"/admin/operators/{owner.key_id}", body).status == 202
        assert network.admin("POST", "/admin/backup", key=fresh).slug == "unknown-key"


def test_a11_one_operator_is_enough_where_one_is_required(network: Any) -> None:
    """Rules that ask for one have no door to leave open."""
    rule(network, 1, BACKUP)
    reload(network)
    assert network.admin("POST", "/admin/backup").status == 201


WEAKER = {
    "gone": None,
    "for one operation": {"required": 2, "operations": list(WHO_VOTES)},
    "fewer": {"required": 1, "operations": [*WHO_VOTES, BACKUP]},
}


@pytest.mark.sqlite(OWN_RULES)
@pytest.mark.parametrize("case", WEAKER)
def test_a20_weaker_rules_are_refused_and_told(network: Any, two: Any, case: str) -> None:
    """On SIGHUP and at each start, with one row in the audit; the flag takes them, and that is a row too."""
    rule(network, 2, *WHO_VOTES, BACKUP)
    reload(network)
    path, weaker = network.path / APPROVALS_FILE, WEAKER[case]
    path.unlink() if weaker is None else path.write_text(json.dumps(weaker))
    with pytest.raises(GmeshError, match="--weaken-approvals"):
        reload(network)
    assert network.admin("POST", "/admin/backup").status == 202, "the rules hold on"
    network.stop()
    for _ in range(3):
        network.clock.advance(1)
        with pytest.raises(GmeshError, match="took 2 operators and would take 1") as refused:
            network.start()
        assert refused.value.reason == "weaker-approvals"
    network.clock.advance(1)
    network.start(weaken_approvals=True)
    asked = (1, []) if weaker is None else (weaker["required"], weaker["operations"])
    assert told(network) == [
        ("done", 2, [*WHO_VOTES, BACKUP]),
        ("refused: weaker-approvals", *asked),
        ("done", *asked),
    ]
    assert network.admin("POST", "/admin/backup").status == 201
    network.restart()
    assert len(told(network)) == 3


@pytest.mark.sqlite(OWN_RULES)
def test_a20_a_file_put_back_holds_as_if_nothing_had_been(network: Any, two: Any) -> None:
    """Stronger rules, and the same again, need no flag."""
    rule(network, 2, *WHO_VOTES)
    reload(network)
    (network.path / APPROVALS_FILE).unlink()
    with pytest.raises(GmeshError):
        reload(network)
    rule(network, 2, *WHO_VOTES, BACKUP)
    network.restart()
    assert [outcome for outcome, _, _ in told(network)] == ["done", "refused: weaker-approvals", "done"]
    assert network.admin("POST", "/admin/backup").status == 202
