# SPDX-License-Identifier: MIT
"""Acknowledged means dealt with: what a receiver does decides, and what waits for it costs nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from endtoend.rig import DAY, DELAY, NOW, deny
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.endtoend.outcome_reporter import UnconfirmedOutcomes
from gmesh.errors import ConfigurationError, SendRefused, StoreError
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Datagram, Feature, Inner, MessageNumbers, MessageOutcome, Outcome


class Program:
    """A receiver that keeps what it is given until it is told to end with it."""

    def __init__(self, end, service="log", **options):
        self.messages, self.given = [], []
        shared = "owner" in options
        self.registration = end.datagrams.register(service, self.receive, shared=shared, **options)

    def receive(self, message):
        self.messages.append(message)
        self.given.append(Deferred())
        return self.given[-1]

    def done(self):
        """End with all there is."""
        given, self.given = self.given, []
        for deferred in given:
            deferred.callback(None)

    @property
    def data(self):
        return [message.data for message in self.messages]


def delivered(outcomes):
    """How many ended well; the rest by their reasons."""
    return [outcome if isinstance(outcome, str) else "delivered" for outcome in outcomes]


def test_a_message_is_acknowledged_when_its_receiver_is_done(fabric, outcomes):
    """Not when it arrives, and not when it is handed over."""
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(5)
    assert program.data == [b"one"] and outcomes == []
    program.done()
    fabric.run(0.1)
    assert delivered(outcomes) == ["delivered"]


def test_a_coroutine_is_waited_for(fabric, outcomes):
    """An async receiver acknowledges by returning."""
    gate = Deferred()

    async def receive(message):
        await gate

    fabric.bob.datagrams.register("log", receive)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(2)
    assert outcomes == []
    gate.callback(None)
    fabric.run(0.1)
    assert delivered(outcomes) == ["delivered"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_what_a_receiver_gives_back_reaches_its_sender(fabric, outcomes, lost):
    """With the outcome, also when that has to be told again."""

    async def receive(message):
        return b"answer to " + message.data

    fabric.bob.datagrams.register("log", receive)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    left = [lost]

    def decide(kind, header, frame):
        if header.source == fabric.bob.handle and left[0]:
            left[0] -= 1
            return ()
        return (DELAY,)

    fabric.decide = decide
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.run(8)
    assert [outcome.answer for outcome in outcomes] == [b"answer to one", b"answer to two"]
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle


def test_an_answer_that_is_too_long_is_refused(fabric, outcomes):
    """It has at most 16,000 bytes, and those that have arrive whole."""

    async def receive(message):
        return bytes(int(message.data))

    fabric.bob.datagrams.register("log", receive)
    for size in (16_000, 16_001):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % size))
        fabric.run(1)
    assert outcomes[0].answer == bytes(16_000) and outcomes[1] == "refused"


def test_answers_that_nobody_confirms_are_bounded():
    """In bytes, the oldest first."""
    told = UnconfirmedOutcomes()
    for number in range(200):
        told.tell(MessageOutcome(number, Outcome.DELIVERED, "", bytes(16_000)), 0.0)
    assert len(told) == limits.MAX_ANSWER_BYTES // 16_000
    assert told.find(0) is None and told.find(199) is not None
    told.confirm(range(200))
    assert len(told) == told._bytes == 0


def test_a_minute_of_work_costs_no_repetition_and_no_blame(fabric, outcomes):
    """Sixty seconds of thinking: one DATAGRAM, no path suspected, and the window free for others."""
    program = Program(fabric.bob)
    fast = fabric.bob.serve("fast")
    datagrams = fabric.alice.datagrams
    for _ in range(50):
        outcomes.watch(datagrams.send("bob", "log", bytes(8_000), timeout=100))
    fabric.run(2)
    assert len(program.data) == 50
    outcomes.watch(datagrams.send("bob", "fast", b"x"))
    fabric.run(60)
    assert fast == [b"x"] and delivered(outcomes) == ["delivered"]
    program.done()
    fabric.run(0.2)
    assert delivered(outcomes) == ["delivered"] * 51
    assert fabric.alice.sessions.counters["resent"] == 0
    assert fabric.alice.blamed == fabric.bob.blamed == []


def test_who_fails_refuses_with_a_reason(fabric, outcomes, flush_logged_errors):
    """What the receiver says in an error of ours reaches the sender; what another error says does not."""

    async def hot(message):
        raise SendRefused("refused", "the boiler is too hot")

    async def broken(message):
        raise ZeroDivisionError("a secret of the program")

    def at_once(message):
        raise SendRefused("refused", "no")

    bob, told = fabric.bob.datagrams, []
    for service, receiver in [("hot", hot), ("broken", broken), ("no", at_once)]:
        bob.register(service, receiver)
        sent = fabric.alice.datagrams.send("bob", service, b"x")
        sent.addErrback(lambda failure: told.append((failure.value.reason, failure.value.detail)))
    fabric.run(0.5)
    assert sorted(told) == [
        ("refused", "the receiver of broken at bob refused or failed"),
        ("refused", "the receiver of hot at bob refused or failed: the boiler is too hot"),
        ("refused", "the receiver of no at bob refused or failed: no"),
    ]
    flush_logged_errors()


@pytest.mark.parametrize("lost", ["TAKEN", "OUTCOME", "SETTLED"])
def test_each_frame_may_be_lost(fabric, outcomes, lost):
    """Whatever is lost once is said again, and the receiver is called once."""
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"warm", timeout=50))
    fabric.run(1)
    program.done()
    fabric.run(1)
    losing = {"TAKEN": fabric.bob, "OUTCOME": fabric.bob, "SETTLED": fabric.alice}[lost]
    swallowed = []

    def decide(kind, header, frame):
        if not swallowed and kind == Kind.E2E_DATA and header.source == losing.handle:
            swallowed.append(frame)
            return ()
        return (DELAY,)

    if lost == "TAKEN":
        fabric.decide = decide
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two", timeout=50))
    fabric.run(3)
    fabric.decide = decide
    program.done()
    fabric.run(7)
    assert len(swallowed) == 1
    assert delivered(outcomes) == ["delivered"] * 2
    assert program.data == [b"warm", b"two"]
    assert fabric.bob.associations.get(fabric.alice.handle).receiver.idle


def test_a_restarted_receiver_is_given_it_again_marked(fabric, outcomes):
    """The node lost what it held: its sender hears that, and what was handed over comes again, marked."""
    first = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one", timeout=60))
    fabric.run(1)
    fabric.bob.restart()
    second = Program(fabric.bob)
    fabric.run(12)
    second.done()
    fabric.run(1)
    assert delivered(outcomes) == ["delivered"]
    assert [message.redelivered for message in first.messages] == [False]
    assert [(message.data, message.redelivered) for message in second.messages] == [(b"one", True)]


@pytest.mark.parametrize("patience", [0, 3])
def test_a_restarted_receiver_whose_program_comes_later(fabric, outcomes, patience):
    """A service that took messages just now is waited for, although its node says so, at once or later."""
    first = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    fabric.bob.restart()
    fabric.bob.datagrams.hold(10, patience)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two"))
    fabric.run(5)
    assert delivered(outcomes) == ["delivered"]
    second = fabric.bob.serve()
    fabric.run(2)
    assert (first, second) == ([b"one"], [b"two"])
    assert delivered(outcomes) == ["delivered"] * 2


def test_a_program_that_leaves_in_order_and_comes_back(fabric, outcomes):
    """What was queued for it goes to the next one."""
    first = Program(fabric.bob, concurrent=1)
    for number in range(3):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number))
    fabric.run(1)
    first.registration.unregister()
    fabric.run(1)
    assert outcomes == []
    second = Program(fabric.bob)
    fabric.run(1)
    for program in (first, second):
        program.done()
    fabric.run(1)
    assert (first.data, second.data) == ([b"0"], [b"1", b"2"])
    assert delivered(outcomes) == ["delivered"] * 3


def test_a_service_that_does_not_come_back_is_missed_in_the_end(fabric, outcomes):
    """Ten seconds after it last took something."""
    registration = fabric.bob.datagrams.register("log", lambda message: None)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(1)
    registration.unregister()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two", timeout=60))
    fabric.run(limits.SERVICE_RETURNS - 1.5)
    assert delivered(outcomes) == ["delivered"]
    fabric.run(2)
    assert delivered(outcomes) == ["delivered", "no-such-service"]


# programs that end


def test_a_program_that_comes_back_gets_what_it_had_again_marked(fabric, outcomes):
    """What it had not ended with comes first, marked; then what waited."""
    first = Program(fabric.bob, owner="www", concurrent=2)
    for number in range(4):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number, timeout=60))
    fabric.run(1)
    first.registration.gone()
    fabric.run(5)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"4", timeout=60))
    fabric.run(1)
    second = Program(fabric.bob, owner="www", concurrent=10)
    fabric.run(1)
    second.done()
    fabric.run(1)
    assert first.data == [b"0", b"1"]
    assert [(message.data, message.redelivered) for message in second.messages] == [
        (b"0", True),
        (b"1", True),
        (b"2", False),
        (b"3", False),
        (b"4", False),
    ]
    assert delivered(outcomes) == ["delivered"] * 5
    first.done()  # too late: nobody hears it
    fabric.run(1)
    assert len(outcomes) == 5


def test_a_program_that_does_not_come_back(fabric, outcomes):
    """After ten seconds its senders hear that it is gone, and the next one that there is none."""
    program = Program(fabric.bob, owner="www", concurrent=1)
    for number in range(3):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number, timeout=60))
    fabric.run(1)
    program.registration.gone()
    fabric.run(limits.RECEIVER_RETURNS - 0.5)
    assert outcomes == [] and "log" in fabric.bob.datagrams.services.names
    fabric.run(1)
    assert delivered(outcomes) == ["receiver-gone"] * 3
    assert fabric.bob.told[-1] == ["_echo"]


def test_a_message_that_ends_programs_is_handed_over_twice_only(fabric, outcomes):
    """The third program lives."""
    programs = [Program(fabric.bob, owner="www")]
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"poison", timeout=60))
    fabric.run(1)
    for _ in range(2):
        assert outcomes == []
        programs[-1].registration.gone()
        programs.append(Program(fabric.bob, owner="www"))
        fabric.run(1)
    assert [program.data for program in programs] == [[b"poison"], [b"poison"], []]
    assert delivered(outcomes) == ["receiver-gone"]


def test_the_name_is_kept_for_who_had_it(fabric, outcomes):
    """What waits for one user's program is not given to another's."""
    program = Program(fabric.bob, owner=1000)
    program.registration.gone()
    for owner in (1001, None):
        with pytest.raises(ConfigurationError, match="receiver on this node already"):
            Program(fabric.bob, owner=owner)
    fabric.run(limits.RECEIVER_RETURNS + 0.1)
    Program(fabric.bob, owner=1001)


def test_programs_of_one_owner_share_the_work(fabric, outcomes):
    """Each message goes to one of them, the least busy; when one ends, the other takes over what it had."""
    programs = [Program(fabric.bob, owner="www", concurrent=4) for _ in range(2)]
    for number in range(6):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number, timeout=60))
    fabric.run(1)
    assert [len(program.data) for program in programs] == [3, 3]
    programs[0].registration.gone()
    fabric.run(1)
    programs[1].done()
    fabric.run(1)
    programs[1].done()
    fabric.run(1)
    assert delivered(outcomes) == ["delivered"] * 6
    assert sorted(programs[1].data) == [b"%d" % number for number in range(6)]
    assert sum(message.redelivered for message in programs[1].messages) == 3


# slow receivers


def test_a_slow_receiver_makes_its_sender_wait_and_loses_nothing(fabric, outcomes):
    """A thousand messages to one that takes twenty milliseconds each: all are dealt with, none refused."""
    got = []

    def receive(message):
        got.append(message.data)
        done = Deferred()
        fabric.clock.callLater(0.02, done.callback, None)
        return done

    fabric.bob.datagrams.register("log", receive, concurrent=1)
    for number in range(1_000):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number, timeout=60))
    fabric.run(25)
    assert delivered(outcomes) == ["delivered"] * 1_000
    assert sorted(got, key=int) == [b"%d" % number for number in range(1_000)]
    assert fabric.bob.sessions.counters["inbound-busy"] > 0
    assert fabric.alice.sessions.counters["resent"] == 0


def test_busy_comes_after_the_time_that_was_allowed(fabric, outcomes):
    """Not before, and only for those for which there was no room."""
    program = Program(fabric.bob, concurrent=1)
    room = 1 + limits.SERVICE_QUEUE_MESSAGES
    for _ in range(room + 5):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"", timeout=5))
    fabric.run(4.9)
    assert outcomes == []
    fabric.run(0.2)
    assert sorted(outcomes) == ["busy"] * 5 + ["timed-out"] * room
    assert len(program.data) == 1


def test_another_service_is_not_slowed(fabric, outcomes):
    """While one service is full for a minute, a message to another takes a round trip."""
    Program(fabric.bob, "slow", concurrent=1)
    fast = fabric.bob.serve("fast")
    for _ in range(limits.MAX_RELIABLE_MESSAGES):
        fabric.alice.datagrams.send("bob", "slow", bytes(3_000), timeout=60).addErrback(lambda failure: None)
    fabric.run(5)
    for _ in range(20):
        outcomes.watch(fabric.alice.datagrams.send("bob", "fast", b"x"))
        fabric.run(0.05)
    assert delivered(outcomes) == ["delivered"] * 20
    assert max(outcome.rtt for outcome in outcomes) <= 0.03
    assert len(fast) == 20


def test_one_peer_does_not_fill_the_queue_for_others(fabric, outcomes):
    """Of each peer so many wait, so that another one's message is taken."""
    carol = fabric.add("carol", 77)
    Program(fabric.bob, concurrent=1)
    for _ in range(limits.MAX_RELIABLE_MESSAGES):
        fabric.alice.datagrams.send("bob", "log", b"", timeout=60).addErrback(lambda failure: None)
    fabric.run(3)
    outcomes.watch(carol.datagrams.send("bob", "log", b"", timeout=60))
    fabric.run(1)
    assert len(carol.associations.get(fabric.bob.handle).reliable._queue._held) == 1
    carol.stop()


