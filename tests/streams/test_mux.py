# SPDX-License-Identifier: MIT
"""All streams with one peer over a channel that loses, copies and reorders: bytes intact, nothing left."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from streams.rigs import HalfCloser, Recorder, Rig
from streams.two_ends import DELAY, End, TwoEnds

from gmesh.endtoend.limits import MAX_BATCH, MAX_SEGMENT
from gmesh.streams import limits
from gmesh.streams.mux import StreamMux
from gmesh.streams.stream import Stream
from gmesh.wire.frames import iter_frames
from gmesh.wire.messages import Feature, Inner

MIB = 1024 * 1024
BYTES = bytes(range(256)) * 4096
RIG = Rig()


def test_a_megabyte_each_way_over_a_clean_channel_is_sent_once() -> None:
    """No segment is sent twice, and the payload dominates."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, other = two.open(near, far)
    stream.write(BYTES)
    other.write(BYTES[::-1])
    stream.loseWriteConnection()
    other.loseWriteConnection()
    two.until(lambda: near.lost and far.lost)
    assert near.clean
    assert far.clean
    assert (far.data, near.data) == (BYTES, BYTES[::-1])
    assert two.a.counters["segments-resent"] == two.b.counters["segments-resent"] == 0
    assert sum(map(len, two.a.channel.sent)) < 1.02 * MIB
    two.run(60)
    assert two.clock.getDelayedCalls() == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_bytes_are_whole_and_in_order_over_a_bad_channel(share: float, jitter: float) -> None:
    """Frames are lost, copied and overtake each other; the streams end cleanly all the same."""
    two = TwoEnds(seed=int(share * 100 + jitter * 1000))
    two.rough(share, copied=share, jitter=jitter)
    ends = []
    for _ in range(4):
        near, far = HalfCloser(RIG), HalfCloser(RIG)
        stream, other = two.open(near, far)
        stream.write(BYTES)
        other.write(BYTES[: MIB // 2])
        stream.loseWriteConnection()
        other.loseWriteConnection()
        ends.append((near, far))
    two.until(lambda: all(near.lost and far.lost for near, far in ends))
    for near, far in ends:
        assert near.clean
        assert far.clean
        assert hashlib.sha256(far.data).digest() == hashlib.sha256(BYTES).digest()
        assert near.data == BYTES[: MIB // 2]
    assert two.a.counters["segments-resent"] > 0
    two.run(700)
    assert two.clock.getDelayedCalls() == []
    for end in (two.a, two.b):
        assert end.credit.used == end.sends.used == 0
        assert not end.mux.active


def kinds(plaintext: bytes) -> list[int]:
    """The inner frames of a sealed frame."""
    return [kind for kind, _, _ in iter_frames(plaintext)]


def test_what_large_segments_lost_is_sent_as_it_was_where_they_are_small_now() -> None:
    """Each piece in a segment of its own; what is new keeps to the size of now."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    channel = two.a.channel
    channel.segment_limit, channel.decide = MAX_SEGMENT, lambda plaintext: ()
    stream.write(BYTES[: MIB // 8])
    two.run(0.05)
    assert max(map(len, channel.sent)) > 4 * MAX_BATCH - 1_024
    channel.segment_limit, channel.decide = MAX_BATCH, lambda plaintext: (DELAY,)
    stream.write(BYTES[MIB // 8 : MIB // 4])
    two.run(5)
    assert far.data == BYTES[: MIB // 4]
    again = [len(each) for each in channel.sent if len(each) > MAX_BATCH + 400]
    assert len(again) >= 4, "those that were lost, and those that were sent for them"


def test_views_of_bytes_are_sent_as_they_are_and_what_may_change_as_it_was() -> None:
    """What is kept until it is acknowledged is no copy, unless its owner could still write into it."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    lasting, changing = BYTES[:5_000], bytearray(BYTES[5_000:9_000])
    stream.write(memoryview(lasting)[1_000:])
    stream.write(memoryview(changing))
    stream.write(memoryview(lasting)[:999:2])
    views = list(stream.sending._views or ())
    assert [isinstance(each, memoryview) and each.obj is lasting for each in views] == [True, False, False]
    changing[:] = bytes(4_000)
    two.run(1)
    assert far.data == BYTES[1_000:9_000] + BYTES[:999:2]
    with pytest.raises(TypeError):
        stream.write("text")  # type: ignore[arg-type]  # what must not be written


def test_without_room_nothing_leaves_until_there_is_some() -> None:
    """The lane pauses its producer and resumes it; nothing is lost or sent twice for that."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    two.a.channel.room = 3
    stream.write(BYTES[: MIB // 4])
    two.run(0.05)
    assert 0 < len(far.data) <= 3 * 16_384
    for _ in range(20):
        two.a.channel.make_room(3)
        two.run(0.01)
    two.run(1)
    assert far.data == BYTES[: MIB // 4]
    assert two.a.counters["segments-resent"] == 0


@pytest.mark.parametrize("how", ["done", "restarted", "timed-out"])
def test_a_lane_that_is_paused_while_the_last_stream_ends_carries_the_next(how: str) -> None:
    """Nobody resumes who is no producer of the lane any more."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, other = two.open(near, far)
    two.run(1)
    if how == "timed-out":
        two.a.channel.decide = two.b.channel.decide = lambda plaintext: ()
        stream.write(b"anybody there?")
    else:
        stream.loseConnection()
        other.loseConnection()
    two.until(lambda: two.a.mux.segments.flight)
    two.a.mux.segments.pauseProducing()
    if how == "restarted":
        two.introduce((b"boot-c", b"boot-d"))
    two.until(lambda: not two.a.mux.streams and not two.b.mux.streams)
    two.a.channel.decide = two.b.channel.decide = lambda plaintext: (DELAY,)
    two.a.channel.make_room(None)
    two.open(HalfCloser(RIG), HalfCloser(RIG))


def test_without_a_path_one_is_looked_for() -> None:
    """Nobody says when there is one again: what waits leaves soon after."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    two.a.channel.routed = False
    stream.write(b"waits")
    two.run(3)
    assert far.data == b""
    two.a.channel.routed = True
    two.run(0.3)
    assert far.data == b"waits"


def test_a_shorter_path_under_load_resends_nothing() -> None:
    """What left by the new path overtakes a whole window, and is not taken for loss."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    channel = two.a.channel
    channel.decide = lambda plaintext: (0.08,)
    stream.write(BYTES[: MIB // 4])
    two.run(0.5)
    assert far.data == BYTES[: MIB // 4]
    stream.write(BYTES[: MIB // 8])
    two.run(0.01)
    channel.path_generation += 1
    channel.decide = lambda plaintext: (0.01,)
    stream.write(BYTES[: MIB // 8])
    two.run(1)
    assert far.data == BYTES[: MIB // 4] + 2 * BYTES[: MIB // 8]
    assert two.a.counters["segments-resent"] == two.a.counters["stream-probes"] == 0


def test_a_path_that_dies_is_blamed_at_the_second_probe() -> None:
    """And what it took with it leaves again by the next one."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    channel = two.a.channel

    def next_path(generation: int, sent: float) -> None:
        channel.path_generation = generation + 1
        channel.decide = lambda plaintext: (0.01,)

    channel.blame = next_path
    channel.decide = lambda plaintext: ()
    began = two.clock.seconds()
    stream.write(BYTES[: MIB // 8])
    two.until(lambda: far.data == BYTES[: MIB // 8])
    assert two.clock.seconds() - began < 1.0
    assert channel.path_generation == 1


def test_credit_that_is_lost_comes_again() -> None:
    """A writer whose reader has room does not hang."""
    two = TwoEnds(seed=3)
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)

    def decide(plaintext: bytes) -> tuple[float, ...]:
        return () if Inner.CREDIT in kinds(plaintext) and two.random.random() < 0.8 else (0.01,)

    two.b.channel.decide = decide
    stream.write(BYTES)
    stream.loseConnection()
    two.until(lambda: near.lost)
    assert near.clean
    assert far.data == BYTES


def test_a_reader_that_stalls_stalls_its_own_stream() -> None:
    """49 others get all that is theirs; it goes on when it reads again, and the end comes after the data."""
    two = TwoEnds()
    ends = [(HalfCloser(RIG), HalfCloser(RIG)) for _ in range(50)]
    streams = [two.open(*pair)[0] for pair in ends]
    stalled = ends[7][1]
    stalled.transport.pauseProducing()
    for stream in streams:
        stream.write(BYTES[: MIB // 2])
        stream.loseWriteConnection()
    two.run(30)
    assert stalled.data == b""
    assert "read ended" not in stalled.events
    for index, (_, far) in enumerate(ends):
        if index != 7:
            assert len(far.data) == MIB // 2
    stalled.transport.resumeProducing()
    two.run(5)
    assert stalled.data == BYTES[: MIB // 2]
    assert stalled.events[-1] == "read ended"


def test_turns_are_fair() -> None:
    """Fifty streams through a narrow lane have got the same, give or take two segments."""
    two = TwoEnds()
    ends = [(HalfCloser(RIG), HalfCloser(RIG)) for _ in range(50)]
    streams = [two.open(*pair)[0] for pair in ends]
    two.a.channel.room = 0
    for stream in streams:
        stream.write(BYTES[: MIB // 4])
    for _ in range(200):
        two.a.channel.make_room(2)
        two.run(0.02)
    got = sorted(len(far.data) for _, far in ends)
    assert got[0] > 4 * 16_000
    assert got[-1] - got[0] <= 2 * 16_384


def test_a_key_stroke_goes_before_bulk() -> None:
    """A stream that was idle waits for no more than the segment that is being sent."""
    two = TwoEnds()
    bulk, keys = (HalfCloser(RIG), HalfCloser(RIG)), (HalfCloser(RIG), HalfCloser(RIG))
    first, second = two.open(*bulk)[0], two.open(*keys)[0]
    two.run(1)
    two.a.channel.room = 0
    first.write(BYTES[: MIB // 4])
    two.run(0.1)
    second.write(b"k")
    two.a.channel.make_room(2)
    two.run(0.02)
    assert keys[1].data == b"k"


def test_a_peer_that_vanished_for_good_is_forgotten() -> None:
    """Its association is long gone when its streams are given up: nothing of it stays."""
    ends = TwoEnds()
    near = HalfCloser(RIG)
    ends.open(near, HalfCloser(RIG))
    ends.run(1)
    for end in (ends.a, ends.b):
        end.channel.decide = lambda plaintext: ()
    near.transport.write(b"anybody there?")
    ends.run(1)
    ends.a.mux.gone("timed-out")
    ends.until(lambda: near.lost is not None)
    assert ends.a.forgotten == 1


@pytest.mark.parametrize("silent", ["a", "b"])
def test_silence_is_noticed_after_half_a_minute_and_given_up_after_five(silent: str) -> None:
    """Idle streams cost a frame each way in thirty seconds; one side gone costs the streams, not cleanly."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    two.open(near, far)
    two.run(1)
    before = len(two.a.channel.sent) + len(two.b.channel.sent)
    two.run(600)
    frames = len(two.a.channel.sent) + len(two.b.channel.sent) - before
    assert 30 <= frames <= 60
    two.a.channel.decide = two.b.channel.decide = lambda plaintext: ()
    began = two.clock.seconds()
    two.until(lambda: near.lost and far.lost)
    assert 300 <= two.clock.seconds() - began <= 350
    assert {end.lost.value.reason for end in (near, far)} == {"timed-out"}
    two.run(60)
    assert two.clock.getDelayedCalls() == []


def test_another_boot_id_ends_all_streams_but_those_not_accepted_yet() -> None:
    """Which are opened again, to the new run."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    two.open(near, far)
    late, answered = HalfCloser(RIG), []
    waiting = two.a.mux.open("late")
    assert isinstance(waiting, Stream)
    waiting.accepted = lambda: answered.append(waiting.connect(late))
    two.until(lambda: two.b.offers)
    two.b = End(two.clock, two.random, two.peers["b"], two.peers["a"])
    two.a.channel.arrived = lambda plaintext: two.b.mux.received(two.peers["a"], plaintext)
    two.b.channel.arrived = lambda plaintext: two.a.mux.received(two.peers["b"], plaintext)
    two.introduce((b"boot-a", b"boot-2"))
    assert two.a.mux.streams == {waiting.number: waiting}
    two.until(lambda: two.b.offers)
    far = HalfCloser(RIG)
    assert two.b.offers[0].accept(far)
    two.until(lambda: answered)
    assert near.lost.value.reason == "restarted"
    late.transport.write(b"hello")
    two.until(lambda: far.data == b"hello")


def test_a_peer_that_lost_all_it_knew_says_so() -> None:
    """The stream breaks within a round trip of the next byte."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    two.b = End(two.clock, two.random, two.peers["b"], two.peers["a"])
    two.b.mux.heard(b"boot-a", Feature.STREAMS)
    two.a.channel.arrived = lambda plaintext: two.b.mux.received(two.peers["a"], plaintext)
    two.b.channel.arrived = lambda plaintext: two.a.mux.received(two.peers["b"], plaintext)
    stream.write(b"still there?")
    two.run(0.1)
    assert near.lost.value.reason == "unknown-stream"


def test_a_lost_reset_is_said_again() -> None:
    """The far end does not wait for its patience to end."""
    two = TwoEnds()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    stream, _ = two.open(near, far)
    two.run(1)
    two.a.channel.decide = lambda plaintext: ()
    stream.reset("denied", "rule 3 denies it")
    two.run(0.3)
    assert far.lost is None
    two.a.channel.decide = lambda plaintext: (0.01,)
    two.run(1)
    assert (far.lost.value.reason, far.lost.value.detail) == ("denied", "rule 3 denies it")
    two.run(1)
    assert not two.a.mux.active


def test_numbers_are_never_used_twice() -> None:
    """Not by the streams with a peer that was forgotten and met again: they begin far above."""
    two = TwoEnds()
    again = StreamMux(two.a, two.peers["b"], two.a.channel, 0)
    assert again.segments.flight.next >= two.a.mux.segments.flight.next + 2**39
    assert again.next >= two.a.mux.next + 2**31


@pytest.mark.parametrize("run", [2**24 - 1, 2**24, 2**30])
def test_a_peer_that_has_itself_forgotten_for_years_uses_up_no_numbers(run: int) -> None:
    """One can once a second; there are numbers for segments all the same."""
    two = TwoEnds()
    two.a.runs = itertools.count(run)
    two.a.mux = StreamMux(two.a, two.peers["b"], two.a.channel, two.a.mux.side)
    two.introduce()
    near, far = HalfCloser(RIG), HalfCloser(RIG)
    two.open(near, far)
    near.transport.write(b"still there")
    two.until(lambda: far.data == b"still there")


def test_two_thousand_streams_one_after_the_other_leave_nothing() -> None:
    """No entry, no timer, no credit; each has its own number."""
    two = TwoEnds()
    numbers = set[int]()
    for _ in range(2_000):
        near, far = Recorder(RIG), Recorder(RIG)
        stream, _ = two.open(near, far)
        numbers.add(stream.number)
        stream.write(b"x")
        stream.loseConnection()
        two.until(lambda near=near, far=far: near.clean and far.clean)
        two.a.channel.sent.clear()
        two.b.channel.sent.clear()
    assert len(numbers) == 2_000
    two.run(60)
    assert two.clock.getDelayedCalls() == []
    for end in (two.a, two.b):
        assert not end.mux.streams
        assert end.credit.used == end.sends.used == 0
        assert end.mux.segments.loose.under_way == 0


def test_a_peer_has_so_many_streams_and_no_more() -> None:
    """The opener knows before it asks; what one ends, another may have."""
    two = TwoEnds()
    opened = [two.a.mux.open("web") for _ in range(limits.MAX_PEER_STREAMS)]
    assert all(isinstance(stream, Stream) for stream in opened)
    refused = two.a.mux.open("web")
    assert isinstance(refused, tuple)
    assert refused[0] == "busy"
    assert isinstance(opened[0], Stream)
    opened[0].reset("aborted")
    assert isinstance(two.a.mux.open("web"), Stream)
    assert two.a.credit.used <= limits.PEER_CREDIT


def test_an_open_that_is_given_up_before_it_is_answered_opens_nothing() -> None:
    """Its RESET may overtake it."""
    two = TwoEnds()
    delays = iter([0.5, 0.01])
    two.a.channel.decide = lambda plaintext: (next(delays, 0.01),)
    stream = two.a.mux.open("web")
    assert isinstance(stream, Stream)
    two.run(0.001)
    stream.reset("aborted")
    two.run(5)
    assert two.b.offers == []
    assert two.b.mux.streams == {}
