# SPDX-License-Identifier: MIT
"""gmesh admin: what it asks, whom it waits for, and what it refuses to believe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cli.admin_rig import show_documents
from trust.network import NOW, Network, key

from gmesh.cli import operator
from gmesh.cli.admin_commands import read_arguments
from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.http import HttpRefused
from gmesh.cli.operator import poll
from gmesh.errors import ConfigurationError
from gmesh.trust.documents import Command, document_from_dict
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.signed_requests import ADMIN_TAG
from gmesh.trust.verify import verify_signatures

ID = "0123456789abcdef0123456789abcdef"
LONG = ID * 2


def _bodies(end: Any, path: str) -> list[Any]:
    return [json.loads(body) for _, target, _, body in end.requests if target.startswith(path) and body]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["log-level", "level=loud"], "level must be one of debug, info, warn, error, critical"),
        (["log-level"], "the argument level is missing"),
        (["log-level", "level=debug", "for=60"], "log-level takes no argument for"),
        (["ping-report", "nodes=b"], "nodes of ping-report must be a list"),
        (["ping-report", "nodes=[1]"], "nodes must be names"),
        (["policy-update", "version=two"], "version of policy-update must be a number"),
        (["update-bootstrap", "anchors=b=192.0.2.1:7443"], "anchors of update-bootstrap must be a list"),
        (["update-bootstrap", "anchors=[]"], "there must be 1 to 64 anchors"),
        (["update-bootstrap", 'anchors=["b"]'], 'not an anchor: each is written {"name": "NAME"'),
        (
            ["update-bootstrap", 'anchors=[{"name":"b","endpoint":"unix:/b"}]'],
            "none of the anchors is at an address that is dialled",
        ),
    ],
)
def test_b18_a_command_that_every_node_would_refuse_is_not_signed(
    admin: Callable[..., Any], http_end: Any, arguments: list[str], told: str
) -> None:
    """It is refused here in the words of the nodes, and nobody is asked."""
    ended = admin("command", *arguments, "--all")
    assert (ended.status, ended.out, ended.err.count("\n"), http_end.requests) == (1, "", 1, [])
    assert told in ended.err


def test_b18_a_command_of_a_program_is_left_to_it(admin: Callable[..., Any], http_end: Any) -> None:
    """With any arguments; and one that looks like a typing error is told."""
    http_end.json("POST /admin/commands", {"id": ID, "number": 1}, 201)
    assert admin("command", "calibrate", "x=1", "--all").err == ""
    ended = admin("command", "relaod", "--all")
    assert (ended.status, ended.err) == (
        0,
        "gmesh: relaod is left to a program on the nodes; reload is gmesh's\n",
    )


def test_invite_with_everything(admin: Callable[..., Any], http_end: Any) -> None:
    """--lifetime, --node-key and --approve go into the request; what is not given does not."""
    http_end.json("POST /admin/invites", {"id": ID, "expires_at": NOW}, 201)
    node = b64url_encode(key("node").public)
    ended = admin(
        "invite", "--name", "p", "--role", "client", "--lifetime", "12h", "--node-key", node, "--approve"
    )
    assert (ended.status, ended.err) == (0, "")
    (body,) = _bodies(http_end, "/admin/invites")
    assert (body["lifetime"], body["node_key"], body["approve"]) == (43200, node, True)


def test_invite_that_needs_others(admin: Callable[..., Any], http_end: Any) -> None:
    """An invite that must be approved by others is printed, for it cannot be made again; it ends with 1."""
    http_end.json("POST /admin/invites", {"state": "pending", "id": ID, "votes": 1, "required": 2}, 202)
    ended = admin("invite", "--name", "p", "--role", "client")
    assert (ended.status, ended.out.startswith("gmesh-invite:")) == (1, True)
    assert ended.err == (
        f"gmesh: waits for approval: 1 of 2 operators; another one runs: gmesh admin approvals approve {ID}\n"
    )


def test_approving_asks_for_the_same(admin: Callable[..., Any], http_end: Any) -> None:
    """approve shows what was asked for, and sends the same method, target and body."""
    body = {"node": "pump-07", "reason": "superseded"}
    waiting = {"id": LONG, "method": "POST", "target": "/admin/revocations", "body": body, "votes": []}
    http_end.json(f"GET /admin/approvals/{LONG}", {**waiting, "speaks_of": {"node_id": ID}})
    http_end.json("POST /admin/revocations", {"crl_number": 4, "serials": [7]}, 201)
    ended = admin("approvals", "approve", LONG, "--yes")
    assert ended.status == 0 and "POST /admin/revocations" in ended.out and f"node_id: {ID}" in ended.out
    assert _bodies(http_end, "/admin/revocations") == [body]


def test_a12_approving_asks_for_that_id(admin: Callable[..., Any], http_end: Any) -> None:
    """A proposal is found by its id, whatever else waits; one that is gone is told in plain words."""
    http_end.json("GET /admin/approvals", {"approvals": [], "required": 2, "next": "9" * 64})
    http_end.problem(f"GET /admin/approvals/{LONG}", "not-found", 404, "nothing waits under this id")
    ended = admin("approvals", "approve", LONG, "--yes")
    assert (ended.status, ended.err) == (1, "gmesh: nothing waits under this id\n")
    assert [target for _, target, _, _ in http_end.requests].count("/admin/approvals") == 0


def test_a12_a_proposal_is_withdrawn(admin: Callable[..., Any], http_end: Any) -> None:
    """By its id, or by the beginning that the list shows, on whichever page that stands."""
    http_end.json("GET /admin/approvals", {"approvals": [{"id": "9" * 64}], "next": "9" * 64})
    http_end.json(
        f"GET /admin/approvals?after={'9' * 64}&limit=500", {"approvals": [{"id": LONG}], "next": None}
    )
    http_end.json(f"DELETE /admin/approvals/{LONG}", {})
    for name in (LONG, LONG[:8]):
        ended = admin("approvals", "withdraw", name)
        assert (ended.status, ended.out) == (0, "withdrawn\n")
    done = [f"{method} {target}" for method, target, _, _ in http_end.requests]
    assert done.count(f"DELETE /admin/approvals/{LONG}") == 2
    assert admin("approvals", "withdraw", "x").status == 1


def test_the_daemons_of_a_database_are_listed(admin: Callable[..., Any], http_end: Any) -> None:
    """With what each shows, and whether it is ready."""
    row = {"boot": "b", "name": "one.example", "version": "9.9", "since": 1, "seen": 2, "ready": False}
    row |= {"keys": [ID], "numbers": {"crl": 7, "policy": 3}}
    http_end.json("GET /admin/replicas", {"replicas": [row], "next": None})
    shown = admin("replicas")
    assert shown.status == 0
    for text in ("one.example", "no", "9.9", "crl 7, policy 3", ID[:8]):
        assert text in shown.out


@pytest.mark.parametrize(
    ("arguments", "request_line"),
    [
        (["invites", "withdraw", ID], f"DELETE /admin/invites/{ID}"),
        (["operators", "remove", ID], f"DELETE /admin/operators/{ID}"),
        (
            ["operators", "remove", b64url_encode(key("x").public)],
            f"DELETE /admin/operators/{key('x').key_id}",
        ),
        (["policy", "rollback", "3"], "POST /admin/policies"),
        (["enrolments", "approve", ID], f"POST /admin/enrolments/{ID}"),
        (["enrolments", "approve", "5e" * 16], f"POST /admin/enrolments/{ID}"),
        (["enrolments", "reject", "pump-07"], f"POST /admin/enrolments/{ID}"),
        (["backup"], "POST /admin/backup"),
    ],
)
def test_what_is_asked(
    admin: Callable[..., Any], http_end: Any, arguments: list[str], request_line: str
) -> None:
    """Each command makes its one request."""
    waiting = {"id": ID, "node_id": "5e" * 16, "name": "pump-07", "state": "pending"}
    http_end.json("GET /admin/enrolments", {"enrolments": [waiting]})
    http_end.json(request_line, {}, 200)
    ended = admin(*arguments)
    assert (ended.status, ended.err) == (0, "")
    assert request_line in {f"{method} {target}" for method, target, _, _ in http_end.requests}


def test_a19_approving_is_about_the_host_that_waits(admin: Callable[..., Any], http_end: Any) -> None:
    """Its node id goes into the request and is shown; by a name that two hosts wait under nothing is done."""
    waiting = [
        {"id": each * 32, "node_id": each * 32, "name": "pump-07", "state": "pending"} for each in ("1", "2")
    ]
    http_end.json("GET /admin/enrolments", {"enrolments": waiting})
    http_end.json(f"POST /admin/enrolments/{'2' * 32}", {"state": "approved", "name": "pump-07"})
    ended = admin("enrolments", "approve", "pump-07")
    assert (ended.status, ended.err.count("\n")) == (1, 1) and "node id" in ended.err
    ended = admin("enrolments", "approve", "2" * 32)
    assert ended.out == f"approved: pump-07, node id {'2' * 32}\n"
    assert _bodies(http_end, f"/admin/enrolments/{'2' * 32}") == [
        {"decision": "approve", "node_id": "2" * 32}
    ]


@pytest.mark.parametrize("bad", ["../../x", "ID", "0" * 31, "0" * 32 + "/x"])
def test_only_an_id_goes_into_a_path(admin: Callable[..., Any], http_end: Any, bad: str) -> None:
    """What is no id never reaches a request line."""
    ended = admin("operators", "remove", bad)
    assert (ended.status, ended.err.count("\n"), http_end.requests) == (1, 1, [])


def _nodes(*rows: tuple[str, int, bool, int]) -> dict[str, Any]:
    return {
        "nodes": [
            {
                "name": name,
                "numbers": {"crl": crl},
                "revoked": revoked,
                "not_after": NOW + life,
                "last_seen": NOW - 60,
            }
            for name, crl, revoked, life in rows
        ],
        "next": None,
    }


def test_revoke_waits(admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--wait asks until every living member holds the CRL; revoked and expired ones are not waited for."""
    monkeypatch.setattr(operator, "PAUSE", 0.01)
    http_end.json("POST /admin/revocations", {"crl_number": 9, "serials": [7]}, 201)
    http_end.json(
        "GET /admin/nodes", _nodes(("a", 9, False, 60), ("gone", 0, True, 60), ("old", 0, False, -60))
    )
    ended = admin("revoke", "gone", "--wait", "--json")
    assert (ended.status, json.loads(ended.out)["applied"]) == (0, ["a"])


