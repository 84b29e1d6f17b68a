# SPDX-License-Identifier: MIT
"""Proxies in front: each way one can stand there has a name, and one that was not named is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from authority.test_http import Browser, Transport
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.usage import UsageError
from twisted.web.server import NOT_DONE_YET

from gmesh.authority.options import Options
from gmesh.authority.proxies import TrustedProxies, is_local_endpoint, parse_proxy
from gmesh.authority.rate_limit import RateLimits

MANUAL = (Path(__file__).resolve().parents[2] / "docs/operations.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("named", "peer", "header", "client"),
    [
        ((), "127.0.0.1", ["203.0.113.9"], "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        (("127.0.0.1",), "::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        (("::1",), "::1", ["2001:db8::7"], "2001:db8::7"),
        (("127.0.0.1",), "192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        (("10.42.0.0/16",), "10.42.7.7", ["203.0.113.9"], "203.0.113.9"),
        (("unix",), "unix", ["203.0.113.9"], "203.0.113.9"),
        (("127.0.0.1",), "unix", ["203.0.113.9"], "unix"),
        (("unix",), "127.0.0.1", ["203.0.113.9"], "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (("127.0.0.1",), "127.0.0.1", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        (("127.0.0.1", "192.0.2.0/24"), "127.0.0.1", ["6.6.6.6, 203.0.113.9, 192.0.2.8"], "203.0.113.9"),
        (("127.0.0.1",), "127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        (("127.0.0.1",), "127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        (("127.0.0.1",), "127.0.0.1", [], "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", [""], "127.0.0.1"),
    ],
)
def test_d18_who_asks_is_the_last_address_that_is_no_proxy(
    named: tuple[str, ...], peer: str, header: list[str], client: str
) -> None:
    """Whatever a client wrote before it, and only where the peer was named."""
    assert TrustedProxies(map(parse_proxy, named)).client(peer, header) == client


@pytest.mark.parametrize("text", ["", "proxy.example", "10.0.0.1/8", "unix:/run/x", "*"])
def test_what_names_no_proxy_is_refused(text: str) -> None:
    """With what does."""
    with pytest.raises(UsageError, match=r"an IP address, a network"):
        Options().opt_trusted_proxy(text)


def test_d18_behind_a_unix_socket_each_client_has_its_own_failures(network: Any) -> None:
    """Eleven bad joins of one client lock out nobody else, where the proxy on the socket is named."""

    def join(client: str) -> int:
        headers, body = network.join_request(network.member(network.keys.signing()))
        headers["X-Forwarded-For"] = client
        status: int = network.ask("POST", "/join", headers, body).status
        return status

    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1"), parse_proxy("unix")])
    many = RateLimits().failures.burst
    assert [join("203.0.113.1") for _ in range(many + 1)] == [403] * many + [429]
    assert join("203.0.113.2") == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_d18_a_proxy_that_is_not_trusted_is_told_of_once(
    network: Any, logged: list[str], header: str
) -> None:
    """By the first request that it passes on, in one line that names the option."""
    assert network.ask("GET", "/status").status == 200
    for number in range(3):
        assert network.ask("GET", "/status", {header: f"203.0.113.{number}"}).status == 200
    told = [line for line in logged if "--trusted-proxy" in line]
    assert len(told) == 1 and told[0].endswith("--trusted-proxy 127.0.0.1")


def test_d18_a_trusted_proxy_is_not_told_of(network: Any, logged: list[str]) -> None:
    """Nor is anybody else who sends the header."""
    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1")])
    network.ask("GET", "/status", {"X-Forwarded-For": "203.0.113.1"})
    assert logged == []


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("tcp:8440:interface=127.0.0.1", True),
        ("tcp:8440:interface=localhost", True),
        (r"tcp6:8440:interface=\:\:1", True),
        ("unix:/run/gmesh/authority.sock", True),
        ("haproxy:unix:/run/gmesh/authority.sock", True),
        ("systemd:domain=UNIX:index=0", True),
        ("tcp:8440", False),
        ("tcp:8440:interface=192.0.2.1", False),
        (r"tcp6:8440:interface=\:\:", False),
        (r"tcp6:8440:interface=\:\:1234", False),
        ("ssl:8441:privateKey=k:certKey=c", False),
        ("systemd:domain=INET:index=0", False),
    ],
)
def test_d18_a_listener_that_only_a_proxy_can_reach_is_known_by_its_endpoint(text: str, local: bool) -> None:
    """So that the start can say that no proxy is trusted."""
    assert is_local_endpoint(text) is local


def test_d18_the_proxy_protocol_names_the_client() -> None:
    """Behind C{haproxy:} a request comes from whom the PROXY line names; the proxy's connections are many."""
    browser = Browser()
    browser.site._uncounted = TrustedProxies([parse_proxy("192.0.2.7")])
    asked: list[str] = []

    class Resource:
        isLeaf = True

        def render(self, request: Any) -> Any:
            asked.append(request.getClientAddress().host)
            request.finish()
            return NOT_DONE_YET

    browser.site.resource = Resource()
    factory: Factory = HAProxyWrappingFactory(browser.site)
    for number in range(6):
        transport = Transport(peerAddress=IPv4Address("TCP", "192.0.2.7", 50_000 + number))
        channel = factory.buildProtocol(transport.getPeer())
        transport.protocol = channel
        channel.makeConnection(transport)
        line = f"PROXY TCP4 203.0.113.{number} 192.0.2.9 4711 8440\r\n".encode()
        channel.dataReceived(line + b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert asked == [f"203.0.113.{number}" for number in range(6)]


def test_d18_the_manual_names_each_way() -> None:
    """Where it advises a proxy, there and in the packages' page."""
    for way in ("127.0.0.1", "::1", "10.42.0.0/16", "unix"):
        parse_proxy(way)
        assert f"--trusted-proxy {way}" in MANUAL
    assert "haproxy:tcp:8440" in MANUAL
    packaging = (Path(__file__).resolve().parents[2] / "docs/packaging.rst").read_text(encoding="utf-8")
    assert ":ref:`proxies`" in packaging
