# SPDX-License-Identifier: MIT
"""SOCKS 5 at the server's side, against the client of others; and what anybody may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.node.gateways.socks5 import Reply, Socks5

pytest.importorskip("socksio", reason="the client of others is on PyPI only")

from socksio import socks5


def greeted() -> tuple[socks5.SOCKS5Connection, Socks5]:
    """A client of socksio and our server, which have agreed on no password."""
    client, server = socks5.SOCKS5Connection(), Socks5()
    client.send(socks5.SOCKS5AuthMethodsRequest([socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]))
    client.receive_data(server.feed(client.data_to_send()))
    return client, server


def request(client: socks5.SOCKS5Connection, host: str, command: str = "CONNECT") -> bytes:
    """What socksio asks."""
    address = (host, 80)
    client.send(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command[command], address))
    return bytes(client.data_to_send())


def test_a_client_of_others_asks_for_a_name_and_hears_that_it_is_open() -> None:
    """Byte by byte; what it sends behind is kept."""
    client, server = greeted()
    for byte in request(client, "pump-07.gmesh"):
        assert server.asked is None
        assert server.feed(bytes([byte])) == b""
    assert server.asked == ("pump-07.gmesh", 80)
    assert server.feed(b"early") == b""
    assert server.rest == b"early"
    reply = client.receive_data(Reply.SUCCEEDED.encode())
    assert reply.reply_code == socks5.SOCKS5ReplyCode.SUCCEEDED


@pytest.mark.parametrize(
    ("host", "command", "code"),
    [
        ("192.0.2.1", "CONNECT", "ADDRESS_TYPE_NOT_SUPPORTED"),
        ("2001:db8::1", "CONNECT", "ADDRESS_TYPE_NOT_SUPPORTED"),
        ("pump-07.gmesh", "BIND", "COMMAND_NOT_SUPPORTED"),
        ("pump-07.gmesh", "UDP_ASSOCIATE", "COMMAND_NOT_SUPPORTED"),
    ],
)
def test_what_is_not_served_is_said_in_the_code_for_it(host: str, command: str, code: str) -> None:
    """Addresses, and everything but CONNECT; nothing comes after it."""
    client, server = greeted()
    reply = client.receive_data(server.feed(request(client, host, command)))
    assert reply.reply_code == socks5.SOCKS5ReplyCode[code]
    assert (server.over, server.asked) == (True, None)


def test_a_client_that_insists_on_a_password_is_told_that_there_is_none() -> None:
    """RFC 1928, section 3: no acceptable method."""
    client, server = socks5.SOCKS5Connection(), Socks5()
    client.send(socks5.SOCKS5AuthMethodsRequest([socks5.SOCKS5AuthMethod.USERNAME_PASSWORD]))
    reply = client.receive_data(server.feed(client.data_to_send()))
    assert reply.method == socks5.SOCKS5AuthMethod.NO_ACCEPTABLE_METHODS
    assert server.over


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("outside", 2),
        ("denied", 2),
        ("no-route", 3),
        ("unknown-node", 4),
        ("timed-out", 4),
        ("refused", 5),
        ("no-such-service", 5),
        ("protocol", 1),
    ],
)
def test_a_refusal_of_the_mesh_is_the_nearest_code(reason: str, code: int) -> None:
    """RFC 1928, section 6."""
    assert Reply.of(reason) == code
    assert Reply.of(reason).encode()[1] == code


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_no_input_breaks_it(pieces: list[bytes]) -> None:
    """It asks for something, says no, or waits; it holds no more than a request."""
    server = Socks5()
    for piece in pieces:
        done = server.over or server.asked is not None
        answer = server.feed(piece)
        assert not (done and answer)
        assert not (server.over and server.asked)
