# SPDX-License-Identifier: MIT
"""A node that was written from docs/protocol alone, without gmesh, is a member like any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until
from live.outside_node import CLOSE, PING, PONG, REKEY, SUITES, OutsideNode

from gmesh import __version__
from gmesh.testing.issuer import Issuer

pytestmark = pytest.mark.live


@pytest.fixture
def issuer() -> Issuer:
    """One whose genesis allows every suite there is."""
    return Issuer.unreachable(suites=list(SUITES))


def test_it_links_keeps_alive_and_speaks_in_every_suite(
    start: Callable[..., Any], enrol: Callable[..., Path]
) -> None:
    """Handshake, HELLO, PING under changed keys, a record that gives a route, an echo sealed end to end."""
    state = enrol("a", "anchor")
    a = start("gmesh-node", "--state", state, "--listen", LISTEN)
    port = listening_port(a)
    for number, suite in enumerate(SUITES):
        outside = OutsideNode(enrol(f"outside-{number}", "client"), suite)
        with closing(outside):
            hello = outside.connect(("127.0.0.1", port))
            assert (hello["flags"], hello["genesis"], hello["policy"]) == (0, 1, 1)
            assert hello["serial"] == outside.neighbour["serial"] and outside.neighbour["name"] == "a"
            assert hello["software"] == f"gmesh/{__version__}"
            assert hello["seen"] == "{}:{}".format(*outside.socket.getsockname())
            for probe in (b"nonce..1stamp..1", b"nonce..2stamp..2"):
                outside.send(PING, probe)
                assert outside.wait(PONG) == probe
                outside.send(REKEY, b"")
            outside.announce()
            until(lambda: bool(ask(state, "GET", "/v1/routes")[1]))
            assert outside.echo(b"nonce..3stamp..3padding") == b"\x02nonce..3stamp..3padding"
        until(lambda: not ask(state, "GET", "/v1/routes")[1])


def test_a_neighbour_without_its_noise_key_hears_close(
    start: Callable[..., Any], enrol: Callable[..., Path]
) -> None:
    """The certificate of one node shown with the Noise key of another: CLOSE without a reason, no HELLO."""
    a = start("gmesh-node", "--state", enrol("a", "anchor"), "--listen", LISTEN)
    thief = OutsideNode(enrol("thief", "client"), next(iter(SUITES)))
    thief.shown = OutsideNode(enrol("victim", "client"), thief.suite).shown
    with closing(thief), pytest.raises(AssertionError, match="CLOSE 0"):
        thief.connect(("127.0.0.1", listening_port(a)))
    assert not [kind for kind, _ in thief.seen if kind != CLOSE]
    a.wait_for("key-mismatch")
