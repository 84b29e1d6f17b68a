# SPDX-License-Identifier: MIT
"""Where the genesis names an admission key: joins wait for it and renewals carry it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from authority.admitting import Admitting
from authority.network import Member, Network
from authority.state_files import DAY
from authority.theft import Theft

from gmesh.trust.documents import Certificate, Document, document_from_dict, parse_document
from gmesh.trust.encoding import b64url_encode


def renewed(network: Network, member: Member) -> Document[Certificate]:
    """The certificate that a renewal brings, which the member uses from then on."""
    answer = network.renew(member)
    assert answer.status in (200, 201), answer.body
    member.certificate = document_from_dict(answer.json["certificate"], Certificate)
    return member.certificate


def audited(network: Network) -> list[dict[str, Any]]:
    return [entry["row"] for entry in network.admin("GET", "/admin/audit?limit=500").json["entries"]]


def test_a_join_waits_for_its_admission(network: Network) -> None:
    """202 until it is there, also across a restart; then a certificate that nodes believe."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    first = network.join(member)
    assert (first.status, first.json["state"]) == (202, "pending")
    assert admitting.listed() == {"pump-1": None}
    network.restart()
    assert network.join(member).status == 202
    admission = admitting.admission(member, "pump-1")
    assert admitting.bring(admission).json == {"admitted": ["pump-1"]}
    assert network.join(member).status == 201
    assert member.certificate is not None and member.certificate.admission == admission
    assert admitting.believed(member.certificate)
    assert admitting.listed() == {"pump-1": admission.body.not_after}
    actions = [row["action"] for row in audited(network)]
    assert actions[-4:] == [
        "invite",
        "request-enrolment",
        "admit",
        "join",
    ]


def test_every_way_to_a_certificate_hands_out_the_admission(network: Network) -> None:
    """The answers to the join, the same join again, a renewal, and whoever asks for the serial."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    network.join(member)
    admission = admitting.admission(member, "pump-1")
    admitting.bring(admission)
    assert [network.join(member).status for _ in range(2)] == [201, 200]
    network.clock.advance(DAY // 2)
    newer = renewed(network, member)
    held = member.certificate
    assert held is not None and newer.admission == held.admission == admission
    asked = network.admin("GET", f"/certificates/{newer.body.serial}")
    assert parse_document(asked.body, Certificate).admission == admission
    assert network.heartbeat(member).status == 200


def test_an_operator_decides_as_well_where_the_invite_says_so(network: Network) -> None:
    """Approval alone is not enough, nor is an admission alone."""
    admitting = Admitting(network)
    member = network.invite("pump-1", approve=True)
    network.join(member)
    admitting.bring(admitting.admission(member, "pump-1"))
    assert network.join(member).status == 202
    target = f"/admin/enrolments/{member.invite.key.key_id}"
    network.admin("POST", target, {"decision": "approve", "node_id": member.node.key_id})
    assert network.join(member).status == 201
    other = network.invite("pump-2", approve=True)
    network.join(other)
    target = f"/admin/enrolments/{other.invite.key.key_id}"
    network.admin("POST", target, {"decision": "approve", "node_id": other.node.key_id})
    assert network.join(other).status == 202


@pytest.mark.parametrize(
    "changed", [{"name": "pump-2"}, {"roles": ("relay",)}, {"node_key": b64url_encode(b"\7" * 32)}]
)
def test_an_admission_for_something_else_lets_nobody_in(network: Network, changed: dict[str, Any]) -> None:
    """Another name, other roles, another key: the join goes on waiting."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    network.join(member)
    assert admitting.bring(admitting.admission(member, "pump-1", **changed)).status == 200
    assert network.join(member).status == 202


def test_what_nodes_would_refuse_is_not_kept(network: Network) -> None:
    """By another key, of another network, ended; with one bad of two, neither."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    network.join(member)
    good = admitting.admission(member, "pump-1")
    for bad in (
        admitting.admission(member, "pump-1", signer=network.keys.authority),
        admitting.admission(member, "pump-1", network_id="0" * 32),
        admitting.admission(member, "pump-1", not_after=network.now),
    ):
        assert admitting.bring(good, bad).slug == "invalid-field"
    assert admitting.listed() == {"pump-1": None}


def test_a_genesis_without_the_key_takes_no_admissions_and_asks_for_none(network: Network) -> None:
    """Off unless the genesis says so."""
    member = network.joined("pump-1")
    assert member.certificate is not None and member.certificate.admission is None
    admitting = Admitting(network, required_from=None)
    assert admitting.bring(admitting.admission(member, "pump-1")).slug == "invalid-field"
    assert renewed(network, member).admission is None


def test_members_of_before_get_theirs_until_the_rule_begins(network: Network) -> None:
    """They renew at once when theirs is there, however fresh their certificate is; then not again."""
    member = network.joined("pump-1")
    admitting = Admitting(network, required_from=DAY)
    held = member.certificate
    assert held is not None and renewed(network, member) == held
    assert network.joined("pump-2").certificate is not None
    admitting.bring(admitting.admission(member, "pump-1"))
    newer = renewed(network, member)
    assert newer.admission is not None and newer.body.serial > held.body.serial
    assert renewed(network, member) == newer


def test_a_member_without_admission_is_not_renewed_once_the_rule_holds(network: Network) -> None:
    """It is told why, and goes on with its next request when the admission is there."""
    member = network.joined("pump-1")
    admitting = Admitting(network)
    assert network.renew(member).slug == "not-admitted"
    admitting.bring(admitting.admission(member, "pump-1"))
    assert admitting.believed(renewed(network, member))


def test_an_admission_that_has_ended_is_replaced_by_the_next(network: Network) -> None:
    """The member renews when the next one is there."""
    member = network.joined("pump-1")
    admitting = Admitting(network)
    admitting.bring(admitting.admission(member, "pump-1", not_after=network.now + 60))
    renewed(network, member)
    network.clock.advance(61)
    assert network.renew(member).slug == "not-admitted"
    following = admitting.admission(member, "pump-1")
    admitting.bring(following)
    assert renewed(network, member).admission == following


def test_more_roles_need_an_admission_that_allows_them(network: Network) -> None:
    """An operator who invites a member anew with more roles does not promote it alone."""
    member = network.joined("pump-1")
    admitting = Admitting(network)
    admitting.bring(admitting.admission(member, "pump-1"))
    anew = network.invite("pump-1", "relay")
    anew.node, anew.noise = member.node, member.noise
    assert network.join(anew).status == 202
    assert admitting.listed() == {"pump-1": None}
    admitting.bring(admitting.admission(member, "pump-1", "client", "relay"))
    assert network.join(anew).status == 201
    assert admitting.believed(anew.certificate)


def test_a_rule_that_is_lifted_is_no_longer_asked_for(network: Network) -> None:
    """By a genesis whose rule begins later: joins go as ever, and those that waited with them."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    assert network.join(member).status == 202
    admitting.require(admitting.key, required_from=365 * DAY)
    assert network.join(member).status == 201


