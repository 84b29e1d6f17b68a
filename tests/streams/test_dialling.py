# SPDX-License-Identifier: MIT
"""Dialling and listening by name: what comes of it, over the double and over real streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streams.alone import Alone
from streams.rigs import SERVICE, MemoryRig, MeshRig, OnClock, Recorder, Rig
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gmesh.addresses import MeshAddress
from gmesh.errors import ConfigurationError
from gmesh.stream_errors import DialRefused, DialTimedOut, ServiceRefused, UnknownNode
from gmesh.streams.endpoints import NodeClientEndpoint, NodeServerEndpoint
from gmesh.testing.clock import EventClock

NODES: dict[str, type[OnClock]] = {"memory": MemoryRig, "mesh": MeshRig}
"""Rigs with C{streams} of a node C{a} and a node C{b}; a room that has another adds it."""


@pytest.fixture(params=list(NODES))
def rig(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two nodes."""
    made = NODES[request.param]()
    yield made
    Deferred.fromCoroutine(made.close())


def until(rig: OnClock, holds: Any) -> None:
    """Let virtual time pass."""
    failures: list[Failure] = []
    Deferred.fromCoroutine(rig.until(holds)).addErrback(failures.append)
    assert failures == []


def failure_of(rig: OnClock, dialled: Deferred[Any]) -> Exception:
    """Why a dial failed, once it has."""
    failures: list[Failure] = []
    dialled.addErrback(failures.append)
    until(rig, lambda: failures)
    error = failures[0].value
    assert isinstance(error, Exception)
    return error


def test_no_such_node(rig: Any) -> None:
    """It is said at once."""
    error = failure_of(rig, rig.streams[0].dial("nobody", SERVICE, lambda peer: None))
    assert isinstance(error, UnknownNode)
    assert error.reason == "unknown-node"


def test_no_such_service(rig: Any) -> None:
    """The far end says it, also once a listener has stopped."""
    a, b = rig.streams
    b.listen(SERVICE, lambda offer: offer.accept(Recorder(rig))).stopListening()
    error = failure_of(rig, a.dial("b", SERVICE, lambda peer: Recorder(rig)))
    assert isinstance(error, ServiceRefused)
    assert error.reason == "no-such-service"
    assert a.open_streams() == b.open_streams() == []


def test_a_refusal_says_why(rig: Any) -> None:
    """The slug and the line that the listener gave."""
    a, b = rig.streams
    b.listen(SERVICE, lambda offer: offer.refuse("busy", "come back later"))
    error = failure_of(rig, a.dial("b", SERVICE, lambda peer: Recorder(rig)))
    assert isinstance(error, DialRefused)
    assert (error.reason, error.detail) == ("busy", "come back later")


def test_a_dial_that_nobody_answers_ends_in_time(rig: Any) -> None:
    """The far end hears that there is nothing to accept any more."""
    a, b = rig.streams
    offers: list[Any] = []
    b.listen(SERVICE, offers.append)
    error = failure_of(rig, a.dial("b", SERVICE, lambda peer: Recorder(rig), timeout=2.0))
    assert isinstance(error, DialTimedOut)
    gone: list[object] = []
    offers[0].gone.addCallback(gone.append)
    until(rig, lambda: gone)
    assert gone == [None]
    assert not offers[0].accept(Recorder(rig))
    assert a.open_streams() == b.open_streams() == []


def test_a_dial_that_is_cancelled_resets_the_stream(rig: Any) -> None:
    """Before it was answered."""
    a, b = rig.streams
    offers: list[Any] = []
    b.listen(SERVICE, offers.append)
    dialled = a.dial("b", SERVICE, lambda peer: Recorder(rig))
    until(rig, lambda: offers)
    gone: list[object] = []
    offers[0].gone.addCallback(gone.append)
    dialled.cancel()
    assert isinstance(failure_of(rig, dialled), CancelledError)
    until(rig, lambda: gone)
    assert a.open_streams() == b.open_streams() == []


def test_a_dialler_may_give_up_when_it_is_answered(rig: Any) -> None:
    """Then the far end has a stream that was aborted."""
    a, b = rig.streams
    far = Recorder(rig)
    b.listen(SERVICE, lambda offer: offer.accept(far))
    dialled = a.dial("b", SERVICE, lambda peer: None)
    dialled.addErrback(lambda failure: failure.trap(DialRefused))
    until(rig, lambda: far.lost)
    assert not far.clean


def test_the_dialler_is_told_who_answered_in_the_turn_that_connects(rig: Any) -> None:
    """C{build} gets the verified name, and what it makes is connected by the time the Deferred fires."""
    a, b = rig.streams
    b.listen(SERVICE, lambda offer: offer.accept(Recorder(rig)))
    near, peers = Recorder(rig), []
    dialled = a.dial("b", SERVICE, lambda peer: peers.append(peer) or near)
    connected: list[bool] = []
    dialled.addCallback(lambda protocol: connected.append(protocol is near and near.events == ["made"]))
    until(rig, lambda: connected)
    assert connected == [True]
    assert str(peers[0]) == "b:web"


def test_a_node_dials_itself(rig: Any) -> None:
    """By its own name, and each end counts as one stream."""
    a, _ = rig.streams
    near, far = Recorder(rig), Recorder(rig)
    a.listen("own", lambda offer: offer.accept(far))
    a.dial("a", "own", lambda peer: near)
    until(rig, lambda: near.connected and far.connected)
    near.transport.write(b"me")
    until(rig, lambda: far.data == b"me")
    assert len(a.open_streams()) == 2
    assert len({stream.stream for stream in a.open_streams()}) == 2


