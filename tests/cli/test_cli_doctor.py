# SPDX-License-Identifier: MIT
"""The doctor's checks, each with a state directory that is well and with one that is not."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gmesh.cli import check_documents, check_host, check_reach
from gmesh.cli.check_documents import Kept, read_state
from gmesh.cli.endpoint_text import Place, client_place, server_place
from gmesh.cli.findings import Finding, Level, fail, ok, unless_all
from gmesh.node.identity_store import IdentityStore
from gmesh.testing.issuer import DAY, Enrolled, Issuer

NOW = int(time.time())
JOINED = 1800


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def issuer(http_end: Any) -> Issuer:
    """Root and authority; one anchor is the HTTP server of the authority, which takes connections."""
    place = client_place(http_end.where)
    assert place is not None
    anchors = [("b", f"tcp:{place.host}:{place.port}"), ("gone", f"tcp:127.0.0.1:{_port()}")]
    made = Issuer(lambda: NOW - JOINED, Random(7), anchors, [http_end.where])
    http_end.answers["GET /status"] = (200, made.status.encode())
    return made


@pytest.fixture
def node(issuer: Issuer) -> Enrolled:
    return issuer.enrol("a", "client")


@pytest.fixture
def directory(tmp_path: Path, issuer: Issuer, node: Enrolled) -> Path:
    """The state directory of a, half an hour after it joined."""
    path = tmp_path / "node"
    path.mkdir(mode=0o700, exist_ok=True)
    for name, key in (("identity.key", node.node_key.to_pem()), ("noise.key", node.noise_key.to_pem())):
        (path / name).write_bytes(key)
        (path / name).chmod(0o600)
    store = IdentityStore(path)
    for document in (issuer.genesis, node.certificate, *issuer.documents):
        store.save_document(document)
    return path


def _kept(directory: Path, now: float = NOW) -> Kept:
    kept, _ = read_state(directory, lambda: now)
    assert kept is not None
    return kept


def _levels(findings: list[Finding]) -> set[Level]:
    assert all(bool(finding.advice) is (finding.level is not Level.OK) for finding in findings)
    return {finding.level for finding in findings}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("identity.key", None, "is missing"),
        ("certificate.json", b"{}", "is damaged"),
        ("genesis.json", b"x", "is damaged"),
    ],
)
def test_state(directory: Path, name: str, content: bytes | None, told: str) -> None:
    """What keeps a node from starting fails, with the file and what to do; nothing more is looked at."""
    kept, found = read_state(directory, lambda: NOW)
    assert kept is not None and _levels(found) == {Level.OK}
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    kept, [found_bad] = read_state(directory, lambda: NOW)
    assert (kept, found_bad.level) == (None, Level.FAIL)
    assert name in found_bad.detail and told in found_bad.detail and "gmesh join" in found_bad.advice


def test_a_damaged_document_is_a_warning(directory: Path) -> None:
    """The daemon fetches it again."""
    (directory / "crl.json").write_bytes(b"junk")
    kept, found = read_state(directory, lambda: NOW)
    assert kept is not None
    assert [finding.level for finding in found] == [Level.WARN, Level.OK]
    assert "crl.json" in found[0].detail


@pytest.mark.parametrize(
    ("off", "level"),
    [(0, Level.OK), (-JOINED - 4, Level.OK), (-JOINED - 60, Level.WARN), (-JOINED - 300, Level.FAIL)],
)
def test_clock_against_signed_time(directory: Path, off: int, level: Level) -> None:
    """A clock before a signed time is wrong by at least that."""
    assert _levels(check_documents.clock(_kept(directory, NOW + off))) == {level}


def test_clock_ahead(directory: Path, issuer: Issuer) -> None:
    """A status fetched just now that has expired: the clock is ahead, or the authority's stands still."""
    fresh = issuer.status.body
    assert _levels(check_documents.clock(_kept(directory, fresh.expires_at - 1), fresh)) == {Level.OK}
    [finding] = check_documents.clock(_kept(directory, fresh.expires_at + 60), fresh)
    assert finding.level is Level.FAIL and "ahead" in finding.detail


