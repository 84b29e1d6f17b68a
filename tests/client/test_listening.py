# SPDX-License-Identifier: MIT
"""L{gmesh.client.listening}: one request always waits, whatever happens to the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from errno import ENOENT
from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import UPGRADED, WAITS, FakeDaemon, problem
from twisted.internet import reactor
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from gmesh.client.listening import ListenRefused, MeshPort


class Service(Factory):
    """
    @ivar served: the connections, in their order.
    """

    noisy = False
    running = 0

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.served: list[Connection] = []

    def startFactory(self) -> None:
        self.running += 1

    def stopFactory(self) -> None:
        self.running -= 1

    def buildProtocol(self, addr: Any) -> Protocol | None:
        return Connection(self, addr)


class Connection(Protocol):
    """One stream."""

    lost: Failure | None = None

    def __init__(self, service: Service, peer: Any) -> None:
        self.service = service
        self.peer = peer
        self.data = b""

    def connectionMade(self) -> None:
        self.service.served.append(self)
        self.service.daemon.tell()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.service.daemon.tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self.service.daemon.tell()


@pytest.fixture
def service(daemon: FakeDaemon) -> Service:
    """What is offered."""
    return Service(daemon)


@pytest_twisted.async_yield_fixture
async def port(daemon: FakeDaemon, service: Service) -> AsyncIterator[MeshPort]:
    """Asks again with no jitter; stopped at the end."""
    made = MeshPort(reactor, daemon.path, "web", service, jitter=lambda: 0.5)
    yield made
    await made.stopListening()
    for each in service.served:
        each.transport.abortConnection()
    await daemon.until(lambda: all(each.lost for each in service.served))
    assert service.running == 0


@pytest_twisted.ensureDeferred
async def test_it_listens_once_the_daemon_says_that_it_waits(
    daemon: FakeDaemon, port: MeshPort, service: Service
) -> None:
    """And knows then who this node is."""
    assert verifyObject(IListeningPort, port)
    listening = port.begin()
    seat = await daemon.asked()
    assert seat.head[0] == "GET /v1/accept?service=web HTTP/1.1"
    assert not listening.called
    seat.say(WAITS)
    assert await listening is port
    assert str(port.getHost()) == "desk:web"
    assert service.running == 1


@pytest_twisted.ensureDeferred
async def test_a_request_becomes_the_stream_and_another_waits(
    daemon: FakeDaemon, port: MeshPort, service: Service
) -> None:
    """The bytes behind the head are heard; streams stay when nothing more is accepted."""
    listening = port.begin()
    for number in range(3):
        seat = await daemon.asked(number)
        seat.say(WAITS, UPGRADED, b"\0\0\0\1", b"%d" % number)
    await listening
    last = await daemon.asked(3)
    await daemon.until(lambda: [each.data for each in service.served] == [b"0", b"1", b"2"])
    assert {str(each.peer) for each in service.served} == {"pump-07:web"}
    await port.stopListening()
    assert last.closed or last.transport is not None
    assert [each.lost for each in service.served] == [None] * 3
    service.served[0].transport.write(b"still here")
    await daemon.until(lambda: daemon.seats[0].body.endswith(b"still here"))


@pytest.mark.parametrize(
    ("status", "slug"), [(403, "forbidden"), (400, "bad-service"), (409, "service-taken")]
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_at_first_is_one_at_once(
    daemon: FakeDaemon, port: MeshPort, service: Service, status: int, slug: str
) -> None:
    listening = port.begin()
    (await daemon.asked()).say(problem(status, slug, "another user has it"))
    with pytest.raises(ListenRefused, match="another user has it") as caught:
        await listening
    assert isinstance(caught.value, CannotListenError)
    assert caught.value.reason == slug
    assert service.running == 0


@pytest_twisted.ensureDeferred
async def test_it_waits_for_a_daemon_that_is_not_up_yet(
    daemon: FakeDaemon, port: MeshPort, service: Service
) -> None:
    """Not there, not ready, or gone before it has answered; it says so once."""
    await daemon.stop()
    events: list[Any] = []

    def observe(event: Any) -> None:
        events.append(event)
        daemon.tell()

    globalLogPublisher.addObserver(observe)
    try:
        listening = port.begin()
        await daemon.until(lambda: any("is not offered" in str(event.get("log_format")) for event in events))
        await daemon.start()
        (await daemon.asked(0)).say(problem(503, "busy", "not now"))
        (await daemon.asked(1)).close()
        assert not listening.called
        (await daemon.asked(2)).say(WAITS)
        await listening
    finally:
        globalLogPublisher.removeObserver(observe)
    told = [event["log_format"] for event in events if event.get("service") == "web"]
    assert told == ["the service {service} is not offered: {why}", "the service {service} is offered again"]


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_starts_again_finds_it_listening(
    daemon: FakeDaemon, port: MeshPort, service: Service
) -> None:
    """A refusal does not end it any more: who was served once is served again."""
    listening = port.begin()
    (await daemon.asked()).say(WAITS)
    await listening
    await daemon.stop()
    await daemon.start()
    (await daemon.asked(1)).say(problem(409, "service-taken", "somebody was faster"))
    (await daemon.asked(2)).say(WAITS, UPGRADED)
    await daemon.until(lambda: service.served)


class NobodyThere(MemoryReactorClock):
    """A host on which no socket answers."""

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30, checkPID: int = 0) -> None:
        factory.doStart()
        factory.clientConnectionFailed(None, Failure(ConnectError(ENOENT)))


@pytest.mark.parametrize(("jitter", "scale"), [(0.5, 1.0), (0.0, 0.5), (1.0, 1.5)])
def test_it_asks_ever_more_rarely_up_to_five_seconds(jitter: float, scale: float) -> None:
    """From a tenth of a second, at half to one and a half of it."""
    clock = NobodyThere()
    port = MeshPort(clock, "/nowhere", "web", Factory.forProtocol(Protocol), jitter=lambda: jitter)
    port.begin().addErrback(lambda _: None)
    waits = []
    for _ in range(9):
        (call,) = clock.getDelayedCalls()
        waits.append((call.getTime() - clock.seconds()) / scale)
        clock.advance(call.getTime() - clock.seconds())
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    (trigger,) = clock.triggers["before"]["shutdown"]
    trigger[0]()  # the program ends
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_stream_that_nobody_takes_does_not_end_it(
    daemon: FakeDaemon, port: MeshPort, service: Service, flush_logged_errors: Any
) -> None:
    """No protocol for it, or one that fails."""

    class Failing(Protocol):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    protocols = [None, Failing()]
    service.buildProtocol = lambda peer: protocols.pop(0)
    listening = port.begin()
    for number in range(2):
        (await daemon.asked(number)).say(WAITS, UPGRADED)
    await listening
    await daemon.asked(2)
    await daemon.until(lambda: daemon.seats[0].closed and daemon.seats[1].closed)
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


@pytest_twisted.ensureDeferred
async def test_a_service_may_stop_listening_when_it_is_served(
    daemon: FakeDaemon, port: MeshPort, service: Service
) -> None:
    """The stream that it has just got stays."""

    class Once(Connection):
        def connectionMade(self) -> None:
            super().connectionMade()
            port.stopListening()

    service.buildProtocol = lambda peer: Once(service, peer)
    listening = port.begin()
    seat = await daemon.asked()
    seat.say(WAITS, UPGRADED, b"\0\0\0\1x")
    await listening
    await daemon.until(lambda: service.served and service.served[0].data == b"x")
    assert len(daemon.seats) == 1


@pytest_twisted.ensureDeferred
async def test_listening_can_be_cancelled(daemon: FakeDaemon, port: MeshPort) -> None:
    listening = port.begin()
    seat = await daemon.asked()
    cancelled: list[object] = []
    listening.addErrback(cancelled.append)
    listening.cancel()
    assert len(cancelled) == 1
    await daemon.until(lambda: seat.closed)


@pytest_twisted.ensureDeferred
async def test_it_can_stop_and_start_again(daemon: FakeDaemon, port: MeshPort) -> None:
    """Also before it was connected; stopping twice does no harm."""
    port.startListening()
    await port.stopListening()
    await port.stopListening()
    listening = port.begin()
    seat = await daemon.asked(len(daemon.seats))
    seat.say(WAITS)
    await listening
