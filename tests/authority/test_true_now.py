# SPDX-License-Identifier: MIT
"""What a request may do is asked when it is decided, not when it came: on each operators' route."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from authority.admitting import Admitting
from authority.network import WHO_VOTES, Network
from authority.test_approvals import require, revoked
from authority.test_reload import reload, successor

from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.issuer import policy_text
from gmesh.authority.route import Route
from gmesh.authority.routes import ROUTES
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import operators
from gmesh.trust.documents import AuthorityKey, Command, CommandTarget, Policy, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey

WAITING = 20
Asked = tuple[str, Any]
Way = Callable[[Network, SigningKey], Asked]


def fresh_key(network: Network) -> str:
    """A public key nobody has seen."""
    return b64url_encode(network.keys.signing().public)


def text_of(network: Network) -> dict[str, Any]:
    """The policy in force as people write it."""
    return policy_text(parse_document(network.ask("GET", "/policy").body, Policy))


def _withdrawn(network: Network, key: SigningKey) -> Asked:
    invite = network.invite("pump-9").invite
    return f"/admin/invites/{SigningKey.from_seed(invite.seed).key_id}", None


def _enrolment(network: Network, key: SigningKey) -> Asked:
    member = network.invite("pump-9", approve=True)
    network.join(member)
    (waiting,) = network.admin("GET", "/admin/enrolments").json["enrolments"]
    return f"/admin/enrolments/{waiting['id']}", {"decision": "approve", "node_id": waiting["node_id"]}


def _revocation(network: Network, key: SigningKey) -> Asked:
    network.joined("pump-9")
    return "/admin/revocations", {"node": "pump-9"}


def _genesis(network: Network, key: SigningKey) -> Asked:
    first = network.genesis
    body = msgspec.structs.replace(
        first.body, version=2, network_id=network.network_id, previous=first.digest, issued_at=network.now
    )
    return "/admin/genesis", {"genesis": sign_document(body, [network.keys.root]).as_dict()}


def _command(network: Network, key: SigningKey) -> Asked:
    body = Command(
        network_id=network.network_id,
        id="c" * 32,
        number=1,
        command="ping-report",
        target=CommandTarget(all=True),
        arguments={},
        issued_at=network.now,
        expires_at=network.now + 600,
    )
    return "/admin/commands", {"command": sign_document(body, [key]).as_dict()}


def _proposal(network: Network, key: SigningKey) -> Asked:
    third = other_administrator(network)
    require(network, 2, "POST /admin/backup")
    removal = f"/admin/operators/{key.key_id}"
    assert network.admin("DELETE", removal, key=third).status == 202
    assert network.admin("POST", "/admin/backup", key=key).status == 202
    waiting = network.admin("GET", "/admin/approvals").json["approvals"]
    (mine,) = [row["id"] for row in waiting if row["proposed_by"] == key.key_id]
    return f"/admin/approvals/{mine}", None


def _admission(network: Network, key: SigningKey) -> Asked:
    admitting = Admitting(network)
    member = network.invite("pump-9")
    network.join(member)
    return "/admin/admissions", {"admissions": [admitting.admission(member, "pump-9").as_dict()]}


WAYS: dict[str, Way] = {
    "POST /admin/invites": lambda n, key: (
        "/admin/invites",
        {"invite_key": fresh_key(n), "name": "pump-9", "roles": ["client"]},
    ),
    "DELETE /admin/invites/<id>": _withdrawn,
    "POST /admin/enrolments/<id>": _enrolment,
    "POST /admin/admissions": _admission,
    "POST /admin/revocations": _revocation,
    "POST /admin/policies": lambda n, key: ("/admin/policies", {"text": text_of(n)}),
    "POST /admin/genesis": _genesis,
    "POST /admin/operators": lambda n, key: (
        "/admin/operators",
        {"key": fresh_key(n), "role": "administer"},
    ),
    "DELETE /admin/operators/<id>": lambda n, key: (f"/admin/operators/{n.keys.reader.key_id}", None),
    "POST /admin/operators/<id>": lambda n, key: (f"/admin/operators/{key.key_id}", {"key": fresh_key(n)}),
    "DELETE /admin/approvals/<id>": _proposal,
    "POST /admin/commands": _command,
    "POST /admin/backup": lambda n, key: ("/admin/backup", None),
}
"""For each route by which an operator changes something: a request that is good."""

CHANGES = [route for route in ROUTES if route.changes_by_operator]
READS = [route for route in ROUTES if route.access.operator and not route.changes_by_operator]


def other_administrator(network: Network) -> SigningKey:
    """B."""
    key = network.keys.signing()
    body = {"key": b64url_encode(key.public), "role": "administer", "name": "B"}
    assert network.admin("POST", "/admin/operators", body).status == 201
    return key


def signed(network: Network, key: SigningKey, method: str, asked: Asked) -> Any:
    """A request ready to be sent."""
    target, value = asked
    body = b"" if value is None else msgspec.json.encode(value)
    return method, target, network.signed(key, method, target, body), body


def rows(network: Network) -> list[dict[str, Any]]:
    """The audit."""
    return [entry["row"] for entry in network.admin("GET", "/admin/audit?limit=500").json["entries"]]


@pytest.mark.parametrize("route", CHANGES, ids=lambda route: route.name)
def test_a10_what_waits_of_an_operator_who_was_removed_is_not_done(network: Network, route: Route) -> None:
    """Twenty requests of B stand behind the one that removes B: none is done; before it, one of them is."""
    b = other_administrator(network)
    asked = WAYS[route.name](network, b)
    removal = signed(network, network.keys.admin, "DELETE", (f"/admin/operators/{b.key_id}", None))
    waiting = [signed(network, b, route.method, asked) for _ in range(WAITING)]
    known = len(rows(network))
    first, *others = network.at_once(removal, *waiting)
    assert first.status == 200
    assert {answer.slug for answer in others} == {"unknown-key"}
    done = [row for row in rows(network)[known:] if row["outcome"] == "done"]
    assert [row for row in done if row["actor"] == b.key_id] == []


@pytest.mark.parametrize("route", CHANGES, ids=lambda route: route.name)
def test_a10_the_same_request_of_an_operator_is_done(network: Network, route: Route) -> None:
    """What the test above refuses is good but for the removal."""
    b = other_administrator(network)
    asked = WAYS[route.name](network, b)
    (answer,) = network.at_once(signed(network, b, route.method, asked))
    assert answer.status in route.answers and answer.status < 300, answer.body


@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
def test_a10_an_operator_who_was_removed_reads_nothing(network: Network, route: Route) -> None:
    """Once the removal is decided, each route of operators refuses the key."""
    b = other_administrator(network)
    assert network.admin("DELETE", f"/admin/operators/{b.key_id}").status == 200
    target = route.path.split("<")[0].rstrip("/") if "<" not in route.path else _some(route)
    assert network.admin("GET", target, key=b).slug == "unknown-key"


def _some(route: Route) -> str:
    fitting = {"int": "1", "length=32": "0" * 32, "length=64": "0" * 64}
    head, _, tail = route.path.partition("<")
    return head + next(value for name, value in fitting.items() if name in tail)


def test_p18_an_operator_whom_another_replica_removed_is_refused_and_audited(network: Network) -> None:
    """What waits here is judged by the row as it is when it is decided, whoever changed that."""
    b = other_administrator(network)
    asked = WAYS["POST /admin/invites"](network, b)
    known = len(rows(network))

    def elsewhere() -> None:
        network.authority.store.decide(lambda tx: operators.revoke(tx, b.key_id))

    (answer,) = network.at_once(signed(network, b, "POST", asked), before=elsewhere)
    assert (answer.status, answer.slug) == (401, "unknown-key")
    (refused,) = [row for row in rows(network)[known:] if row["actor"] == b.key_id]
    assert refused["action"] == "POST /admin/invites" and "unknown-key" in refused["outcome"]


def test_a10_no_revocation_passes_the_removal_of_its_operator(network: Network) -> None:
    """Revocations that are decided at once are those that stand together: one before, none behind."""
    b = other_administrator(network)
    network.joined("pump-1")
    network.joined("pump-2")
    answers = network.at_once(
        signed(network, b, "POST", ("/admin/revocations", {"node": "pump-1"})),
        signed(network, network.keys.admin, "DELETE", (f"/admin/operators/{b.key_id}", None)),
        signed(network, b, "POST", ("/admin/revocations", {"node": "pump-2"})),
    )
    assert [answer.status for answer in answers] == [201, 200, 401]
    assert revoked(network) == ["pump-1"]


def test_a10_what_waits_behind_a_new_policy_goes_by_it(network: Network) -> None:
    """An invite, a command and a join that the policy before allowed, decided together with the next."""
    text = text_of(network)
    text["certificate"]["max"] = text["certificate"]["default"] = 3600
    text["control"]["ping_report"] = "administer"
    text["max_nodes"] = 1
    network.joined("pump-1")
    guest = network.invite("pump-2")
    long = {"invite_key": fresh_key(network), "name": "pump-9", "roles": ["client"], "lifetime": 7200}
    operator = network.keys.operator
    first, *others = network.at_once(
        signed(network, network.keys.admin, "POST", ("/admin/policies", {"text": text})),
        signed(network, operator, "POST", ("/admin/invites", long)),
        signed(network, operator, "POST", _command(network, operator)),
        ("POST", "/join", *network.join_request(guest)),
    )
    assert first.status == 201, first.body
    assert [answer.slug for answer in others] == ["invalid-field", "forbidden-role", "network-full"]


def test_a10_what_waits_behind_a_new_rule_of_approval_goes_by_it(network: Network) -> None:
    """SIGHUP adds one just after a request was judged: that is not done by one operator alone."""
    other_administrator(network)
    rules = {"required": 2, "operations": [*WHO_VOTES, "POST /admin/backup"]}
    (network.path / APPROVALS_FILE).write_text(json.dumps(rules))
    admin = network.keys.admin

    def asked() -> Any:
        return signed(network, admin, "POST", ("/admin/backup", None))

    def take() -> None:
        network.authority.reload(StateDirectory(network.path, network.now))

    (answer,) = network.at_once(asked(), before=take)
    assert (answer.status, answer.slug) == (409, "conflict") and "ask again" in answer.json["detail"]
    (answer,) = network.at_once(asked())
    assert answer.status == 202


def test_a10_what_waits_behind_a_new_genesis_is_signed_by_its_key(network: Network) -> None:
    """A policy and a certificate that are decided together with the genesis that drops the old key."""
    new = network.keys.signing()
    key_file = network.path / "next.key"
    key_file.touch(0o600)
    key_file.write_bytes(new.to_pem())
    reload(network)
    (old,) = network.genesis.body.authority
    entry = AuthorityKey(key=b64url_encode(new.public), valid_from=old.valid_from, valid_to=old.valid_to)
    genesis = successor(network, network.keys.root, authority=(entry,))
    guest = network.invite("pump-1")
    answers = network.at_once(
        signed(network, network.keys.admin, "POST", ("/admin/genesis", {"genesis": genesis.as_dict()})),
        signed(network, network.keys.admin, "POST", ("/admin/policies", {"text": text_of(network)})),
        ("POST", "/join", *network.join_request(guest)),
    )
    assert [answer.status for answer in answers] == [201, 201, 201]
    signers = [entry["key_id"] for entry in answers[2].json["certificate"]["signatures"]]
    assert signers == [new.key_id]
    policy = json.loads(network.ask("GET", "/policy").body)
    assert policy["signed"]["version"] == answers[1].json["version"]
    assert [entry["key_id"] for entry in policy["signatures"]] == [new.key_id]
