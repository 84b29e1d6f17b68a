# SPDX-License-Identifier: MIT
"""A peer that breaks the rules of streams: it costs the stream that the frame is about, at most."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from streams.rigs import Careful, HalfCloser, Recorder, Rig
from streams.two_ends import TwoEnds

from gmesh.stream_errors import StreamCode, StreamLost
from gmesh.streams import limits
from gmesh.streams.loose import LooseFrames
from gmesh.wire.frames import iter_frames, pack_frame
from gmesh.wire.messages import Inner
from gmesh.wire.stream_messages import (
    Goaway,
    Seen,
    Segment,
    StreamAccept,
    StreamCredit,
    StreamData,
    StreamFin,
    StreamOpen,
    StreamReset,
    StreamStop,
)

RIG = Rig()


class Hostile(TwoEnds):
    """
    b is honest and has two streams of a; a says what the test says.

    @ivar victim: the stream that the frames are about, at b; C{bystander} is the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends = [(HalfCloser(RIG), HalfCloser(RIG)) for _ in range(2)]
        (_, self.victim), (_, self.bystander) = (self.open(*pair) for pair in self.ends)
        self.run(1)
        self.replies: list[tuple[int, bytes]] = []
        self.number = self.a.mux.segments.flight.next + 1000

    def say(self, *frames: tuple[Inner, Any], number: int | None = None) -> None:
        """One sealed frame with a segment of these."""
        if number is None:
            number = self.number
            self.number += 1
        self.raw(
            pack_frame(Inner.SEGMENT, Segment(number).encode())
            + b"".join(
                pack_frame(kind, body if isinstance(body, bytes) else body.encode()) for kind, body in frames
            )
        )

    def raw(self, plaintext: bytes) -> None:
        """A sealed frame; what b answers in the next second is kept, and does not reach a."""
        sent = len(self.b.channel.sent)
        heard, self.b.channel.arrived = self.b.channel.arrived, lambda plaintext: None
        self.b.mux.received(self.peers["a"], plaintext)
        self.run(0.05)
        self.b.channel.arrived = heard
        for reply in self.b.channel.sent[sent:]:
            self.replies += [(kind, reply[start + 3 : end]) for kind, start, end in iter_frames(reply)]

    def resets(self) -> list[StreamReset]:
        """What b has reset since the start, in order."""
        return [StreamReset.decode(body) for kind, body in self.replies if kind == Inner.RESET]

    def the_bystander_lives(self) -> bool:
        """And so does the mux."""
        near, far = self.ends[1]
        before = len(far.data)
        near.transport.write(b"alive")
        self.until(lambda: len(far.data) == before + 5)
        return far.lost is None and not self.bystander.over


