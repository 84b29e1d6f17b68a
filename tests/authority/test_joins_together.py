# SPDX-License-Identifier: MIT
"""Joins that come together: decided at once where nothing speaks against them, else as if alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from authority.database import statements
from authority.state_files import POLICY_TEXT

from gmesh.authority import audit
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import nodes
from gmesh.authority.store.transaction import Reader
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import JOIN_TAG


def read(network: Any, function: Callable[[Reader], Any]) -> Any:
    """What the database says."""
    got: list[Any] = []
    network.authority.store.read(function).addCallback(got.append)
    return got[0]


def slugs(answers: list[Any]) -> list[str]:
    """What became of each."""
    return ["admitted" if answer.status == 201 else answer.slug for answer in answers]


def test_joins_of_a_group_are_written_in_one_statement(network: Any) -> None:
    """Each has a certificate, a serial and an audit row of its own, in the order they came."""
    members = [network.invite(f"pump-{number}") for number in range(5)]
    before = read(network, lambda reader: audit_rows.page(reader, 0, 99))
    with statements() as ran:
        answers = network.together("/join", *map(network.join_request, members))
    assert slugs(answers) == ["admitted"] * 5
    assert len([statement for statement in ran if statement.startswith("INSERT INTO admission")]) == 1
    bodies = [answer.json["certificate"]["signed"] for answer in answers]
    assert [body["name"] for body in bodies] == [f"pump-{number}" for number in range(5)]
    assert [body["node_key"] for body in bodies] == [b64url_encode(each.node.public) for each in members]
    assert [body["noise_key"] for body in bodies] == [b64url_encode(each.noise.public) for each in members]
    assert [body["serial"] for body in bodies] == list(range(bodies[0]["serial"], bodies[0]["serial"] + 5))
    after = read(network, lambda reader: audit_rows.page(reader, 0, 99))
    assert len(after) == len(before) + 5
    assert audit.verify_chain(after) == read(network, lambda reader: reader.audit_head)
    assert read(network, nodes.count) == 5


def forged(network: Any, member: Any) -> tuple[dict[str, str], bytes]:
    """A join request that somebody signed who knows an invite's public key alone."""
    other = network.member(network.keys.signing())
    value = json.loads(network.join_request(member)[1])
    value["invite_signature"] = json.loads(network.join_request(other)[1])["invite_signature"]
    body = json.dumps(value).encode()
    return network.signed(member.node, "POST", "/join", body, JOIN_TAG), body


def test_whom_something_speaks_against_is_judged_as_if_alone(network: Any) -> None:
    """Each of a group is refused for its own reason, and those between them are admitted."""
    first = network.joined("pump-1")
    barred = network.joined("pump-2")
    revoked = network.admin("POST", "/admin/revocations", {"node": "pump-2", "reason": "key-compromise"})
    assert revoked.status == 201
    good = network.invite("pump-3")
    unknown = network.member(network.keys.signing())
    named = network.invite("pump-1")
    bound = network.invite("pump-4", node_key=b64url_encode(first.node.public))
    keyed = network.invite("pump-5")
    keyed.node = first.node
    thief = network.invite("pump-6")
    thief.noise = first.noise
    again = network.invite("pump-7")
    again.node = barred.node
    asking = network.invite("pump-8", approve=True)
    replacing = network.invite("pump-2")
    late = network.invite("pump-9", ttl=10)
    network.clock.advance(11)
    members = (good, unknown, named, bound, keyed, thief, again, replacing, late)
    answers = network.together("/join", *map(network.join_request, (*members, asking)))
    assert slugs(answers[:-1]) == [
        "admitted",
        "enrolment-refused",
        "name-taken",
        "enrolment-refused",
        "key-taken",
        "key-taken",
        "cert-revoked",
        "admitted",
        "enrolment-refused",
    ]
    assert answers[-1].status == 202
    assert read(network, nodes.count) == 3


def test_forged_withdrawn_and_compromised_are_refused_in_a_group_too(network: Any) -> None:
    """An invite's signature by another, an invite that was withdrawn, a key that was revoked for ever."""
    compromised = network.joined("pump-1")
    reason = {"node": "pump-1", "reason": "key-compromise"}
    assert network.admin("POST", "/admin/revocations", reason).status == 201
    network.joined("pump-1")  # the name is another node's now: nothing but the list of keys tells
    again = network.invite("pump-2")
    again.node, again.noise = compromised.node, network.keys.noise()
    withdrawn = network.invite("pump-3")
    assert network.admin("DELETE", f"/admin/invites/{withdrawn.invite.key.key_id}").status == 204
    stolen, good = network.invite("pump-4"), network.invite("pump-5")
    answers = network.together(
        "/join",
        *map(network.join_request, (again, withdrawn)),
        forged(network, stolen),
        network.join_request(good),
    )
    assert slugs(answers) == ["cert-revoked", "enrolment-refused", "enrolment-refused", "admitted"]


