# SPDX-License-Identifier: MIT
"""P33: whatever statement the authority has, it is run on both engines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from authority.admitting import Admitting
from authority.database import statements
from authority.network import Network
from authority.state_files import DAY, POLICY_TEXT
from authority.test_approvals import PUMP, REVOKE, require, second_administrator
from authority.test_commands import Operator, beat, receipt, since
from authority.test_history import shows, status_of
from authority.test_lost_days import by_status, enrolments, lost_and_restored
from authority.test_renewals_together import request
from authority.theft import Theft

import gmesh.authority
from gmesh.authority import limits
from gmesh.authority.operators import recover_operator
from gmesh.authority.restore import Evidence
from gmesh.trust.encoding import b64url_encode

PACKAGE = Path(gmesh.authority.__file__).parent
VERB = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|SAVEPOINT|ROLLBACK|RELEASE) [\w(*{]")
OF_ONE = re.compile(
    r"store/(sqlite|postgres\w*|copy\w*|migrate|moved|tables)|database_check|database_url|restore"
)
"""Modules whose statements are for one engine alone, or make tables and move them."""
OF_SERVERS = ("WITH next AS (UPDATE ordering", "SELECT 1 FROM audit WHERE hash")
"""How these begin that only a server is asked: of the order of daemons that share it, after a promotion."""
ELSEWHERE = "SELECT turn FROM replica"
"""After a commit that was not answered: C{test_outage}."""


def text_of(node: ast.AST) -> str | None:
    """A string, with braces where something is put in later."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def written() -> Iterator[tuple[str, str]]:
    """Each statement, and where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if OF_ONE.match(str(place)):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            text = None if id(node) in parts else text_of(node)
            if text is not None and VERB.match(text):
                yield text, f"{place}:{node.lineno}"  # type: ignore[attr-defined]  # a string has a line


def is_run(text: str, ran: set[str]) -> bool:
    """Whether it was, alone or in brackets inside another."""
    like = re.sub(r"\\\{[^}]*\\\}|%s", "(?s:.*)", re.escape(text))
    like += "(?s:.*)" if text.endswith("VALUES ") else ""
    return any(re.fullmatch(like, each) or re.search(rf"\({like}\)", each) for each in ran)


def members_come_and_go(network: Network) -> None:
    """Joins alone and together, with and without approval, renewals, heartbeats, revocations of each kind."""
    asking = network.invite("asking", approve=True)
    assert network.join(asking).status == 202
    target = f"/admin/enrolments/{asking.invite.key.key_id}"
    decision = {"decision": "approve", "node_id": asking.node.key_id}
    assert network.admin("POST", target, decision).status == 200
    assert [network.join(asking).status for _ in range(2)] == [201, 200]
    group = [network.invite(f"node-{number}") for number in range(4)]
    answers = network.together("/join", *map(network.join_request, group))
    assert [answer.status for answer in answers] == [201] * 4
    network.clock.advance(1)
    assert [network.join(member).status for member in group] == [200] * 4
    network.clock.advance(DAY // 2)
    renewals = [request(network, member, network.keys.noise()) for member in group]
    assert [answer.status for answer in network.together("/renew", *renewals)] == [201] * 4
    network.clock.advance(DAY // 2)
    assert [network.renew(member).status for member in group] == [201] * 4
    assert network.renew(group[0], network.keys.noise()).status == 201
    assert network.heartbeat(group[0]).status == 200
    open_invite = network.invite("nobody").invite.key.key_id
    assert network.admin("DELETE", f"/admin/invites/{open_invite}").status == 204
    serial = network.rows("SELECT serial FROM node WHERE name = 'node-1'")[0][0]
    for value in (
        {"serial": serial},
        {"node": "node-2", "reason": "key-compromise"},
        {"key": group[3].node.key_id},
    ):
        answer = network.admin("POST", "/admin/revocations", value)
        assert answer.status == 201, answer.body
    assert network.join(network.invite("node-2")).status == 201
    assert network.admin("POST", "/admin/revocations", {"node": "node-1"}).status == 201
    moved = network.invite("elsewhere")
    moved.node, moved.noise = group[1].node, network.keys.noise()
    assert network.join(moved).status == 201
    assert shows(network, moved, status_of(network)).status == 200
    assert network.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, "max_nodes": 1}}).status == 201
    assert network.join(network.invite("one-too-many")).slug == "network-full"
    assert network.admin("POST", "/admin/policies", {"text": POLICY_TEXT}).status == 201
    network.clock.advance(limits.PRESENCE_FLUSH_SECONDS + 5)


def operators_vote(network: Network) -> None:
    """A second one comes; what takes two is proposed, withdrawn, voted for; one takes another key."""
    second = second_administrator(network)
    require(network, 2, REVOKE)
    pump = {**PUMP, "node": "node-0"}
    proposed = network.admin("POST", "/admin/revocations", pump)
    assert proposed.status == 202
    assert network.admin("GET", "/admin/approvals").json["approvals"]
    assert network.admin("DELETE", f"/admin/approvals/{proposed.json['id']}").status == 204
    assert network.admin("POST", "/admin/revocations", pump).status == 202
    assert network.admin("POST", "/admin/revocations", pump, second).status == 201
    body = {"key": b64url_encode(network.keys.signing().public)}
    assert network.admin("POST", f"/admin/operators/{network.keys.reader.key_id}", body).status == 202
    (network.path / "approvals.json").unlink()
    network.stop()
    network.clock.advance(1)
    network.start(weaken_approvals=True)
    assert network.admin("DELETE", f"/admin/operators/{second.key_id}").status == 200


def all_is_shown(network: Network) -> None:
    """Every page there is."""
    for what in (
        "invites",
        "enrolments",
        "nodes",
        "certificates",
        "operators",
        "approvals",
        "audit",
        "policies",
        "policies/1",
        "commands",
        "replicas",
        "admissions",
    ):
        assert network.admin("GET", f"/admin/{what}").status == 200, what
    for what in ("genesis", "genesis/1", "policy", "crl", "crl?since=1", "status", "readyz"):
        assert network.ask("GET", f"/{what}").status == 200, what
    assert network.admin("GET", "/certificates/1").status == 200


def commands_are_given(network: Network) -> None:
    """And answered by a member."""
    member = network.joined("obedient")
    operator = Operator(network)
    given = operator.given()
    assert since(network, member, 0).status == 200
    assert beat(network, member, receipt(network, member, given)).status == 200
    assert operator.states(given)["obedient"] == "done"


def a_thief_is_locked_out(theft: Theft) -> None:
    """Restores, with and without evidence; members of the lost days come back, are asked for, are refused."""
    network = theft.network
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.clock.advance(1)
    theft.backup = theft.take_backup()
    known, doubted = network.joined("pump-1"), network.joined("doubted")
    theft.rotate()
    lost_and_restored(theft, by_status(theft))
    assert network.renew(known).status == 201
    assert network.renew(theft.intruder(serial=77)).status == 403
    network.clock.advance(1)
    lost_and_restored(theft, Evidence())
    assert network.renew(doubted).slug == "enrolment-pending"
    (waiting,) = (row for row in enrolments(network) if row["name"] == "doubted")
    decision = {"decision": "approve", "node_id": doubted.node.key_id}
    assert network.admin("POST", f"/admin/enrolments/{waiting['id']}", decision).status == 200
    assert network.renew(doubted).status == 201


def admissions_are_asked_for(network: Network) -> None:
    """A genesis names the key for them."""
    network.genesis = json_genesis(network)
    admitting = Admitting(network)
    member = network.invite("admitted")
    assert network.join(member).status == 202
    admitting.bring(admitting.admission(member, "admitted"))
    assert network.join(member).status == 201


def json_genesis(network: Network) -> Any:
    """As it is served."""
    from gmesh.trust.documents import Genesis, parse_document

    return parse_document(network.ask("GET", "/genesis").body, Genesis)


def time_passes(network: Network) -> None:
    """Until all that ends has ended, and was pruned."""
    for _ in range(3):
        network.clock.advance(40 * DAY)
        network.clock.advance(limits.PRUNE_SECONDS)


def test_p33_every_statement_is_run(theft: Theft) -> None:
    """One that nothing here brings about is not known to be good on this engine: add what does."""
    network = theft.network
    with statements() as ran:
        network.restart()
        members_come_and_go(network)
        operators_vote(network)
        commands_are_given(network)
        all_is_shown(network)
        a_thief_is_locked_out(theft)
        admissions_are_asked_for(network)
        all_is_shown(network)
        time_passes(network)
        network.shared = True
        network.restart()
        if network.engine is not None:
            network.invite("before")
            network.change("UPDATE meta SET value = value - 1 WHERE name = 'timeline'")
            network.clock.advance(limits.REPLICA_REPORT_SECONDS + 1)
        all_is_shown(network)
        time_passes(network)
        network.stop()
        recover_operator(
            network.path, network.keys.signing().public, "new", network.now, engine=network.engine
        )
        network.clock.advance(1)
        network.start()
    texts = set(ran)
    server = network.engine is not None
    asked = [
        each
        for each in written()
        if not each[0].startswith(ELSEWHERE) and (server or not each[0].startswith(OF_SERVERS))
    ]
    assert len(asked) > 120
    missing = sorted(f"{place}: {text}" for text, place in asked if not is_run(text, texts))
    assert not missing, "\n".join(missing)
