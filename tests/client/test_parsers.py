# SPDX-License-Identifier: MIT
"""L{gmesh.client.parsers}: a program changes one endpoint string."""

from __future__ import annotations

import pytest
import pytest_twisted
from client.fake_daemon import WAITS, FakeDaemon
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.error import TimeoutError
from twisted.internet.protocol import Factory, Protocol


@pytest.mark.parametrize(
    "text",
    [
        "gmesh:pump-07:service=web",
        "gmesh:pump-07:web",
        "gmesh:pump-07.gmesh:web",
        "gmesh:service=web:node=pump-07",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_string_leads_to_a_service(daemon: FakeDaemon, text: str) -> None:
    """Found by Twisted's own plugins."""
    endpoint = clientFromString(reactor, f"{text}:timeout=0.5:socket={quoteStringArgument(daemon.path)}")
    connecting = endpoint.connect(Factory.forProtocol(Protocol))
    seat = await daemon.asked()
    assert seat.head[0] == "GET /v1/connect?node=pump-07&service=web&timeout=0.5 HTTP/1.1"
    with pytest.raises(TimeoutError, match=r"0\.5 s"):
        await connecting


@pytest.mark.parametrize("text", ["gmesh:service=web", "gmesh:web"])
@pytest_twisted.ensureDeferred
async def test_a_string_offers_a_service(daemon: FakeDaemon, text: str) -> None:
    endpoint = serverFromString(reactor, f"{text}:socket={quoteStringArgument(daemon.path)}")
    listening = endpoint.listen(Factory.forProtocol(Protocol))
    seat = await daemon.asked()
    assert seat.head[0] == "GET /v1/accept?service=web HTTP/1.1"
    seat.say(WAITS)
    await (await listening).stopListening()


@pytest.mark.parametrize("text", ["gmesh", "gmesh:pump-07", "gmesh:pump-07:web:timeout=soon"])
def test_a_string_that_says_too_little_is_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        clientFromString(reactor, text)