def test_what_a_peer_makes_this_node_hold_is_bounded(fabric, outcomes):
    """Over all services together."""
    programs = [Program(fabric.bob, f"s{number}", concurrent=300) for number in range(5)]
    for number in range(5):
        for _ in range(300):
            fabric.alice.datagrams.send("bob", f"s{number}", b"", timeout=9).addErrback(lambda failure: None)
    fabric.run(5)
    receiver = fabric.bob.associations.get(fabric.alice.handle).receiver
    assert len(receiver.numbers.held) == sum(len(one.data) for one in programs) == limits.MAX_HELD


# keys


def test_a_key_that_was_acknowledged_is_not_handed_over_again(fabric, outcomes):
    """Over a restart of either end, and of both."""
    got = fabric.bob.serve()
    for restart in (lambda: None, fabric.alice.restart, fabric.bob.restart):
        restart()
        if restart == fabric.bob.restart:
            got += fabric.bob.serve()
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one", key="k1", timeout=20))
        fabric.run(10)
    assert delivered(outcomes) == ["delivered"] * 3
    assert got == [b"one"]
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"two", key="k2"))
    fabric.run(1)
    assert delivered(outcomes) == ["delivered"] * 4


def test_a_key_is_of_its_sender_and_its_service(fabric, outcomes):
    """Another node, or another service, means another message."""
    got, other = fabric.bob.serve(), fabric.bob.serve("other")
    carol = fabric.add("carol", 77)
    for end, service in [(fabric.alice, "log"), (carol, "log"), (fabric.alice, "other")]:
        outcomes.watch(end.datagrams.send("bob", service, b"x", key="k"))
        fabric.run(1)
    assert (got, other) == ([b"x", b"x"], [b"x"])
    carol.stop()


