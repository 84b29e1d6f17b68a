# SPDX-License-Identifier: MIT
"""What web pages send to listeners that are for programs: nothing comes of it."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request

from gmesh.daemon.browsers import ForPrograms
from gmesh.daemon.web import CappedRequest, QuietSite

TCP = IPv4Address("TCP", "127.0.0.1", 9443)
UNIX = UNIXAddress("/run/gmesh-node/node.sock")


class Counting(Resource):
    """Notes what reaches it."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[bytes] = []

    def render(self, request: Request) -> bytes:
        self.reached.append(request.method)
        return b"served"


class Small(CappedRequest):
    body_limit = 1024


def asked(head: str, address: IAddress = TCP, names: tuple[str, ...] = ()) -> tuple[int, list[bytes]]:
    """(status, what got through) for a request of this head."""
    inner = Counting()
    channel = QuietSite(ForPrograms(inner, names), requestFactory=Small).buildProtocol(None)
    transport = StringTransport(hostAddress=address)
    channel.makeConnection(transport)
    channel.dataReceived(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    channel.connectionLost(Failure(ConnectionDone()))
    return int(transport.value().split()[1]), inner.reached


@pytest.mark.parametrize(
    ("head", "status"),
    [
        # DNS rebinding: the page's own name leads to this host.
        ("GET /v1/receive?service=log HTTP/1.1\nHost: pages.example:9443", 421),
        ("GET /metrics HTTP/1.1\nHost: localhost.pages.example", 421),
        ("GET /metrics HTTP/1.1\nHost: 127.0.0.1.pages.example", 421),
        ("GET /metrics HTTP/1.1\nHost: [::1].pages.example", 421),
        # A form, or fetch() without a question before: text/plain, or no type.
        ("POST /v1/send HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 0", 415),
        ("POST /v1/send HTTP/1.1\nHost: localhost\nContent-Length: 0", 415),
        ("DELETE /v1/x HTTP/1.1\nHost: localhost", 415),
        # Who asks is named.
        (
            "POST /v1/send HTTP/1.1\nHost: localhost\nOrigin: http://pages.example\n"
            "Content-Type: application/json\nContent-Length: 0",
            403,
        ),
        ("GET /metrics HTTP/1.1\nHost: localhost\nOrigin: null", 403),
        ("GET /v1/receive?service=log HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site", 403),
        ("GET /v1/receive?service=log HTTP/1.1\nHost: localhost\nSec-Fetch-Site: same-origin", 403),
    ],
)
def test_c14_a_web_page_reaches_nothing(head: str, status: int) -> None:
    """Whichever way a page can send, it is refused before anything is done."""
    assert asked(head) == (status, [])


@pytest.mark.parametrize(
    "head",
    [
        "GET /metrics HTTP/1.1\nHost: localhost:9443",
        "GET /metrics HTTP/1.1\nHost: LOCALHOST.",
        "GET /metrics HTTP/1.1\nHost: 127.0.0.1:9443",
        "GET /metrics HTTP/1.1\nHost: 10.0.0.5",
        "GET /metrics HTTP/1.1\nHost: [fd00::5]:9443",
        "GET /metrics HTTP/1.1\nHost: pump-07.plant.example:9443",
        f"GET /metrics HTTP/1.1\nHost: {socket.gethostname()}:9443",
        "GET /metrics HTTP/1.0",
        "GET /v1/status HTTP/1.1\nHost: localhost\nSec-Fetch-Site: none",
        "POST /v1/send HTTP/1.1\nHost: [::1]\nContent-Type: application/json; charset=utf-8",
    ],
)
def test_programs_are_served_by_every_name_of_this_host(head: str) -> None:
    """By address, as localhost, by its own name and by one it was given."""
    status, reached = asked(head, names=("pump-07.plant.example",))
    assert (status, len(reached)) == (200, 1)


def test_on_a_unix_socket_any_host_and_type_will_do() -> None:
    """No browser gets there; but a proxy in front that passes pages on is found out."""
    head = "POST /v1/send HTTP/1.1\nHost: node\nContent-Length: 0"
    assert asked(head, UNIX) == (200, [b"POST"])
    assert asked(f"{head}\nOrigin: http://pages.example", UNIX) == (403, [])