class Impatient(Recorder):
    """A program that closes at the first byte."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@pytest.fixture
def hostile() -> Hostile:
    """Two streams are open."""
    return Hostile()


BREAKS: dict[str, Callable[[int, Hostile], tuple[Inner, Any]]] = {
    "data beyond credit": lambda n, h: (Inner.DATA, StreamData(n, h.victim.credit.limit, b"x")),
    "data far beyond credit": lambda n, h: (Inner.DATA, StreamData(n, 2**63, b"x")),
    "an end beyond credit": lambda n, h: (Inner.FIN, StreamFin(n, h.victim.credit.limit + 1)),
    "an end before what was written": lambda n, h: (Inner.FIN, StreamFin(n, 2)),
    "an accept of what it opened": lambda n, h: (Inner.ACCEPT, StreamAccept(n, 10)),
    "a cut credit": lambda n, h: (Inner.CREDIT, StreamCredit(n, 1).encode()[:-1]),
    "a long end": lambda n, h: (Inner.FIN, StreamFin(n, 5).encode() + b"x"),
    "data without data": lambda n, h: (Inner.DATA, StreamCredit(n, 0).encode()),
    "a long stop": lambda n, h: (Inner.STOP, StreamStop(n, StreamCode.DONE).encode() + b"x"),
    "a binary reset": lambda n, h: (
        Inner.RESET,
        StreamReset(n, StreamCode.DENIED, "x").encode()[:-1] + b"\0",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_each_broken_rule_costs_its_stream_alone(hostile: Hostile, what: str) -> None:
    """It is reset as a break of the protocol, and counted; the other stream goes on."""
    number = hostile.victim.number
    hostile.say((Inner.DATA, StreamData(number, 0, b"12345")))
    hostile.say(BREAKS[what](number, hostile))
    near, far = hostile.ends[0]
    assert far.data == b"12345"
    assert far.lost is not None
    assert isinstance(far.lost.value, StreamLost)
    assert far.lost.value.reason == "protocol"
    assert [(reset.stream, reset.code) for reset in hostile.resets()] == [(number, StreamCode.PROTOCOL)]
    assert any(key.startswith("stream-") for key in hostile.b.counters)
    assert hostile.the_bystander_lives()
    assert near.lost is None, "it was never told"


def test_data_without_data_is_a_break_in_front_of_others_too(hostile: Hostile) -> None:
    """No program is handed nothing, which some take for the end."""
    number = hostile.victim.number
    hostile.say((Inner.DATA, StreamCredit(number, 0).encode()), (Inner.PROBE, b""))
    _, far = hostile.ends[0]
    assert "data" not in far.events
    assert [reset.code for reset in hostile.resets()] == [StreamCode.PROTOCOL]
    assert hostile.the_bystander_lives()


def test_a_reader_that_pauses_holds_few_pieces_of_many_small_ones(hostile: Hostile) -> None:
    """Each piece costs memory of its own, which credit does not count."""
    victim = hostile.victim
    victim.pauseProducing()
    for offset in range(0, 4096, 2):
        hostile.say((Inner.DATA, StreamData(victim.number, offset, b"xy")))
    assert victim._unread is not None
    assert len(victim._unread) <= 8
    victim.resumeProducing()
    hostile.run(1)
    assert hostile.ends[0][1].data == b"xy" * 2048


def test_what_a_program_left_unread_when_it_closed_is_told(hostile: Hostile) -> None:
    """Also if it came in the same turn as what it closed on: the writer hears no clean end."""
    near, far = HalfCloser(RIG), Impatient(RIG)
    victim, _ = hostile.open(near, far)
    number = victim.number
    hostile.say((Inner.DATA, StreamData(number, 1000, bytes(1000))), (Inner.FIN, StreamFin(number, 2000)))
    hostile.say((Inner.DATA, StreamData(number, 0, bytes(1000))))
    stops = [StreamStop.decode(body) for kind, body in hostile.replies if kind == Inner.STOP]
    assert [stop.code for stop in stops] == [StreamCode.ABORTED]


def test_a_program_hears_that_a_peer_stopped_reading_before_it_took_the_stream(hostile: Hostile) -> None:
    """A service that writes until nobody reads would never end."""
    number = hostile.a.mux.next << 1 | hostile.a.mux.side
    hostile.say(
        (Inner.OPEN, StreamOpen(number, 1000, "web")), (Inner.STOP, StreamStop(number, StreamCode.DONE))
    )
    program = Careful(RIG)
    assert hostile.b.offers.pop().accept(program)
    assert "write stopped" in program.events


def test_a_peer_that_stops_reading_is_not_counted_twice(hostile: Hostile) -> None:
    """What is under way is given back once, whatever the peer acknowledges later: the bound stays one."""
    victim = hostile.victim
    victim.write(bytes(100_000))
    hostile.b.mux.segments.pump()
    assert hostile.b.sends.used > 0
    hostile.say((Inner.STOP, StreamStop(victim.number, StreamCode.DONE)))
    assert hostile.b.sends.used == 0
    hostile.run(1)
    assert hostile.b.sends.used == 0
    victim.abortConnection()
    assert hostile.b.sends.used == 0


def test_data_behind_the_end_is_a_break(hostile: Hostile) -> None:
    """The size of a stream is final, and so is an end that was said."""
    number = hostile.victim.number
    hostile.say((Inner.FIN, StreamFin(number, 5)))
    hostile.say((Inner.DATA, StreamData(number, 3, b"four")))
    assert [reset.code for reset in hostile.resets()] == [StreamCode.PROTOCOL]
    assert hostile.the_bystander_lives()


@pytest.mark.parametrize(
    "frame",
    [
        (Inner.DATA, StreamData(4, 0, b"x")),
        (Inner.FIN, StreamFin(4, 0)),
        (Inner.CREDIT, StreamCredit(4, 100)),
        (Inner.ACCEPT, StreamAccept(5, 100)),
    ],
)
def test_a_frame_for_a_stream_that_never_was_is_answered(hostile: Hostile, frame: tuple[Inner, Any]) -> None:
    """By RESET, never with silence."""
    hostile.say(frame)
    assert [reset.code for reset in hostile.resets()] == [StreamCode.UNKNOWN_STREAM]
    assert hostile.the_bystander_lives()


@pytest.mark.parametrize("frame", [(Inner.RESET, StreamReset(4, StreamCode.DONE)), (Inner.STOP, bytes(10))])
def test_an_end_of_a_stream_that_never_was_is_not_answered(
    hostile: Hostile, frame: tuple[Inner, Any]
) -> None:
    """Or two nodes would go on for ever."""
    hostile.say(frame)
    assert hostile.resets() == []


def test_ends_of_streams_far_apart_that_never_were_cost_nothing(hostile: Hostile) -> None:
    """What is remembered of numbers is a window, however far below it one lies."""
    for counter in (2**62, 2**31, 7):
        hostile.say((Inner.RESET, StreamReset(counter << 1 | hostile.a.mux.side, StreamCode.DONE)))
    assert hostile.resets() == []
    assert hostile.the_bystander_lives()


def test_frames_of_a_stream_that_has_ended_are_late_and_no_more(hostile: Hostile) -> None:
    """They are acknowledged: the far end may have missed that we have them."""
    near, far = hostile.ends[0]
    number = hostile.victim.number
    near.transport.loseConnection()
    far.transport.loseConnection()
    hostile.until(lambda: near.lost and far.lost)
    assert far.clean
    hostile.say((Inner.FIN, StreamFin(number, 0)))
    assert hostile.resets() == []
    assert Inner.SEEN in [kind for kind, _ in hostile.replies]
    assert hostile.the_bystander_lives()


def test_an_open_that_comes_again_opens_nothing(hostile: Hostile) -> None:
    """Neither while the stream is open nor after it has ended, nor after a reset that overtook it."""
    number = hostile.victim.number
    again = (Inner.OPEN, StreamOpen(number, 1000, "web"))
    hostile.say(again)
    hostile.ends[0][1].transport.abortConnection()
    hostile.run(1)
    hostile.say(again)
    hostile.say((Inner.RESET, StreamReset(number + 200, StreamCode.ABORTED)))
    hostile.say((Inner.OPEN, StreamOpen(number + 200, 1000, "web")))
    assert hostile.b.offers == []
    assert hostile.the_bystander_lives()


def test_an_open_with_a_number_of_this_end_is_refused(hostile: Hostile) -> None:
    """Each end has its own."""
    hostile.say((Inner.OPEN, StreamOpen(hostile.victim.number ^ 1, 1000, "web")))
    assert hostile.b.offers == []
    assert hostile.b.counters["stream-unasked"] == 1
    assert hostile.the_bystander_lives()


def test_no_data_comes_before_the_accept(hostile: Hostile) -> None:
    """The opener has no credit before it."""
    number = hostile.victim.number + 200
    hostile.say((Inner.OPEN, StreamOpen(number, 1000, "web")))
    hostile.say((Inner.DATA, StreamData(number, 0, b"early")))
    [offer] = hostile.b.offers
    assert not offer.accept(HalfCloser(RIG))
    assert [reset.code for reset in hostile.resets()] == [StreamCode.PROTOCOL]


def test_two_thousand_opens_in_a_second_are_refused_beyond_the_burst(hostile: Hostile) -> None:
    """As busy, and the refusals on their way are bounded too."""
    first = hostile.victim.number + 200
    for index in range(2000):
        hostile.b.mux.received(
            hostile.peers["a"],
            pack_frame(Inner.SEGMENT, Segment(hostile.number + index).encode())
            + pack_frame(Inner.OPEN, StreamOpen(first + 2 * index, 1000, "web").encode()),
        )
        while hostile.b.offers:
            hostile.b.offers.pop().accept(HalfCloser(RIG))
    opened = len(hostile.b.mux.streams) - 2
    assert limits.OPENS.burst - 2 <= opened <= limits.OPENS.burst + 10
    assert hostile.b.counters["stream-refused-busy"] == 2000 - opened
    assert hostile.b.mux.segments.loose.under_way <= limits.MAX_LOOSE
    assert hostile.the_bystander_lives()


def test_the_sixty_fifth_stream_that_nobody_takes_is_refused(hostile: Hostile) -> None:
    """The others wait for half a minute."""
    first = hostile.victim.number + 200
    for index in range(limits.MAX_UNACCEPTED + 1):
        hostile.say((Inner.OPEN, StreamOpen(first + 2 * index, 1000, "web")))
    assert len(hostile.b.offers) == limits.MAX_UNACCEPTED
    assert [reset.code for reset in hostile.resets()] == [StreamCode.BUSY]


def test_pieces_out_of_order_are_bounded(hostile: Hostile) -> None:
    """Beyond so many the segment is not acknowledged; what is in order always is."""
    number = hostile.victim.number
    for index in range(limits.MAX_PIECES + 50):
        hostile.b.mux.received(
            hostile.peers["a"],
            pack_frame(Inner.SEGMENT, Segment(hostile.number + index).encode())
            + pack_frame(Inner.DATA, StreamData(number, 2 * index + 1, b"x").encode()),
        )
    assert hostile.victim.receiving.held == limits.MAX_PIECES
    first, largest = hostile.b.mux.segments._numbers.runs[0]
    assert largest - first + 1 == limits.MAX_PIECES
    hostile.number += 2 * limits.MAX_PIECES
    hostile.say((Inner.DATA, StreamData(number, 0, b"z")))
    assert hostile.ends[0][1].data == b"zx"
    hostile.ends[0][1].transport.abortConnection()
    hostile.run(1)
    assert hostile.b.mux.held == 0
    assert hostile.the_bystander_lives()


def test_more_frames_than_a_fifth_of_a_core_reads_have_to_come_again(hostile: Hostile) -> None:
    """Beyond the budget nothing is looked at, and no such segment acknowledged; data always is."""
    credit = pack_frame(Inner.CREDIT, StreamCredit(hostile.victim.number, 1).encode())
    for _ in range(40):
        hostile.b.mux.received(
            hostile.peers["a"], pack_frame(Inner.SEGMENT, Segment(hostile.number).encode()) + 700 * credit
        )
        hostile.number += 1
    assert hostile.b.counters["stream-spent"] == pytest.approx(40 * 700 - 20_000, abs=100)
    first, largest = hostile.b.mux.segments._numbers.runs[0]
    assert largest - first + 1 == 20_000 // 700
    hostile.say((Inner.DATA, StreamData(hostile.victim.number, 0, b"data")))
    assert hostile.ends[0][1].data == b"data"
    hostile.run(1)
    assert hostile.the_bystander_lives()


def test_a_lie_about_what_was_seen_is_counted(hostile: Hostile) -> None:
    """It acknowledges nothing and costs no stream."""
    far = hostile.ends[0][1]
    far.transport.write(b"unacknowledged")
    hostile.b.channel.decide = lambda plaintext: ()
    hostile.run(0.001)
    sent, never = hostile.victim.sent, hostile.b.mux.segments.flight.next
    hostile.b.mux.received(hostile.peers["a"], pack_frame(Inner.SEEN, Seen(0, ((never, never),)).encode()))
    assert hostile.b.counters["stream-never-sent"] == 1
    assert hostile.victim.sent == sent
    assert not hostile.victim.over


def test_after_goaway_nothing_is_opened(hostile: Hostile) -> None:
    """What is open goes on."""
    hostile.say((Inner.GOAWAY, Goaway(StreamCode.STOPPED)))
    assert hostile.b.mux.open("web")[0] == "stopped"
    assert hostile.the_bystander_lives()


@pytest.mark.parametrize("seed", range(20))
def test_noise_costs_nothing_else(hostile: Hostile, seed: int) -> None:
    """Well-formed and broken frames of every kind, about streams that are there and that are not."""
    chance = Random(seed)
    numbers = [hostile.victim.number, hostile.victim.number + 2000, 7, 2**64 - 1]
    bodies: dict[Inner, Callable[[int], Any]] = {
        Inner.OPEN: lambda n: StreamOpen(n, chance.randrange(2**40), "web"),
        Inner.ACCEPT: lambda n: StreamAccept(n, chance.randrange(2**40)),
        Inner.DATA: lambda n: StreamData(
            n, chance.choice([0, 5, 1000, 2**40]), bytes(chance.randrange(1, 99))
        ),
        Inner.FIN: lambda n: StreamFin(n, chance.choice([0, 5, 2**40])),
        Inner.CREDIT: lambda n: StreamCredit(n, chance.randrange(2**40)),
        Inner.STOP: lambda n: StreamStop(n, StreamCode.DONE),
        Inner.RESET: lambda n: StreamReset(n, StreamCode.ABORTED),
    }
    for _ in range(300):
        frames = []
        for _ in range(chance.randrange(1, 4)):
            kind = chance.choice([*bodies, Inner.PROBE])
            body = b"" if kind is Inner.PROBE else bytearray(bodies[kind](chance.choice(numbers)).encode())
            if body and chance.random() < 0.3:
                body[chance.randrange(8, len(body)) if len(body) > 8 else 0] ^= 1 << chance.randrange(8)
                del body[len(body) - chance.randrange(2) :]
            frames.append((kind, bytes(body)))
        hostile.say(*frames)
    assert hostile.the_bystander_lives()
    hostile.b.mux.gone("revoked")
    hostile.run(1)
    assert hostile.b.credit.used == hostile.b.sends.used == hostile.b.mux.held == 0


def test_loose_frames_that_were_sent_twice_are_counted_off_once() -> None:
    """Original and copy may both be acknowledged, in either order."""
    loose = LooseFrames()
    for frame in (b"\0\0\1a", b"\0\0\1b"):
        assert loose.add(frame)
    loose.probe()
    sent: list[Any] = []
    for _ in range(3):
        _, flags, item = loose.fill([], 1_000, 1_000)
        sent.append((flags, item))
        loose.lost(flags, item)
        assert loose.under_way == 2
    _, flags, item = loose.fill([], 1_000, 1_000)
    assert list(item) == [b"\0\0\1a", b"\0\0\1b"]
    for each in (sent[1], (flags, item), sent[0]):
        loose.acknowledged(*each)
    assert loose.under_way == 0
    assert not loose.sendable
