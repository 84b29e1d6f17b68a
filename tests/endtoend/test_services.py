# SPDX-License-Identifier: MIT
"""Services: what a receiver does in its callbacks never reaches the node that sent the message."""

from __future__ import annotations

import pytest
from endtoend.producers import Source
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from gmesh.endtoend import limits
from gmesh.endtoend.services import Message, Services
from gmesh.errors import ConfigurationError, SendRefused


def test_b10_a_receiver_that_went_gets_nothing_more(fabric, talking):
    """Its successor gets the very next message, also an unacknowledged one."""
    bob, old, seen = fabric.bob.datagrams, [], []
    registration = bob.register("temperature", lambda message: old.append(message.data))
    fabric.alice.datagrams.post("bob", "temperature", b"1")
    fabric.run(0.2)
    registration.unregister()
    bob.register("temperature", lambda message: seen.append(message.data))
    fabric.alice.datagrams.post("bob", "temperature", b"2")
    fabric.run(0.2)
    assert (old, seen) == ([b"1"], [b"2"])


def test_b10_others_hear_of_each_change_of_services(fabric):
    """Once, with the names that hold then."""
    bob = fabric.bob
    bob.told.clear()
    registration = bob.datagrams.register("log", lambda message: None)
    registration.unregister()
    registration.unregister()
    assert bob.told == [["_echo", "log"], ["_echo"]]


@pytest.mark.parametrize("value", [True, False, 0, [], "done", object(), iter(())])
def test_c17_an_odd_answer_means_taken(fabric, outcomes, value):
    """It is counted each time, and told in one line that names its type alone."""
    bob = fabric.bob.datagrams
    bob.register("log", lambda message: value)
    with capturedLogs() as logged:
        for _ in range(3):
            outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
            fabric.run(0.2)
        fabric.alice.datagrams.post("bob", "log", b"x")
        fabric.run(0.2)
    assert len(outcomes) == 3
    assert not any(isinstance(outcome, str) for outcome in outcomes)
    assert bob.services.counters["receiver-odd"] == 4
    assert bob.services.counters["handed"] == 4
    lines = [event for event in logged if "log_logger" in event and event.get("service") == "log"]
    assert [event["type"] for event in lines] == [type(value).__name__] * 3  # the first, second and fourth


class Unbound:
    """As proxies of web frameworks outside of a request: it raises when it is asked what it is."""

    @property
    def __class__(self):
        raise SystemExit


def test_c17_an_answer_that_raises_when_it_is_looked_at(fabric, outcomes):
    """It means taken, too, and what comes behind it in the frame is read."""
    got = fabric.bob.serve("fine")
    fabric.bob.datagrams.register("log", lambda message: Unbound())
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(0.2)
    for _ in range(3):
        fabric.alice.datagrams.post("bob", "log", b"x")
        fabric.alice.datagrams.post("bob", "fine", b"y")
    fabric.run(0.2)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Delivered"]
    assert got == [b"y"] * 3
    assert fabric.bob.datagrams.services.counters["receiver-odd"] == 4


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, GeneratorExit, RecursionError])
def test_c17_whatever_is_raised_refuses_the_message(fabric, outcomes, flush_logged_errors, error):
    """Acknowledged or not, the frame it came in is read to its end."""
    bob, got = fabric.bob.datagrams, fabric.bob.serve("fine")

    def receive(message):
        raise error

    bob.register("log", receive)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(0.2)
    for _ in range(3):
        fabric.alice.datagrams.post("bob", "log", b"x")
        fabric.alice.datagrams.post("bob", "fine", b"y")
    fabric.run(0.2)
    assert outcomes == ["refused"]
    assert got == [b"y"] * 3
    assert bob.services.counters["receiver-failed"] == 4
    assert len(flush_logged_errors(error)) == 3  # the first, second and fourth


