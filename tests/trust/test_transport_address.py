# SPDX-License-Identifier: MIT
"""Addresses of others are read in a few closed forms, and what has another is just not dialled."""

from __future__ import annotations

import ipaddress
import re
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust.hostile_addresses import HOSTILE
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from gmesh.trust.transport_address import (
    Transport,
    TransportAddress,
    advice,
    interface_fault,
    read_address,
)

LABEL = st.from_regex(r"[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)
PORTS = st.integers(1, 65535)
PIECES = st.sampled_from(
    [
        "tcp:",
        "tls:",
        "wss://",
        "tls://",
        "/",
        "h",
        "a1",
        "127",
        "0x7f",
        ".",
        "-",
        "_",
        ":",
        "\\:",
        "[",
        "]",
        "::",
        "%e",
        ":1",
    ]
)
KINDS = st.sampled_from(list(Transport))


@given(st.sampled_from(["", "tcp:", "tls:"]), NAMES | V4, PORTS)
def test_a_host_and_a_port(prefix: str, host: str, port: int) -> None:
    """A name or an IPv4 address and a port; tls: alone says TLS."""
    kind = Transport.TLS if prefix == "tls:" else Transport.TCP
    assert read_address(f"{prefix}{host}:{port}") == TransportAddress(kind, host, port)


@given(st.sampled_from(["", "tcp:", "tls:"]), V6, PORTS)
def test_an_ipv6_address(prefix: str, host: str, port: int) -> None:
    """In brackets anywhere, with escaped colons only where a kind stands before, never bare."""
    kind = Transport.TLS if prefix == "tls:" else Transport.TCP
    found = TransportAddress(kind, host, port)
    escaped = host.replace(":", "\\:")
    assert read_address(f"{prefix}[{host}]:{port}") == found
    assert read_address(f"{prefix}{escaped}:{port}") == (found if prefix else None)
    assert read_address(f"{prefix}{host}:{port}") is None


@given(KINDS, NAMES | V4 | V6, PORTS)
def test_what_a_genesis_says_is_read_back(kind: Transport, host: str, port: int) -> None:
    """The spelling for documents is read as the same address."""
    address = TransportAddress(kind, host, port, "/" if kind is Transport.WSS else "")
    assert read_address(address.endpoint) == address


@given(NAMES | V4 | V6, PORTS)
def test_older_releases_read_the_same(host: str, port: int) -> None:
    """What is written into a genesis today leads Twisted's parser to the same host and port."""
    reactor = MemoryReactorClock()
    text = TransportAddress(Transport.TCP, host, port).endpoint
    clientFromString(reactor, text).connect(Factory())
    assert reactor.tcpClients[0][:2] == (host, port)


PATHS = st.from_regex(r"/[0-9A-Za-z._~/-]{0,100}", fullmatch=True)


@given(NAMES | V4 | V6, st.none() | PORTS, PATHS | st.just(""))
def test_urls(host: str, port: int | None, path: str) -> None:
    """A scheme, a host, a port that is 443 unless named (not for tcp), a path where there is a WebSocket."""
    place = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    plain = None if port is None else TransportAddress(Transport.TCP, host, port)
    assert read_address(f"tcp://{place}") == plain
    assert read_address(f"tls://{place}") == TransportAddress(Transport.TLS, host, port or 443)
    assert read_address(f"wss://{place}{path}") == TransportAddress(
        Transport.WSS, host, port or 443, path or "/"
    )
    if path:
        assert read_address(f"tcp://{place}{path}") is None is read_address(f"tls://{place}{path}")


@given(NAMES | V4 | V6, PORTS, PATHS)
def test_a_url_of_a_genesis_is_read_back(host: str, port: int, path: str) -> None:
    """The spelling for documents of a WebSocket, port 443 left out."""
    address = TransportAddress(Transport.WSS, host, port, path)
    assert read_address(address.endpoint) == address


@pytest.mark.parametrize("scheme", ["tcp", "tls", "wss"])
@pytest.mark.parametrize(
    "rest",
    [
        *("", "/", ":443", "h:0", "h:65536", "h:01", "h:", "h:1x", "h:443:1", "h/../a b", "h\n:1"),
        *("u@h:1", "u:p@h:1", "h:1?x=1", "h:1#x", "h:1/%2e%2e", "h:1/\u00e4", "h:1/a\n", "//h:1", "h_a:1"),
        *(
            "[fe80::1%eth0]:1",
            "[::1",
            "::1",
            "::1:1",
            "[10.0.0.1]:1",
            "127.1:1",
            "0x7f.1:1",
            "m\u00fcnchen:1",
        ),
        "h:1/" + "a" * 101,
        "h:1/" + "a" * 100_000,
    ],
)
def test_odd_urls_are_no_address(scheme: str, rest: str) -> None:
    """No userinfo, query, fragment, escape, interface, U-label; no port that is none; no path without end."""
    assert read_address(f"{scheme}://{rest}") is None
    assert read_address(f"{scheme.upper()}://h:1") is None


@given(st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join))
def test_any_text(text: str) -> None:
    """Whatever is read is a host that cannot be anything else, and a port."""
    found = read_address(text)
    if found is None:
        return
    assert 0 < found.port < 65536
    assert text.endswith(f":{found.port}") or "://" in text
    if ":" in found.host:
        ipaddress.IPv6Address(found.host)
    elif found.host[-1].isdigit() and found.host.rpartition(".")[2].isdigit():
        ipaddress.IPv4Address(found.host)
    else:
        assert re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?", found.host)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "h",
            ":1",
            "h:",
            "h:0",
            "h:65536",
            "h:01",
            "h:1x",
            "h:1\n",
            "h:²",
            "h:1:2",
            "tcp:",
            "tcp:h",
            "tcp::1",
        ),
        *(
            "-a:1",
            "a-:1",
            "a..b:1",
            ".a:1",
            ".:1",
            "a b:1",
            "a_b:1",
            "ä:1",
            "a/b:1",
            "a=b:1",
            "a\\b:1",
            "a\0:1",
        ),
        *("127.1:1", "2130706433:1", "0x7f.1:1", "0x7f000001:1", "010.0.0.1:1", "256.0.0.1:1", "10.0.0.1.:1"),
        *("[fe80::1%eth0]:1", "tcp:[::1%lo]:1", "tcp:fe80\\:\\:1%eth0:1"),
        *("::1:1", "[]:1", "[::1:1", "::1]:1", "[10.0.0.1]:1", "[h]:1", "[::1%]:1", "[::1%a%b]:1", "[:::]:1"),
        *(
            "\\:\\:1:1",
            "tcp:[\\:\\:1]:1",
            "tcp:\\h:1",
            "tcp:::1:1",
            "tcp:fe80\\:\\:1%a\\:b:1",
            "tcp:h\\:1",
            "TCP:h:1",
        ),
        *(
            "http://h:1",
            "ws://h:1",
            "https://h",
            "udp:h:1",
            f"{'a' * 64}:1",
            ".".join(["a" * 62] * 5) + ":1",
        ),
        *(f"[::1%{'x' * 16}]:1", f"{'a.' * 130}a:1", "h:" + "1" * 100_000, "\\:" * 100_000),
        *HOSTILE,
    ],
)
def test_c1_other_forms_are_no_address(text: str) -> None:
    """Nothing else is read: no parameter, no other kind, no number that a resolver takes for an address."""
    assert read_address(text) is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("xn--mnchen-3ya.example:1", "xn--mnchen-3ya.example"),
        ("b.example.:1", "b.example."),
        (f"{'a' * 63}.{'b' * 63}:1", f"{'a' * 63}.{'b' * 63}"),
        ("[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1"),
        ("tcp://xn--mnchen-3ya.example:1", "xn--mnchen-3ya.example"),
    ],
)
def test_edges(text: str, host: str) -> None:
    """A-labels, the dot of an absolute name, the longest label."""
    assert read_address(text) == TransportAddress(Transport.TCP, host, 1)


