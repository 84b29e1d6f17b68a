# SPDX-License-Identifier: MIT
"""Join, renew, heartbeat, revoke: what nodes and operators do every day, and what they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.trust.encoding import b64url_encode


def test_field_l5_the_same_join_again_gets_the_same_certificate(network: Any) -> None:
    """A lost answer costs nothing: same invite, same keys, same certificate; also after a restart."""
    member = network.invite("pump-1")
    first = network.join(member)
    again = network.join(member)
    network.restart()
    after_restart = network.join(member)
    assert (again.status, after_restart.status) == (200, 200)
    assert first.json == again.json == after_restart.json


def test_a_join_that_was_approved_late_may_be_asked_again(network: Any) -> None:
    """The hour counts from when it was admitted, where that is after the invite's end."""
    member = network.invite("pump-1", approve=True, ttl=3600)
    assert network.join(member).status == 202
    network.clock.advance(2 * 86_400)
    assert decide(network, member, "approve").status == 200
    first = network.join(member)
    again = network.join(member)
    assert (first.status, again.status, again.json) == (201, 200, first.json)
    network.clock.advance(3601)
    assert network.join(member).slug == "enrolment-refused"


def test_not_with_other_keys_nor_for_ever(network: Any) -> None:
    """A used invite admits no other node key, no other Noise key, and nobody an hour after its end."""
    member = network.joined("pump-1")
    other = network.member(member.invite.key)
    assert network.join(other).slug == "enrolment-refused"
    other.node = member.node
    assert network.join(other).slug == "enrolment-refused"
    network.clock.advance(2 * 3600 + 1)
    assert network.join(member).slug == "enrolment-refused"


def test_refused_joins_leave_no_rows(network: Any) -> None:
    """The tables do not grow by what was refused."""

    def sizes() -> list[int]:
        got: list[Any] = []
        tables = ("nonce", "audit", "certificate", "node", "noise_key", "invite")
        network.authority.store.read(
            lambda reader: [reader.value(f"SELECT count(*) FROM {table}") for table in tables]
        ).addCallback(got.append)
        return got[0]  # type: ignore[no-any-return]  # a list of anything

    before = sizes()
    for _ in range(5):
        assert network.join(network.member(network.keys.signing())).status == 403
    assert sizes() == before


def test_names_and_keys_are_unique(network: Any) -> None:
    """A second node of a living name, a node key under two names, another's Noise key: all 409."""
    first = network.joined("pump-1")
    assert network.join(network.invite("pump-1")).slug == "name-taken"
    twice = network.invite("pump-2")
    twice.node = first.node
    assert network.join(twice).slug == "key-taken"
    thief = network.invite("pump-3")
    thief.noise = first.noise
    assert network.join(thief).slug == "key-taken"


def test_a_revoked_appliance_is_replaced_under_its_name(network: Any) -> None:
    """After revocation the same name can be invited again, for another key."""
    network.joined("pump-1")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.joined("pump-1")
    listed = network.admin("GET", "/admin/nodes").json["nodes"]
    assert [(node["name"], node["revoked"]) for node in listed] == [("pump-1", False)]


def decide(network: Any, member: Any, decision: str) -> Any:
    """An operator decides about a waiting join."""
    target = f"/admin/enrolments/{member.invite.key.key_id}"
    return network.admin("POST", target, {"decision": decision, "node_id": member.node.key_id})


def test_nobody_is_approved_whose_invite_was_withdrawn(network: Any) -> None:
    """The operator is told, for the host would be refused all the same."""
    member = network.invite("pump-1", approve=True)
    assert network.join(member).status == 202
    assert network.admin("DELETE", f"/admin/invites/{member.invite.key.key_id}").status == 204
    for decision in ("approve", "reject"):
        answer = decide(network, member, decision)
        assert (answer.status, answer.slug) == (409, "conflict")
    assert network.join(member).slug == "enrolment-refused"
    (listed,) = network.admin("GET", "/admin/enrolments").json["enrolments"]
    assert listed["state"] == "rejected", "nobody waits for an answer"