def test_c17_a_message_that_fails_late_frees_its_place(fabric, outcomes, flush_logged_errors):
    """
    A Deferred that fails or is cancelled, a coroutine that raises or was awaited before: its sender hears
    that it was refused, and those behind it are handed over.
    """
    kept: list[Deferred[None]] = []

    async def raising():
        raise SystemExit

    used = raising()
    with pytest.raises(SystemExit):
        used.send(None)

    def late(message):
        kept.append(Deferred())
        return kept[-1]

    answers = [late, lambda message: raising(), lambda message: used, late, lambda message: None]
    fabric.bob.datagrams.register("log", lambda message: answers.pop(0)(message), concurrent=1)
    for _ in range(5):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(0.2)
    kept[0].errback(ZeroDivisionError())
    fabric.run(0.2)
    kept[1].cancel()
    fabric.run(0.2)
    assert answers == []
    assert outcomes[:-1] == ["refused"] * 4
    assert type(outcomes[-1]).__name__ == "Delivered"
    assert fabric.bob.datagrams.services.counters["receiver-failed"] == 4
    flush_logged_errors()


def test_c17_answers_that_are_there_already_use_no_stack(fabric, outcomes):
    """As many as can wait are handed over one after the other."""
    first: Deferred[None] = Deferred()
    got = []

    def receive(message):
        got.append(message.data)
        return first if len(got) == 1 else succeed(None)

    fabric.bob.datagrams.register("log", receive, concurrent=1)
    for _ in range(limits.SERVICE_QUEUE_MESSAGES + 1):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    fabric.run(2)
    first.callback(None)
    fabric.run(1)
    assert len(got) == limits.SERVICE_QUEUE_MESSAGES + 1
    assert [type(outcome).__name__ for outcome in outcomes] == ["Delivered"] * len(got)


def test_c17_unregistered_and_replaced_from_inside(fabric):
    """The rest of the frame goes to whoever is registered then."""
    got = []

    def first(message):
        got.append(("first", message.data))
        registration.unregister()
        fabric.bob.datagrams.register("log", lambda message: got.append(("second", message.data)))
        fabric.bob.datagrams.register("other", lambda message: None)

    fabric.alice.datagrams.prepare(fabric.bob.peer)
    fabric.run(0.2)
    registration = fabric.bob.datagrams.register("log", first)
    for number in range(4):
        fabric.alice.datagrams.post("bob", "log", b"%d" % number)
    fabric.run(0.2)
    assert got == [("first", b"0")] + [("second", b"%d" % number) for number in range(1, 4)]


@pytest.mark.parametrize("acknowledge", [True, False])
def test_c17_stopped_from_inside(fabric, outcomes, talking, acknowledge):
    """Nothing more is handed over, nothing answered: a stopped end begins nothing and leaves no timer."""
    got, busy = [], Deferred()

    def receive(message):
        got.append(message.data)
        if message.data == b"1":
            fabric.bob.stop()

    fabric.bob.datagrams.register("stop", receive)
    fabric.bob.datagrams.register("slow", lambda message: busy, concurrent=1)
    for _ in range(2):
        outcomes.watch(fabric.alice.datagrams.send("bob", "slow", b"x", timeout=1))
    fabric.run(0.2)
    for number in range(4):
        sent = fabric.alice.datagrams.send("bob", "stop", b"%d" % number, acknowledge=acknowledge, timeout=1)
        outcomes.watch(sent)
    fabric.run(0.2)
    assert got == [b"0", b"1"]
    busy.callback(None)
    fabric.run(0.2)
    assert fabric.bob.datagrams.services.counters["handed"] == 6 - 2


@implementer(IPushProducer)
class Broken:
    """A producer that fails at whatever it is told."""

    def __init__(self, flow):
        flow.registerProducer(self, True)

    def fail(self):
        raise ZeroDivisionError

    pauseProducing = resumeProducing = stopProducing = fail


def test_c17_a_producer_that_raises_hurts_nobody_else(fabric, flush_logged_errors):
    """Others are paused and resumed, and the node stops as ever."""
    got = fabric.bob.serve()
    flows = [fabric.alice.datagrams.open("bob", "log") for _ in range(2)]
    Broken(flows[0])
    source = Source(flows[1])
    with pytest.raises(SendRefused):
        flows[0].send(b"x" * (limits.MAX_DATAGRAM + 1))
    flows[0].send(b"x")
    source.produce(1000)
    assert source.paused
    fabric.run(0.2)
    assert not source.paused
    assert got == [b"x", *source.sent]
    fabric.alice.stop()
    assert source.stopped
    assert fabric.alice.sessions.counters["producer-failed"] == 3
    assert len(flush_logged_errors(ZeroDivisionError)) == 2  # the first and the second


