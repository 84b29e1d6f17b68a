# SPDX-License-Identifier: MIT
"""gmesh admin: what is signed and asked, what is printed, and whom it believes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.leg_end import LegEnd
from trust.network import NOW, Network, key

from gmesh.cli.options import seconds
from gmesh.errors import ConfigurationError
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.invite import Invite
from gmesh.trust.signed_requests import ADMIN_TAG, read_request


def _asked(end: Any, path: str) -> Any:
    """The one request for a path, its signature verified."""
    ((method, target, headers, body),) = [request for request in end.requests if request[1].startswith(path)]
    signed = read_request(method, target, lambda name: [headers[name]], body)
    signed.verify(key("operator").public)
    assert signed.tag == ADMIN_TAG
    assert signed.audience == key("authority").key_id
    return method, json.loads(body) if body else None


def test_invite(run: Callable[..., Any], http_end: Any, network: Network, operator: Path) -> None:
    """The invite is all that is printed; the authority learns the public half of its key only."""
    http_end.json("POST /admin/invites", {"id": "77", "expires_at": NOW + 60}, 201)
    ended = run(
        "admin", "--operator", operator, "invite", "--name", "pump-07", "--role", "client", "--ttl", "1m"
    )
    assert (ended.status, ended.err) == (0, "")
    invite = Invite.parse(ended.out)
    assert ended.out == invite.encode() + "\n"
    assert (invite.network_id, invite.genesis_digest) == (network.network_id, network.genesis.digest)
    assert invite.urls == (http_end.where, *network.genesis.body.authority_urls)
    assert invite.authority == key("authority").key_id
    method, body = _asked(http_end, "/admin/invites")
    assert method == "POST"
    assert b64url_decode(body.pop("invite_key"), 32) == invite.key.public
    assert body == {"name": "pump-07", "roles": ["client"], "ttl": 60}


def test_invite_json(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """--json gives the invite, its id and its end."""
    http_end.json("POST /admin/invites", {"id": "77", "expires_at": NOW + 60}, 201)
    ended = run("admin", "--operator", operator, "invite", "--name", "p", "--role", "client", "--json")
    value = json.loads(ended.out)
    assert (value["id"], value["expires_at"]) == ("77", NOW + 60)
    Invite.parse(value["invite"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "pu_mp", "--role", "client"],
        ["--name", "p", "--role", "king"],
        ["--name", "p", "--role", "client", "--ttl", "soon"],
    ],
)
def test_refused_invite(run: Callable[..., Any], http_end: Any, operator: Path, arguments: list[str]) -> None:
    """A wrong name, role or span is one line, and nobody is asked."""
    ended = run("admin", "--operator", operator, "invite", *arguments)
    assert (ended.status, ended.err.count("\n"), http_end.requests) == (1, 1, [])


@pytest.mark.parametrize("written", ["PUMP-7", "pump-7.", " Pump-7"])
def test_d17_a_name_is_folded_and_that_is_said(
    admin: Callable[..., Any], node_end: Any, run: Callable[..., Any], http_end: Any, written: str
) -> None:
    """Capitals and a dot at the end name nothing else; standard output stays as it is."""
    http_end.json("POST /admin/invites", {"id": "77", "expires_at": NOW + 60}, 201)
    ended = admin("invite", "--name", written, "--role", "client")
    assert (ended.status, ended.err) == (
        0,
        f"gmesh: {written} is taken for pump-7: names are in small letters\n",
    )
    assert Invite.parse(ended.out)
    assert _asked(http_end, "/admin/invites")[1]["name"] == "pump-7"
    http_end.json("POST /admin/revocations", {"crl_number": 4, "serials": [7]}, 201)
    assert admin("revoke", written).out.startswith("revoked pump-7: ")
    leg = node_end.answers["GET /v1/messages"] = LegEnd()
    sent = run("send", written, "--service", "chat", "x", "--control", node_end.where)
    assert sent.out.startswith("delivered to pump-7 in ")
    assert [request.node for request in leg.sent] == ["pump-7"]


def test_revoke(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """revoke names the node and the reason, and prints what became of it."""
    http_end.json(
        "POST /admin/revocations", {"crl_number": 4, "serials": [], "nodes": ["0f" * 16], "keys": []}, 201
    )
    ended = run("admin", "--operator", operator, "revoke", "pump-07", "--reason", "key-compromise")
    assert (ended.status, ended.out) == (0, f"revoked pump-07: node {'0f' * 16}, in CRL 4\n")
    assert _asked(http_end, "/admin/revocations") == ("POST", {"node": "pump-07", "reason": "key-compromise"})


def test_revoking_a_key_of_nobody_says_so(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """A key that has no certificate is barred all the same; an id that was mistyped is seen by this."""
    http_end.json("POST /admin/revocations", {"crl_number": 4, "serials": []}, 201)
    ended = run("admin", "--operator", operator, "revoke", "--key", "0" * 32)
    assert (ended.status, "no certificate was left to revoke, in CRL 4" in ended.out) == (0, True)


@pytest.mark.parametrize(("theirs", "told"), [(NOW - 700, "700 s ahead of"), (NOW + 700, "700 s behind")])
def test_a_wrong_clock_is_told_by_how_much(
    run: Callable[..., Any], http_end: Any, operator: Path, theirs: int, told: str
) -> None:
    """The authority's answer to what was signed at another time tells its own."""
    http_end.problem("POST /admin/revocations", "stale", 401, "compare the clocks", time=theirs)
    ended = run("admin", "--operator", operator, "revoke", "pump-07")
    assert (ended.status, ended.err) == (
        1,
        f"gmesh: compare the clocks (this host's is {told} the authority's)\n",
    )


