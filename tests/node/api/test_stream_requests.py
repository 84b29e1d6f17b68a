# SPDX-License-Identifier: MIT
"""Requests for a stream at the local API: who may, whom they name, and how they are answered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from node.api.stream_programs import LocalNodes, accept, connect, upgrade
from twisted.internet.error import ConnectionDone
from twisted.internet.threads import deferToThread

from gmesh.client.stream_frames import FIN, Signal, data_head
from gmesh.errors import RequestRefused
from gmesh.node.api.access import AccessControl, ServiceGroups
from gmesh.node.api.http import status_of
from gmesh.node.api.stream_table import StreamTable
from gmesh.stream_errors import StreamCode, dial_refused

RAW = "CONNECT b:web HTTP/1.1\r\nHost: b:web\r\n\r\n"
READERS, WRITERS, OTHERS = 61001, 61002, 61003
STRANGER, NEIGHBOUR = 61000, 61010


@pytest_twisted.async_yield_fixture
async def nodes() -> AsyncIterator[LocalNodes]:
    """
    Nodes a and b, and their sockets.

    Not below C{tmp_path}: every pytest that starts closes the directory above it to other users.
    """
    with TemporaryDirectory(prefix="gmesh-") as directory:
        os.chmod(directory, 0o755)
        made = LocalNodes(Path(directory))
        await made.start()
        yield made
        await made.close()


REFUSALS = {
    "no-such-service": 404,
    "unknown-node": 404,
    "denied": 403,
    "busy": 503,
    "no-route": 503,
    "stale": 503,
    "too-far": 503,
    "timed-out": 504,
    "refused": 502,
    "unreachable": 502,
    "revoked": 502,
    "expired": 502,
    "stopped": 502,
    "restarted": 502,
    "no-streams": 502,
}


@pytest.mark.parametrize("request_of", [RAW, connect("b")], ids=["raw", "framed"])
@pytest.mark.parametrize(("reason", "status"), REFUSALS.items())
@pytest_twisted.ensureDeferred
async def test_a_dial_that_fails_is_a_problem_document(
    nodes: LocalNodes, request_of: str, reason: str, status: int
) -> None:
    """With the slug of the reason, and the line for people."""
    nodes.a.refusing["b", "web"] = (reason, "rule 3 of the policy says no")
    program = await nodes.program(nodes.a, request_of)
    await nodes.until(lambda: program.ended)
    assert program.statuses == [status]
    assert program.problem == {
        "type": f"urn:gmesh:problem:{reason}",
        "title": reason.replace("-", " "),
        "status": status,
        "detail": "rule 3 of the policy says no",
    }
    assert "Content-Type: application/problem+json" in program.heads[0]
    assert "Connection: close" in program.heads[0]


BAD = [
    ("CONNECT b HTTP/1.1\r\n\r\n", "unknown-node"),
    ("CONNECT b: HTTP/1.1\r\n\r\n", "bad-service"),
    ("CONNECT b:_echo HTTP/1.1\r\n\r\n", "bad-service"),
    ("CONNECT b:W HTTP/1.1\r\n\r\n", "bad-service"),
    ("CONNECT b:web HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "bad-request"),
    (upgrade("/v1/connect?node=b"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&service=x"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&other=1"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&timeout=0"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&timeout=61"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&timeout=nan"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=web&timeout=soon"), "invalid-field"),
    (upgrade("/v1/connect?node=b&service=_echo"), "bad-service"),
    (upgrade("/v1/accept"), "invalid-field"),
    (upgrade("/v1/accept?service=web&node=b"), "invalid-field"),
    (upgrade("/v1/accept?service=_web"), "bad-service"),
    (upgrade("/v1/accept?service=gmesh-bench"), "bad-service"),
    (upgrade("/v1/accept?service=web", "Transfer-Encoding: chunked"), "bad-request"),
]


@pytest.mark.parametrize(("sent", "reason"), BAD)
@pytest_twisted.ensureDeferred
async def test_what_is_asked_wrongly_is_refused(nodes: LocalNodes, sent: str, reason: str) -> None:
    """Before anything is dialled or accepted."""
    if reason == "unknown-node":
        sent = sent.replace("CONNECT b ", "CONNECT nobody:web ")
    program = await nodes.program(nodes.a, sent)
    await nodes.until(lambda: program.ended)
    assert program.slug == reason
    assert program.statuses == [404 if reason == "unknown-node" else 400]
    assert not nodes.a.open_streams()


@pytest_twisted.ensureDeferred
async def test_a_dial_takes_as_long_as_the_program_says(nodes: LocalNodes) -> None:
    """Then it is timed out."""
    nodes.b.listen("slow", lambda offer: None)
    program = await nodes.program(nodes.a, connect("b", "slow", "&timeout=0.05"))
    await nodes.until(lambda: program.ended)
    assert (program.statuses, program.slug) == ([504], "timed-out")


@pytest.mark.parametrize("sent", [connect("b", "slow"), RAW.replace("web", "slow")], ids=["framed", "raw"])
@pytest_twisted.ensureDeferred
async def test_a_program_that_hangs_up_cancels_its_dial(nodes: LocalNodes, sent: str) -> None:
    """The far end hears that nobody waits; a raw one is known to be gone when it is answered."""
    offers: list[Any] = []

    def take(offer: Any) -> None:
        offers.append(offer)
        offer.gone.addCallback(lambda _: nodes.tell())
        nodes.tell()

    nodes.b.listen("slow", take)
    program = await nodes.program(nodes.a, sent)
    await nodes.until(lambda: offers)
    program.transport.abortConnection()
    if sent.startswith("CONNECT"):
        offers[0].refuse("busy")
    gone: list[object] = []
    offers[0].gone.addCallback(gone.append)
    await nodes.until(lambda: gone)


@pytest_twisted.ensureDeferred
async def test_a_program_that_waits_hears_so_and_then_its_stream(nodes: LocalNodes) -> None:
    """C{100 Continue}, with who this node is."""
    far = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: far.heads)
    assert far.heads[0][0] == "HTTP/1.1 100 Continue"
    assert far.header("Gmesh-Host")["name"] == "b"
    assert far.header("Gmesh-Host")["service"] == "web"


@pytest_twisted.ensureDeferred
async def test_a_program_that_stops_waiting_gets_no_stream(nodes: LocalNodes) -> None:
    """The other one of its user does."""
    first = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: first.heads)
    second = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: second.heads)
    first.transport.loseConnection()
    await nodes.until(lambda: first.lost)
    near = await nodes.program(nodes.a, connect("b"))
    await nodes.until(lambda: near.heads and len(second.heads) == 2)
    assert near.statuses == [101]


@pytest_twisted.ensureDeferred
async def test_a_program_that_comes_too_early_serves_what_waits(nodes: LocalNodes) -> None:
    """After a restart of the daemon a stream waits for its program."""
    nodes.b.hold(600, 300)
    near = await nodes.program(nodes.a, connect("b"))
    far = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: near.heads and len(far.heads) == 2)
    assert near.statuses == [101]
    assert far.statuses == [100, 101]


@pytest_twisted.ensureDeferred
async def test_http_is_what_it_was(nodes: LocalNodes) -> None:
    """On a connection of its own, request after request."""
    program = await nodes.program(nodes.b, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    await nodes.until(lambda: bytes(program.raw).count(b'{"name":"b"}') == 2)
    assert bytes(program.raw).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("later", "status"), [(accept(), 426), (connect("b"), 426), (RAW, 404)], ids=["accept", "connect", "raw"]
)
@pytest_twisted.ensureDeferred
async def test_only_the_first_request_of_a_connection_may_ask(
    nodes: LocalNodes, later: str, status: int
) -> None:
    """HTTP has the connection after that, and no way to let it go."""
    program = await nodes.program(nodes.b, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" + later)
    await nodes.until(lambda: bytes(program.raw).count(b"HTTP/1.1 ") == 2)
    assert f"HTTP/1.1 {status} ".encode() in program.raw
    assert not nodes.a.open_streams()


@pytest_twisted.ensureDeferred
async def test_without_upgrade_http_says_what_is_missing(nodes: LocalNodes) -> None:
    """426, with the name of the protocol (RFC 9110, section 15.5.22)."""
    for target in ("/v1/connect?node=b&service=web", "/v1/accept?service=web"):
        program = await nodes.program(nodes.b, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
        await nodes.until(lambda program=program: program.heads)
        assert program.statuses == [426]
        assert "Upgrade: gmesh-stream" in program.heads[0]


PAGES = [
    ("Origin: https://evil.example", 403, "forbidden"),
    ("Sec-Fetch-Site: cross-site", 403, "forbidden"),
    ("Sec-Fetch-Site: same-origin", 403, "forbidden"),
]


@pytest.mark.parametrize(("header", "status", "slug"), PAGES)
@pytest.mark.parametrize("sent", [RAW, connect("b"), accept()], ids=["raw", "connect", "accept"])
@pytest_twisted.ensureDeferred
async def test_no_page_of_a_browser_opens_a_stream(
    nodes: LocalNodes, sent: str, header: str, status: int, slug: str
) -> None:
    """Over any kind of socket."""
    asked = sent.replace("\r\n\r\n", f"\r\n{header}\r\n\r\n")
    for program in (await nodes.program(nodes.b, asked), await nodes.over_tcp(nodes.b, asked)):
        await nodes.until(lambda program=program: program.ended)
        assert (program.statuses, program.slug) == ([status], slug)


@pytest.mark.parametrize("sent", [RAW, connect("b"), accept()], ids=["raw", "connect", "accept"])
@pytest_twisted.ensureDeferred
async def test_a_name_that_was_made_to_lead_here_opens_no_stream(nodes: LocalNodes, sent: str) -> None:
    """Over TCP C{Host} is this host, or of C{CONNECT} whom it names."""
    rebound = sent.replace("Host: node", "Host: evil.example").replace("Host: b:web", "Host: evil.example")
    program = await nodes.over_tcp(nodes.b, rebound)
    await nodes.until(lambda: program.ended)
    assert (program.statuses, program.slug) == ([421], "wrong-host")


@pytest_twisted.ensureDeferred
async def test_streams_over_a_control_endpoint_that_is_tcp(nodes: LocalNodes) -> None:
    """A broken stream is a reset there, also for a raw program."""
    far = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: far.heads)
    near = await nodes.over_tcp(nodes.a, RAW)
    await nodes.until(lambda: near.heads)
    far.transport.write(data_head(2) + b"hi")
    await nodes.until(lambda: near.body == b"hi")
    far.transport.abortConnection()
    await nodes.until(lambda: near.lost)
    assert near.lost is not None
    assert near.lost.check(ConnectionDone) is None


ASK = """
import json, os, socket, sys
path, uid, groups, request, keep = json.loads(sys.argv[1])
os.setgroups(groups)
os.setgid(groups[0])
os.setuid(uid)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    connection.sendall(request.encode())
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += connection.recv(65536)
    print(answer.split()[1].decode(), flush=True)
    if keep:
        sys.stdin.read()
    else:
        while piece := connection.recv(65536):
            answer += piece
        print(answer.decode())