def test_another_admission_key_means_other_admissions(network: Network) -> None:
    """Those of a key that the genesis no longer names are not handed out."""
    admitting = Admitting(network)
    member = network.invite("pump-1")
    network.join(member)
    admitting.bring(admitting.admission(member, "pump-1"))
    network.join(member)
    newer = network.keys.signing()
    admitting.require(newer)
    assert admitting.listed() == {"pump-1": None}
    assert network.renew(member).slug == "not-admitted"
    admitting.bring(admitting.admission(member, "pump-1", signer=newer))
    assert admitting.believed(renewed(network, member))


def test_who_needs_one_is_listed_in_pages(network: Network) -> None:
    """Members and those who ask, once each; not the revoked, rejected or withdrawn."""
    names = [f"pump-{number}" for number in range(5)]
    for name in names[:3]:
        network.joined(name)
    Admitting(network)
    waiting = [network.invite(name) for name in names[3:]]
    for member in waiting:
        network.join(member)
    network.admin("POST", "/admin/revocations", {"node": "pump-0"})
    network.admin("DELETE", f"/admin/invites/{waiting[1].invite.key.key_id}")
    found, after = [], ""
    while after is not None:
        answer = network.admin("GET", f"/admin/admissions?limit=2&after={after}").json
        found += [(row["name"], row["roles"]) for row in answer["admissions"]]
        after = answer["next"]
    assert sorted(found) == [(name, ["client"]) for name in names[1:4]]


def test_readers_read_and_only_operators_bring(network: Network) -> None:
    """The role of reading is not enough to upload."""
    admitting = Admitting(network)
    value = {"admissions": [admitting.admission(network.invite("pump-1"), "pump-1").as_dict()]}
    assert network.admin("GET", "/admin/admissions", key=network.keys.reader).status == 200
    assert network.admin("POST", "/admin/admissions", value, network.keys.reader).slug == "forbidden-role"
    assert network.admin("POST", "/admin/admissions", value, network.keys.operator).status == 200


def test_joins_together_wait_together(network: Network) -> None:
    """What is decided in bulk is no way around."""
    Admitting(network)
    members = [network.invite(f"pump-{number}") for number in range(4)]
    answers = network.together("/join", *(network.join_request(member) for member in members))
    assert [answer.status for answer in answers] == [202] * 4
    assert json.loads(network.admin("GET", "/admin/nodes").body)["nodes"] == []


def test_a_restored_authority_takes_admissions_over_from_members(network: Network, tmp_path: Path) -> None:
    """What the backup does not hold stands beside the certificates that they come back with."""
    admitting = Admitting(network, required_from=DAY)
    theft = Theft(network, tmp_path)
    admission = admitting.admission(theft.honest, "pump-1")
    admitting.bring(admission)
    renewed(network, theft.honest)
    theft.restore_honestly()
    assert admitting.listed() == {"pump-1": None}
    answer = network.heartbeat(theft.honest)
    assert answer.status == 200, answer.body
    assert admitting.listed() == {"pump-1": admission.body.not_after}
    assert renewed(network, theft.honest).admission == admission


def test_a_restored_authority_believes_no_admission_of_a_thief(network: Network, tmp_path: Path) -> None:
    """What stands beside a certificate is not signed with it: it is judged before it is kept."""
    admitting = Admitting(network, required_from=DAY)
    theft = Theft(network, tmp_path)
    member = theft.honest
    network.clock.advance(DAY // 2)
    held = renewed(network, member)
    theft.restore_honestly()
    forged = admitting.admission(member, "pump-1", "client", "anchor", signer=theft.key)
    member.certificate = held.with_admission(forged)
    network.heartbeat(member)
    assert admitting.listed() == {"pump-1": None}
