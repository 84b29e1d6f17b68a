# SPDX-License-Identifier: MIT
"""The commands that speak to the local node: what they ask, print and refuse."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli.leg_end import LegEnd

from gmesh.cli.local import locate
from gmesh.client.message_frames import FrameType, GivenMessage, SendRequest
from gmesh.endtoend.limits import MAX_DATAGRAM
from gmesh.errors import ConfigurationError

STATUS = {
    "name": "a",
    "node_id": "00112233445566778899aabbccddeeff",
    "network": "lab",
    "network_id": "ffeeddccbbaa99887766554433221100",
    "roles": ["client"],
    "certificate": {"serial": 7, "not_after": 1_800_000_000},
    "authority": {"reachable": True, "age": 200},
    "crl_number": 3,
    "policy_version": 1,
    "links": 1,
}
PEERS = [
    {
        "name": "b",
        "node_id": "0011",
        "address": "10.0.0.1:7443",
        "over": "tcp",
        "rtt_ms": 1.25,
        "control_seconds": 0.25,
    }
]
ROUTES = [{"name": "c", "path": ["a", "b", "c"], "cost": 20}]
TRANSITS = [{"path": ["a", "b", "c"], "kind": "E2E_INIT", "bytes": 612}]
NODES = [{"name": "c", "node_id": "22", "roles": ["client", "service:web"], "reachable": False}]
MESSAGE = {"from": "c", "service": "s", "data": base64.b64encode("grüß\ndich\x1b[2J".encode()).decode()}


@pytest.fixture
def state(node_end: Any) -> Path:
    """The state directory of the node at the far end."""
    return Path(node_end.where.removeprefix("unix:")).parent


@pytest.mark.parametrize(
    ("command", "value"), [("status", STATUS), ("peers", PEERS), ("routes", ROUTES), ("nodes", NODES)]
)
def test_json_is_passed_on(
    run: Callable[..., Any], node_end: Any, state: Path, command: str, value: Any
) -> None:
    """--json prints what the node said, every key of it."""
    node_end.json(f"GET /v1/{command}", value)
    ended = run(command, "--state", state, "--json")
    assert (ended.status, json.loads(ended.out), ended.err) == (0, value, "")


@pytest.mark.parametrize(
    ("command", "value", "shown"),
    [
        ("status", STATUS, ["name:", "until 2027-01-15 08:00:00 UTC", "reachable, last heard 3 min ago"]),
        (
            "peers",
            PEERS,
            [
                "NAME  NODE ID  ADDRESS        OVER  ROUND TRIP  CPU\n"
                "b     0011     10.0.0.1:7443  tcp   1.2 ms      0.2 s\n"
            ],
        ),
        ("routes", ROUTES, ["c     a > b > c  20"]),
        ("nodes", NODES, ["client, service:web", "no"]),
        ("peers", [], ["no links\n"]),
        (
            "transits",
            [{"path": ["a", "b", "c"], "kind": "E2E_INIT", "bytes": 612}],
            ["a > b > c  E2E_INIT     612"],
        ),
    ],
)
def test_plain_text_in_a_pipe(
    run: Callable[..., Any], node_end: Any, state: Path, command: str, value: Any, shown: list[str]
) -> None:
    """Without a terminal the text is plain and aligned."""
    node_end.json(f"GET /v1/{command}", value)
    ended = run(command, "--state", state)
    assert ended.status == 0
    assert "\x1b" not in ended.out
    for text in shown:
        assert text in ended.out


@pytest.mark.parametrize(("standing", "told"), [("valid", "UTC\n"), ("revoked", "UTC, revoked\n")])
def test_status_of_a_node_that_is_no_member_any_more(
    run: Callable[..., Any], node_end: Any, state: Path, standing: str, told: str
) -> None:
    """The line of the certificate says so; of a good one it needs no word."""
    certificate = {"serial": 7, "not_after": 1_800_000_000, "standing": standing}
    node_end.json("GET /v1/status", STATUS | {"certificate": certificate})
    assert f"7, until 2027-01-15 08:00:00 {told}" in run("status", "--state", state).out


def test_a_message_that_no_node_takes(
    run: Callable[..., Any], node_end: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused here by the limit that the node has, and nothing is asked."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(MAX_DATAGRAM + 1))))
    ended = run("send", "c", "--service", "s", "--state", state)
    assert (ended.status, ended.err) == (1, f"gmesh: a message has at most {MAX_DATAGRAM} bytes\n")
    assert node_end.requests == []


def test_routes_to_one_node(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """routes NODE asks for the alternatives to one node."""
    node_end.json("GET /v1/routes?to=c", [*ROUTES, {"name": "c", "path": ["a", "d", "c"], "cost": 30}])
    ended = run("routes", "c", "--state", state)
    assert "a > b > c" in ended.out and "a > d > c" in ended.out


def test_ping(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """ping asks for so many round trips, one after the other, and prints each."""
    node_end.json("POST /v1/ping", {"node": "c", "rtt_ms": [1.0]})
    ended = run("ping", "c", "--count", "2", "--state", state)
    assert (ended.status, ended.out) == (0, "answer from c: 1.0 ms\nanswer from c: 1.0 ms\n")
    assert [json.loads(request[3]) for request in node_end.requests] == [{"node": "c", "count": 1}] * 2


def test_ping_of_a_node_that_answers_seldom(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """What was not answered is told where it was missed, the rest goes on, and the command failed."""
    answers = [
        (200, b'{"node": "c", "rtt_ms": [1.0]}'),
        (504, b'{"type": "urn:gmesh:problem:timed-out", "detail": "c did not answer in time"}'),
    ]

    def answer(handler: Any) -> None:
        status, body = answers[len(node_end.requests) % 2 - 1]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    node_end.answers["POST /v1/ping"] = answer
    ended = run("ping", "c", "--state", state)
    assert ended.out == "answer from c: 1.0 ms\nno answer from c\nanswer from c: 1.0 ms\n"
    assert (ended.status, ended.err) == (1, "gmesh: c did not answer 1 of 3 in time\n")
    node_end.requests.clear()
    ended = run("ping", "c", "--json", "--state", state)
    assert ended.status == 1
    assert json.loads(ended.out) == {"node": "c", "rtt_ms": [1.0, 1.0], "lost": 1}


def test_ping_that_cannot_be(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """Anything else ends it at once, with one line."""
    node_end.problem("POST /v1/ping", "no-route", 503, "no way")
    ended = run("ping", "c", "--state", state)
    assert (ended.status, ended.out, ended.err) == (1, "", "gmesh: no way\n")
    assert len(node_end.requests) == 1


def test_capture(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """capture asks for one link, bounded, and prints a frame a line."""
    frames = [
        {"at_ms": 0.5, "sent": True, "kind": "E2E_DATA", "bytes": 612, "path": ["a", "b", "c"], "counter": 9},
        {"at_ms": 1.5, "sent": False, "kind": "PING", "bytes": 19},
    ]
    node_end.json("POST /v1/capture", frames)
    ended = run("capture", "b", "--seconds", "2", "--state", state)
    assert ended.status == 0 and "a > b > c" in ended.out and "received" in ended.out
    assert json.loads(node_end.requests[0][3]) == {"peer": "b", "seconds": 2.0, "count": 1000}
    assert json.loads(run("capture", "b", "--state", state, "--json").out) == frames


def test_trace(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """trace prints the path; for each hop the round trip and what the policy says."""
    hops = [
        {"name": "b", "rtt_ms": 1.0, "policy": "allowed: rule 0"},
        {"name": "c", "rtt_ms": 2.0, "policy": "denied: no rule"},
    ]
    node_end.json("POST /v1/trace", {"path": ["a", "b", "c"], "hops": hops})
    ended = run("trace", "c", "--state", state)
    assert ended.status == 0
    assert ended.out == (
        "a > b > c\nHOP  ROUND TRIP  POLICY\nb    1.0 ms      allowed: rule 0\n"
        "c    2.0 ms      denied: no rule\n"
    )


@pytest.mark.parametrize("output", [[], ["--json"]])
def test_trace_to_a_node_that_does_not_answer(
    run: Callable[..., Any], node_end: Any, state: Path, output: list[str]
) -> None:
    """What is known is shown, why the end did not answer too, and the command failed."""
    hops = [
        {"name": "b", "rtt_ms": None, "policy": "allowed: rule 0", "reason": "denied"},
        {"name": "c", "rtt_ms": None, "policy": "allowed: rule 0", "reason": "timed-out"},
    ]
    node_end.json("POST /v1/trace", {"path": ["a", "b", "c"], "hops": hops})
    ended = run("trace", "c", "--state", state, *output)
    assert (ended.status, ended.err) == (1, "gmesh: c did not answer: timed-out\n")
    if output:
        assert json.loads(ended.out)["hops"] == hops
    else:
        assert ended.out.splitlines()[2:] == [
            "b    denied      allowed: rule 0",
            "c    timed-out   allowed: rule 0",
        ]
    node_end.json("POST /v1/trace", {"path": ["a", "b", "c"], "hops": [hops[0], hops[1] | {"rtt_ms": 2.0}]})
    assert run("trace", "c", "--state", state, *output).status == 0


@pytest.mark.parametrize(("arguments", "stdin"), [(["hello"], b""), (["-"], b"hello"), ([], b"hello")])
def test_send(
    run: Callable[..., Any],
    node_end: Any,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    stdin: bytes,
) -> None:
    """send takes its text from the command line or from standard input, and succeeds when acknowledged."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
    leg = node_end.answers["GET /v1/messages"] = LegEnd()
    ended = run("send", "c", "--service", "s", "--timeout", "5", *arguments, "--state", state)
    assert ended.status == 0 and re.fullmatch(r"delivered to c in \d+(\.\d)? ms\n", ended.out)
    assert leg.sent == [SendRequest("c", "s", b"hello", 5.0)]


