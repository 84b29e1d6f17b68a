# SPDX-License-Identifier: MIT
"""whois, --follow and watch: what they ask, and what they make of the answers."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmesh.cli import watch as watch_module
from gmesh.cli.http import Endpoint

ROOT = Path(__file__).resolve().parents[2]
WHOIS = {
    "name": "c",
    "node_id": "22",
    "roles": ["client"],
    "revoked": False,
    "revocation": None,
    "expired": False,
    "certificate": {"serial": 3, "issued_at": 1, "not_before": 0, "not_after": 86400},
    "node_key": "k",
    "reachable": True,
    "path": ["a", "b", "c"],
    "link": None,
    "links": [{"name": "b", "cost": 96}],
    "addresses": [],
    "services": ["chat"],
    "version": "gmesh/0.1.0",
    "last_heard": 0,
}
REVOKED = {key: None for key in WHOIS} | {
    "name": "c\x1b[2J",
    "revoked": True,
    "reachable": False,
    "links": [],
}
FORMER = REVOKED | {
    "certificate": WHOIS["certificate"],
    "expired": True,
    "revocation": {"serial": 3, "reason": "key-compromise", "crl_number": 7, "known_at": 60},
}
STATUS = {"name": "a", "authority": {"reachable": False, "age": 200, "freshness": "stale"}, "links": 1}
PEERS = [{"name": "b", "node_id": "11", "address": "10.0.0.1:7443", "rtt_ms": 1.25}]
TOPOLOGY = {
    "self": "a",
    "nodes": [{"name": name, "reachable": name != "d"} for name in "abcd"],
    "links": [{"ends": ["a", "b"], "cost": 1}, {"ends": ["b", "c"], "cost": 1}],
}


@pytest.fixture
def state(node_end: Any) -> Path:
    """The state directory of the node at the far end."""
    return Path(node_end.where.removeprefix("unix:")).parent


@pytest.fixture
def mesh(node_end: Any) -> Any:
    """A far end that answers what watch asks."""
    for path, value in (("status", STATUS), ("peers", PEERS), ("topology", TOPOLOGY)):
        node_end.json(f"GET /v1/{path}", value)
    return node_end


def _events(*events: dict[str, Any]) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for event in events:
            handler.wfile.write(json.dumps(event).encode() + b"\n")
        handler.close_connection = True

    return answer


def test_whois(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """Everything that is known, a line each."""
    node_end.json("GET /v1/whois?node=c%2F", WHOIS)
    ended = run("whois", "c/", "--state", state)
    assert ended.status == 0
    for text in ("path:        a > b > c", "1970-01-01 00:00:00 UTC to 1970-01-02", "b (cost 96)", "chat"):
        assert text in ended.out
    assert json.loads(run("whois", "c/", "--state", state, "--json").out) == WHOIS


def test_whois_of_a_revoked_node(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """Only what is left, and nothing that moves the cursor."""
    node_end.json("GET /v1/whois?node=c", REVOKED)
    out = run("whois", "c", "--state", state).out
    assert [line.split(":")[0] for line in out.splitlines()] == ["name", "revoked", "reachable"]
    assert "\x1b" not in out


def test_whois_of_a_node_that_was_known(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """Which serial, why, by which CRL, since when; when its certificate ended."""
    node_end.json("GET /v1/whois?node=c", FORMER)
    lines = run("whois", "c", "--state", state).out.splitlines()
    assert lines[1].startswith(
        "revoked:     yes, serial 3, key-compromise, by CRL 7, known here since 1970-01-01 00:01:00 UTC, "
    )
    assert lines[2].startswith("expired:     yes, 1970-01-02 00:00:00 UTC, ")
    assert [line.split(":")[0] for line in lines[3:]] == ["certificate", "valid", "reachable"]


@pytest.mark.parametrize(
    ("what", "events", "shown"),
    [
        (
            "routes",
            [
                {"at": 0, "event": "present", "name": "c", "path": ["a", "b", "c"]},
                {"at": 1, "event": "gone", "name": "c", "path": ["a", "b", "c"]},
            ],
            ["1970-01-01T00:00:00Z   c by a > b > c", "1970-01-01T00:00:01Z - c by a > b > c"],
        ),
        (
            "peers",
            [{"at": 0, "event": "added", "name": "b", "address": "10.0.0.1:7443"}],
            ["1970-01-01T00:00:00Z + b at 10.0.0.1:7443"],
        ),
        (
            "status",
            [
                {"at": 0, "event": "present", "name": "a", "links": 1, "crl_number": 1},
                {"at": 2, "event": "changed", "name": "a", "links": 1, "crl_number": 2},
            ],
            ["1970-01-01T00:00:00Z   links 1, crl number 1", "1970-01-01T00:00:02Z ~ crl number 1 -> 2"],
        ),
    ],
)
def test_follow(
    run: Callable[..., Any],
    node_end: Any,
    state: Path,
    what: str,
    events: list[dict[str, Any]],
    shown: list[str],
) -> None:
    """Each event is a line; as JSON it is passed on; that the node stops is an error."""
    node_end.answers[f"GET /v1/follow?what={what}"] = _events(*events)
    ended = run(what, "--follow", "--state", state)
    assert (ended.status, ended.out.splitlines()) == (1, shown)
    assert ended.err == "gmesh: the node stopped\n"
    told = run(what, "--follow", "--json", "--state", state).out
    assert [json.loads(line) for line in told.splitlines()] == events


def test_follow_says_why_it_may_not_go_on(run: Callable[..., Any], node_end: Any, state: Path) -> None:
    """The last line of the node is the error."""
    node_end.answers["GET /v1/follow?what=peers"] = _events({"ended_by": "that takes the group ops"})
    ended = run("peers", "--follow", "--state", state)
    assert (ended.status, ended.out, ended.err) == (1, "", "gmesh: that takes the group ops\n")


def test_routes_to_one_node_cannot_be_followed(run: Callable[..., Any], state: Path) -> None:
    """That is told as wrong usage."""
    ended = run("routes", "c", "--follow", "--state", state)
    assert (ended.status, ended.err.count("\n")) == (2, 1)


def test_watch_once(run: Callable[..., Any], mesh: Any, state: Path) -> None:
    """One look: the state in a line, the picture, who cannot be reached, the neighbours."""
    ended = run("watch", "--once", "--state", state)
    assert (ended.status, ended.err) == (0, "")
    assert "nodes 3 of 4  links 1  authority NOT reachable, 3 min  stale" in ended.out
    assert any(line.split()[::2] == ["a", "b", "c"] for line in ended.out.splitlines())
    assert "not reachable: d\n" in ended.out
    assert "link to b at 10.0.0.1:7443, 1.2 ms\n" in ended.out


def test_watch_of_a_node_that_is_no_member_any_more(run: Callable[..., Any], mesh: Any, state: Path) -> None:
    """The first word is of its certificate."""
    mesh.json("GET /v1/status", STATUS | {"certificate": {"serial": 3, "standing": "revoked"}})
    assert "a  certificate revoked  nodes 3 of 4" in run("watch", "--once", "--state", state).out


def test_watch_as_json(run: Callable[..., Any], mesh: Any, state: Path) -> None:
    """One object a look, all in it."""
    told = json.loads(run("watch", "--once", "--json", "--state", state).out)
    assert told.pop("at") > 0
    assert told == {"status": STATUS, "peers": PEERS, **TOPOLOGY}


def test_watch_goes_on(
    run: Callable[..., Any], mesh: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stops answering is told and asked again; only at the beginning is it an error."""

    def sleep(seconds: float) -> None:
        mesh.answers["GET /v1/status"] = (503, b"{}")
        if len(mesh.requests) > 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", sleep)
    ended = run("watch", "--interval", "0.2", "--state", state)
    assert ended.status == 130
    assert ended.out.count("no answer since") >= 1
    assert ended.out.index("nodes 3 of 4") < ended.out.index("no answer since")
    ended = run("watch", "--state", state)
    assert (ended.status, ended.out) == (1, "")


