# SPDX-License-Identifier: MIT
"""
The streams of two peers, joined by a channel in memory that loses, copies and reorders whole sealed frames.

No keys, no nodes: what is tried here is what the frames of streams do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from trust.network import Network

from gmesh.endtoend.limits import MAX_BATCH, MAX_SEGMENT
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.stream_errors import StreamCode
from gmesh.streams.frame_reader import FrameReader
from gmesh.streams.mux import StreamMux
from gmesh.streams.mux_owner import MuxOwner
from gmesh.streams.offers import StreamOffer
from gmesh.streams.stream import Stream
from gmesh.testing.clock import EventClock
from gmesh.wire.frames import iter_frames
from gmesh.wire.messages import Feature, Inner

DELAY = 0.01


class Channel:
    """
    One direction: what C{BatchSender} does for streams, without anything below it.

    @ivar decide: gives the delays after which copies of a plaintext arrive.
    @ivar sent: every plaintext that left.
    @ivar routed: False while there is no path.
    @ivar room: how many segments it takes before it pauses its producer; None for no end.
    """

    srtt: float | None = None

    def __init__(self, clock: EventClock) -> None:
        self.clock = clock
        self.segment_limit = MAX_BATCH
        self.path_generation = 0
        self.decide: Callable[[bytes], Sequence[float]] = lambda plaintext: (DELAY,)
        self.sent: list[bytes] = []
        self.arrived: Callable[[bytes], object] = lambda plaintext: None
        self.producers: dict[Any, None] = {}
        self.room: int | None = None
        self.losses = 0
        self.routed = True
        self.blames: list[int] = []
        self.samples: list[float] = []

    def segment(self, pieces: Sequence[bytes | memoryview], size: int, probe: bool = False) -> bool:
        plaintext = b"".join(pieces)
        assert len(plaintext) == size
        alone = [kind for kind, _, _ in iter_frames(plaintext)].count(Inner.DATA) == 1
        assert size <= self.segment_limit + 400 or (alone and size <= MAX_SEGMENT)
        if not self.routed:
            return False
        if self.room == 0 and not probe:
            for producer in self.producers:
                producer.pauseProducing()
            return False
        if self.room:
            self.room -= 1
        self.answer(plaintext)
        return True

    apart: bool = False

    def answer(self, frame: bytes) -> None:
        self.sent.append(frame)
        for delay in self.decide(frame):
            self.clock.callLater(delay, lambda: self.arrived(frame))

    def make_room(self, room: int | None) -> None:
        """There is room again."""
        self.room = room
        for producer in list(self.producers):
            producer.resumeProducing()

    def leave(self) -> None:
        pass

    def gather(self) -> int:
        return 1

    def add_producer(self, producer: Any) -> None:
        self.producers[producer] = None

    def remove_producer(self, producer: Any) -> None:
        self.producers.pop(producer, None)

    def lost(self, now: float) -> None:
        self.losses += 1

    def sample(self, rtt: float) -> None:
        self.samples.append(rtt)

    def blame(self, generation: int, sent: float) -> None:
        self.blames.append(generation)


class End(MuxOwner):
    """
    What one node has of the other.

    @ivar offers: streams that the other opened and nobody took yet.
    @ivar refusing: why it refuses what is opened, if it does.
    """

    def __init__(self, clock: EventClock, random: Random, own: Peer, peer: Peer) -> None:
        super().__init__(clock, random)
        self.channel = Channel(clock)
        self.offers: list[StreamOffer] = []
        self.refusing: tuple[StreamCode, str] | None = None
        self.forgotten = 0
        self._own = own
        self.mux = StreamMux(self, peer, self.channel, int(own.handle > peer.handle))

    def own(self) -> Peer:
        return self._own

    def refusal(self, peer: Peer, service: str) -> tuple[StreamCode, str] | None:
        return self.refusing

    def begun(self, stream: Stream) -> None:
        pass

    def offer(self, stream: Stream) -> None:
        self.offers.append(StreamOffer(self.clock, stream))

    def ended(self, stream: Stream, reason: str, detail: str) -> None:
        pass

    def judge(self, mux: FrameReader) -> None:
        pass

    def forget(self, mux: FrameReader) -> None:
        self.forgotten += 1

    def associate(self, peer: Peer) -> None:
        pass

    def unable(self, peer: Peer) -> str:
        return f"{peer.name} runs gmesh/0.0, which has no streams"


class TwoEnds:
    """
    The two of them.

    @param seed: decides what the channel does to a frame when it is C{rough}.
    """

    def __init__(self, seed: int = 0) -> None:
        self.clock = EventClock()
        self.random = Random(seed)
        network = Network()
        one, other = (
            peer_of(network.certificate(name, serial=serial)) for serial, name in enumerate("ab", 1)
        )
        self.a = End(self.clock, self.random, one, other)
        self.b = End(self.clock, self.random, other, one)
        self.a.channel.arrived = lambda plaintext: self.b.mux.received(one, plaintext)
        self.b.channel.arrived = lambda plaintext: self.a.mux.received(other, plaintext)
        self.peers = {"a": one, "b": other}
        self.introduce()

    def introduce(self, boots: Sequence[bytes] = (b"boot-a", b"boot-b")) -> None:
        """There are keys, and each has heard the other."""
        self.a.mux.heard(boots[1], Feature.STREAMS)
        self.b.mux.heard(boots[0], Feature.STREAMS)

    def rough(self, lost: float, copied: float = 0.0, jitter: float = 0.0) -> None:
        """Lose and copy this share of frames, and delay each by up to C{jitter} more."""

        def decide(plaintext: bytes) -> Sequence[float]:
            if self.random.random() < lost:
                return ()
            copies = 2 if self.random.random() < copied else 1
            return tuple(DELAY + self.random.random() * jitter for _ in range(copies))

        for end in (self.a, self.b):
            end.channel.decide = decide

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def until(self, holds: Callable[[], Any], within: float = 600.0) -> None:
        """Let time pass until something holds."""
        end = self.clock.seconds() + within
        while not holds():
            assert self.clock.step(end), "it never happens"

    def open(self, near: Any, far: Any, service: str = "web") -> tuple[Stream, Stream]:
        """A stream from a to b, open at both ends."""
        stream = self.a.mux.open(service)
        assert isinstance(stream, Stream), stream
        stream.accepted = lambda: stream.connect(near)
        self.until(lambda: self.b.offers)
        offer = self.b.offers.pop()
        assert offer.accept(far)
        self.until(lambda: near.transport is not None)
        return stream, far.transport
