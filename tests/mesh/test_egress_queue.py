# SPDX-License-Identifier: MIT
"""What waits for a link: order, fairness, bounds, and a naive twin that agrees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.mesh.counters import Counters
from gmesh.mesh.egress_queue import DataRoom, EgressQueue
from gmesh.mesh.limits import DATA_FLOWS, DATA_FLOWS_ALL

A, B, C = (b"neighbor" + bytes([letter]) * 8 for letter in b"abc")
BY_LETTER = {flow[-1:]: flow for flow in (A, B, C)}


def queue(**limits):
    return EgressQueue(Counters(), **limits)


def test_control_leaves_in_order_and_up_to_the_limit():
    """First in, first out; a frame larger than the limit goes alone."""
    waiting = queue()
    for frame in (b"1" * 10, b"2" * 10, b"3" * 100, b"4"):
        assert waiting.push_control(frame)
    assert waiting.take_control(25) == [b"1" * 10, b"2" * 10]
    assert waiting.take_control(25) == [b"3" * 100]
    assert waiting.take_control(25) == [b"4"]
    assert not waiting and waiting.control_bytes == 0


def test_control_is_never_dropped_but_refused():
    """A full control queue says so; the caller ends the link."""
    waiting = queue(control_bytes=10)
    assert waiting.push_control(b"x" * 10)
    assert not waiting.push_control(b"y")


def test_flows_share_by_bytes():
    """Of two backlogged flows with frames of 8 KiB and 16 KiB each gets half of the bytes."""
    waiting = queue(data_bytes=1 << 30, flow_bytes=1 << 30)
    for _ in range(400):
        waiting.push_data(b"a" * 8192, A)
        waiting.push_data(b"b" * 16384, B)
    taken = [frame for _ in range(50) for frame in waiting.take_data(32768)]
    sizes = {letter: sum(len(frame) for frame in taken if frame[:1] == letter) for letter in (b"a", b"b")}
    assert abs(sizes[b"a"] - sizes[b"b"]) <= 2 * 16384


def test_small_frames_weigh_more():
    """A flow of small frames gets four times the share of one of large frames."""
    waiting = queue(data_bytes=1 << 30, flow_bytes=1 << 30)
    for _ in range(8000):
        waiting.push_data(b"a" * 512, A)
    for _ in range(400):
        waiting.push_data(b"b" * 16384, B)
    taken = [frame for _ in range(40) for frame in waiting.take_data(32768)]
    small = sum(len(frame) for frame in taken if frame[:1] == b"a")
    large = sum(len(frame) for frame in taken if frame[:1] == b"b")
    assert 3 < small / large < 5


def test_the_greedy_flow_pays():
    """Over the total limit the oldest frame of the largest flow goes, and its owner is told."""
    dropped = []
    room = DataRoom(dropped=lambda flow, frame: dropped.append((flow, frame)))
    waiting = EgressQueue(Counters(), room=room, data_bytes=100)
    waiting.push_data(b"b" * 20, B)
    for number in range(10):
        waiting.push_data(b"%02d" % number + b"a" * 8, A)
    assert dropped == [(A, b"00aaaaaaaa"), (A, b"01aaaaaaaa")]
    assert waiting.data_bytes == 100


def test_a_flow_has_its_own_limit_and_flows_have_a_number():
    """One flow may not fill the queue, nor may a thousand flows."""
    counters = Counters()
    waiting = EgressQueue(counters, flow_bytes=30, flows=2)
    for _ in range(5):
        assert waiting.push_data(b"a" * 10, A)
    assert waiting.data_bytes == 30
    assert waiting.push_data(b"b", B)
    assert not waiting.push_data(b"c", C)
    assert counters == {"data-flow-full": 2, "data-flows-full": 1}


def of(neighbour: bytes, number: int) -> bytes:
    """A flow that came from this neighbour."""
    return neighbour * 8 + number.to_bytes(8, "big") * 2


def taken_of(frames: list[bytes], first: bytes) -> int:
    """Bytes of the frames that begin so."""
    return sum(len(frame) for frame in frames if frame[:1] == first)


def test_c6_neighbours_share_before_their_flows():
    """One with 250 flows of small frames and one with a single flow of large ones: each gets half."""
    waiting = queue(data_bytes=1 << 30, flow_bytes=1 << 30)
    for number in range(250):
        for _ in range(20):
            waiting.push_data(b"h" * 500, of(b"H", number))
    for _ in range(200):
        waiting.push_data(b"m" * 8000, of(b"M", 0))
    taken = [frame for _ in range(60) for frame in waiting.take_data(32768)]
    assert abs(taken_of(taken, b"h") - taken_of(taken, b"m")) <= 2 * 16384


def test_c6_a_full_queue_takes_from_the_neighbour_of_which_most_waits():
    """Flooded in 100 flows, each smaller than the one of another neighbour, that one loses nothing."""
    lost = set()
    room = DataRoom(dropped=lambda flow, frame: lost.add(flow[:1]))
    waiting = EgressQueue(Counters(), room=room, data_bytes=10_000)
    for _ in range(40):
        waiting.push_data(b"m" * 100, of(b"M", 0))
    for number in range(1000):
        waiting.push_data(b"h" * 100, of(b"H", number % 100))
    assert lost == {b"H"} and waiting.data_bytes == 10_000


def test_c6_flows_of_one_neighbour_are_bounded():
    """Whoever has used up their flows is refused new ones; all other neighbours begin theirs."""
    counters = Counters()
    waiting = EgressQueue(counters)
    taken = [waiting.push_data(b"h", of(b"H", number)) for number in range(DATA_FLOWS + 10)]
    assert taken.count(True) == DATA_FLOWS and counters == {"data-flows-full": 10}
    names = [bytes([number]) for number in range(100, 200)]
    for number in range(DATA_FLOWS):
        for name in names:
            assert waiting.push_data(b"m", of(name, number)) or number >= DATA_FLOWS_ALL // 101
    assert waiting.flows <= DATA_FLOWS + DATA_FLOWS_ALL


@pytest.mark.parametrize("burst", [1, 4, 16])
def test_c6_who_sends_a_little_goes_first_and_no_more_than_others(burst):
    """Behind a backlog a first frame leaves next; sent so without end, they get two turns of three."""
    waiting = queue(data_bytes=1 << 30, flow_bytes=1 << 30)
    for _ in range(4000):
        waiting.push_data(b"m" * 1000, of(b"M", 0))
    waiting.take_data(50_000)
    waiting.push_data(b"h" * 1000, of(b"H", 0))
    assert waiting.take_data(1000) == [b"h" * 1000]
    taken, unsent = [], 0
    for _ in range(3000):
        if unsent == 0:
            unsent = burst
            for _ in range(burst):
                waiting.push_data(b"h" * 1000, of(b"H", 0))
        [frame] = waiting.take_data(1000)
        unsent -= frame[:1] == b"h"
        taken.append(frame)
    assert 0 < taken_of(taken, b"h") <= 2 / 3 * sum(map(len, taken))


def test_many_slow_links_share_one_room():
    """Fifty links that take nothing stay within the room of the node; a small flow on another keeps all."""
    lost = set()
    counters, room = Counters(), DataRoom(100_000, lambda flow, frame: lost.add(flow))
    slow = [EgressQueue(counters, room=room) for _ in range(50)]
    good = EgressQueue(counters, room=room)
    for _ in range(20):
        for link in slow:
            link.push_data(b"a" * 1000, A)
            link.push_data(b"b" * 400, B)
            assert room.held == sum(each.data_bytes for each in (*slow, good)) <= room.limit
        assert good.push_data(b"c" * 700, C)
        assert good.take_data(10_000) == [b"c" * 700]
    assert lost == {A, B}
    held = [link.data_bytes for link in slow]
    assert min(held) > 0 and max(held) <= room.limit - room.held + 1400
    assert set(counters) == {"data-node-full"}


def test_the_room_comes_back():
    """What a link sends, purges or forgets is room for the others; then one may fill its queue again."""
    room = DataRoom(1000)
    one, two = (EgressQueue(Counters(), room=room, data_bytes=900) for _ in range(2))
    for _ in range(20):
        one.push_data(b"a" * 100, A)
        two.push_data(b"b" * 100, B)
    assert one.data_bytes == two.data_bytes == 300
    one.take_data(150)
    one.clear()
    assert room.held == two.data_bytes
    two.purge(B[8:])
    assert room.held == 0
    for _ in range(20):
        one.push_data(b"a" * 100, A)
    assert one.data_bytes == room.held == 500


def test_a_crowded_node_pauses_its_own_senders():
    """Frames of this host are not dropped for want of room: who writes them waits, even in a short queue."""
    paused = []

    class Producer:
        def pauseProducing(self):
            paused.append(A)

    room = DataRoom(10_000)
    full, own = (EgressQueue(Counters(), room=room) for _ in range(2))
    own.add_sender(A, Producer())
    for _ in range(3):
        own.push_data(b"b" * 100, B)
    own.push_data(b"a" * 100, A)
    assert paused == []
    for _ in range(20):
        full.push_data(b"c" * 900, C)
    for _ in range(40):
        own.push_data(b"a" * 100, A)
    assert paused == [A]
    assert own.data_bytes >= 4100


def test_a_flow_whose_sender_left_goes_on():
    """As when its path changed: what is still sent this way, an answer, is queued like all else."""

    class Producer:
        def pauseProducing(self):
            pass

    waiting = EgressQueue(Counters(), flow_bytes=10_000)
    waiting.add_sender(A, Producer())
    assert waiting.push_data(b"a" * 5000, A)
    waiting.remove_sender(A)
    for number in range(3):
        assert waiting.push_data(b"%d" % number * 3000, A)
    assert waiting.data_bytes == 9000
    waiting.add_sender(A, Producer())
    assert not waiting.push_data(b"a" * 5000, A)
    waiting.remove_sender(A)
    assert b"".join(waiting.take_data(100_000)) == b"0" * 3000 + b"1" * 3000 + b"2" * 3000
    assert waiting.data_bytes == 0


def test_what_is_queued_is_a_copy():
    """A slice of a received record is copied, so that the record is not kept alive or changed under us."""
    waiting = queue()
    record = bytearray(b"0123456789")
    waiting.push_data(memoryview(record)[2:5], A)
    record[2:5] = b"xxx"
    assert waiting.take_data(100) == [b"234"]


def test_purge_drops_both_directions_of_a_node():
    """Frames from and to a revoked node go, others stay."""
    waiting = queue()
    one, two, three = b"1" * 8, b"2" * 8, b"3" * 8
    for flow in (one + two, two + one, two + three):
        waiting.push_data(flow, flow)
    waiting.purge(one)
    assert waiting.take_data(1000) == [two + three]
    assert waiting.data_bytes == 0 and waiting.flows == 0


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from([A, B, C]), st.integers(1, 60)),
        st.tuples(st.just("take"), st.integers(1, 200)),
        st.tuples(st.just("purge"), st.sampled_from([A[8:], B[8:]])),
    ),
    max_size=80,
)


@given(OPERATIONS)
def test_a_naive_twin_agrees(operations):
    """Each flow stays in order, nothing is invented, and bytes are counted right, whatever happens."""
    lost = []
    room = DataRoom(dropped=lambda flow, frame: lost.append(frame))
    waiting = EgressQueue(Counters(), data_bytes=300, flow_bytes=150, flows=2, room=room)
    twin = {A: [], B: [], C: []}
    serial = 0
    for operation, *arguments in operations:
        if operation == "push":
            flow, size = arguments
            serial += 1
            frame = b"%06d" % serial + flow[-1:] + b"." * size
            if waiting.push_data(frame, flow):
                twin[flow].append(frame)
            else:
                assert sum(bool(frames) for frames in twin.values()) == 2 and not twin[flow]
            for each in lost:
                assert twin[BY_LETTER[each[6:7]]].pop(0) == each
            lost.clear()
        elif operation == "take":
            taken = waiting.take_data(arguments[0])
            for frame in taken:
                assert twin[BY_LETTER[frame[6:7]]].pop(0) == frame
            assert sum(map(len, taken[:-1])) < arguments[0]
            assert taken or not any(twin.values())
        else:
            waiting.purge(arguments[0])
            twin[BY_LETTER[arguments[0][:1]]] = []
        sizes = {flow: sum(map(len, frames)) for flow, frames in twin.items()}
        assert room.held == waiting.data_bytes == sum(sizes.values()) <= 300
        assert max(sizes.values()) <= 150
        assert waiting.flows == sum(map(bool, twin.values()))