def _revoking(end: Any, *looks: list[dict[str, Any]]) -> None:
    """A revocation makes CRL 9; each look at the members finds the next of C{looks}, then the last again."""
    end.json("POST /admin/revocations", {"crl_number": 9, "serials": [7]}, 201)
    left = list(looks)

    def answer(handler: Any) -> None:
        found = left.pop(0) if len(left) > 1 else left[0]
        data = json.dumps({"nodes": found, "next": None}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    end.answers["GET /admin/nodes"] = answer


def _member(name: str, crl: int, seen: int | None) -> dict[str, Any]:
    """A member last heard of C{seen} seconds ago, holding that CRL."""
    at = None if seen is None else NOW - seen
    return {"name": name, "numbers": {"crl": crl}, "not_after": NOW + 60, "revoked": False, "last_seen": at}


def test_b16_revoke_waits_for_those_heard_of_lately(admin: Callable[..., Any], http_end: Any) -> None:
    """It ends at once when they all hold the CRL, with 3 and with those that are away, since when."""
    found = [_member("a", 9, 60), _member("b", 8, 7200), _member("c", 0, None)]
    _revoking(http_end, found)
    ended = admin("revoke", "gone", "--wait", "--timeout", "1h")
    assert ended.status == 3
    assert ended.out.splitlines()[1:] == ["1 nodes hold CRL 9: a"]
    assert ended.err == (
        "gmesh: not every node has confirmed CRL 9: 2 are away: b (silent for 2 h), c (never heard of)\n"
    )
    ended = admin("revoke", "gone", "--wait", "--timeout", "1h", "--json")
    told = json.loads(ended.out)
    assert (ended.status, told["applied"], told["waiting"], told["suspected"]) == (3, ["a"], [], [])
    assert told["away"] == [{"name": "b", "last_seen": NOW - 7200}, {"name": "c", "last_seen": None}]


def test_b16_revoke_tells_who_is_missing(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time is up it names who was heard of and has not told, beside who is away, and ends with 1."""
    _revoking(http_end, [_member("a", 9, 60), _member("b", 8, 299), _member("c", 8, 301)])
    monkeypatch.setattr("gmesh.cli.admin_revocations.poll", lambda ask, done, timeout: ask())
    ended = admin("revoke", "gone", "--wait")
    assert ended.status == 1
    assert ended.err == (
        "gmesh: not every node has confirmed CRL 9: 1 heard of lately do not say so: b;"
        " 1 are away: c (silent for 5 min)\n"
    )


def test_c16_d8_a_node_on_two_hosts_has_not_confirmed(admin: Callable[..., Any], http_end: Any) -> None:
    """One of the two told, and nobody knows which: it ends at once, with 1, and names the node."""
    doubled = {**_member("b", 9, 60), "hosts": ["192.0.2.1", "192.0.2.2"]}
    _revoking(http_end, [_member("a", 9, 60), doubled])
    ended = admin("revoke", "gone", "--wait", "--timeout", "1h")
    assert ended.status == 1
    assert ended.out.splitlines()[1:] == ["1 nodes hold CRL 9: a"]
    assert "1 run on two hosts with one key, of which one says so: b; stop one of the two" in ended.err
    told = json.loads(admin("revoke", "gone", "--wait", "--timeout", "1h", "--json").out)
    assert (told["applied"], told["doubled"], told["waiting"]) == (["a"], ["b"], [])


def test_revoke_says_when_nobody_is_left_to_wait_for(admin: Callable[..., Any], http_end: Any) -> None:
    """The last member was revoked."""
    _revoking(http_end, [{**_member("gone", 0, 60), "revoked": True}])
    ended = admin("revoke", "gone", "--wait")
    assert ended.status == 0
    assert ended.out.splitlines()[1:] == ["no other node is left that could hold CRL 9"]


def test_b16_who_goes_on_with_an_older_crl_is_suspected(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One heartbeat may have fetched the CRL; a node that sends two more and does not hold it is named."""
    _revoking(
        http_end,
        *([_member("a", 8, seen), _member("b", 8, 60 if seen == 60 else 30)] for seen in (60, 40, 20)),
    )
    monkeypatch.setattr(
        "gmesh.cli.admin_revocations.poll", lambda ask, done, timeout: [ask() for _ in range(4)]
    )
    ended = admin("revoke", "gone", "--wait")
    assert ended.status == 1
    assert "2 heard of lately do not say so: a, b; suspected, for they go on" in ended.err
    assert "with an older CRL: a; see gmesh doctor" in ended.err


def test_b16_a_command_does_not_wait_for_those_away(admin: Callable[..., Any], http_end: Any) -> None:
    """--wait of a command ends when all heard of lately have answered, and names who is away."""
    http_end.json("POST /admin/commands", {"id": ID, "number": 7}, 201)
    states = {"a": "done", "b": "no-answer"}
    nodes = [{"name": name, "state": state, "detail": None, "at": None} for name, state in states.items()]
    counts = {"done": 1, "refused": 0, "failed": 0, "no_answer": 1}
    http_end.json(f"GET /admin/commands/{ID}", {"id": ID, "counts": counts, "nodes": nodes})
    http_end.json("GET /admin/nodes", {"nodes": [_member("a", 1, 9), _member("b", 1, 86400)], "next": None})
    ended = admin("command", "reload", "--all", "--wait", "--timeout", "1h")
    assert (ended.status, ended.err) == (
        1,
        "gmesh: not every node has done it: 1 no answer; away: b (silent for 24 h)\n",
    )


def test_c16_a6_nodes_names_two_hosts_and_what_nodes_report(admin: Callable[..., Any], http_end: Any) -> None:
    """Beside the table, which stays as it is for programs that read it."""
    rows = _nodes(("pump", 9, False, 60), ("gate", 9, False, 60), ("well", 9, False, 60))
    rows["nodes"][0]["hosts"] = ["192.0.2.1", "192.0.2.9"]
    rows["nodes"][1]["faults"] = ["digest-mismatch", "twin:pump"]
    http_end.json("GET /admin/nodes", rows)
    ended = admin("nodes")
    assert (ended.status, ended.err.splitlines()) == (
        0,
        [
            "pump runs on two hosts with one key, at 192.0.2.1 and 192.0.2.9: stop one",
            "gate reports: digest-mismatch, twin:pump",
        ],
    )
    assert "192.0.2.9" not in ended.out


def test_a5_revoke_waits_for_this_very_crl(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    """A number is not enough: another authority may have made the CRL that a node holds."""
    ours, newer = network.crl(9), network.crl(11)
    http_end.json(
        "POST /admin/revocations", {"crl_number": 9, "crl_digest": ours.digest, "serials": [7]}, 201
    )
    http_end.answers["GET /status"] = (200, network.status(7, crl=newer).encode())
    rows = _nodes(
        *(
            (name, number, False, 60)
            for name, number in zip("abcdefgh", (9, 9, 10, 11, 11, 8, 12, 9), strict=True)
        )
    )
    digests = [ours.digest, newer.digest, ours.digest, newer.digest, ours.digest, ours.digest, None, None]
    for row, digest in zip(rows["nodes"], digests, strict=True):
        if digest is not None:
            row["numbers"]["crl_digest"] = digest
    http_end.json("GET /admin/nodes", rows)
    monkeypatch.setattr("gmesh.cli.admin_revocations.poll", lambda ask, done, timeout: ask())
    ended = admin("revoke", "gone", "--wait", "--json")
    found = json.loads(ended.out)
    assert (ended.status, found["applied"], found["waiting"]) == (
        1,
        ["a", "d"],
        ["b", "c", "e", "f", "g", "h"],
    )


@pytest.mark.parametrize("arguments", [["revoke"], ["revoke", "a", "--serial", "3"], ["command", "reload"]])
def test_usage(admin: Callable[..., Any], arguments: list[str]) -> None:
    """A target that is missing, or named twice, is wrong usage."""
    assert admin(*arguments).status == 2


def test_what_is_waited_for_is_told_first(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts the waiting knows the number and the id of what was given."""
    http_end.json("POST /admin/commands", {"id": ID, "number": 7}, 201)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gmesh.cli.admin_commands.poll", interrupted)
    ended = admin("command", "reload", "--all", "--wait")
    assert (ended.status, ended.out) == (130, f"command 7: {ID}\n")


def test_command_tells_of_each_node(
    admin: Callable[..., Any], http_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--wait: who has done it, who refused and why, who is silent; it failed unless all have done it."""
    http_end.json("POST /admin/commands", {"id": ID, "number": 7}, 201)
    states = {"a": ("done", "reloaded"), "b": ("refused", "no role"), "c": ("no-answer", None)}
    nodes = [
        {"name": name, "state": state, "detail": detail, "at": None}
        for name, (state, detail) in states.items()
    ]
    counts = {"done": 1, "refused": 1, "failed": 0, "no_answer": 1}
    http_end.json(f"GET /admin/commands/{ID}", {"id": ID, "counts": counts, "nodes": nodes})
    http_end.json("GET /admin/nodes", {"nodes": [_member("c", 1, 60)], "next": None})
    monkeypatch.setattr("gmesh.cli.admin_commands.poll", lambda ask, done, timeout: ask())
    ended = admin("command", "reload", "--all", "--wait")
    assert [line.split()[:3] for line in ended.out.splitlines()[2:]] == [
        ["a", "done", "reloaded"],
        ["b", "refused", "no"],
        ["c", "no-answer", "-"],
    ]
    assert (ended.status, ended.err) == (
        1,
        "gmesh: not every node has done it: 1 refused, 1 no answer\n",
    )
    counts |= {"refused": 0, "no_answer": 0}
    http_end.json(f"GET /admin/commands/{ID}", {"id": ID, "counts": counts, "nodes": nodes[:1]})
    assert admin("command", "reload", "--all", "--wait").status == 0


def test_command_takes_the_number_it_is_told(admin: Callable[..., Any], http_end: Any) -> None:
    """Somebody else was quicker: the command is signed again under the number the authority names."""

    def answer(handler: Any) -> None:
        first = len(_bodies(http_end, "/admin/commands")) == 1
        value = {"type": "urn:gmesh:problem:conflict", "number": 7} if first else {"id": ID, "number": 7}
        data = json.dumps(value).encode()
        handler.send_response(409 if first else 201)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    http_end.answers["POST /admin/commands"] = answer
    ended = admin("command", "calibrate", "level=debug", "seconds=60", "--role", "relay", "--json")
    assert (ended.status, json.loads(ended.out)["number"]) == (0, 7)
    first, second = (
        document_from_dict(body["command"], Command) for body in _bodies(http_end, "/admin/commands")
    )
    assert (second.body.number, second.body.id) == (7, first.body.id)
    assert second.body.arguments == {"level": "debug", "seconds": 60}
    assert second.body.target.role == "relay"
    verify_signatures(second, {key("operator").key_id: key("operator").public})


@pytest.mark.parametrize("pairs", [("x",), ("=1",), ("a=1", "a=2"), ("a=" + "[" * 100_000,)])
def test_bad_arguments(pairs: tuple[str, ...]) -> None:
    """An argument is NAME=VALUE, each name once."""
    with pytest.raises(ConfigurationError):
        read_arguments(pairs)


def test_polling_gives_up() -> None:
    """Pauses grow to five seconds and end with the time; the last answer is given back."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    answer = poll(lambda: now[0], lambda value: value > 100, 20, sleep, lambda: now[0])
    assert answer == pytest.approx(20)
    assert slept[0] == 1.0 and max(slept) == 5.0 and sum(slept) == pytest.approx(20)


HYPHENED = next(each for each in map(key, map(str, count())) if b64url_encode(each.public).startswith("-"))


@pytest.mark.parametrize(
    ("arguments", "request_line"),
    [
        (["add", "PUBLIC", "--role", "read"], "POST /admin/operators"),
        (["remove", "PUBLIC"], f"DELETE /admin/operators/{HYPHENED.key_id}"),
        (["replace", "--of", "PUBLIC", "PUBLIC"], f"POST /admin/operators/{HYPHENED.key_id}"),
    ],
)
def test_a_key_may_begin_with_a_hyphen(
    admin: Callable[..., Any], http_end: Any, arguments: list[str], request_line: str
) -> None:
    """One of 64 does: it is a key all the same, not options."""
    public = b64url_encode(HYPHENED.public)
    http_end.json(request_line, {}, 200)
    ended = admin("operators", *(public if each == "PUBLIC" else each for each in arguments))
    assert (ended.status, ended.err) == (0, "")
    if "remove" not in arguments:
        (body,) = _bodies(http_end, request_line.partition(" ")[2])
        assert body["key"] == public


@pytest.mark.parametrize(
    "arguments",
    [
        ["admin", "operators", "add", "xyz", "--role", "read"],
        ["admin", "operators", "replace", "A" * 43],
        ["admin", "operators", "remove", "!" * 43],
        ["admin", "invite", "--name", "p", "--role", "client", "--node-key", "xyz"],
        ["recover-operator", "--state", ".", "--key", "xyz"],
    ],
)
def test_what_is_no_public_key(run: Callable[..., Any], arguments: list[str]) -> None:
    """A key that was mistyped is named, with what prints it; nothing is asked of the authority."""
    ended = run(*arguments)
    assert ended.status == 1 and "is not a public key: gmesh key show prints it" in ended.err


def test_b1_admin_follows_the_genesis_that_it_verifies(
    admin: Callable[..., Any], http_end: Any, operator: Path, closed_port: int
) -> None:
    """The URL of a newer genesis is asked at once, next time without the old one, and stands in invites."""
    old = Network().genesis.body.authority_urls[0]
    network = Network()
    new = http_end.where + "/mesh"
    network.next_genesis(authority_urls=(new,))
    (operator / "authority.json").write_text(json.dumps({"urls": [http_end.where, old]}))
    show_documents(http_end, network)
    first, second = network.chain
    http_end.answers["GET /genesis/1"] = (200, first.encode())
    for answer in [each for each in http_end.answers if " /mesh" not in each]:
        http_end.answers[answer.replace(" /", " /mesh/")] = http_end.answers[answer]
    http_end.json("POST /mesh/admin/invites", {"id": ID, "expires_at": NOW}, 201)
    made = admin("invite", "--name", "p", "--role", "client")
    assert (made.status, made.err) == (0, "")
    assert Invite.parse(made.out).urls == (http_end.where, new)
    assert (operator / "genesis.json").read_bytes() == second.encode()
    assert json.loads((operator / "authority.json").read_text())["urls"] == [http_end.where, new, old]


def test_b1_an_operator_with_the_newest_genesis_needs_no_old_url(
    admin: Callable[..., Any], http_end: Any, operator: Path, closed_port: int
) -> None:
    """The old address went away before they asked: genesis.json of any node says where the new one is."""
    network = Network()
    network.next_genesis(authority_urls=(http_end.where,))
    show_documents(http_end, network)
    http_end.answers["GET /genesis/1"] = (200, network.chain[0].encode())
    http_end.json("GET /admin/operators", {"operators": []})
    (operator / "authority.json").write_text(json.dumps({"urls": [f"http://127.0.0.1:{closed_port}"]}))
    assert admin("operators").status == 1
    (operator / "genesis.json").write_bytes(network.genesis.encode())
    assert admin("operators").status == 0


@pytest.mark.parametrize("status", [200, 204, 302, 502])
def test_d6_admin_passes_over_who_is_not_the_authority(
    admin: Callable[..., Any], http_end: Any, operator: Path, portal: Callable[[int], str], status: int
) -> None:
    """What answers at the first URL speaks HTML: the second one is asked, also for what changes something."""
    show_documents(http_end, Network())
    http_end.answers[f"DELETE /admin/invites/{ID}"] = (204, b"")
    (operator / "authority.json").write_text(json.dumps({"urls": [portal(status), http_end.where]}))
    ended = admin("invites", "withdraw", ID)
    assert (ended.status, ended.err) == (0, "")
    assert f"/admin/invites/{ID}" in [target for _, target, _, _ in http_end.requests]


def test_b6_publishing_a_genesis_names_the_keys_that_the_daemon_lacks(
    admin: Callable[..., Any], http_end: Any, tmp_path: Path
) -> None:
    """One line on standard error each, and all is done nevertheless."""
    network = Network()
    show_documents(http_end, network)
    document = network.next_genesis(authority=("authority", "new"))
    (tmp_path / "genesis-2.json").write_bytes(document.encode())
    answer = {"version": 2, "digest": document.digest, "lacking": [key("new").key_id]}
    http_end.json("POST /admin/genesis", answer, 201)
    ended = admin("genesis", "publish", tmp_path / "genesis-2.json")
    assert ended.status == 0 and "genesis 2 is in force" in ended.out
    assert ended.err.count("\n") == 1 and f"the authority key {key('new').key_id}" in ended.err
    assert "as a systemd credential: restart" in ended.err
    kept = tmp_path / "operator/genesis.json"
    assert kept.read_bytes() == document.encode(), "who published it follows it"


def test_d6_what_another_url_is_asked_for_is_done_once(
    admin: Callable[..., Any], http_end: Any, operator: Path
) -> None:
    """A proxy gives up on a request that came through: at the next URL it bears the same nonce."""
    show_documents(http_end, Network())
    for name in [each for each in http_end.answers if each.startswith("GET ")]:
        http_end.answers[name.replace(" /", " /two/")] = http_end.answers[name]

    def gone(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 504 Gateway Time-out\r\nContent-Length: 0\r\n\r\n")

    http_end.answers["POST /admin/invites"] = gone
    http_end.problem("POST /two/admin/invites", "replayed", 409, "this request was already accepted once")
    (operator / "authority.json").write_text(json.dumps({"urls": [http_end.where, http_end.where + "/two"]}))
    assert (
        "but it has arrived: look whether it was done"
        in admin("invite", "--name", "p", "--role", "client").err
    )
    nonces = {
        re.findall(r'nonce="(.*?)"', headers["signature-input"])[0]
        for method, _, headers, _ in http_end.requests
        if method == "POST"
    }
    assert len(nonces) == 1


def _asked_at_two(http_end: Any, second: tuple[str, int]) -> tuple[Any, Any]:
    """What a write ends in where the first of two URLs answers 503 and the other this (slug, status)."""
    path, signer = "/admin/invites", key("operator")
    http_end.problem(f"POST /a{path}", "unavailable", 503, "the database is away")
    slug, status = second
    if status < 300:
        http_end.json(f"POST /b{path}", {"id": ID}, status)
    else:
        http_end.problem(f"POST /b{path}", slug, status, "no")
    remote = RemoteAuthority([f"{http_end.where}/a", f"{http_end.where}/b"], lambda: NOW)
    try:
        return remote.signed(signer, "POST", path, b"{}", ID, ADMIN_TAG), remote
    except HttpRefused as error:
        return error, remote


def test_admin_goes_on_to_the_next_url_after_503(http_end: Any) -> None:
    """The same signed bytes, so that it is done once at most; the URL that did better is asked first then."""
    answer, remote = _asked_at_two(http_end, ("", 201))
    assert answer.status == 201
    first, second = http_end.requests
    assert (first[1], second[1]) == ("/a/admin/invites", "/b/admin/invites")
    assert first[2]["signature"] == second[2]["signature"]
    remote.signed(key("operator"), "POST", "/admin/invites", b"{}", ID, ADMIN_TAG)
    assert len(http_end.requests) == 3 and http_end.requests[2][1].startswith("/b/")


@pytest.mark.parametrize(
    ("second", "status"),
    [(("unavailable", 503), 503), (("replayed", 409), 503), (("forbidden-role", 403), 403)],
)
def test_admin_tells_what_the_urls_said_after_503(
    http_end: Any, second: tuple[str, int], status: int
) -> None:
    """Another refusal counts; but what is replayed at the second was perhaps done by the first."""
    error, _ = _asked_at_two(http_end, second)
    assert error.status == status
