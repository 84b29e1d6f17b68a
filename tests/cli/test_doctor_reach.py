# SPDX-License-Identifier: MIT
"""What the doctor tries to reach, and the command as a whole, with and without a daemon."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gmesh.cli import doctor_documents, doctor_reach
from gmesh.cli.doctor import _directory
from gmesh.cli.doctor_documents import Kept, read_state
from gmesh.cli.doctor_findings import Finding, Level, fail, ok, unless_all
from gmesh.cli.endpoint_text import HostPort, client_place, server_place
from gmesh.cli.http import Endpoint
from gmesh.node.identity_store import IdentityStore
from gmesh.testing.issuer import Issuer

JOINED = 1800


def _kept(directory: Path, now: float) -> Kept:
    kept, _ = read_state(directory, lambda: now)
    assert kept is not None
    return kept


def _levels(findings: list[Finding]) -> set[Level]:
    assert all(bool(finding.advice) is (finding.level is not Level.OK) for finding in findings)
    return {finding.level for finding in findings}


def test_authority(now: int, directory: Path, http_end: Any, issuer: Issuer) -> None:
    """A status of this network is well; nothing, an old one, or another network's is not."""
    kept = _kept(directory, now)
    found, fresh = doctor_reach.authority([http_end.where], kept, None)
    assert (_levels(found), fresh) == ({Level.OK}, issuer.status.body)
    http_end.answers["GET /status"] = (200, Issuer(lambda: now - 60, Random(8)).status.encode())
    found, fresh = doctor_reach.authority([http_end.where], kept, None)
    assert (_levels(found), fresh) == ({Level.FAIL}, None)
    http_end.answers["GET /status"] = (200, issuer.status.encode())
    IdentityStore(directory).save_document(issuer.publish_status())
    found, fresh = doctor_reach.authority([http_end.where], _kept(directory, now), None)
    assert (_levels(found), fresh) == ({Level.FAIL}, None) and "is held here" in found[0].detail
    assert _levels(doctor_reach.authority([], kept, None)[0]) == {Level.FAIL}


def test_authority_by_way_of_an_anchor(now: int, directory: Path, closed_port: int) -> None:
    """Without HTTP a node that the daemon serves through an anchor has only warnings."""
    facts = {"authority": {"reachable": True, "age": 5, "troubles": {"renewal": "cert-revoked"}}}
    found, _ = doctor_reach.authority([f"http://127.0.0.1:{closed_port}"], _kept(directory, now), facts)
    assert _levels(found) == {Level.WARN}
    assert "through an anchor" in found[0].detail and "cert-revoked" in found[-1].detail


def test_b1_d3_the_daemon_is_asked_and_not_only_the_directory(
    now: int, directory: Path, http_end: Any, closed_port: int
) -> None:
    """All is well from here, and the daemon hears nothing, asks another URL, or uses another certificate."""
    kept = _kept(directory, now)
    urls = [http_end.where]

    def levels(urls: list[str], **report: Any) -> list[Level]:
        found, _ = doctor_reach.authority(urls, kept, {"authority": {"urls": urls, **report}})
        return [finding.level for finding in found]

    assert levels(urls, reachable=True, troubles={}) == [Level.OK]
    assert levels(urls, reachable=False, troubles={"contact": "unreachable"}) == [Level.OK, Level.FAIL]
    others = [*urls, f"http://127.0.0.1:{closed_port}"]
    assert levels(others, reachable=True, troubles={}) == [Level.OK, Level.WARN, Level.WARN]
    serial = kept.identity.certificate.body.serial
    assert _levels(doctor_documents.certificate(kept, {"serial": serial})) == {Level.OK}
    [finding] = doctor_documents.certificate(kept, {"serial": serial + 1})
    assert (finding.level, finding.advice) == (Level.FAIL, "restart it")