def test_a_key_that_is_held_is_not_handed_over_beside_itself(fabric, outcomes):
    """Both calls hear what becomes of it."""
    program = Program(fabric.bob)
    for _ in range(2):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
        fabric.run(1)
    assert program.data == [b"x"] and outcomes == []
    program.done()
    fabric.run(0.5)
    assert delivered(outcomes) == ["delivered"] * 2


def test_a_key_that_was_refused_is_new(fabric, outcomes):
    """It is handed over again, unmarked."""
    answers, seen = [SendRefused("refused", "not yet"), None], []

    def receive(message):
        seen.append(message.redelivered)
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    fabric.bob.datagrams.register("log", receive)
    for _ in range(2):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
        fabric.run(1)
    assert delivered(outcomes) == ["refused", "delivered"]
    assert seen == [False, False]


def test_a_key_that_was_handed_over_by_the_process_before_is_marked(fabric, outcomes):
    """Both ends restarted, the sender's program sends again: its receiver hears that it may know it."""
    Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
    fabric.run(1)
    fabric.alice.restart()
    fabric.bob.restart()
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
    fabric.run(2)
    assert [message.redelivered for message in program.messages] == [True]


def test_a_key_that_cannot_be_stored_is_not_acknowledged(fabric, outcomes):
    """The sender hears it, and the next message with it is handed over, marked."""
    seen = []
    fabric.bob.datagrams.register("log", lambda message: seen.append(message.redelivered))
    fabric.bob.key_log.fault = StoreError("disk-full", "the disk is full")
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
    fabric.run(1)
    fabric.bob.key_log.fault = None
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
    fabric.run(1)
    assert delivered(outcomes) == ["refused", "delivered"]
    assert seen == [False, True]