@pytest.mark.parametrize("shared", ["invite", "name", "node", "noise"])
def test_of_two_in_a_group_who_want_the_same_one_gets_it(network: Any, shared: str) -> None:
    """One invite, one name, one node key or one Noise key for both: the later one is refused."""
    first, second = network.invite("pump-1"), network.invite("pump-1" if shared == "name" else "pump-2")
    if shared != "name":
        setattr(second, shared, getattr(first, shared))
    other = network.invite("pump-3")
    answers = network.together("/join", *map(network.join_request, (first, second, other)))
    refused = {"invite": "enrolment-refused", "name": "name-taken"}.get(shared, "key-taken")
    assert slugs(answers) == ["admitted", refused, "admitted"]


def test_a_request_that_comes_twice_in_a_group_counts_once(network: Any) -> None:
    """The same bytes again are a replay."""
    request = network.join_request(network.invite("pump-1"))
    assert slugs(network.together("/join", request, request)) == ["admitted", "replayed"]


def test_the_last_places_go_to_who_came_first(network: Any) -> None:
    """A group that does not fit under max_nodes fills it."""
    assert network.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, "max_nodes": 2}}).status == 201
    members = [network.invite(f"pump-{number}") for number in range(3)]
    answers = network.together("/join", *map(network.join_request, members))
    assert slugs(answers) == ["admitted", "admitted", "network-full"]


def test_those_who_were_revoked_leave_their_places_to_a_group(network: Any) -> None:
    """As many as are not taken by others, also where the revocation is decided with the group."""
    assert network.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, "max_nodes": 3}}).status == 201
    for number in range(3):
        network.joined(f"pump-{number}")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-0"}).status == 201
    target, body = "/admin/revocations", json.dumps({"node": "pump-1"}).encode()
    revoked, *joined = network.at_once(
        ("POST", target, network.signed(network.keys.admin, "POST", target, body), body),
        *(
            ("POST", "/join", *network.join_request(network.invite(f"pump-{number}")))
            for number in range(3, 6)
        ),
    )
    assert revoked.status == 201
    assert slugs(joined) == ["admitted", "admitted", "network-full"]


@pytest.mark.parametrize("first", ["joins", "orders"])
def test_joins_with_their_own_withdrawal_and_revocation(network: Any, first: str) -> None:
    """Whichever is decided first, the operator hears the truth and nobody revoked or withdrawn gets in."""
    withdrawn, condemned, other = (network.invite(f"pump-{number}") for number in range(3))
    joins = [("POST", "/join", *network.join_request(each)) for each in (withdrawn, condemned, other)]
    target, revocations = f"/admin/invites/{withdrawn.invite.key.key_id}", "/admin/revocations"
    orders = [("DELETE", target, network.signed(network.keys.admin, "DELETE", target), b"")]
    for key in (condemned.node.key_id, "0" * 32):
        body = json.dumps({"key": key, "reason": "key-compromise"}).encode()
        orders.append(
            ("POST", revocations, network.signed(network.keys.admin, "POST", revocations, body), body)
        )
    answers = network.at_once(*(joins + orders if first == "joins" else orders + joins))
    joined, ordered = (answers[:3], answers[3:]) if first == "joins" else (answers[3:], answers[:3])
    assert (joined[0].status, ordered[0].status) in ((201, 409), (403, 204))
    assert joined[2].status == ordered[1].status == ordered[2].status == 201
    if joined[1].status == 201:
        assert ordered[1].json["nodes"] == [condemned.node.key_id]
    else:
        assert joined[1].slug == "cert-revoked" and ordered[1].json["serials"] == []
    assert (joined[1].status == 201) == (first == "joins")
    rows = read(network, lambda reader: audit_rows.page(reader, 0, 99))
    assert audit.verify_chain(rows) == read(network, lambda reader: reader.audit_head)
    network.clock.advance(1)
    assert network.join(condemned).slug in ("cert-revoked", "enrolment-refused")
    assert network.join(withdrawn).status == (200 if joined[0].status == 201 else 403)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"invite": 0}, "spent"), ({"noise_key": 0}, "Noise key"), ({"node_id": 0}, "(?i)unique")],
)
def test_the_database_itself_refuses(network: Any, change: dict[str, int], reason: str) -> None:
    """A spent invite, another's Noise key or a member's identity under another name: nothing is written."""
    network.joined("pump-1")
    network.invite("pump-2")
    columns = (
        "invite, name, node_id, node_key, noise_key, roles, lifetime, serial, document, not_before, not_after"
    )
    (found,) = network.rows(f"SELECT {columns} FROM admission")
    used = dict(zip(columns.split(", "), found, strict=True))
    ((free,),) = network.rows("SELECT id FROM invite WHERE used_at IS NULL")
    row = {
        **used,
        "invite": free,
        "name": "pump-2",
        "node_id": "n",
        "node_key": "k",
        "noise_key": "x",
        "serial": 99,
    }
    row.update({column: used[column] for column in change})
    places = ",".join("?" * len(row))
    with pytest.raises(
        (sqlite3.IntegrityError, psycopg.errors.RaiseException, psycopg.IntegrityError), match=reason
    ):
        network.rows(f"INSERT INTO admission ({','.join(row)}) VALUES ({places})", *row.values())
    counts = [network.rows(f"SELECT count(*) FROM {table}") for table in ("certificate", "noise_key", "node")]
    assert counts == [[(1,)]] * 3