"""


async def asked(path: str, uid: int, groups: list[int], request: str) -> tuple[int, str]:
    """Status and slug that a process of this user is answered."""
    command = [sys.executable, "-c", ASK, json.dumps([path, uid, groups, request, False])]
    run = await deferToThread(
        subprocess.run, command, capture_output=True, text=True, timeout=180, check=True
    )
    status, _, rest = run.stdout.partition("\n")
    return int(status), json.loads(rest.partition("\n\n")[2])["type"].rpartition(":")[2]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest_twisted.ensureDeferred
async def test_a_user_without_write_gets_no_stream(nodes: LocalNodes) -> None:
    """By CONNECT, connect and accept as by any request that writes; before anything is dialled."""
    nodes.access.become(AccessControl(str(READERS), str(WRITERS)))
    os.chmod(nodes.path(nodes.b), 0o666)
    for sent in (RAW, connect("b"), accept()):
        found = await asked(nodes.path(nodes.b), STRANGER, [OTHERS, READERS], sent)
        assert found == (403, "forbidden")
    status, slug = await asked(nodes.path(nodes.b), STRANGER, [OTHERS, WRITERS], connect("b"))
    assert (status, slug) == (404, "no-such-service")
    over_tcp = await nodes.over_tcp(nodes.b, RAW)
    await nodes.until(lambda: over_tcp.ended)
    assert over_tcp.statuses == [403]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest_twisted.ensureDeferred
async def test_two_users_and_one_name(nodes: LocalNodes) -> None:
    """The second gets 409 while the first waits; a process of the first shares its work."""
    path = nodes.path(nodes.b)
    os.chmod(path, 0o666)
    command = [sys.executable, "-c", ASK, json.dumps([path, STRANGER, [OTHERS], accept(), True])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert await deferToThread(first.stdout.readline) == "100\n"
        assert await asked(path, NEIGHBOUR, [OTHERS], accept()) == (409, "service-taken")
        own = await nodes.program(nodes.b, accept())
        await nodes.until(lambda: own.ended)
        assert own.slug == "service-taken"
        first.stdin.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest_twisted.ensureDeferred
async def test_bind_keeps_a_service_from_other_groups(nodes: LocalNodes) -> None:
    """Also from who may write."""
    path = nodes.path(nodes.b)
    os.chmod(path, 0o666)
    nodes.acceptors["b"].regroup(ServiceGroups({"web": str(WRITERS)}))
    assert await asked(path, STRANGER, [OTHERS], accept()) == (403, "forbidden")
    assert await asked(path, STRANGER, [OTHERS], accept("_x")) == (400, "bad-service")


@pytest_twisted.ensureDeferred
async def test_a_program_that_bind_forbids_later_is_told(nodes: LocalNodes) -> None:
    """After a reload, though it only waits."""
    far = await nodes.over_tcp(nodes.b, accept().replace("Host: node", "Host: localhost"))
    await nodes.until(lambda: far.heads)
    nodes.acceptors["b"].regroup(ServiceGroups({"*": str(WRITERS)}))
    await nodes.until(lambda: far.ended)
    assert b"403 Forbidden" in far.raw


@pytest.mark.parametrize("request_of", [RAW, connect("b")], ids=["raw", "framed"])
@pytest_twisted.ensureDeferred
async def test_a_stream_says_which_program_has_it(nodes: LocalNodes, request_of: str) -> None:
    """At both ends, as the kernel knows it: process and user."""
    far = await nodes.program(nodes.b, accept())
    near = await nodes.program(nodes.a, request_of)
    await nodes.until(lambda: 101 in far.statuses and near.heads)
    own = f"pid {os.getpid()} of uid {os.getuid()}"
    for node in (nodes.a, nodes.b):
        [row] = StreamTable(node.open_streams, lambda: 0.0).rows()
        assert row["local"] == own


@pytest_twisted.ensureDeferred
async def test_streams_one_after_the_other_leave_nothing(nodes: LocalNodes) -> None:
    """No connection, no stream, no timer."""
    for _ in range(50):
        near, far = await nodes.pair()
        near.transport.write(FIN)
        far.transport.write(FIN)
        await nodes.until(lambda near=near, far=far: near.lost and far.lost)
    assert not nodes.a.open_streams()
    assert not nodes.b.open_streams()


MANUAL = (Path(__file__).resolve().parents[3] / "docs/local-api-streams.rst").read_text(encoding="utf-8")


def test_the_manual_has_each_status() -> None:
    """Under which a slug is answered; what the entrance says of a head has a status of its own."""
    table = MANUAL.partition("status slugs")[2].split("\n\n")[0]
    told = [
        (int(status), slug)
        for status, slugs in re.findall(r"^(\d{3}) +(``.*)$", table, re.M)
        for slug in re.findall(r"``([a-z-]+)``", slugs)
    ]
    entrance = {(408, "timed-out"), (431, "too-large")}
    assert entrance <= set(told)
    for status, slug in set(told) - entrance:
        error = RequestRefused(slug) if status < 430 else dial_refused(slug)
        assert status_of(error) == status, slug
    assert {(status, slug) for slug, status in REFUSALS.items()} <= set(told)


def test_the_manual_has_each_code() -> None:
    """In its order, and no other."""
    table = MANUAL.partition("code slug")[2].partition("A number that")[0]
    told = re.findall(r"^(\d+) +``([a-z-]+)``", table, re.M)
    assert told == [(str(code.value), code.slug) for code in StreamCode]


@pytest.mark.parametrize("request_of", [RAW, connect("b")], ids=["raw", "framed"])
@pytest_twisted.ensureDeferred
async def test_an_open_stream_ends_when_its_program_may_not_write_any_more(
    nodes: LocalNodes, request_of: str
) -> None:
    """After a reload; the refusal names the group, to the program and not to the far end."""
    far = await nodes.program(nodes.b, accept())
    near = await nodes.over_tcp(nodes.a, request_of.replace("Host: node", "Host: localhost"))
    await nodes.until(lambda: 101 in far.statuses and near.heads)
    nodes.access.become(AccessControl(write=str(WRITERS)))
    nodes.acceptors["a"].judge()
    await nodes.until(lambda: near.ended and far.ended)
    assert nodes.a.open_streams() == nodes.b.open_streams() == []
    if request_of is not RAW:
        last = near.frames[-1]
        assert isinstance(last, Signal)
        assert last.detail == "the caller must be known: use the unix socket"
    heard = far.frames[-1]
    assert isinstance(heard, Signal) and heard.code is StreamCode.ABORTED
    assert "caller" not in heard.detail


@pytest_twisted.ensureDeferred
async def test_an_accepted_stream_ends_when_bind_gives_its_service_to_others(nodes: LocalNodes) -> None:
    """That of another service goes on, and so does what its own group may."""
    far = await nodes.over_tcp(nodes.b, accept().replace("Host: node", "Host: localhost"))
    other = await nodes.over_tcp(nodes.b, accept("ssh").replace("Host: node", "Host: localhost"))
    near = await nodes.program(nodes.a, connect("b"))
    second = await nodes.program(nodes.a, connect("b", "ssh"))
    await nodes.until(lambda: near.heads and second.heads)
    nodes.acceptors["b"].regroup(ServiceGroups({"ssh": str(WRITERS)}))
    await nodes.until(lambda: other.ended and second.ended)
    assert isinstance(other.frames[-1], Signal) and other.frames[-1].code is StreamCode.REFUSED
    assert not far.ended and not near.ended
    [stream] = nodes.b.open_streams()
    assert stream.getPeer().service == "web"