@pytest.mark.parametrize("key", ["k" * 65, "ä", "a\n"])
def test_a_key_is_short_and_printable(fabric, outcomes, key):
    """Else the call is refused."""
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key=key))
    assert outcomes == ["bad-key"]


# here, and nodes of before


def test_to_itself_the_same_holds(fabric, outcomes):
    """Done when it is done, busy after a wait, keys known."""
    program = Program(fabric.alice, concurrent=1)
    datagrams = fabric.alice.datagrams
    outcomes.watch(datagrams.send("alice", "log", b"x", key="k"))
    for _ in range(limits.SERVICE_QUEUE_MESSAGES):
        datagrams.send("alice", "log", b"").addErrback(lambda failure: None)
    outcomes.watch(datagrams.send("alice", "log", b"late", timeout=3))
    fabric.run(2.9)
    assert outcomes == []
    program.done()
    assert delivered(outcomes) == ["delivered"]
    fabric.run(0.2)
    assert delivered(outcomes) == ["delivered", "busy"]
    outcomes.watch(datagrams.send("alice", "log", b"x", key="k"))
    assert delivered(outcomes) == ["delivered", "busy", "delivered"]
    assert program.data.count(b"x") == 1


@pytest.mark.parametrize("older", ["alice", "bob"])
def test_a_node_of_before_is_told_when_it_is_handed_over(fabric, outcomes, older):
    """Whichever end it is: the message is not repeated while the receiver works; a key is refused."""
    end = getattr(fabric, older)
    end.stop()
    end.features = Feature.STREAMS
    end.boot()
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", bytes(20_000)))
    fabric.run(2)
    assert delivered(outcomes) == ["delivered"]
    assert len(program.data) == 1 and len(program.given) == 1
    assert fabric.alice.sessions.counters["resent"] == 0
    if older == "bob":
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x", key="k"))
        fabric.run(2)
        assert delivered(outcomes) == ["delivered", "no-keys"]


