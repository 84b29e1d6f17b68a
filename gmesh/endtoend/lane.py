# SPDX-License-Identifier: MIT
"""
The way out to one peer: messages of one reactor turn share a seal, and who writes too fast is paused.

The first message of a turn leaves at once, unless a producer writes it.  Those that follow in the same
turn are gathered, up to L{Lane.limit}, and sealed as one frame: the seal is the dearest part of a small
message.  The frames of a turn leave together, and where they are large those of the next one with them, so
that keys, path and link are looked up once for all.

Producers of the application are paused for want of keys, of room in the first link, or of window: a
relay drops what its next link has no room for, so no more is under way than the far end has said it
reached.  It is asked in the stream of messages itself, every quarter of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from gmesh.endtoend.limits import BATCH, BUNDLE_FIRST, BUNDLE_MOST, BUNDLE_SLOW
from gmesh.endtoend.sessions import Sessions
from gmesh.endtoend.window import Window
from gmesh.errors import SendRefused
from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Inner, Mark

__all__ = ["CLOSED", "Lane"]

CLOSED = 0
"""The token of a lane that gathers nothing."""


@implementer(IPushProducer)
class Lane:
    """
    What leaves for one peer.

    @ivar token: names the time in which messages may be added to C{parts} without asking anything
        again; L{CLOSED} when there is none.
    @ivar parts: inner frames, in pieces, that wait for the end of the turn.
    @ivar size: their bytes.
    @ivar limit: how many bytes may share a seal: few where the round trip is long.
    @ivar path: the path of the last frame.
    """

    __slots__ = (
        "_batch",
        "_call",
        "_clock",
        "_full",
        "_keyless",
        "_late_call",
        "_link",
        "_paused",
        "_producers",
        "_sessions",
        "_stalled",
        "_tokens",
        "_waited",
        "_window",
        "flow",
        "limit",
        "parts",
        "path",
        "peer",
        "size",
        "token",
    )

    def __init__(self, sessions: Sessions, clock: IReactorTime, own: bytes, peer: Peer) -> None:
        self.peer = peer
        self.flow = own + peer.handle
        self.token = CLOSED
        self.parts: list[bytes] = []
        self.size = 0
        self.limit = BUNDLE_FIRST
        self.path: tuple[bytes, ...] | None = None
        self._batch: list[list[bytes]] = []
        self._sessions = sessions
        self._clock = clock
        self._tokens = CLOSED
        self._call: IDelayedCall | None = None
        self._link: ILink | None = None
        self._keyless = False
        self._paused = False
        self._producers: dict[IPushProducer, None] = {}
        self._stalled: dict[IPushProducer, None] = {}
        self._window = Window()
        self._full = False
        self._late_call: IDelayedCall | None = None
        self._waited = False

    @property
    def idle(self) -> bool:
        """True if nobody would miss it."""
        return not self._producers and not self.parts and not self._batch

    # writing

    def gather(self) -> int:
        """Begin to gather, until the end of this turn. @return: the token, L{CLOSED} while paused."""
        if self._paused or self._keyless or not self._sessions.ready(self.peer):
            self.token = CLOSED
        elif self.token == CLOSED:
            self.token = self._tokens = self._tokens + 1
            if self._call is None:
                self._call = self._clock.callLater(0, self._turn_over)
        return self.token

    def put(self, frame: bytes) -> None:
        """
        Send an inner frame, the first of a turn at once, others gathered.

        @raise SendRefused: C{busy}, if there is no room.
        """
        if self.token != CLOSED and self.size + len(frame) <= self.limit:
            self.parts.append(frame)
            self.size += len(frame)
        else:
            self.gather()
            self.send(frame)

    def send(self, plaintext: bytes) -> None:
        """
        Seal and send now, after what was gathered.

        @raise SendRefused: C{busy}, if there is no room.
        """
        self.flush()
        pieces = [plaintext]
        if self._window.send(len(plaintext)):
            pieces.append(self._question())
        if self._leave([pieces]):
            raise SendRefused("busy", f"the queue towards {self.peer.name} is full")

    def cut(self) -> None:
        """What was gathered is a frame; what follows goes into another."""
        pieces, self.parts = self.parts, []
        window = self._window
        if window.send(self.size):
            pieces.append(self._question())
        self.size = 0
        self._batch.append(pieces)
        if len(self._batch) >= BATCH or window.full:
            self.flush()

    def flush(self) -> None:
        """Seal and send what was gathered."""
        if self.parts:
            self.cut()
        if self._batch:
            batch, self._batch = self._batch, []
            lost = self._leave(batch)
            if lost:
                self._sessions.counters["bundle-lost"] += lost

    def _question(self) -> bytes:
        """How far the far end has got."""
        mark = self._window.question(self._clock.seconds())
        return pack_frame(Inner.ASK, Mark(mark).encode())

    def _leave(self, plaintexts: Sequence[Sequence[bytes]]) -> int:
        """Send now, or when there are keys. @return: how many are lost."""
        sessions = self._sessions
        unsent = sessions.send_all(self.peer, plaintexts, self)
        if unsent:
            if sessions.ready(self.peer):
                return len(unsent)
            for pieces in unsent:
                sessions.hold(self.peer, b"".join(pieces))
            self._keyless = True
            self._stall()
        elif self._producers and not self._full and self._window.full:
            self._full = True
            self._stall()
            self._wait()
        return 0

    def _turn_over(self) -> None:
        """A turn that filled frames is followed by more: those of two turns leave together."""
        self._call = None
        if self._batch and not self._waited:
            self._waited = True
            self._call = self._clock.callLater(0, self._turn_over)
            return
        self._waited = False
        self.token = CLOSED
        link = self._link
        if link is None:
            self.flush()
            return
        link.hold()
        try:
            self.flush()
        finally:
            link.release()

    # the window

    def reached(self, mark: int) -> None:
        """The far end has all that was sent before C{mark}, or it is lost."""
        window = self._window
        if not window.answer(mark, self._clock.seconds()):
            return
        self.limit = BUNDLE_SLOW if window.pace.slow else BUNDLE_MOST
        self._full = self._full and window.full
        self._resume()

    def bounced(self) -> None:
        """A relay dropped something."""
        self._window.pace.dropped(self._clock.seconds())

    def _late(self, reached: int) -> None:
        """Producers wait for an answer: if none came for so long, what was asked about is lost."""
        self._late_call = None
        if not self._full:
            return
        if self._window.reached == reached:
            self._window.silent()
            self._sessions.blame(self.peer)
            self._full = False
        else:
            self._wait()
        self._resume()

    def _wait(self) -> None:
        """See in time that an answer came."""
        if self._late_call is None:
            self._late_call = self._clock.callLater(self._window.pace.rto, self._late, self._window.reached)

    # pausing

    def add_producer(self, producer: IPushProducer) -> None:
        """Tell C{producer} to pause and to resume from now on."""
        self._producers[producer] = None
        if self._paused or self._keyless or self._full:
            self._stall()

    def remove_producer(self, producer: IPushProducer) -> None:
        """Tell it no more."""
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
        self._link = None
        self.path = None
        self._paused = False
        self._resume()

    def ready(self) -> None:
        """There are keys to seal with."""
        self._keyless = False
        self._resume()

    def close(self) -> None:
        """The peer was given up: forget what was gathered; producers go on, to be told why."""
        self.token = CLOSED
        self.parts.clear()
        self._batch.clear()
        self.size = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._late_call is not None:
            self._late_call.cancel()
            self._late_call = None
        self.follow(None, None)
        self._window.forget()
        self._paused = self._keyless = self._full = self._waited = False
        self._resume()

    def _stall(self) -> None:
        self.token = CLOSED
        for producer in list(self._producers):
            if producer not in self._stalled:
                self._stalled[producer] = None
                producer.pauseProducing()

    def _resume(self) -> None:
        """Let producers go on, the one that was paused first first, until one fills the link again."""
        while self._stalled and not (self._paused or self._keyless or self._full):
            producer = next(iter(self._stalled))
            del self._stalled[producer]
            producer.resumeProducing()

    def follow(self, path: tuple[bytes, ...] | None, link: ILink | None) -> None:
        """Frames leave along C{path} from now on: its first link does the pausing."""
        self.path = path
        old, self._link = self._link, link
        if link is old:
            return
        if old is not None:
            old.unregister_sender(self.flow)
        if link is not None:
            link.register_sender(self.flow, self)
        if self._paused:
            self._paused = False
            self._resume()