def test_b9_on_a_terminal_the_picture_is_fine_and_tells_how_many_links_it_lists(
    mesh: Any, tmp_path: Path
) -> None:
    """Lines of braille dots as in a pipe; and of 21 neighbours, that eight are shown."""
    peers = [{"name": f"n{number:02}", "address": "10.0.0.1:7443", "rtt_ms": 1.0} for number in range(21)]
    mesh.json("GET /v1/peers", peers)
    shown = _on_a_terminal(["watch", "--control", mesh.where], tmp_path)
    assert "8 of 21 links shown" in shown
    assert any(0x2800 < ord(character) < 0x2900 for character in shown)


def _on_a_terminal(arguments: list[str], directory: Path) -> str:
    """What a command draws on a terminal of 100 columns and 40 lines after its first look."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    watching = subprocess.Popen(
        [sys.executable, "-m", "gmesh.cli.main", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while drawn.count(b"^C ends it") < 2:
            ready, _, _ = select.select([ours], [], [], 180)
            assert ready, drawn
            drawn += os.read(ours, 65536)
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(180) == 130
        os.close(ours)
    return drawn.split(b"^C ends it")[1].decode("utf-8", "replace")


def test_watch_needs_a_node(run: Callable[..., Any], tmp_path: Path) -> None:
    """Without one it is an error in one line."""
    ended = run("watch", "--state", tmp_path / "nowhere")
    assert (ended.status, ended.err.count("\n")) == (1, 1)


def test_a_look_counts_each_link_once(mesh: Any) -> None:
    """What the picture is drawn from."""
    look = watch_module.take(Endpoint(mesh.where))
    assert (look.name, look.links, look.names(False)) == ("a", [["a", "b"], ["b", "c"]], ["d"])
