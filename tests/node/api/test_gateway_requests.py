# SPDX-License-Identifier: MIT
"""Exposures and forwards that programs ask for: what they may ask, and who may take them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node.gateways.rig import NETWORK, Nodes
from twisted.internet.defer import ensureDeferred
from twisted.internet.testing import MemoryReactorClock, StringTransport

from gmesh.errors import RequestRefused
from gmesh.node.api import gateway_requests
from gmesh.node.api.access import AccessControl, Credentials
from gmesh.node.api.gateway_requests import GatewayRequests
from gmesh.node.configuration import Configuration
from gmesh.node.gateways.gateways import Gateways
from gmesh.node.gateways.settings import Exposure, Target
from gmesh.streams.join import TransportJoin

ALICE, BOB = Credentials(1, 1001, frozenset({1001})), Credentials(2, 1002, frozenset({1002}))
ROOT = Credentials(3, 0, frozenset({0}))
EXPOSE = {"service": "web", "to": "tcp:127.0.0.1:80"}


def admit(service: str, credentials: Credentials | None) -> None:
    """As [bind] has it: the service ssh is not Alice's."""
    if service == "ssh" and credentials == ALICE:
        raise RequestRefused("forbidden", "that takes the group admin")


@pytest.fixture
def asked() -> GatewayRequests:
    """The gateways of a node whose file exposes db."""
    nodes = Nodes()
    configuration = Configuration(Path("/s"), expose=(Exposure("db", Target("127.0.0.1", 1)),))
    made = Gateways(
        MemoryReactorClock(),
        nodes.here,
        "gmesh-node",
        (NETWORK, nodes.own_id),
        configuration,
        AccessControl(),
    )
    made.startService()
    return GatewayRequests(made, admit)


def refusal(work: Any) -> str:
    """The reason for which a coroutine is refused."""
    failures: list[Any] = []
    ensureDeferred(work).addErrback(failures.append)
    [failure] = failures
    assert isinstance(failure.value, RequestRefused)
    return failure.value.reason


def test_who_may_not_serve_a_name_may_not_expose_it(asked: GatewayRequests) -> None:
    """The groups of [bind] hold for exposures too, and so does the file."""
    for service, reason in (("ssh", "forbidden"), ("db", "service-taken"), ("gmesh-bench", "bad-service")):
        with pytest.raises(RequestRefused) as refused:
            asked.expose(EXPOSE | {"service": service}, ALICE)
        assert refused.value.reason == reason
    assert asked.expose(EXPOSE | {"service": "ssh"}, BOB).exposure.service == "ssh"


def test_a_unix_socket_is_not_exposed_at_the_word_of_a_program(asked: GatewayRequests) -> None:
    """The daemon may open what its user may not; and it makes no socket for them."""
    with pytest.raises(RequestRefused) as refused:
        asked.expose(EXPOSE | {"to": "unix:/run/docker.sock"}, ALICE)
    assert refused.value.reason == "bad-target"
    for listen in ("unix:/run/x", "systemd:domain=INET:index=0"):
        assert refusal(asked.forward({"listen": listen, "to": "b:ssh"}, ALICE)) == "bad-endpoint"


def test_only_who_asked_takes_it_back(asked: GatewayRequests) -> None:
    """And root; nobody takes back what stands in the file."""
    exposed = asked.expose(EXPOSE, ALICE)
    assert refusal(asked.take_back(exposed, BOB)) == "forbidden"
    assert refusal(asked.take_back(exposed, None)) == "forbidden"
    assert refusal(asked.take_back(asked.gateways.exposures.find("db"), ROOT)) == "forbidden"
    ensureDeferred(asked.take_back(exposed, ALICE))
    assert [row["service"] for row in asked.gateways.exposures.rows()] == ["db"]
    exposed = asked.expose(EXPOSE, ALICE)
    ensureDeferred(asked.take_back(exposed, ROOT))
    assert exposed.removed.called


@pytest.mark.parametrize(
    "listen",
    ["tcp:443", "tcp:port=443", "tcp:interface=127.0.0.1:443", "tcp:4\\43", "tcp: +4_43"],
)
def test_a_port_that_the_caller_could_not_bind_is_not_opened_for_them(
    asked: GatewayRequests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listen: str
) -> None:
    """The daemon may run as root; who asks does not."""
    first = tmp_path / "first"
    monkeypatch.setattr(gateway_requests, "_FIRST_FREE_PORT", first)
    body = {"listen": listen, "to": "b:web"}
    for says in ("", "1024\n"):
        first.write_text(says)
        for caller in (ALICE, None):
            assert refusal(asked.forward(body, caller)) == "forbidden"
        assert asked.gateways.forwards.rows() == []


def test_a_port_that_anybody_could_bind_is_opened(
    asked: GatewayRequests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Above the bound of this host, or for root."""
    first = tmp_path / "first"
    first.write_text("443\n")
    monkeypatch.setattr(gateway_requests, "_FIRST_FREE_PORT", first)
    ipv6 = r"tcp6:4443:interface=\:\:1"
    for listen, caller in (("tcp:443", ALICE), ("tcp:0", ALICE), (ipv6, ALICE), ("tcp:22", ROOT)):
        ensureDeferred(asked.forward({"listen": listen, "to": "b:web"}, caller))
        assert asked.gateways.forwards.rows()[-1]["listen"].startswith(listen)


class Others:
    """[bind] and the write group, as a reload changes them."""

    def __init__(self) -> None:
        self.refused = ""

    def __call__(self, service: str, credentials: Credentials | None) -> None:
        if service == self.refused:
            raise RequestRefused("forbidden", f"that takes the group admin ([bind] {service})")


def test_what_was_asked_for_is_judged_again_when_bind_changes(asked: GatewayRequests) -> None:
    """Its streams break, and it says which rule ended it; others stay."""
    access, bind = AccessControl(), Others()
    requests = GatewayRequests(asked.gateways, bind, access)
    web, ssh = (requests.expose(EXPOSE | {"service": name}, ALICE) for name in ("web", "ssh"))
    joins = [TransportJoin(MemoryReactorClock()) for _ in range(2)]
    for exposed, join in zip((web, ssh), joins, strict=True):
        join.near.makeConnection(StringTransport())
        exposed.joins.add(join)
    bind.refused = "ssh"
    access.admitted.judge()
    assert ssh.removed.called and ssh.ended_by == "that takes the group admin ([bind] ssh)"
    assert not web.removed.called
    assert [row["service"] for row in asked.gateways.exposures.rows()] == ["db", "web"]
    assert [join.near.transport.disconnected for join in joins] == [False, True]


def test_a_forward_is_judged_again_when_the_write_group_changes(asked: GatewayRequests) -> None:
    """The port closes."""
    access = AccessControl()
    requests = GatewayRequests(asked.gateways, admit, access)
    made: list[Any] = []
    ensureDeferred(requests.forward({"listen": "tcp:4443", "to": "b:web"}, ALICE)).addCallback(made.append)
    [forwarded] = made
    access.become(AccessControl(write="62002"))
    access.admitted.judge()
    assert forwarded.removed.called and "may not write here" in forwarded.ended_by
    assert asked.gateways.forwards.rows() == []