@pytest.mark.parametrize(
    ("age", "level", "advice"),
    [
        (JOINED, Level.OK, ""),
        (DAY * 0.6, Level.OK, ""),
        (DAY * 0.7, Level.WARN, "authority"),
        (DAY + 600, Level.FAIL, "still renews it"),
        (400 * DAY, Level.FAIL, "gmesh join INVITE"),
    ],
)
def test_certificate(directory: Path, age: float, level: Level, advice: str) -> None:
    """Renewed late is a warning; ended is a failure, whose advice depends on the grace of the policy."""
    [finding] = check_documents.certificate(_kept(directory, NOW - JOINED + age))
    assert finding.level is level and advice in finding.advice


def test_a_revoked_certificate(directory: Path, issuer: Issuer, node: Enrolled) -> None:
    """The CRL on disk names it."""
    IdentityStore(directory).save_document(issuer.revoke(node))
    [finding] = check_documents.certificate(_kept(directory))
    assert finding.level is Level.FAIL and "revoked" in finding.detail and "invite" in finding.advice


@pytest.mark.parametrize(("years", "level"), [(1, Level.OK), (9.95, Level.WARN), (10.1, Level.FAIL)])
def test_genesis(directory: Path, years: float, level: Level) -> None:
    """It warns a month before the end."""
    assert _levels(check_documents.genesis(_kept(directory, NOW + years * 365 * DAY))) == {level}


@pytest.mark.parametrize(("later", "level"), [(0, Level.OK), (2 * DAY, Level.WARN), (300 * DAY, Level.FAIL)])
def test_freshness(directory: Path, issuer: Issuer, later: int, level: Level) -> None:
    """Expired is a warning until the policy's grace is over."""
    found = check_documents.freshness(_kept(directory, issuer.status.body.expires_at - 1 + later))
    assert found[0].level is level


def test_a_crl_that_is_behind(directory: Path, issuer: Issuer, node: Enrolled) -> None:
    """The status names a newer one than is held."""
    issuer.revoke(issuer.enrol("x", "client"))
    IdentityStore(directory).save_document(issuer.publish_status())
    found = check_documents.freshness(_kept(directory))
    assert [finding.detail.split()[0] for finding in found if finding.level is Level.WARN] == ["crl"]


def test_no_status(directory: Path) -> None:
    """Nothing fresh was ever heard."""
    (directory / "status.json").unlink()
    assert _levels(check_documents.freshness(_kept(directory))) == {Level.FAIL}


@pytest.mark.parametrize(
    ("name", "mode", "advice"),
    [
        ("identity.key", 0o640, "chmod 0600"),
        ("noise.key", 0o400, "chmod 0600"),
        ("crl.json", 0o666, "chmod go-w"),
        ("crl.json", 0o044, "chmod u+r"),
        (".", 0o777, "chmod go-w"),
    ],
)
def test_permissions(directory: Path, name: str, mode: int, advice: str) -> None:
    """Each wrong mode fails with the command that puts it right."""
    assert _levels(check_host.permissions(directory)) == {Level.OK}
    (directory / name).chmod(mode)
    [finding] = check_host.permissions(directory)
    assert finding.level is Level.FAIL and finding.advice == f"{advice} {directory / name}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else(directory: Path) -> None:
    """A file that its directory's owner does not own fails."""
    os.chown(
        directory / "state.json" if (directory / "state.json").exists() else directory / "crl.json", 1, 1
    )
    [finding] = check_host.permissions(directory)
    assert finding.level is Level.FAIL and finding.advice.startswith("chown 0:")


@pytest.mark.parametrize(
    ("free", "inodes", "flag", "level"),
    [
        (10**12, 10**6, 0, Level.OK),
        (32 * 1024**2, 10**6, 0, Level.WARN),
        (1024**2, 10**6, 0, Level.FAIL),
        (10**12, 3, 0, Level.FAIL),
        (10**12, 10**6, os.ST_RDONLY, Level.FAIL),
    ],
)
def test_disk(
    directory: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, flag: int, level: Level
) -> None:
    """Room, inodes, and whether it may be written at all."""
    real = os.statvfs(directory)
    fields = list(real)
    fields[1], fields[4], fields[5], fields[7], fields[8] = 1, free, 10**7, inodes, flag
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    assert _levels(check_host.disk(directory)) == {level}


