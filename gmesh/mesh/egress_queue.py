# SPDX-License-Identifier: MIT
"""
The queue of one link: control strictly first, then data, bounded and fair between those it came from.

Data is served by deficit round robin in two levels: between the neighbours that it came from, of which this
node itself is one, and between the flows of each.  So who opens many flows shares their own part among them.
A neighbour of which little waits goes before those of which much does (FQ-CoDel, RFC 8290, section 4.2).
When there is too much of it, or it has waited too long, the oldest frame of the largest flow goes of the
neighbour of which most waits: who is greedy pays for it.

A flow is named by the handles of the node it came from, its source and its destination; the first may be
left out where it is the source.  Frames are copied on entry: a slice would keep the whole record it was
received in alive.  A flow of a local sender is never dropped: its producer is paused instead.
All links of a node share one room: each may hold as much as is still free of it, so that many slow
links together stay within it, and one that holds little always finds some.  What is queued from or to a
revoked node is purged by L{gmesh.mesh.route_updates}, in the turn of the revocation.
Tests: C{tests/mesh/test_egress_queue.py}, C{tests/node/test_shared_relay.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer

from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import (
    CONTROL_QUEUE_BYTES,
    DATA_FLOW_BYTES,
    DATA_FLOWS,
    DATA_FLOWS_ALL,
    DATA_QUEUE_BYTES,
    DRR_QUANTUM,
    NODE_DATA_BYTES,
    SENDER_HIGH_WATER,
    SENDER_LOW_WATER,
    SMALL_FRAME,
    SMALL_FRAME_WEIGHT,
    SOJOURN,
    SOJOURN_FRAMES,
)
from gmesh.wire.limits import HANDLE

__all__ = ["DataRoom", "EgressQueue"]


class DataRoom:
    """
    Room for the data that waits for all links of a node.

    @ivar limit: bytes.
    @ivar dropped: called with the flow and the frame of every data frame that a queue took and then dropped.
    @ivar held: bytes that wait now, the sum over the queues.
    """

    __slots__ = ("dropped", "held", "limit")

    def __init__(
        self, limit: int = NODE_DATA_BYTES, dropped: Callable[[bytes, bytes], None] | None = None
    ) -> None:
        self.limit = limit
        self.dropped = dropped
        self.held = 0


class _Ingress:
    """
    What came from one neighbour.

    @ivar relayed: bytes of it that may be dropped.
    @ivar turn: its flows, the next one to be served first.
    """

    __slots__ = ("deficit", "name", "relayed", "turn")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.turn: deque[_Flow] = deque()
        self.relayed = 0
        self.deficit = DRR_QUANTUM


class _Flow:
    __slots__ = ("arrived", "deficit", "frames", "ingress", "local", "name", "size")

    def __init__(self, name: bytes, ingress: _Ingress, local: bool) -> None:
        self.name = name
        self.ingress = ingress
        self.local = local
        self.frames: deque[bytes] = deque()
        self.arrived: deque[float] = deque()
        self.size = 0
        self.deficit = 0

    def pop(self) -> bytes:
        frame = self.frames.popleft()
        self.arrived.popleft()
        self.size -= len(frame)
        if not self.local:
            self.ingress.relayed -= len(frame)
        return frame


class EgressQueue:
    """
    Frames for one link that its transport cannot take yet.

    @param counters: counts every drop, by cause.
    @param flows: how many of one neighbour may wait; of many neighbours, each may have less.
    @param room: shared with the other links of the node.
    @ivar pace: seconds the transport takes for a byte, as last seen.
    """

    def __init__(
        self,
        counters: Counters,
        control_bytes: int = CONTROL_QUEUE_BYTES,
        data_bytes: int = DATA_QUEUE_BYTES,
        flow_bytes: int = DATA_FLOW_BYTES,
        flows: int = DATA_FLOWS,
        room: DataRoom | None = None,
    ) -> None:
        self._counters = counters
        self._room = DataRoom() if room is None else room
        self._control_limit = control_bytes
        self._data_limit = data_bytes
        self._flow_limit = flow_bytes
        self._flows_limit = flows
        self._control: deque[bytes] = deque()
        self._flows: dict[bytes, _Flow] = {}
        self._ingresses: dict[bytes, _Ingress] = {}
        self._new: deque[_Ingress] = deque()
        self._turn: deque[_Ingress] = deque()
        self._senders: dict[bytes, IPushProducer] = {}
        self._paused: dict[bytes, None] = {}
        self.control_bytes = 0
        self.data_bytes = 0
        self.pace = 0.0

    def __bool__(self) -> bool:
        return bool(self.control_bytes or self.data_bytes)

    @property
    def flows(self) -> int:
        """How many flows wait."""
        return len(self._flows)

    def push_control(self, frame: bytes) -> bool:
        """Queue a control frame. @return: False if there is no room, after which the link cannot go on."""
        if self.control_bytes + len(frame) > self._control_limit:
            self._counters.count("control-queue-full")
            return False
        self._control.append(frame)
        self.control_bytes += len(frame)
        return True

    def push_data(self, frame: bytes | memoryview, flow: bytes, now: float = 0.0) -> bool:
        """
        Queue a data frame, dropping what has waited longest where the limits say so.

        @return: True if it was taken.
        """
        state = self._flows.get(flow)
        if state is None:
            state = self._begin(flow)
            if state is None:
                self._counters.count("data-flows-full")
                return False
        held = bytes(frame)
        size = len(held)
        if state.local:
            if state.size + size > self._flow_limit:
                self._counters.count("data-sender-unpaused")
                return False
            self._pause(flow, state.size + size)
        else:
            state.ingress.relayed += size
        state.frames.append(held)
        state.arrived.append(now)
        state.size += size
        self.data_bytes += size
        self._room.held += size
        self._drop_excess(state, now)
        return True

    def add_sender(self, flow: bytes, producer: IPushProducer) -> None:
        """From now on pause C{producer}, which writes this flow, rather than drop frames of it."""
        self._senders[flow] = producer
        state = self._flows.get(flow)
        if state is not None and not state.local:
            state.local = True
            state.ingress.relayed -= state.size

    def remove_sender(self, flow: bytes) -> None:
        """The producer is done; what it wrote still goes, as if it were relayed."""
        self._senders.pop(flow, None)
        self._paused.pop(flow, None)
        state = self._flows.get(flow)
        if state is not None and state.local:
            state.local = False
            state.ingress.relayed += state.size

    def resume_senders(self) -> None:
        """There is room: resume the senders whose own flow has little left, in the order they were paused."""
        for flow in list(self._paused):
            state = self._flows.get(flow)
            if state is None or state.size <= SENDER_LOW_WATER:
                self._paused.pop(flow, None)
                producer = self._senders.get(flow)
                if producer is not None:
                    producer.resumeProducing()

    def take_control(self, limit: int) -> list[bytes]:
        """The control frames that fit into C{limit} bytes, in order; at least one if any waits."""
        taken: list[bytes] = []
        size = 0
        control = self._control
        while control and (not taken or size + len(control[0]) <= limit):
            frame = control.popleft()
            size += len(frame)
            taken.append(frame)
        self.control_bytes -= size
        return taken

    def take_data(self, limit: int) -> list[bytes]:
        """Data frames, fairly, as many as fit into C{limit} bytes, if that is above 0 at least one."""
        taken: list[bytes] = []
        size = 0
        while self.data_bytes > size < limit:
            ingress = (self._new or self._turn)[0]
            if ingress.deficit <= 0 or not ingress.turn:
                self._pass(ingress)
                continue
            state = ingress.turn[0]
            if state.deficit <= 0:
                small = len(state.frames[0]) <= SMALL_FRAME
                state.deficit += DRR_QUANTUM * (SMALL_FRAME_WEIGHT if small else 1)
            while state.frames and state.deficit > 0 and ingress.deficit > 0:
                if taken and size + len(state.frames[0]) > limit:
                    self._freed(size)
                    return taken
                frame = state.pop()
                length = len(frame)
                state.deficit -= length
                ingress.deficit -= length
                size += length
                taken.append(frame)
            if not state.frames:
                self._end(state)
            elif state.deficit <= 0:
                ingress.turn.rotate(-1)
        self._freed(size)
        if not self.data_bytes:
            self._forget_ingresses()
        return taken

    def stop_senders(self) -> None:
        """The link is gone: stop them."""
        senders, self._senders = self._senders, {}
        self._paused.clear()
        for producer in senders.values():
            producer.stopProducing()

    def purge(self, handle: bytes) -> None:
        """Drop what comes from or goes to a revoked node."""
        ends = (slice(-2 * HANDLE, -HANDLE), slice(-HANDLE, None))
        for name in [each for each in self._flows if handle in (each[ends[0]], each[ends[1]])]:
            state = self._flows[name]
            self._counters.count("data-purged", len(state.frames))
            self._freed(state.size)
            if not state.local:
                state.ingress.relayed -= state.size
            self._end(state)

    def clear(self) -> None:
        """Forget everything: the link is gone."""
        waiting = sum(len(state.frames) for state in self._flows.values())
        if waiting:
            self._counters.count("data-link-lost", waiting)
        self._control.clear()
        self._flows.clear()
        self._forget_ingresses()
        self._freed(self.data_bytes)
        self.control_bytes = 0

    def _begin(self, name: bytes) -> _Flow | None:
        """A new flow, or None if its neighbour has too many."""
        source = name[:HANDLE]
        ingress = self._ingresses.get(source)
        if ingress is None:
            ingress = self._ingresses[source] = _Ingress(source)
            self._new.append(ingress)
        elif len(ingress.turn) >= min(self._flows_limit, max(1, DATA_FLOWS_ALL // len(self._ingresses))):
            return None
        flow = self._flows[name] = _Flow(name, ingress, name in self._senders)
        ingress.turn.append(flow)
        return flow

    def _end(self, flow: _Flow) -> None:
        """Nothing of it waits any more."""
        del self._flows[flow.name]
        flow.ingress.turn.remove(flow)

    def _pass(self, ingress: _Ingress) -> None:
        """
        The turn of a neighbour is over, since it had its share or nothing of it waits.

        One of which nothing waited goes before those of which much waits, but it is new again only when its
        turn among these has come too: so who sends a little, often, gets no more than the others.
        """
        ring = self._new or self._turn
        ring.popleft()
        if ingress.turn or ring is self._new:
            ingress.deficit += DRR_QUANTUM if ingress.deficit <= 0 else 0
            self._turn.append(ingress)
        else:
            del self._ingresses[ingress.name]

    def _forget_ingresses(self) -> None:
        self._ingresses.clear()
        self._new.clear()
        self._turn.clear()

    def _freed(self, size: int) -> None:
        self.data_bytes -= size
        self._room.held -= size

    def _pause(self, flow: bytes, size: int) -> None:
        """A sender alone on its link is paused at once, so that it goes on writing past the queue."""
        crowded = self.data_bytes > min(self._data_limit, self._room.limit - self._room.held) // 2
        if flow not in self._paused and (size > SENDER_HIGH_WATER or len(self._flows) == 1 or crowded):
            self._paused[flow] = None
            self._senders[flow].pauseProducing()

    def _drop_excess(self, flow: _Flow, now: float) -> None:
        while flow.size > self._flow_limit:
            self._drop_oldest(flow, "data-flow-full")
        while self.data_bytes > self._data_limit and self._drop_of_largest(flow, "data-queue-full"):
            pass
        room = self._room
        while self.data_bytes > room.limit - room.held and self._drop_of_largest(flow, "data-node-full"):
            pass
        if flow.frames and now > flow.arrived[0] + SOJOURN:
            patience = max(SOJOURN, SOJOURN_FRAMES * len(flow.frames[0]) * self.pace)
            if now > flow.arrived[0] + patience * len(self._ingresses):
                self._drop_of_largest(flow, "data-waited-long")

    def _drop_of_largest(self, pushed: _Flow, cause: str) -> bool:
        """Of several neighbours of which as much waits, the one that sent last pays."""
        greedy = max(self._ingresses.values(), key=lambda each: (each.relayed, each is pushed.ingress))
        if not greedy.relayed:
            return False
        relayed = (flow for flow in greedy.turn if not flow.local)
        self._drop_oldest(max(relayed, key=lambda each: each.size), cause)
        return True

    def _drop_oldest(self, flow: _Flow, cause: str) -> None:
        frame = flow.pop()
        self._freed(len(frame))
        if not flow.frames:
            self._end(flow)
        self._counters.count(cause)
        if self._room.dropped is not None:
            self._room.dropped(flow.name, frame)