def test_a_join_waits_for_approval(network: Any) -> None:
    """202 until an operator approves, also across a restart and the invite's end; then the certificate."""
    member = network.invite("pump-1", approve=True)
    first = network.join(member)
    assert (first.status, first.json) == (202, {"state": "pending", "id": member.invite.key.key_id})
    (waiting,) = network.admin("GET", "/admin/enrolments").json["enrolments"]
    assert (waiting["name"], waiting["state"]) == ("pump-1", "pending")
    assert waiting["node_key"] == b64url_encode(member.node.public)
    network.restart()
    network.clock.advance(2 * 3600)
    assert network.join(member).status == 202
    assert decide(network, member, "approve").json["state"] == "approved"
    assert network.join(member).status == 201
    rows = [entry["row"]["action"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    assert rows[-4:] == ["invite", "request-enrolment", "approve-enrolment", "join"]


def test_a_rejected_join_is_refused(network: Any) -> None:
    """After a no there is no certificate, and the decision stands."""
    member = network.invite("pump-1", approve=True)
    network.join(member)
    assert decide(network, member, "reject").status == 200
    assert decide(network, member, "approve").slug == "conflict"
    assert network.join(member).slug == "enrolment-refused"
    assert decide(network, network.invite("pump-2"), "approve").slug == "not-found"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a19_a_decision_is_about_the_host_that_asked(network: Any, decision: str) -> None:
    """Two hosts hold one leaked invite: the list shows which one waits; the other's id decides nothing."""
    ours = network.invite("pump-1", approve=True)
    thief = network.member(ours.invite.key)
    assert network.join(thief).status == 202
    (waiting,) = network.admin("GET", "/admin/enrolments").json["enrolments"]
    assert waiting["node_id"] == thief.node.key_id
    assert decide(network, ours, decision).slug == "conflict"
    target = f"/admin/enrolments/{ours.invite.key.key_id}"
    assert network.admin("POST", target, {"decision": decision}).slug == "invalid-field"
    assert network.join(thief).status == 202
    decided = decide(network, thief, decision)
    assert (decided.status, decided.json["node_id"]) == (200, thief.node.key_id)
    rows = [entry["row"] for entry in network.admin("GET", "/admin/audit").json["entries"]]
    named = {row["action"]: row["node_id"] for row in rows if "node_id" in row}
    assert named == dict.fromkeys(("request-enrolment", f"{decision}-enrolment"), thief.node.key_id)


def test_approval_is_for_the_keys_that_asked(network: Any) -> None:
    """Whoever copies the invite after the first request gets nothing, approved or not."""
    member = network.invite("pump-1", approve=True)
    network.join(member)
    thief = network.member(member.invite.key)
    assert network.join(thief).slug == "enrolment-refused"
    decide(network, member, "approve")
    assert network.join(thief).slug == "enrolment-refused"
    assert network.join(member).status == 201


def test_whoever_copies_it_is_not_told_whose_a_noise_key_is(network: Any) -> None:
    """Pending, approved or rejected, the invite's one answer; only who may join hears that it is taken."""
    other = network.joined("pump-1")
    member, rejected = network.invite("pump-2", approve=True), network.invite("pump-3", approve=True)
    assert [network.join(each).status for each in (member, rejected)] == [202, 202]
    thief = network.member(member.invite.key)
    thief.noise = rejected.noise = other.noise
    assert network.join(thief).slug == "enrolment-refused"
    decide(network, member, "approve")
    decide(network, rejected, "reject")
    assert [network.join(each).slug for each in (thief, rejected)] == ["enrolment-refused"] * 2
    late = network.invite("pump-4", approve=True)
    late.noise = other.noise
    assert network.join(late).slug == "key-taken"
    first = network.invite("pump-5")
    first.noise = member.noise
    assert network.join(first).status == 201
    assert network.join(member).slug == "key-taken"
