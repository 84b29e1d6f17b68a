# SPDX-License-Identifier: MIT
"""A real node reads what others call their address: it dials, or counts; it opens nothing and goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until
from live.outside_node import OutsideNode

from gmesh.testing.issuer import Issuer

pytestmark = pytest.mark.live

DEVICE = "ssl:127.0.0.1:1:certKey=/dev/ptmx:privateKey=/dev/ptmx"


@contextmanager
def listening(family: int, address: Any) -> Iterator[socket.socket]:
    with closing(socket.socket(family, socket.SOCK_STREAM)) as server:
        server.bind(address)
        server.listen()
        server.setblocking(False)
        yield server


def called(server: socket.socket) -> bool:
    """Whether somebody has connected since it was asked last."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(socket.AF_UNIX, str(tmp_path / "u")) as server:
        yield server


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def good() -> Iterator[socket.socket]:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def odd(unix: socket.socket, bound: socket.socket) -> tuple[str, str, str]:
    """Three that open a device, a socket of this host, and one of an address to be chosen."""
    port = bound.getsockname()[1]
    return DEVICE, f"unix:{unix.getsockname()}", f"tcp:127.0.0.1:{port}:bindAddress=127.0.0.1"


def skipped(state: Path) -> int:
    """How many addresses were counted, by a node that answers."""
    counters: dict[str, int] = ask(state, "GET", "/v1/status")[1]["counters"]
    return counters.get("address-not-dialled", 0)


def test_c1_an_anchor_that_tells_hostile_addresses_is_counted(
    start: Callable[..., Any],
    enrol: Callable[..., Path],
    issuer: Issuer,
    odd: tuple[str, str, str],
    unix: socket.socket,
    bound: socket.socket,
    good: socket.socket,
) -> None:
    """When its link ends its record is what is left to dial: the node dials its one address, and goes on."""
    state = enrol("pump", "relay")
    pump = start("gmesh-node", "--state", state, "--listen", LISTEN, "--lead-to", "any")
    liar = OutsideNode(enrol("liar", "anchor"), issuer.genesis.body.suites[0])
    with closing(liar):
        liar.connect(("127.0.0.1", listening_port(pump)))
        liar.announce([*odd, f"127.0.0.1:{good.getsockname()[1]}"])
        until(lambda: liar.keep_alive() or bool(ask(state, "GET", "/v1/routes")[1]))
    until(lambda: called(good))
    assert skipped(state) == 3
    [told] = [node for node in ask(state, "GET", "/v1/nodes")[1] if node["name"] == "liar"]
    assert set(odd) < set(told["addresses"])
    assert not called(unix) and not called(bound)


class TestOldState:
    """What an older release has stored, and what stands in a genesis."""

    @pytest.fixture
    def issuer(self, odd: tuple[str, str, str], good: socket.socket) -> Issuer:
        """Its genesis names four anchors, one of them by an address."""
        named = [(f"x{index}", text) for index, text in enumerate(odd)]
        named.append(("home", f"tcp:127.0.0.1:{good.getsockname()[1]}"))
        return Issuer.unreachable(named)

    def test_c1_hostile_anchors_in_genesis_and_state_leave_a_node_well(
        self,
        start: Callable[..., Any],
        enrol: Callable[..., Path],
        gmesh: Callable[..., Any],
        odd: tuple[str, str, str],
        unix: socket.socket,
        bound: socket.socket,
        good: socket.socket,
    ) -> None:
        """It starts, calls the genesis anchor that has an address, and doctor names those that have none."""
        state = enrol("pump", "client")
        kept = {"genesis": 1, "anchors": [{"name": "z", "endpoint": f"{DEVICE}:method=SSLv3_METHOD"}]}
        (state / "state.json").write_text(json.dumps({"bootstrap": kept}))
        start("gmesh-node", "--state", state)
        until(lambda: called(good))
        assert skipped(state) == 4
        told = gmesh("doctor", "--state", state, check=False).stdout
        assert "z at ssl:" in told and "no node dials that" in told
        assert not called(unix) and not called(bound)
