# SPDX-License-Identifier: MIT
"""C{twistd gmesh-node} as systemd and an operator meet it: starts, refuses in one line, stops."""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import ANSWER, LISTEN, PATIENCE, LocalConnection, ask, listening_port, until

from gmesh.testing.twistd import twistd

pytestmark = pytest.mark.live

Start = Callable[..., Any]


def test_field_l4_l6_boots_routes_and_serves_without_its_authority(
    start: Start, enrol: Callable[..., Path]
) -> None:
    """From the signed cache alone, which one gives to the other, two nodes link and exchange a message."""
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "client", cached=False)}
    a = start("gmesh-node", "--state", states["a"], "--listen", LISTEN)
    port = listening_port(a)
    b = start("gmesh-node", "--state", states["b"], "--peer", f"127.0.0.1:{port}")
    b.wait_for("Link to a at .* is up")
    until(lambda: bool(ask(states["b"], "GET", "/v1/routes")[1]))
    until(lambda: ask(states["b"], "GET", "/v1/status")[1]["policy_version"] == 1)
    status = ask(states["b"], "GET", "/v1/status")[1]
    assert status["authority"]["reachable"] is False
    assert (status["name"], status["links"], status["roles"]) == ("b", 1, ["client"])
    code, problem = ask(states["b"], "POST", "/v1/send", {"node": "a", "service": "log", "data": "aGk="})
    assert (code, problem["type"]) == (404, "urn:gmesh:problem:no-such-service")
    reader = LocalConnection(states["a"] / "node.sock")
    reader.request("GET", "/v1/receive?service=log")
    stream = reader.getresponse()
    code, delivered = ask(states["b"], "POST", "/v1/send", {"node": "a", "service": "log", "data": "aGk="})
    assert (code, delivered["delivered"]) == (200, True)
    assert json.loads(stream.readline()) == {"from": "b", "service": "log", "data": "aGk="}
    reader.close()
    b.wait_for("no news from the authority")
    a.wait_for("no news from the authority")
    assert a.log.count("no news from the authority") == 1


STEPPED = """
import pathlib, time
real, step = time.time, pathlib.Path({file!r})
time.time = lambda: real() + (float(step.read_text()) if step.exists() else 0)
"""


@pytest.mark.parametrize("step", [-86400, 7 * 86400])
def test_timers_go_on_when_the_clock_is_stepped(
    start: Start, enrol: Callable[..., Path], tmp_path: Path, free_port: Callable[[], int], step: int
) -> None:
    """A node whose time of day jumps a day back or a week ahead redials as if nothing had happened."""
    states = {"a": enrol("a", "relay"), "b": enrol("b", "relay")}
    port = free_port()
    program = twistd(STEPPED.format(file=str(tmp_path / "step")))
    a = start("gmesh-node", "--state", states["a"], "--peer", f"127.0.0.1:{port}", program=program)
    seen = a.wait_for("Could not connect to")
    (tmp_path / "whole").write_text(str(step))
    (tmp_path / "whole").rename(tmp_path / "step")
    seen = a.wait_for("Could not connect to", after=seen)
    if step < 0:
        start("gmesh-node", "--state", states["b"], "--listen", f"tcp:{port}:interface=127.0.0.1")
        a.wait_for("Link to b at .* is up", after=seen, timeout=PATIENCE)


def test_stop_closes_links_with_a_reason(start: Start, enrol: Callable[..., Path]) -> None:
    """SIGTERM, also twice: the neighbour hears shutdown, the process ends by it, the socket is gone."""
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "relay")}
    a = start("gmesh-node", "--state", states["a"], "--listen", LISTEN)
    port = listening_port(a)
    b = start("gmesh-node", "--state", states["b"], "--listen", LISTEN, "--peer", f"127.0.0.1:{port}")
    a.wait_for("Link to b at .* is up")
    b.wait_for("Link to a at .* is up")
    b.signal(signal.SIGTERM)
    b.wait_for("node.sock.* Closed")
    b.signal(signal.SIGTERM)
    b.stop()
    a.wait_for("b closed the link: shutdown")
    assert not (states["b"] / "node.sock").exists()
    assert json.loads((states["b"] / "state.json").read_text())["record_sequence"] > 0


def test_field_l6_socket_mode_signals_and_notify(
    start: Start, enrol: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local API is 0660; systemd hears READY and STOPPING; SIGHUP reloads and ends nothing."""
    state = enrol("a", "anchor")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(ANSWER)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = start("gmesh-node", "--state", state, "--listen", LISTEN)
        assert manager.recv(100) == b"READY=1"
        listening_port(daemon)
        assert stat.S_IMODE((state / "node.sock").stat().st_mode) == 0o660
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("reload: reading")
        assert manager.recv(100).startswith(b"RELOADING=1")
        assert manager.recv(100) == b"READY=1"
        assert ask(state, "GET", "/v1/services") == (200, [])
        daemon.stop()
        assert manager.recv(100) == b"STOPPING=1"


def refused(start: Start, *arguments: Any) -> str:
    """The one line a daemon ends with instead of starting."""
    daemon = start("gmesh-node", *arguments)
    assert daemon.wait() == 1
    lines = [line for line in daemon.log.splitlines() if "gmesh-node: " in line]
    assert len(lines) == 1, daemon.log
    assert "Traceback" not in daemon.log
    return str(lines[0].partition("gmesh-node: ")[2])


def test_without_certificate(start: Start, tmp_path: Path) -> None:
    """A host that is not enrolled is told the command that enrols it."""
    state = tmp_path / "state"
    state.mkdir()
    assert refused(start, "--state", state) == (
        f"{state} holds no certificate: `gmesh join - --state {state}` enrols this host"
    )


def test_damaged_certificate_and_open_key(start: Start, enrol: Callable[..., Path]) -> None:
    """Each bad file is one line that names it."""
    state = enrol("a", "anchor")
    (state / "identity.key").chmod(0o644)
    assert refused(start, "--state", state).endswith(f"chmod 0600 {state}/identity.key")
    (state / "identity.key").chmod(0o600)
    (state / "certificate.json").write_text("{")
    assert refused(start, "--state", state).startswith(f"{state}/certificate.json is damaged")


def test_busy_port_and_bad_endpoint(start: Start, enrol: Callable[..., Path]) -> None:
    """A port that cannot be had ends the daemon with status 1 and says which."""
    state = enrol("a", "anchor")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        assert refused(start, "--state", state, "--listen", endpoint) == (
            f"cannot listen on {endpoint}: Address already in use"
        )
    assert refused(start, "--state", state, "--listen", "tcq:1").startswith("'tcq:1' is not an endpoint")
