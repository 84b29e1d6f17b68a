# SPDX-License-Identifier: MIT
"""The tutorial, by hand: every command against real daemons, from init to revoke."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import until

from gmesh.client import BlockingMesh

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
FIRST = ROOT / "docs" / "examples" / "first"
DEADLINE = 180.0
GMESH = [sys.executable, "-m", "gmesh.cli.main"]


@pytest.fixture
def mesh(
    gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> dict[str, Any]:
    """An authority and the nodes a - b - c, started as C{join} prints; their daemons by name."""
    authority, anchor = free_port(), free_port()
    url = f"http://127.0.0.1:{authority}"
    gmesh("init", "net", "--network", "lab", "--authority-url", url, "--anchor", f"b=127.0.0.1:{anchor}")
    listen = f"tcp:{authority}:interface=127.0.0.1"
    daemons = {
        "authority": start("gmesh-authority", "--state", tmp_path / "net/authority", "--listen", listen)
    }
    daemons["authority"].wait_for("ready")
    for name, role in (("b", "anchor"), ("a", "client"), ("c", "client")):
        made = gmesh("admin", "--operator", "net/operator", "invite", "--name", name, "--role", role)
        joined = gmesh("join", "-", "--state", name, stdin=made.stdout)
        assert f"Enrolled as {name} ({role}), node id " in joined.stdout
        (line,) = [line for line in joined.stdout.splitlines() if line.startswith("  ")]
        _, foreground, no_file, *words = shlex.split(line)
        assert (foreground, no_file) == ("-n", "--pidfile=")
        daemons[name] = start(*words)
        daemons[name].wait_for("ready|READY|local API")
    return daemons


def _read(gmesh: Callable[..., Any], *arguments: str) -> Any:
    return json.loads(gmesh(*arguments, "--json").stdout)


def test_tutorial(gmesh: Callable[..., Any], mesh: dict[str, Any], start: Any, tmp_path: Path) -> None:
    """Each command of the tutorial does what the tutorial says, in its words and in JSON."""
    until(lambda: {"b", "c"} <= {route["name"] for route in _read(gmesh, "routes", "--state", "a")})
    (route,) = [route for route in _read(gmesh, "routes", "--state", "a") if route["name"] == "c"]
    assert route["path"] == ["a", "b", "c"]

    until(lambda: _read(gmesh, "status", "--state", "a")["authority"]["reachable"] is True)
    status = _read(gmesh, "status", "--state", "a")
    assert (status["name"], status["network"], status["roles"], status["links"]) == (
        "a",
        "lab",
        ["client"],
        1,
    )
    assert {"node_id", "network_id", "certificate", "crl_number", "policy_version"} <= status.keys()
    assert {"serial", "not_after"} <= status["certificate"].keys()
    (peer,) = _read(gmesh, "peers", "--state", "a")
    assert (peer["name"], {"node_id", "address", "rtt_ms"} <= peer.keys()) == ("b", True)
    nodes = {node["name"]: node for node in _read(gmesh, "nodes", "--state", "a")}
    assert (set(nodes), nodes["c"]["reachable"], nodes["b"]["roles"]) == ({"a", "b", "c"}, True, ["anchor"])

    assert len(_read(gmesh, "ping", "c", "--count", "2", "--state", "a")["rtt_ms"]) == 2
    trace = _read(gmesh, "trace", "c", "--state", "a")
    assert (trace["path"], [hop["name"] for hop in trace["hops"]]) == (["a", "b", "c"], ["b", "c"])

    send = ("send", "c", "--service", "chat", "hi", "--state", "a")
    assert gmesh(*send, check=False).returncode == 1
    receiver = subprocess.Popen(
        [*GMESH, "receive", "--service", "chat", "--count", "2", "--json", "--state", "c"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    until(
        lambda: (
            _read(gmesh, "services", "--state", "c")
            == [{"service": "chat", "nodes": ["c"], "messages": True, "streams": False}]
        )
    )
    assert "delivered to c in " in gmesh(*send).stdout
    gmesh("send", "c", "--service", "chat", "-", "--state", "a", stdin="two\nlines")
    out, _ = receiver.communicate(timeout=DEADLINE)
    messages = [json.loads(line) for line in out.splitlines()]
    assert receiver.returncode == 0
    assert [(m["from"], m["service"], base64.b64decode(m["data"])) for m in messages] == [
        ("a", "chat", b"hi"),
        ("a", "chat", b"two\nlines"),
    ]
    assert ["a", "b", "c"] in [transit["path"] for transit in _read(gmesh, "transits", "--state", "b")]

    programs(tmp_path)

    assert "nodes 3 of 3" in gmesh("watch", "--once", "--state", "a").stdout
    assert _read(gmesh, "whois", "c", "--state", "a")["path"] == ["a", "b", "c"]
    assert _read(gmesh, "doctor", "--state", "a")["ok"] is True

    gmesh("admin", "--operator", "net/operator", "revoke", "c")
    until(lambda: [peer["name"] for peer in _read(gmesh, "peers", "--state", "b")] == ["a"])
    listed = {node["name"]: node for node in _read(gmesh, "admin", "--operator", "net/operator", "nodes")}
    assert [listed[name]["revoked"] for name in "abc"] == [False, False, True]
    refused = gmesh(*send, check=False)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)


def programs(tmp_path: Path) -> None:
    """A reading reported, a request answered, a file copied, a web API reached, as the page has them."""
    page = (ROOT / "docs" / "tutorial.rst").read_text()
    running: list[subprocess.Popen[str]] = []

    def begin(node: str, *command: str) -> subprocess.Popen[str]:
        if command[0].endswith(".py"):
            assert f"``python {command[0]} " in page or f"``python {command[0]}``" in page
            command = (sys.executable, str(FIRST / command[0]), *command[1:])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GMESH_STATE": str(tmp_path / node)}
        started = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(started)
        return started

    def run(*command: str) -> tuple[int, str]:
        """On a, to its end."""
        started = begin("a", *command)
        words, _ = started.communicate(timeout=DEADLINE)
        return started.returncode, words

    (tmp_path / "page.txt").write_text("warm")
    twist = (sys.executable, "-m", "twisted", "web", "--listen", "gmesh:http", "--path", str(tmp_path))
    try:
        collector, _ = begin("c", "collect.py"), begin("c", "answer.py")
        taking, _ = begin("c", "take_file.py", "copy"), begin("c", *twist)
        offered = {"readings", "sum", "files", "http"}
        with BlockingMesh(str(tmp_path / "c" / "node.sock")) as mesh:
            for event in mesh.watch():
                offered.discard(event.service)
                if not offered:
                    break
        assert run("report.py", "c", "21.5") == (0, "")
        assert collector.stdout is not None and collector.stdout.readline() == "a 21.5\n"
        status, words = run("ask.py", "c", "one")
        assert status != 0 and "SendRefused" in words
        assert run("ask.py", "c", "1", "2", "3.5") == (0, "6.5\n")
        assert run("send_file.py", "c", "page.txt") == (0, "")
        assert taking.wait(DEADLINE) == 0 and (tmp_path / "copy").read_text() == "warm"
        assert run("fetch.py", "http://c/page.txt") == (0, "warm\n")
    finally:
        for each in running:
            if each.poll() is None:
                each.terminate()
            each.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("program", sorted(FIRST.glob("*.py")), ids=lambda path: path.name)
def test_a_first_program_is_short(program: Path) -> None:
    """Under fifteen lines, without the licence and the empty ones."""
    assert len([line for line in program.read_text().splitlines()[1:] if line]) < 15
