# SPDX-License-Identifier: MIT
"""A node that was written from docs/protocol alone, without gmesh, is a member like any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until
from live.outside_node import CLOSE, PING, PONG, REKEY, SUITES, OutsideNode, follow, revoked, verify

from gmesh import __version__
from gmesh.testing.issuer import Issuer
from gmesh.trust.documents import sign_document
from gmesh.trust.revocation import make_delta

pytestmark = pytest.mark.live


@pytest.fixture
def issuer() -> Issuer:
    """One whose genesis allows every suite there is."""
    return Issuer.unreachable(suites=list(SUITES))


def test_it_links_keeps_alive_and_speaks_in_every_suite(
    start: Callable[..., Any], enrol: Callable[..., Path]
) -> None:
    """Handshake, HELLO, PING under changed keys, a record that gives a route, an echo sealed end to end.

    The neighbour has enough of first messages that show nobody: that of the echo shows whose it is.
    """
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
            until(lambda outside=outside: outside.keep_alive() or bool(ask(state, "GET", "/v1/routes")[1]))
            outside.babble(40)
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


def test_it_refuses_a_neighbour_that_the_crl_names(
    issuer: Issuer, start: Callable[..., Any], enrol: Callable[..., Path], tmp_path: Path
) -> None:
    """A node is named for the serials below its bound: one that was admitted again is believed."""
    first = issuer.enrol("a", "anchor")
    for key in (False, True):
        issuer.revoke(first, key=key)
        for number, (shown, believed) in enumerate(((first, False), (issuer.renew(first), not key))):
            outside = OutsideNode(enrol(f"outside-{key}-{number}".lower(), "client"), next(iter(SUITES)))
            assert revoked(outside.crl, shown.certificate.as_dict()["signed"]) is not believed
    state = tmp_path / "a"
    issuer.write_state(first, state, cached=False)
    a = start("gmesh-node", "--state", state, "--listen", LISTEN)
    with closing(outside), pytest.raises(AssertionError, match="revoked"):
        outside.connect(("127.0.0.1", listening_port(a)))


def test_it_follows_the_crl_by_deltas(issuer: Issuer) -> None:
    """The chapter is enough to have the very bytes that were signed, table by table."""
    authority = issuer.authority.public
    crls = [issuer.crl]
    for name in ("a", "b", "c"):
        crls.append(issuer.revoke(issuer.enrol(name, "client"), key=name == "b"))
    held = crls[0].as_dict()
    for new, old in zip(crls[1:], crls, strict=False):
        delta = sign_document(make_delta(old.body, new, 0), [issuer.authority]).as_dict()
        held = follow(verify(held, authority), verify(delta, authority))
        assert held == new.as_dict()
    assert verify(held, authority)["number"] == crls[-1].body.number