def test_authority(directory: Path, http_end: Any, issuer: Issuer) -> None:
    """A status of this network is well; nothing, an old one, or another network's is not."""
    kept = _kept(directory)
    found, fresh = check_reach.authority([http_end.where], kept, None)
    assert (_levels(found), fresh) == ({Level.OK}, issuer.status.body)
    http_end.answers["GET /status"] = (200, Issuer(lambda: NOW - 60, Random(8)).status.encode())
    found, fresh = check_reach.authority([http_end.where], kept, None)
    assert (_levels(found), fresh) == ({Level.FAIL}, None)
    http_end.answers["GET /status"] = (200, issuer.status.encode())
    IdentityStore(directory).save_document(issuer.publish_status())
    found, fresh = check_reach.authority([http_end.where], _kept(directory), None)
    assert (_levels(found), fresh) == ({Level.FAIL}, None) and "is held here" in found[0].detail
    assert _levels(check_reach.authority([], kept, None)[0]) == {Level.FAIL}


def test_authority_by_way_of_an_anchor(directory: Path) -> None:
    """Without HTTP a node that the daemon serves through an anchor has only warnings."""
    facts = {"authority": {"reachable": True, "age": 5, "troubles": {"renewal": "cert-revoked"}}}
    found, _ = check_reach.authority([f"http://127.0.0.1:{_port()}"], _kept(directory), facts)
    assert _levels(found) == {Level.WARN}
    assert "by way of an anchor" in found[0].detail and "cert-revoked" in found[-1].detail


def test_anchors(directory: Path, issuer: Issuer) -> None:
    """One that takes connections and one that does not: a warning; a refusal is told with its reason."""
    kept = _kept(directory)
    assert [finding.level for finding in check_reach.anchors(kept, None)] == [Level.OK, Level.WARN]
    address = issuer.genesis.body.anchors[0].endpoint
    refused = {"targets": [{"address": address, "state": "refused", "reason": "revoked"}]}
    found = check_reach.anchors(kept, refused)
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert "revoked" in found[0].detail and "invite" in found[0].advice
    linked = {"targets": [{"address": address, "state": "linked"}]}
    assert "is linked" in check_reach.anchors(kept, linked)[0].detail


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
def test_listening(directory: Path, http_end: Any, facts: dict[str, Any], levels: list[Level]) -> None:
    """Its ports are open, and it tells others an address that is not a loopback one."""
    place = client_place(http_end.where)
    assert place is not None
    texts = {"OPEN": f"tcp:{place.port}:interface=127.0.0.1", "CLOSED": f"tcp:{_port()}"}
    told = facts | {"listen": [texts.get(text, text) for text in facts.get("listen", [])]}
    assert [finding.level for finding in check_reach.listening(_kept(directory), told)] == levels


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses need no look-up; a name without an address fails."""
    assert _levels(check_reach.names([Place("127.0.0.1", 1), Place("::1", 1)])) == {Level.OK}
    assert _levels(check_reach.names([Place("localhost", 1)])) == {Level.OK}

    def unknown(*arguments: Any, **others: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    [finding] = check_reach.names([Place("b.example", 1), Place("b.example", 2)])
    assert finding.level is Level.FAIL and "b.example" in finding.detail


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp:b.example:7443", Place("b.example", 7443)),
        ("b.example:7443", Place("b.example", 7443)),
        ("tcp:[2001:db8::1]:7443", Place("2001:db8::1", 7443)),
        ("[2001:db8::1]:7443", Place("2001:db8::1", 7443)),
        ("tcp:host=2001\\:db8\\:\\:1:port=7443:timeout=3", Place("2001:db8::1", 7443)),
        ("tls:b.example:443", Place("b.example", 443)),
        ("https://authority.example/x", Place("authority.example", 443)),
        ("http://[::1]:8440", Place("::1", 8440)),
        ("unix:/run/x", None),
        ("tcp:b.example", None),
        ("tcp:b.example:99999", None),
        ("x", None),
    ],
)
def test_client_place(text: str, place: Place | None) -> None:
    """Endpoint strings of clients are read as the node reads them."""
    assert client_place(text) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp:7443", Place("127.0.0.1", 7443)),
        ("tcp:port=7443:interface=10.0.0.1", Place("10.0.0.1", 7443)),
        ("tcp6:7443", Place("::1", 7443)),
        ("tcp:7443:interface=\\:\\:", Place("::1", 7443)),
        ("tcp:0", None),
        ("systemd:domain=INET:index=0", None),
    ],
)
def test_server_place(text: str, place: Place | None) -> None:
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