def test_a_peer_that_asks_for_outcomes_that_never_were(fabric, outcomes):
    """It is told that they are unknown, and holds nothing here."""
    fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"warm"))
    fabric.run(1)
    bob = fabric.bob.associations.get(fabric.alice.handle).receiver
    before = len(fabric.frames(Kind.E2E_DATA))
    keys = fabric.alice.associations.get(fabric.bob.handle).batch
    keys.put(pack_frame(Inner.WAITING, MessageNumbers(tuple(range(100))).encode()))
    fabric.run(1)
    assert len(fabric.frames(Kind.E2E_DATA)) > before
    assert fabric.alice.sessions.counters["stray-receipt"] == 100
    assert bob.idle and not bob.numbers.held


def test_the_frames_stay_whole_with_the_longest_key(fabric, outcomes):
    """Fragments with a key of 64 characters and a service of 32 fit a sealed frame."""
    service, key = "s" * 32, "k" * 64
    got = fabric.bob.serve(service)
    data = bytes(limits.MAX_DATAGRAM)
    outcomes.watch(fabric.alice.datagrams.send("bob", service, data, key=key))
    fabric.run(3)
    assert got == [data] and delivered(outcomes) == ["delivered"]
    assert len(Datagram(service, 1, data[: limits.FRAGMENT_SIZE], False, 0, 8, True, key).encode()) < 16_000