def test_a_node_that_stops_leaves_nothing_of_what_it_said_to_itself() -> None:
    """Both ends hear it in the next turn, and nothing is on the clock after that."""
    clock = EventClock()
    node, rig = Alone(clock), Rig()
    near, far = Recorder(rig), Recorder(rig)
    node.streams.listen(SERVICE, lambda offer: offer.accept(far))
    node.streams.dial(node.own.name, SERVICE, lambda peer: near)
    clock.advance(1)
    near.transport.write(bytes(1_000_000))
    clock.advance(0)
    node.streams.stop()
    clock.advance(0)
    assert near.lost is not None and far.lost is not None
    assert clock.getDelayedCalls() == []


def test_a_node_may_be_stopped_by_what_it_said_to_itself() -> None:
    """A program stops it when it is told something: what was to arrive behind that is dropped."""
    clock = EventClock()
    node, rig = Alone(clock), Rig()

    class Stopper(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            node.streams.stop()

    near, far = Recorder(rig), Stopper(rig)
    node.streams.listen(SERVICE, lambda offer: offer.accept(far))
    node.streams.dial(node.own.name, SERVICE, lambda peer: near)
    clock.advance(1)
    near.transport.write(bytes(1_000_000))
    clock.advance(1)
    assert far.data and near.lost is not None and far.lost is not None
    assert clock.getDelayedCalls() == []


def test_a_stream_is_held_for_a_service_that_comes_back(rig: Any) -> None:
    """For a while after a start; later none waits."""
    a, b = rig.streams
    start = rig.clock.seconds()
    b.hold(10.0, 3.0)
    near, far = Recorder(rig), Recorder(rig)
    a.dial("b", SERVICE, lambda peer: near)
    lost = a.dial("b", "gone", lambda peer: None)
    rig.clock.advance(1.0)
    b.listen(SERVICE, lambda offer: offer.accept(far))
    until(rig, lambda: near.connected and far.connected)
    assert rig.clock.seconds() - start < 1.5
    assert isinstance(failure_of(rig, lost), ServiceRefused)
    assert 3.0 <= rig.clock.seconds() - start < 3.5
    rig.clock.advance(10)
    began = rig.clock.seconds()
    assert isinstance(failure_of(rig, a.dial("b", "gone", lambda peer: None)), ServiceRefused)
    assert rig.clock.seconds() < began + 0.5


class Noted(Factory):
    """A factory that notes what it is told, in order."""

    def __init__(self, rig: OnClock) -> None:
        self.told: list[str] = []
        self.made = Recorder(rig)

    def startFactory(self) -> None:
        self.told.append("start")

    def stopFactory(self) -> None:
        self.told.append("stop")

    def buildProtocol(self, addr: object) -> Recorder:
        self.told.append("build")
        return self.made


def server_of(streams: Any) -> NodeServerEndpoint:
    """An endpoint of b."""
    return NodeServerEndpoint(streams, MeshAddress("b", "", (), 0, SERVICE))


def test_a_factory_is_started_before_a_stream_that_waited_is_its(rig: Any) -> None:
    """And stopped with the port; a name that is taken leaves it as it was."""
    a, b = rig.streams
    b.hold(10.0, 5.0)
    near = Recorder(rig)
    a.dial("b", SERVICE, lambda peer: near)
    rig.clock.advance(1.0)
    listening, refused = Noted(rig), Noted(rig)
    ports: list[Any] = []
    server_of(b).listen(listening).addCallback(ports.append)
    assert isinstance(failure_of(rig, server_of(b).listen(refused)), ConfigurationError)
    assert refused.told in ([], ["start", "stop"])
    until(rig, lambda: near.connected and listening.made.connected)
    ports[0].stopListening()
    ports[0].stopListening()
    assert listening.told == ["start", "build", "stop"]


def test_a_factory_that_dials_is_stopped_with_its_connection(rig: Any) -> None:
    """However that ends, and if there is none."""
    a, b = rig.streams
    listening = Noted(rig)
    server_of(b).listen(listening)
    for end in ("loseConnection", "abortConnection"):
        listening.made = far = Recorder(rig)
        dialling = Noted(rig)
        NodeClientEndpoint(a, "b", SERVICE).connect(dialling)
        until(rig, lambda far=far, dialling=dialling: far.connected and dialling.made.connected)
        assert dialling.told == ["start", "build"]
        getattr(far.transport, end)()
        until(rig, lambda dialling=dialling: dialling.made.lost)
        assert dialling.told == ["start", "build", "stop"]
    dialling = Noted(rig)
    failure_of(rig, NodeClientEndpoint(a, "b", "nothing").connect(dialling))
    assert dialling.told == ["start", "stop"]


def test_one_taker_a_service(rig: Any) -> None:
    """And names that are none are refused with their own reason."""
    _, b = rig.streams
    b.listen(SERVICE, lambda offer: None)
    for service, reason in [(SERVICE, "service-taken"), ("_web", "reserved-service"), ("W b", "bad-service")]:
        with pytest.raises(ConfigurationError) as caught:
            b.listen(service, lambda offer: None)
        assert caught.value.reason == reason
