# SPDX-License-Identifier: MIT
"""An authority behind HAProxy, by HTTP and by the PROXY protocol, until it drains: real daemons."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from live.fronts import needs, running
from live.node_rig import PATIENCE, until

from gmesh.testing.patience import ProcessPatience
from gmesh.trust.documents import Status, parse_document

pytestmark = pytest.mark.live

HAPROXY = """
global
    maxconn 100
defaults
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend http
    mode http
    bind 127.0.0.1:{http}
    default_backend replicas
backend replicas
    mode http
    option httpchk GET /readyz
    option forwardfor
    server one 127.0.0.1:{plain} check inter 500ms fall 1 rise 1
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend passed
backend passed
    mode tcp
    option httpchk HEAD /readyz
    server one 127.0.0.1:{proxied} send-proxy-v2 check port {plain} inter 500ms fall 1 rise 1
"""
DEADLINE = 180.0
DRAIN = 8.0
"""Seconds: what is looked at meanwhile takes a fraction of one where the host does nothing else."""


def ask(port: int, path: str, source: str = "127.0.0.1") -> tuple[int, str, bytes]:
    """Status, the header Connection and the body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, DEADLINE, source_address=(source, 0))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Connection", ""), answer.read()
    finally:
        connection.close()


@needs("haproxy")
def test_p34_behind_haproxy_until_it_drains(
    gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Plain checks find it ready; each client is charged by its own address; draining refuses no request."""
    ports = {name: free_port() for name in ("http", "plain", "tcp", "proxied")}
    gmesh("init", "net", "--network", "lab", "--authority-url", f"http://127.0.0.1:{ports['http']}")
    daemon = start(
        "gmesh-authority", "--state", "net/authority", "--drain", f"{DRAIN:.0f}",
        "--trusted-proxy", "127.0.0.1", "--rate", "300/20",
        "--listen", f"tcp:{ports['plain']}:interface=127.0.0.1",
        "--listen", f"haproxy:tcp:{ports['proxied']}:interface=127.0.0.1",
    )  # fmt: skip
    daemon.wait_for("ready")
    directory = tmp_path / "haproxy"
    directory.mkdir()
    (directory / "haproxy.cfg").write_text(HAPROXY.format(**ports))
    front = f"127.0.0.1:{ports['http']}"
    with (
        running(directory, front, "haproxy", "-f", str(directory / "haproxy.cfg")),
        ThreadPoolExecutor() as pool,
    ):
        for port in (ports["http"], ports["tcp"]):
            sources = [f"127.0.{port % 200}.{number}" for number in (1, 2)]
            until(lambda port=port, source=sources[0]: ask(port, "/healthz", source)[0] in (200, 429))
            told, patience = set[int](), ProcessPatience(PATIENCE)
            while told != {200, 429}:  # more in a second than it may
                assert patience.lasts()
                told.add(ask(port, "/policy", sources[0])[0])
            assert ask(port, "/policy", sources[1])[0] == 200, "another client has room of its own"
        held = parse_document(ask(ports["http"], "/status", "127.0.9.9")[2], Status)
        poll = pool.submit(ask, ports["http"], f"/status?after={held.digest}", "127.0.9.9")
        time.sleep(0.2)  # until it waits there; if it does not yet, it is answered at once all the same
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert poll.result(DEADLINE)[0] == 200 and time.monotonic() - began < DRAIN
        status, connection, body = ask(ports["plain"], "/readyz")
        assert (status, connection, json.loads(body)["status"]) == (503, "close", 503)
        assert ask(ports["plain"], "/policy", "127.0.9.8")[:2] == (200, "close")
        until(lambda: b"No server is available" in ask(ports["http"], "/policy", "127.0.9.7")[2])
        daemon.wait()
        assert time.monotonic() - began >= DRAIN
    daemon.stop()