def test_anchors(now: int, directory: Path, issuer: Issuer) -> None:
    """One that takes connections and one that does not: a warning; a refusal is told with its reason."""
    kept = _kept(directory, now)
    assert [finding.level for finding in doctor_reach.anchors(kept, None)] == [Level.OK, Level.WARN]
    address = issuer.genesis.body.anchors[0].endpoint
    refused = {"targets": [{"address": address, "state": "refused", "reason": "revoked"}]}
    found = doctor_reach.anchors(kept, refused)
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert [finding.level for finding in doctor_reach.anchors(kept, refused | {"links": 2})] == [
        Level.WARN
    ] * 2
    assert "revoked" in found[0].detail and "invite" in found[0].advice
    others = {"targets": [], "links": 1}
    assert _levels(doctor_reach.anchors(kept, others)) == {Level.OK, Level.WARN}
    linked = {"targets": [{"address": address, "state": "linked"}]}
    assert "is linked" in doctor_reach.anchors(kept, linked)[0].detail


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        ("waiting", "handshake-timeout", "the daemon's last one ended: handshake-timeout"),
        ("dialling", "handshake-timeout", "the daemon's last one ended: handshake-timeout"),
        ("waiting", "closed-in-handshake", "the daemon's last one ended: closed-in-handshake"),
        ("ourselves", "self", "leads back to this node"),
    ],
)
def test_d14_the_daemons_reason_wins_over_the_own_knock(
    now: int, directory: Path, issuer: Issuer, state: str, reason: str, told: str
) -> None:
    """That a port takes connections is no comfort to a node that gets no link there."""
    address = issuer.genesis.body.anchors[0].endpoint
    facts = {"targets": [{"address": address, "state": state, "reason": reason}]}
    first = doctor_reach.anchors(_kept(directory, now), facts)[0]
    assert first.level is Level.FAIL and told in first.detail and first.advice
    linked = doctor_reach.anchors(_kept(directory, now), facts | {"links": 1})[0]
    assert linked.level is Level.WARN


@pytest.mark.parametrize(("state", "reason"), [("waiting", ""), ("waiting", "duplicate"), ("spare", "dead")])
def test_d14_what_is_not_tried_or_asks_for_nothing_is_well(
    now: int, directory: Path, issuer: Issuer, state: str, reason: str
) -> None:
    """A first dial under way, a link that another one replaced, a spare that is not needed."""
    address = issuer.genesis.body.anchors[0].endpoint
    facts = {"targets": [{"address": address, "state": state, "reason": reason}]}
    assert doctor_reach.anchors(_kept(directory, now), facts)[0].level is Level.OK


@pytest.mark.parametrize("reason", sorted(doctor_reach._CARRIERS))
def test_what_refused_on_the_way_is_shown_with_what_to_do(
    now: int, directory: Path, issuer: Issuer, reason: str
) -> None:
    """What each way was told stands before doctor's own knock, which knows of no proxy."""
    address = issuer.genesis.body.anchors[0].endpoint
    why = "via http://p:1: the proxy does not let through (403); directly: no answer"
    facts = {"targets": [{"address": address, "state": "waiting", "reason": reason, "why": why}]}
    first = doctor_reach.anchors(_kept(directory, now), facts)[0]
    assert first.level is Level.FAIL and why in first.detail
    assert first.advice == doctor_reach._CARRIERS[reason]


def test_over_what_a_link_runs(now: int, directory: Path, issuer: Issuer) -> None:
    """Doctor says it where it says that there is one."""
    address = issuer.genesis.body.anchors[0].endpoint
    facts = {"targets": [{"address": address, "state": "linked", "over": "tls via http://p:1"}]}
    assert doctor_reach.anchors(_kept(directory, now), facts)[0].detail.endswith(
        "is linked over tls via http://p:1"
    )


def test_anchors_of_a_command_and_other_peers(now: int, directory: Path, closed_port: int) -> None:
    """What an operator's command named stands for the genesis' anchors; what else is dialled is tried too."""
    named = {"genesis": 1, "anchors": [{"name": "new", "endpoint": f"tcp:127.0.0.1:{closed_port}"}]}
    (directory / "state.json").write_text(json.dumps({"bootstrap": named}))
    facts = {"targets": [{"address": f"localhost:{closed_port}", "state": "waiting", "name": "peer"}]}
    found = doctor_reach.anchors(_kept(directory, now), facts)
    assert [finding.detail.split(" at ")[0] for finding in found] == ["peer", "new"]
    assert _levels(found) == {Level.FAIL}