def test_refusal_is_told(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """What the authority refuses is one line."""
    http_end.problem("POST /admin/revocations", "not-found", 404, "no node is named zz")
    ended = run("admin", "--operator", operator, "revoke", "zz")
    assert (ended.status, ended.out, ended.err) == (1, "", "gmesh: no node is named zz\n")


def test_lists_follow_their_pages(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """A list is read to its last page."""
    http_end.json("GET /admin/nodes", {"nodes": [{"name": "a"}], "next": "k&1"})
    http_end.json("GET /admin/nodes?after=k%261&limit=500", {"nodes": [{"name": "b"}], "next": None})
    ended = run("admin", "--operator", operator, "nodes", "--json")
    assert json.loads(ended.out) == [{"name": "a"}, {"name": "b"}]


def test_plain_lists(run: Callable[..., Any], http_end: Any, operator: Path) -> None:
    """Without a terminal a list is plain text."""
    row = {"id": "77", "name": "p", "roles": ["client"], "state": "open", "expires_at": NOW}
    http_end.json("GET /admin/invites", {"invites": [row], "next": None})
    ended = run("admin", "--operator", operator, "invites")
    assert ended.out.splitlines()[1] == "77  p     client  open   2027-01-15 08:00:00 UTC"


def test_another_genesis_than_the_pinned_one(
    run: Callable[..., Any], http_end: Any, network: Network, operator: Path
) -> None:
    """An authority of another network gets no signed request."""
    http_end.answers["GET /genesis"] = (200, Network(roots=("mallory",)).genesis.encode())
    ended = run("admin", "--operator", operator, "revoke", "a")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert not [request for request in http_end.requests if "signature" in request[2]]


def _open_key(directory: Path) -> None:
    (directory / "operator.key").chmod(0o644)


def _no_key(directory: Path) -> None:
    (directory / "operator.key").unlink()


def _bad_genesis(directory: Path) -> None:
    (directory / "genesis.json").write_text("{}")


def _no_urls(directory: Path) -> None:
    (directory / "authority.json").write_text('{"urls": []}')


def _bad_urls(directory: Path) -> None:
    (directory / "authority.json").write_text("[")


@pytest.mark.parametrize("spoil", [_open_key, _no_key, _bad_genesis, _no_urls, _bad_urls])
def test_damaged_operator(run: Callable[..., Any], operator: Path, spoil: Callable[[Path], None]) -> None:
    """A directory that is not complete and private is one line that names it."""
    spoil(operator)
    ended = run("admin", "--operator", operator, "nodes")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert str(operator) in ended.err


def test_no_operator(run: Callable[..., Any]) -> None:
    """Without a directory the command says how to name one."""
    ended = run("admin", "nodes")
    assert (ended.status, "GMESH_OPERATOR" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800), ("5", 5)]
)
def test_spans(text: str, value: int) -> None:
    """A span of time is a number and a unit."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "h", "1w", "-1h", "0", "1.5h", "1 h", "1h\n"])
def test_bad_spans(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError):
        seconds(text)


def test_b2_the_directory_of_another_owner_is_no_operators(run: Callable[..., Any], tmp_path: Path) -> None:
    """It is named, where a missing key would be."""
    (tmp_path / "authority.key").write_bytes(b"")
    ended = run("admin", "--operator", tmp_path, "nodes")
    assert (ended.status, ended.err) == (
        1,
        f"gmesh: {tmp_path} belongs to an authority (it holds authority.key):"
        " name another directory for an operator\n",
    )
