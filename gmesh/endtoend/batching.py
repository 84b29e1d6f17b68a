# SPDX-License-Identifier: MIT
"""
Batches to one peer: messages of one reactor turn share a seal, and a producer that writes too fast is paused.

The first message of a turn leaves at once, unless a producer writes it.  Those that follow in the same
turn are gathered, up to L{BatchSender.limit}, and sealed as one frame: the seal is the most expensive part
of a small message.  The frames of a turn leave together, and where they are large those of the next one with
them, so that keys, path and link are looked up once for all.

Producers of the application are paused while there are no keys, no room in the first link, or no window: a
relay drops what its next link has no room for, so no more is under way than the far end has reported.
It is asked in the stream of messages itself, every quarter of a window.

What answers the peer goes with all else, unless the peer's frames come by another path than ours go:
then it goes back the way they come, L{BatchSender.answer}.

Byte streams (L{gmesh.interfaces.IPeerStreams}) are one of these producers.  What they send is a sealed frame
by itself, L{BatchSender.segment}, under the same window.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from gmesh.endtoend.congestion import CongestionControl, InFlight
from gmesh.endtoend.limits import (
    ASK_EVERY,
    FRAMES_PER_WRITE,
    INITIAL_BATCH,
    MAX_BATCH,
    MAX_SEGMENT,
    SEGMENT_TIME,
    SEGMENTS_PER_WINDOW,
    SLOW_PATH_BATCH,
    TRIES_BEFORE_BLAME,
)
from gmesh.endtoend.path_selector import FirstLink, Path
from gmesh.endtoend.sealing import Pieces, Sealer
from gmesh.endtoend.session_set import SessionSet
from gmesh.endtoend.turn_end import together
from gmesh.endtoend.way_back import WayBack
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Inner, Mark

__all__ = ["CLOSED", "BatchSender"]

CLOSED = 0
"""The token of a sender that gathers nothing."""


@implementer(IPushProducer)
class BatchSender:
    """
    Sends to one peer what is not acknowledged message by message.

    @ivar keys: the sessions with the peer.
    @ivar token: names the time in which messages may be added to C{parts} without asking anything
        again; L{CLOSED} when there is none.
    @ivar parts: inner frames, in pieces, gathered for the end of the turn.
    @ivar size: their bytes.
    @ivar limit: how many bytes of messages may share a seal: few where the round trip is long.
    @ivar segment_limit: how many of byte streams: many where the path is fast.
    """

    __slots__ = (
        "_asked_at",
        "_asking",
        "_batch",
        "_call",
        "_clock",
        "_first_link",
        "_full",
        "_generation",
        "_in_flight",
        "_keyless",
        "_path",
        "_paused",
        "_producers",
        "_sealer",
        "_segments",
        "_stalled",
        "_tokens",
        "_vain",
        "_waited",
        "_watch_call",
        "_way_back",
        "keys",
        "limit",
        "parts",
        "segment_limit",
        "size",
        "token",
    )

    def __init__(self, sealer: Sealer, keys: SessionSet, clock: IReactorTime) -> None:
        self.keys = keys
        self.token = CLOSED
        self.parts: list[bytes] = []
        self.size = 0
        self.limit = self.segment_limit = INITIAL_BATCH
        self._way_back = WayBack(sealer, keys, self.put)
        self._asked_at = 0.0
        self._asking = False
        self._batch: list[Pieces] = []
        self._sealer = sealer
        self._clock = clock
        self._tokens = CLOSED
        self._call: IDelayedCall | None = None
        self._first_link = FirstLink(keys.own + keys.peer.handle, self)
        self._keyless = False
        self._paused = False
        self._producers: dict[IPushProducer, None] = {}
        self._stalled: dict[IPushProducer, None] = {}
        self._in_flight = InFlight()
        self._full = False
        self._generation = 0
        self._path: Path | None = None
        self._vain = 0
        self._watch_call: IDelayedCall | None = None
        self._waited = False
        self._segments = False

    # writing

    def gather(self) -> int:
        """Begin to gather, until the end of this turn. @return: the token, L{CLOSED} while paused."""
        if self._open() and self._call is None:
            self._call = self._clock.callLater(0, self._turn_over)
        return self.token

    def _open(self) -> bool:
        """@return: whether it was closed, and is no more."""
        if self._paused or self._keyless or self.keys.given_up or not self._sealer.ready(self.keys):
            self.token = CLOSED
        elif self.token == CLOSED:
            self.token = self._tokens = self._tokens + 1
            return True
        return False

    def put(self, frame: bytes) -> None:
        """
        Send an inner frame, the first of a turn at once, others gathered; all while a reader holds its end.

        @raise SendRefused: C{busy}, if there is no room.
        """
        size, turn = len(frame), self._sealer.turn
        if self.token == CLOSED and turn.held and self._open():
            turn.then(self._read)
        if self.token != CLOSED and self.size + size <= self.limit:
            self.parts.append(frame)
            self.size += size
        else:
            self.gather()
            self.send(frame)

    def _read(self) -> None:
        """All was read: what that made leaves, with what waits for the end of the turn if anything does."""
        if self._call is None:
            self.token = CLOSED
            self.leave()

    @property
    def apart(self) -> bool:
        """Whether the way back is another than that of all else."""
        return self._way_back.path(self._clock.seconds()) is not None

    def answer(self, frame: bytes, last: bool = False) -> Path | None:
        """
        Send an inner frame that answers what the peer sent, the way that came.

        @param last: no more answers are to be expected in this turn.
        @return: by which path, as far as it is known.
        @raise SendRefused: C{busy}, if there is no room.
        """
        back = self._way_back.path(self._clock.seconds())
        if back is None:
            (self.send if last else self.put)(frame)
            return self.keys.sent_by
        self._way_back.add(frame, self.limit)
        if last:
            self._way_back.leave()
        elif self._call is None:
            self._call = self._clock.callLater(0, self._turn_over)
        return back

    def send(self, plaintext: bytes) -> None:
        """
        Seal and send now, after what was gathered.

        @raise SendRefused: C{busy}, if there is no room.
        """
        self.flush()
        pieces = [plaintext]
        if self._in_flight.send(len(plaintext)):
            pieces.append(self._question())
        if self._leave([pieces]):
            raise SendRefused("busy", f"the queue towards {self.keys.peer.name} is full")

    def cut(self) -> None:
        """What was gathered is a frame; what follows goes into another."""
        pieces, self.parts = self.parts, []
        in_flight = self._in_flight
        if in_flight.send(self.size):
            pieces.append(self._question())
        self.size = 0
        self._batch.append(pieces)
        if len(self._batch) >= FRAMES_PER_WRITE or in_flight.full:
            self.flush()

    def flush(self) -> None:
        """Seal and send what was gathered."""
        if self.parts:
            self.cut()
        if self._batch:
            batch, self._batch = self._batch, []
            self._segments = False
            lost = self._leave(batch)
            if lost:
                self._sealer.counters["bundle-lost"] += lost

    def segment(self, pieces: Pieces, size: int, probe: bool = False) -> bool:
        """
        Send a sealed frame of exactly this, after what was gathered; call L{leave} after the last of several.

        Its path is that of L{path_generation} after this call.

        @param pieces: inner frames, whole when joined.
        @param size: their bytes, L{segment_limit} at most.
        @param probe: send it although the window is full, to learn whether anything arrives.
        @return: False if it was not taken: for want of keys, window or room, and then the producer is
            paused until there is some; or because there is no path, or the peer was given up.
        """
        if self._paused or self._keyless or self.keys.given_up:
            return False
        in_flight = self._in_flight
        if in_flight.full and not probe:
            self._wait_for_window()
            return False
        if self.parts:
            self.cut()
        if not self._segments and not self._departs():
            return False
        frame = list(pieces)
        if in_flight.send(size):
            frame.append(self._question())
        self._batch.append(frame)
        self._segments = True
        if len(self._batch) >= FRAMES_PER_WRITE:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(0, self._turn_over)
        return True

    def _departs(self) -> bool:
        """See that there are keys and a path for segments: all until they leave go by that path."""
        if not self._sealer.ready(self.keys):
            self._keyless = True
            self._stall()
            return False
        followed = self._sealer.follow(self.keys, self._first_link)
        if self._generation != self._first_link.generation:
            self._rerouted()
        return followed is not None and not self._paused

    def _rerouted(self) -> None:
        """Frames leave by another path than those before, if there were any."""
        if self._generation:
            self._in_flight.rerouted()
            self.segment_limit = self.limit
        self._generation = self._first_link.generation

    def leave(self) -> None:
        """Seal and send what was gathered, in as few records of the link as hold it."""
        together(self._first_link.link, self.flush)

    def _question(self) -> bytes:
        """How far the far end has got."""
        self._asking = True
        self._asked_at = now = self._clock.seconds()
        mark = self._in_flight.question(now)
        return pack_frame(Inner.ASK, Mark(mark).encode())

    def _leave(self, plaintexts: Sequence[Pieces]) -> int:
        """Send now, or when there are keys. @return: how many are lost."""
        sealer = self._sealer
        unsent = sealer.send_all(self.keys, plaintexts, self._first_link)
        if self._generation != self._first_link.generation:
            self._rerouted()
        if unsent:
            if sealer.ready(self.keys):
                return len(unsent)
            for pieces in unsent:
                sealer.hold(self.keys, b"".join(pieces))
            self._keyless = True
            self._stall()
            return 0
        if self._asking:
            self._asking = False
            self._path = self.keys.sent_by
        if self._producers and self._in_flight.full:
            self._wait_for_window()
        return 0

    def _wait_for_window(self) -> None:
        """No more may be under way: producers wait until the far end has some of it, or time is up."""
        if not self._full:
            self._full = True
            self._stall()
            self._watch_within(self._in_flight.control.rto)

    def _turn_over(self) -> None:
        """A turn that filled frames is followed by more: those of two turns leave together."""
        self._call = None
        self._way_back.leave()
        if self._batch and not self._waited:
            self._waited = True
            self._call = self._clock.callLater(0, self._turn_over)
            return
        self._waited = False
        self.token = CLOSED
        self.leave()

    # what is under way

    def reached(self, mark: int) -> None:
        """The far end has all that was sent before C{mark}, or it is lost."""
        in_flight = self._in_flight
        now = self._clock.seconds()
        asked = in_flight.asked_at(mark)
        if not in_flight.answer(mark, now):
            return
        self._vain = 0
        if asked is not None:
            self._sealer.paths.answered(self._path, asked, now)
        self._resize(in_flight.control)
        self._full = self._full and in_flight.full
        self._resume()

    def _resize(self, control: CongestionControl) -> None:
        """How much shares a seal from now on."""
        self.limit = SLOW_PATH_BATCH if control.slow else MAX_BATCH
        quick = min(control.delivery.rate * SEGMENT_TIME, control.cwnd / SEGMENTS_PER_WINDOW, MAX_SEGMENT)
        self.segment_limit = self.limit if control.slow else max(MAX_BATCH, int(quick))

    def bounced(self) -> None:
        """A relay dropped something."""
        self.lost(self._clock.seconds())

    # what byte streams learn of the path, and tell of it

    @property
    def path_generation(self) -> int:
        """Rises when frames leave by another path than those before."""
        return self._first_link.generation

    @property
    def srtt(self) -> float | None:
        """The smoothed round trip, seconds; None before the first."""
        return self._in_flight.control.srtt

    def lost(self, now: float) -> None:
        """Something was lost: the window shrinks, once a round trip."""
        self._in_flight.control.dropped(now)

    def sample(self, rtt: float) -> None:
        """A round trip took so many seconds, where there is too little traffic to ask the far end for it."""
        self._in_flight.control.sample(rtt)

    def least(self, rtt: float) -> None:
        """A handshake took so many seconds there and back."""
        self._in_flight.control.least(rtt)

    def blame(self, generation: int, sent: float) -> None:
        """What left at C{sent} by the path of then is not answered: try another, unless that was done."""
        if generation == self.path_generation:
            self._sealer.blame(self.keys, self._first_link.path, sent)

    def watch(self) -> None:
        """Messages leave: if they fill no quarter of a window, ask the far end about them before long."""
        if self._watch_call is None:
            self._watch_within(ASK_EVERY)

    def _watch_within(self, seconds: float) -> None:
        """See then whether an answer came."""
        if self._watch_call is not None:
            self._watch_call.cancel()
        self._watch_call = self._clock.callLater(seconds, self._watch, self._in_flight.reached)

    def _watch(self, reached: int) -> None:
        """Something is under way: ask about it, and if no answer comes in time, take it for lost."""
        self._watch_call = None
        in_flight = self._in_flight
        if in_flight.reached == in_flight.sent or self._keyless:
            return
        silent = in_flight.asked and in_flight.reached == reached and not self._paused
        if silent:
            self._vain += 1
            if self._full or self._vain >= TRIES_BEFORE_BLAME:
                self._give_up()
                return
        if not self._paused and (silent or not in_flight.asked):
            self._leave([[self._question()]])
        self._watch_within(in_flight.control.rto * 2**self._vain)

    def _give_up(self) -> None:
        """What was asked about is lost, and with it the path: the next message asks again, by another."""
        self._vain = 0
        self.segment_limit = self.limit
        self._in_flight.silent()
        self._sealer.blame(self.keys, self._path, self._asked_at)
        self._full = False
        self._resume()

    # pausing

    def add_producer(self, producer: IPushProducer) -> None:
        """Pause and resume C{producer} from now on."""
        self._producers[producer] = None
        if self._paused or self._keyless or self._full:
            self._stall()

    def remove_producer(self, producer: IPushProducer) -> None:
        """Pause it no more."""
        self._producers.pop(producer, None)
        self._stalled.pop(producer, None)

    def pauseProducing(self) -> None:
        """The first link has no more room."""
        self._paused = True
        self._stall()

    def resumeProducing(self) -> None:
        """It has room again."""
        self._paused = False
        self._resume()

    def stopProducing(self) -> None:
        """The first link is gone: another may have room."""
        self._first_link.lost()
        self._paused = False
        self._resume()

    def ready(self) -> None:
        """There are keys to seal with."""
        self._keyless = False
        self._resume()

    def close(self) -> None:
        """The keys are gone: forget what was gathered; producers go on and learn why."""
        self.token = CLOSED
        self.parts.clear()
        self._way_back.clear()
        self._batch.clear()
        self.size = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._watch_call is not None:
            self._watch_call.cancel()
            self._watch_call = None
        self._vain = 0
        self._first_link.follow(None, None)
        self._in_flight.forget()
        self.segment_limit = self.limit
        self._paused = self._keyless = self._full = self._waited = False
        self._resume()

    def _stall(self) -> None:
        self.token = CLOSED
        for producer in list(self._producers):
            if producer not in self._stalled:
                self._stalled[producer] = None
                producer.pauseProducing()

    def _resume(self) -> None:
        """Let producers go on in the order they were paused, until one fills the link again."""
        while self._stalled and not (self._paused or self._keyless or self._full):
            producer = next(iter(self._stalled))
            del self._stalled[producer]
            producer.resumeProducing()