def test_c1_anchors_that_nobody_dials(now: int, directory: Path, issuer: Issuer) -> None:
    """Doctor opens nothing for them, says how an address is spelled, and turns to the genesis' anchors."""
    named = {"genesis": 1, "anchors": [{"name": "new", "endpoint": "tcp:127.0.0.1:1:bindAddress=127.0.0.1"}]}
    (directory / "state.json").write_text(json.dumps({"bootstrap": named}))
    first, *others = doctor_reach.anchors(_kept(directory, now), None)
    assert first.detail.startswith("new at tcp:") and first.detail.endswith("no node dials that")
    assert first.advice.startswith("it is named as HOST:PORT")
    assert [finding.detail.split(" ")[0] for finding in others] == [
        anchor.name for anchor in issuer.genesis.body.anchors
    ]


@pytest.mark.parametrize(
    "bootstrap", [{"genesis": 1, "anchors": 3}, {"genesis": 1}, {"genesis": 1, "anchors": [7]}]
)
def test_a_damaged_bootstrap_is_none(now: int, directory: Path, issuer: Issuer, bootstrap: Any) -> None:
    """Doctor goes on with the anchors of the genesis, as the daemon does."""
    (directory / "state.json").write_text(json.dumps({"bootstrap": bootstrap}))
    found = doctor_reach.anchors_of(_kept(directory, now))
    assert list(found.values()) == [anchor.name for anchor in issuer.genesis.body.anchors]


@pytest.mark.parametrize(
    ("facts", "levels"),
    [
        ({}, [Level.OK]),
        ({"listen": ["OPEN"], "advertise": ["pump7.example:7443"]}, [Level.OK, Level.OK]),
        ({"listen": ["OPEN"], "advertise": []}, [Level.OK, Level.WARN]),
        ({"listen": ["OPEN"], "advertise": ["127.0.0.1:7443"]}, [Level.OK, Level.WARN]),
        ({"listen": ["OPEN"], "advertise": ["[::]:7443"]}, [Level.OK, Level.WARN]),
        ({"listen": ["CLOSED"], "advertise": ["10.0.0.7:7443"]}, [Level.FAIL, Level.OK]),
        ({"listen": ["systemd:domain=INET:index=0"], "advertise": ["10.0.0.7:7443"]}, [Level.OK, Level.OK]),
    ],
)
def test_field_l7_listening(
    now: int, directory: Path, http_end: Any, closed_port: int, facts: dict[str, Any], levels: list[Level]
) -> None:
    """Its ports are open, and it tells others an address that is not a loopback one."""
    place = client_place(http_end.where)
    assert place is not None
    texts = {"OPEN": f"tcp:{place.port}:interface=127.0.0.1", "CLOSED": f"tcp:{closed_port}"}
    told = facts | {"listen": [texts.get(text, text) for text in facts.get("listen", [])]}
    assert [finding.level for finding in doctor_reach.listening(_kept(directory, now), told)] == levels


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses need no look-up; a name without an address fails."""
    assert _levels(doctor_reach.names([HostPort("127.0.0.1", 1), HostPort("::1", 1)])) == {Level.OK}
    assert _levels(doctor_reach.names([HostPort("localhost", 1)])) == {Level.OK}
    [odd] = doctor_reach.names([HostPort("a..b", 1)])
    assert odd.level is Level.FAIL and odd.detail.startswith("a..b has no address")

    def unknown(*arguments: Any, **others: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    [finding] = doctor_reach.names([HostPort("b.example", 1), HostPort("b.example", 2)])
    assert finding.level is Level.FAIL and "b.example" in finding.detail


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp:b.example:7443", HostPort("b.example", 7443)),
        ("b.example:7443", HostPort("b.example", 7443)),
        ("tcp:[2001:db8::1]:7443", HostPort("2001:db8::1", 7443)),
        ("[2001:db8::1]:7443", HostPort("2001:db8::1", 7443)),
        ("tcp:2001\\:db8\\:\\:1:7443", HostPort("2001:db8::1", 7443)),
        ("tcp:host=2001\\:db8\\:\\:1:port=7443:timeout=3", None),
        ("tls:b.example:443", HostPort("b.example", 443)),
        ("https://authority.example/x", HostPort("authority.example", 443)),
        ("http://[::1]:8440", HostPort("::1", 8440)),
        ("unix:/run/x", None),
        ("tcp:b.example", None),
        ("tcp:b.example:99999", None),
        ("x", None),
    ],
)
def test_client_place(text: str, place: HostPort | None) -> None:
    """Addresses are read as the node reads them."""
    assert client_place(text) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp:7443", HostPort("127.0.0.1", 7443)),
        ("tcp:port=7443:interface=10.0.0.1", HostPort("10.0.0.1", 7443)),
        ("tcp6:7443", HostPort("::1", 7443)),
        ("tcp:7443:interface=\\:\\:", HostPort("::1", 7443)),
        ("tls:443:privateKey=/k:certKey=/c", HostPort("127.0.0.1", 443)),
        ("ws:haproxy:tcp:7080:interface=127.0.0.1", HostPort("127.0.0.1", 7080)),
        ("tcp:0", None),
        ("systemd:domain=INET:index=0", None),
    ],
)
def test_server_place(text: str, place: HostPort | None) -> None:
    """And those of servers."""
    assert server_place(text) == place


def test_one_of_several() -> None:
    """A failure is a warning while another is well."""
    good, bad = ok("x", "well"), fail("x", "bad", "do")
    assert [each.level for each in unless_all([good, bad])] == [Level.OK, Level.WARN]
    assert [each.level for each in unless_all([bad, bad])] == [Level.FAIL, Level.FAIL]


def test_the_command_with_a_daemon(run: Callable[..., Any], node_end: Any, directory: Path) -> None:
    """All lines, the daemon's own facts among them; 0 although there are warnings."""
    facts = {"state": str(directory), "links": 0, "targets": [], "clock_behind": 0}
    node_end.json("GET /v1/doctor", facts)
    ended = run("doctor", "--control", node_end.where)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith("WARN  daemon")
    assert {line.split()[1] for line in lines} >= {"state", "clock", "disk", "names", "listen", "anchors"}
    assert all(("To do: " in line) is (not line.startswith("OK")) for line in lines)