@pytest.mark.parametrize(
    ("text", "host"),
    [("[fe80::1%eth0.7]:1", "fe80::1%eth0.7"), ("tcp:fe80\\:\\:1%eth0:1", "fe80::1%eth0")],
)
def test_d9_an_interface_is_named_by_this_host_for_itself(text: str, host: str) -> None:
    """In its options; what comes from others names none that this host would know."""
    assert read_address(text, local=True) == TransportAddress(Transport.TCP, host, 1)
    assert read_address(text) is None
    url = f"tls://[{host}]:1"
    assert read_address(url, local=True) == TransportAddress(Transport.TLS, host, 1)
    assert read_address(url) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls:a.example:443:trustRoots=/etc/ca", "tls://a.example,"),
        ("ssl:a.example:8443:caCertsDir=/etc/ca", "tls://a.example:8443,"),
        ("tls:2001\\:db8\\:\\:1:443:trustRoots=/x", "tls://[2001:db8::1],"),
        ("tls:host=a.example:port=8443:trustRoots=/x", "tls://a.example:8443,"),
        ("tls:a.example:443", ""),
        ("unix:/x:y=1", ""),
        ("tls:a b:443:x=1", ""),
        ("tls:a:0:x=1", ""),
        ("tls:a:" + "9" * 5000 + ":x=1", ""),
    ],
)
def test_what_to_write_instead_of_an_endpoint_string(text: str, said: str) -> None:
    """Twisted's strings with parameters have a spelling here; the parameters are options of each node."""
    assert (said in advice(text)) if said else advice(text) == ""
    assert read_address(text) is None or not said


@pytest.mark.parametrize(
    ("text", "local", "others"),
    [
        ("[fe80::1%eth0]:1", "", "an interface of this host"),
        ("[fe80::1]:1", r"takes the interface: \[fe80::1%eth0\]:1", "others cannot dial"),
        ("tcp:[::1%lo]:1", "", "an interface of this host"),
        ("[2001:db8::1]:1", "", ""),
        ("169.254.0.1:1", "", ""),
        ("fe80.example:1", "", ""),
        ("fe80::1%eth0:1", "", ""),
    ],
)
def test_d9_what_an_interface_has_to_do_with_it(text: str, local: str, others: str) -> None:
    """A link-local address wants one where this host dials, and is good for nobody else."""
    assert re.search(local, interface_fault(text, local=True)) and bool(local) == bool(
        interface_fault(text, local=True)
    )
    assert interface_fault(text).startswith(others) and bool(others) == bool(interface_fault(text))


_touched: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.partition(".")[0] in ("open", "socket", "subprocess", "os", "import"):
        _touched.append(event)


sys.addaudithook(_hook)


def test_c1_ten_thousand_odd_strings_touch_nothing() -> None:
    """Reading text of others opens no file, no socket, asks no resolver, imports no plugin."""
    global _watching
    random = Random(1)
    odd = [
        "".join(random.choice([*HOSTILE, "tcp:", "h", "\\:", ":", "1", "[", "]", "=", "%"]) for _ in range(4))
        for _ in range(10_000)
    ]
    _touched.clear()
    _watching = True
    try:
        found = [address for text in odd if (address := read_address(text))]
    finally:
        _watching = False
    assert not _touched
    assert {address.kind for address in found} <= {Transport.TCP}
