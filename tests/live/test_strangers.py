# SPDX-License-Identifier: MIT
"""Strangers at the port of a real node: silent sockets and bad handshakes beside two good nodes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until

from gmesh.testing.issuer import Issuer

pytestmark = pytest.mark.live

SILENT = 300
FLOOD = 5000
PINGS = 200
BURST, RATE = 400, 200


def stranger(port: int, number: int) -> socket.socket:
    """A connection from an address of its own: the loopback network is a /8."""
    source = f"127.{1 + number // 60000}.{number // 250 % 250}.{1 + number % 250}"
    return socket.create_connection(("127.0.0.1", port), timeout=600, source_address=(source, 0))


def beset(start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer) -> list[float]:
    """
    Round trips in ms between two good nodes, while one of them is beset by strangers.

    300 sockets never speak, thousands of bad handshakes come as fast as another process can make them, each
    from an address of its own.
    """
    a, b = enrol("a", "relay"), enrol("b", "relay")
    first = start("gmesh-node", "--state", a, "--listen", LISTEN)
    port = listening_port(first)
    second = start("gmesh-node", "--state", b, "--peer", f"127.0.0.1:{port}")
    second.wait_for("Link to a at .* is up")
    until(lambda: bool(ask(b, "GET", "/v1/routes")[1]))

    stop = threading.Event()

    def hold() -> None:
        """Keep 300 silent sockets open: whenever they are cut, others come."""
        number = 0
        while not stop.is_set():
            held = [stranger(port, number + each) for each in range(SILENT)]
            number += SILENT
            stop.wait(4)
            for each in held:
                each.close()

    holder = threading.Thread(target=hold)
    holder.start()
    arguments = [str(port), str(FLOOD), issuer.genesis.body.suites[0]]
    flood = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("flood.py")), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    began = time.monotonic()
    try:
        trips: list[float] = []
        for _ in range(PINGS // 20):
            trips += ask(b, "POST", "/v1/ping", {"node": "a", "count": 20})[1]["rtt_ms"]
        said, _ = flood.communicate("")
        lasted = time.monotonic() - began
    finally:
        stop.set()
        holder.join()
        flood.kill()
        flood.communicate()
    counters = ask(a, "GET", "/v1/status")[1]["counters"]
    rates = ("handshake-rate", "handshake-rate-of-network")
    causes = ("handshake-failed", *rates, "half-open-limit", "closed-in-handshake")
    assert int(said) >= FLOOD
    assert sum(counters.get(cause, 0) for cause in causes) >= int(said)
    assert 0 < counters["handshake-failed"] <= BURST + RATE * (lasted + 1)
    assert ask(b, "GET", "/v1/status")[1]["links"] == 1
    assert "Link to a is down" not in second.log
    return trips


def test_silent_sockets_and_a_flood_of_bad_handshakes_cost_good_nodes_nothing(
    start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer
) -> None:
    """The link stays, every ping is answered, and bad handshakes are refused beyond the rate."""
    assert len(beset(start, enrol, issuer)) == PINGS


@pytest.mark.soak
def test_field_t8_silent_sockets_and_a_flood_of_bad_handshakes_do_not_slow_good_nodes(
    start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer
) -> None:
    """p99 of a round trip stays under 100 ms."""
    trips = sorted(beset(start, enrol, issuer))
    assert trips[int(0.99 * len(trips))] < 100, trips[-8:]


def test_a_capture_shows_headers_of_a_live_link(
    start: Callable[..., Any], gmesh: Callable[..., Any], enrol: Callable[..., Path]
) -> None:
    """gmesh capture lists the sealed ping that passes meanwhile, by its path, and refuses an unknown peer."""
    a, b = enrol("a", "relay"), enrol("b", "relay")
    first = start("gmesh-node", "--state", a, "--listen", LISTEN)
    port = listening_port(first)
    start("gmesh-node", "--state", b, "--peer", f"127.0.0.1:{port}").wait_for("Link to a at .* is up")
    until(lambda: bool(ask(b, "GET", "/v1/routes")[1]))
    frames: list[dict[str, Any]] = []
    wanted = {"peer": "a", "seconds": 60, "count": 64}
    looking = threading.Thread(target=lambda: frames.extend(ask(b, "POST", "/v1/capture", wanted)[1]))
    looking.start()
    while looking.is_alive():
        ask(b, "POST", "/v1/ping", {"node": "a", "count": 1})
    looking.join()
    data = [frame for frame in frames if frame["kind"].startswith("E2E_")]
    assert {(tuple(frame["path"]), frame["sent"]) for frame in data} == {
        (("b", "a"), True),
        (("a", "b"), False),
    }
    refused = gmesh("capture", "nobody", "--seconds", "1", "--state", b, check=False)
    assert refused.returncode == 1 and "no link to nobody" in refused.stderr