def test_the_command_without_a_daemon(run: Callable[..., Any], directory: Path) -> None:
    """It looks at the state directory, says that the daemon is down, and ends with 1."""
    ended = run("doctor", "--state", directory, "--json")
    told = json.loads(ended.out)
    assert (ended.status, told["ok"], told["daemon"]) == (1, False, False)
    assert [check["check"] for check in told["checks"] if check["level"] == "FAIL"] == ["daemon"]
    assert ended.err.startswith("gmesh: 1 of ") and ended.err.count("\n") == 1


def test_a_daemon_that_may_not_be_asked(
    run: Callable[..., Any], node_end: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no failure of the daemon: this user is told whom it answers, by the system or its gate."""
    node_end.problem("GET /v1/doctor", "forbidden", 403, "that takes the group adm")
    ended = run("doctor", "--state", directory)
    assert ended.out.startswith("WARN  daemon") and "adm" in ended.out

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    [line] = [line for line in run("doctor", "--state", directory).out.splitlines() if "daemon" in line][:1]
    assert line.startswith("WARN  daemon") and "owner and group" in line


def test_the_command_without_anything(run: Callable[..., Any], tmp_path: Path) -> None:
    """A directory that is none: daemon and state fail, each with what to do."""
    ended = run("doctor", "--state", tmp_path / "nowhere")
    assert ended.status == 1
    assert [line.split()[:2] for line in ended.out.splitlines()] == [["FAIL", "daemon"], ["FAIL", "state"]]


def test_a_daemon_is_believed_about_its_own_directory_only(tmp_path: Path) -> None:
    """The kernel says whose process answers; what belongs to somebody else is not looked at for it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        uid = Endpoint(f"unix:{tmp_path / 's'}").owner()
    assert uid == os.geteuid()
    assert Endpoint(f"unix:{tmp_path / 's'}").owner() is None, "nobody listens any more"
    facts = {"state": str(tmp_path)}
    assert _directory(None, facts, uid) == tmp_path
    assert _directory(None, facts, uid + 1) is None
    assert _directory(str(tmp_path), facts, uid + 1) == tmp_path, "the user's own word"