def test_send_json(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """What the receiver gave back is there as base64, if it gave anything."""
    leg = node_end.answers["GET /v1/messages"] = LegEnd()
    send = "send", "c", "x", "--service", "s", "--state", state, "--json"
    assert json.loads(run(*send).out).keys() == {"delivered", "rtt_ms"}
    leg.answer = b"\xff"
    row = json.loads(run(*send).out)
    assert (row["delivered"], base64.b64decode(row["answer"])) == (True, b"\xff")


def test_field_l8_refused_send(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """A refused message is one line on standard error and exit status 1."""
    leg = node_end.answers["GET /v1/messages"] = LegEnd()
    leg.refusal = "no-route", "there is no path to c\nnow"
    ended = run("send", "c", "x", "--service", "s", "--state", state)
    assert (ended.status, ended.out, ended.err) == (1, "", "gmesh: there is no path to c\\nnow\n")


@pytest.mark.parametrize("command", [["send", "c", "x"], ["receive"]])
def test_a_node_that_does_not_serve_this_user(
    run: Callable[..., Any], node_end: Any, state: Path, command: list[str]
) -> None:
    """In the words of the node, which it says before there are any frames."""
    detail = "that takes the group pumps"

    def refuse(handler: Any) -> None:
        handler.send_response(403)
        handler.end_headers()
        handler.wfile.write(json.dumps({"type": "urn:gmesh:problem:forbidden", "detail": detail}).encode())
        handler.close_connection = True

    node_end.answers["GET /v1/messages"] = refuse
    ended = run(*command, "--service", "s", "--state", state)
    assert (ended.status, ended.out, ended.err) == (1, "", "gmesh: that takes the group pumps\n")


@pytest.mark.parametrize("timeout", ["nan", "inf", "-1", "0", "soon"])
def test_senseless_timeout(run: Callable[..., Any], node_end: Any, state: Path, timeout: str) -> None:
    """What is no span of time is a usage error, and the node is not asked."""
    ended = run("send", "c", "x", "--service", "s", "--timeout", timeout, "--state", state)
    assert ended.status == 2
    assert "--timeout" in ended.err and "Traceback" not in ended.err
    assert node_end.requests == []


def given(data: bytes, **more: Any) -> GivenMessage:
    """A message of c."""
    return GivenMessage(0, "c", "cc" * 16, ("client",), data, **more)


TEXT = base64.b64decode(MESSAGE["data"])


def test_receive(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """receive prints one message a line, with controls made visible, and ends after --count."""
    node_end.answers["GET /v1/messages"] = LegEnd(given(TEXT), given(TEXT), given(TEXT))
    ended = run("receive", "--service", "s", "--count", "2", "--state", state)
    assert (ended.status, ended.out) == (0, "grüß\\ndich\\x1b[2J\n" * 2)


def test_receive_acknowledges_what_it_wrote(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """Each message after it was printed, and none that was not; with --count one at a time is asked for."""
    leg = node_end.answers["GET /v1/messages"] = LegEnd(given(TEXT), given(TEXT))
    ended = run("receive", "--service", "s", "--count", "1", "--state", state)
    assert ended.status == 0
    assert leg.over.wait(60)
    assert leg.ended == [(FrameType.DONE, 100)]
    assert leg.served == [b"\0\1\1s"]


def test_receive_raw(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """The bytes as they were sent, for a file or a pipe; --json beside it means nothing."""
    data = b"\0\x1b[2J\x07 no line"
    node_end.answers["GET /v1/messages"] = LegEnd(given(data))
    ended = run("receive", "--service", "s", "--raw", "--count", "1", "--state", state)
    assert (ended.status, ended.out.encode()) == (0, data)
    assert run("receive", "--service", "s", "--raw", "--json", "--state", state).status == 2


def test_receive_json(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """receive --json prints one object a line, and fails when the node stops."""
    node_end.answers["GET /v1/messages"] = LegEnd(given(TEXT))
    ended = run("receive", "--service", "s", "--json", "--state", state)
    assert json.loads(ended.out) == MESSAGE
    assert (ended.status, ended.err) == (1, "gmesh: the node stopped\n")
    node_end.answers["GET /v1/messages"] = LegEnd(given(TEXT, key="k", redelivered=True))
    ended = run("receive", "--service", "s", "--json", "--state", state)
    assert json.loads(ended.out) == MESSAGE | {"key": "k", "redelivered": True}


@pytest.mark.parametrize("answer", [{"peers": []}, [1], "x", None])
def test_answer_of_the_wrong_shape(run: Callable[..., Any], node_end: Any, state: Path, answer: Any) -> None:
    """An answer that is no list of objects is an error in one line."""
    node_end.json("GET /v1/peers", answer)
    ended = run("peers", "--state", state)
    assert ended.status == 1
    assert ended.err.endswith("did not answer with a list\n")


def test_state_from_the_environment(
    run: Callable[..., Any], node_end: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GMESH_STATE names the node when no option does."""
    monkeypatch.setenv("GMESH_STATE", str(state))
    node_end.json("GET /v1/peers", PEERS)
    assert run("peers").status == 0


def test_no_node(run: Callable[..., Any], tmp_path: Path) -> None:
    """A state directory without a running node, and no directory at all, are each told in one line."""
    ended = run("status", "--state", tmp_path)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "is the daemon running?" in ended.err


@pytest.mark.parametrize(
    ("control", "where"),
    [
        ("unix:/run/x.sock:mode=660", "unix:/run/x.sock"),
        ("unix:address=/run/x.sock", "unix:/run/x.sock"),
        ("unix:/run/a\\:b", "unix:/run/a:b"),
        ("/run/x.sock", "unix:/run/x.sock"),
        ("tcp:8441", "http://127.0.0.1:8441"),
        ("tcp:8441:interface=127.0.0.2", "http://127.0.0.2:8441"),
        ("tcp:h:8441", "http://h:8441"),
        ("tcp:8441:interface=\\:\\:1", "http://[::1]:8441"),
        ("http://h:1", "http://h:1"),
    ],
)
def test_control_is_read_as_the_daemon_reads_it(control: str, where: str) -> None:
    """--control takes the endpoint string of the daemon, a URL or a path."""
    assert locate("/elsewhere", control).where == where


@pytest.mark.parametrize("control", ["", "unix", "tcp:", "tcp", "ssl:1", "x.sock"])
def test_bad_control(control: str) -> None:
    """What names no address is refused."""
    with pytest.raises(ConfigurationError):
        locate(None, control)