def counted(fabric, frames):
    """Count sealed frames from now on, by the node that sent them."""

    def decide(kind, header, frame):
        frames["alice" if header.source == fabric.alice.handle else "bob"] += 1
        return (DELAY,)

    fabric.decide = decide


def test_messages_of_one_turn_share_seals(fabric, outcomes):
    """The first leaves at once and the others together, and so come back their outcomes."""
    fabric.bob.datagrams.register("log", lambda message: None)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"keys"))
    fabric.run(1)
    frames = Counter()
    counted(fabric, frames)
    for number in range(150):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number))
    assert frames == {"alice": 1}
    fabric.run(0.2)
    assert delivered(outcomes) == 151 * ["delivered"]
    assert frames["alice"] <= 4 and frames["bob"] <= 4


@pytest.mark.parametrize(("seconds", "expected"), [(0.005, 1), (0.02, 2)])
def test_what_is_done_soon_needs_one_answer(fabric, outcomes, seconds, expected):
    """A receiver that is not done within 10 ms costs a TAKEN and its SETTLED more."""
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"keys"))
    fabric.run(1)
    program.done()
    fabric.run(1)
    frames = Counter()
    counted(fabric, frames)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(DELAY + seconds, step=0.001)
    program.done()
    fabric.run(0.2)
    assert delivered(outcomes) == ["delivered", "delivered"]
    assert frames == {"alice": expected, "bob": expected}


def test_a_lost_outcome_is_told_again_though_nothing_was_before(fabric, outcomes):
    """The message comes again, is not handed over again, and is answered alike."""
    program = Program(fabric.bob)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"keys"))
    fabric.run(1)
    program.done()
    fabric.run(1)
    lost = []

    def decide(kind, header, frame):
        if header.source == fabric.bob.handle and not lost:
            lost.append(frame)
            return ()
        return (DELAY,)

    fabric.decide = decide
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one"))
    fabric.run(DELAY + 0.002, step=0.001)
    program.done()
    fabric.run(3)
    assert len(lost) == 1 and program.data == [b"keys", b"one"]
    assert delivered(outcomes) == ["delivered", "delivered"]


def test_all_of_a_frame_that_a_relay_drops_go_again(fabric, outcomes):
    """Also those that only share it."""
    got = []
    fabric.bob.datagrams.register("log", lambda message: got.append(message.data))
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"keys"))
    fabric.run(1)
    sent = []

    def decide(kind, header, frame):
        if header.source == fabric.alice.handle and len(sent) < 2:
            sent.append(header.counter)
            return ()
        return (DELAY,)

    fabric.decide = decide
    for number in range(20):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"%d" % number))
    fabric.run(0.01)
    for counter in sent:
        fabric.alice.associations.get(fabric.bob.handle).reliable.bounced(counter)
    fabric.run(0.2)
    assert sorted(got[1:], key=int) == [b"%d" % number for number in range(20)]
    assert delivered(outcomes) == 21 * ["delivered"]


@pytest.mark.parametrize("late", ["denied", "revoked"])
def test_what_was_allowed_a_moment_ago_is_asked_again(fabric, outcomes, late):
    """A message is refused in the turn in which a document forbids it, though others went just before."""
    got = fabric.bob.serve()
    for data in (b"one", b"two"):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", data))
        fabric.run(0.1)
    forbids = {
        "denied": fabric.network.policy(2, rules=deny("log")),
        "revoked": fabric.network.crl(revoked=[[2, NOW + DAY, 0]]),
    }
    fabric.alice.trust.offer(forbids[late], fabric.wall())
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"late"))
    assert delivered(outcomes) == ["delivered", "delivered", late]
    fabric.run(1)
    assert got == [b"one", b"two"]