def test_slow_receiver_gets_messages_in_order(fabric, outcomes):
    """A receiver that takes one at a time gets the next when it is done; more wait in a bounded queue."""
    got, busy = [], []

    def receiver(message):
        got.append(message.data)
        busy.append(Deferred())
        return busy[-1]

    fabric.bob.datagrams.register("log", receiver, concurrent=1)
    for index in range(3):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", bytes([index])))
    fabric.run(5)
    assert got == [b"\0"]
    assert len(outcomes) == 0
    busy[0].callback(None)
    fabric.run(0.1)
    assert got == [b"\0", b"\1"]
    assert len(outcomes) == 1


def test_full_service_queue_is_retried_then_refused(fabric, outcomes):
    """A full queue refuses for now; the message is repeated until its time is over, then it is busy."""
    registration = fabric.bob.datagrams.register("log", lambda message: Deferred(), concurrent=1)
    for _ in range(1 + limits.SERVICE_QUEUE_MESSAGES):
        fabric.alice.datagrams.post("bob", "log", b"")
        fabric.run(0.05)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"late", timeout=3))
    fabric.run(2)
    assert outcomes == []
    fabric.run(2)
    assert outcomes == ["busy"]
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"again", timeout=10))
    fabric.run(1)
    registration.unregister()
    got = fabric.bob.serve()
    fabric.run(5)
    assert got == [b"again"]


def test_service_queue_is_bounded_in_bytes(fabric):
    """What waits for one receiver has at most so many bytes; the rest is counted, other services go on."""
    fabric.bob.datagrams.register("log", lambda message: Deferred(), concurrent=1)
    other = fabric.bob.serve("other")
    size = 16_000
    for _ in range(2 * limits.SERVICE_QUEUE_BYTES // size):
        fabric.alice.datagrams.post("bob", "log", bytes(size))
        fabric.run(0.01)
    place = fabric.bob.datagrams.services._places["log"]
    assert limits.SERVICE_QUEUE_BYTES - size < place.bytes <= limits.SERVICE_QUEUE_BYTES
    refused = 2 * limits.SERVICE_QUEUE_BYTES // size - len(place.queue) - 1
    assert fabric.bob.sessions.counters["inbound-busy"] == refused > 0
    fabric.alice.datagrams.post("bob", "other", b"here")
    fabric.run(0.1)
    assert other == [b"here"]


def test_failing_receiver(fabric, outcomes, flush_logged_errors):
    """A receiver that fails refuses its message and is logged; one that refuses is not."""

    def failing(message):
        raise ZeroDivisionError

    def refusing(message):
        raise SendRefused("refused")

    fabric.bob.datagrams.register("bad", failing)
    fabric.bob.datagrams.register("picky", refusing)
    outcomes.watch(fabric.alice.datagrams.send("bob", "bad", b""))
    outcomes.watch(fabric.alice.datagrams.send("bob", "picky", b""))
    fabric.run(1)
    assert outcomes == ["refused", "refused"]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_registration_rules(fabric):
    """One receiver a service; names of gmesh itself only for gmesh; bad names refused."""
    registration = fabric.bob.datagrams.register("log", lambda message: None)
    for service, reason in [("log", "service-taken"), ("_echo", "reserved-service"), ("A", "bad-service")]:
        with pytest.raises(ConfigurationError) as caught:
            fabric.bob.datagrams.register(service, lambda message: None)
        assert caught.value.reason == reason
    registration.unregister()
    registration.unregister()
    fabric.bob.datagrams.register("log", lambda message: None)
    assert fabric.bob.datagrams.services.names == ["_echo", "log"]


def test_a_key_of_a_node_that_was_cut_off_is_new_when_it_returns():
    """What waited with it was dropped: the same message, sent again, is handed over and answered."""
    services, busy, ended = Services(Clock()), [Deferred(), Deferred()], []
    handed = iter(busy)
    services.register("log", lambda message: next(handed), concurrent=1)
    keyed = Message("alice", "id", (), "log", b"2", key="k")
    services.deliver(keyed._replace(key=""), lambda *became: ended.append("first"))
    services.deliver(keyed, lambda *became: ended.append("dropped"))
    services.purge("id")
    services.deliver(keyed, lambda *became: ended.append("again"))
    for each in busy:
        each.callback(None)
    assert ended == ["first", "again"]
