# SPDX-License-Identifier: MIT
"""
Passing frames on: may this header go where it says, and what happens when its next link is gone.

No cryptography beyond the hop.  Loop freedom does not rest on what the databases believe: a frame
carries its path, no path names a node twice, and a relay that must change it avoids every node
it has visited.  L{gmesh.mesh.data_protocol} asks once per header, remembers the verdict, and counts what each
neighbour may hand on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import FrameRefused
from gmesh.interfaces import ILink
from gmesh.mesh.counters import Counters
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.limits import (
    DROPPED_HEARD,
    MAX_NOTICE_FLOWS,
    MAX_TRANSITS,
    NOTICES_EACH,
    NOTICES_SENT,
    UNREACH_HEARD,
)
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.routing.database import OfferOutcome
from gmesh.routing.engine import RouteEngine
from gmesh.token_bucket import ClaimGate, Rate
from gmesh.wire.frames import Kind
from gmesh.wire.limits import MAX_SPLICES
from gmesh.wire.messages import Dropped, Unreach
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path, reply_path, splice

__all__ = ["UNKNOWN_DESTINATION", "Forwarding", "Refusal"]

E2E = frozenset({Kind.E2E_INIT, Kind.E2E_RESP, Kind.E2E_DATA})
NOTICES = frozenset({Kind.UNREACH, Kind.DROPPED})

Local = Callable[[int, PathHeader, memoryview, ILink], None]
SendOwn = Callable[[bytes, bytes, bytes], bool]
Undeliverable = Callable[[PathHeader, bytes, str], None]
Sent = Callable[[PathHeader, bytes], bool]


class Refusal(NamedTuple):
    """Why a header is not obeyed: the counter's name."""

    cause: str


UNKNOWN_DESTINATION = Refusal("forward-unknown-destination")
"""No record names it and no link leads to it: whoever made it up learns so at their first relay."""


class Forwarding(NeighbourObserver):
    """
    What the data halves of all links share.

    @param relays: whether we may be an interior hop: our own certificate's roles.
    @param revoked: whether a handle belongs to a revoked node.
    @param may_transit: whether traffic of this source may pass through us.
    """

    _log = Logger()

    def __init__(
        self,
        engine: RouteEngine,
        neighbours: Neighbours,
        flooding: Flooding,
        clock: IReactorTime,
        counters: Counters,
        relays: Callable[[], bool],
        revoked: Callable[[bytes], bool],
        may_transit: Callable[[bytes], bool] = lambda source: True,
    ) -> None:
        self.handle = engine.handle
        self.counters = counters
        self.local: Local | None = None
        self._undeliverable: Undeliverable | None = None
        self._sent: Sent | None = None
        self.links = neighbours.links
        self.generation = 0
        self._engine = engine
        self._flooding = flooding
        self._clock = clock
        self._relays = relays
        self._revoked = revoked
        self._may_transit = may_transit
        self._notices = _NoticeGates(NOTICES_SENT)
        self._heard = {b"u": _NoticeGates(UNREACH_HEARD), b"d": _NoticeGates(DROPPED_HEARD)}
        self._lost: dict[bytes, int] = {}
        self._lines = SpacedLog()
        self.transits: dict[tuple[bytes, ...], tuple[int, int]] = {}

    def serve(self, local: Local, undeliverable: Undeliverable, sent: Sent) -> None:
        """
        Serve the ends of this node, which send through L{sender} and so are made after this.

        @param local: takes E2E frames whose destination we are: kind, header, payload, the link they came by.
        @param undeliverable: called with the header, the destination of a frame of ours and C{unreachable}
            or C{dropped} about it.
        @param sent: whether a frame to this destination, with the index and the counter of this header, may
            be ours.
        """
        self.local, self._undeliverable, self._sent = local, undeliverable, sent

    def now(self) -> float:
        """The monotonic clock."""
        return self._clock.seconds()

    # -- links

    def link_up(self, neighbour: Neighbour) -> None:
        """Frames may leave by this link."""
        self.forget_verdicts()

    def link_down(self, neighbour: Neighbour, reason: str) -> None:
        """They may not any more."""
        self.forget_verdicts()

    def link_changed(self, neighbour: Neighbour) -> None:
        """What its node may do may have changed with its certificate."""
        self.forget_verdicts()

    def forget_verdicts(self) -> None:
        """Links, revocations or policy changed: judge every header again."""
        self.generation += 1

    # -- our own frames

    def sender(self, path: tuple[bytes, ...]) -> SendOwn:
        """
        What hands frames of ours to the first link of their path, for this turn.

        It takes a frame, its flow and the rest of the frame, and gives False if the link is gone or its
        queue is full.
        """
        link = self.links.get(path[1])
        return self._no_link if link is None else cast(SendOwn, link.send_data)

    def _no_link(self, frame: bytes, flow: bytes, rest: bytes) -> bool:
        self.counters.count("own-link-gone")
        return False

    # -- judging

    def judge(self, ingress: Peer, path: tuple[bytes, ...], hop: int) -> Refusal | None:
        """
        The checks of a relay and of a destination, in order; None if the header may be obeyed.

        @param ingress: the neighbour the frame came from: its source, or a relay by certificate.
        """
        if path[hop - 1] != ingress.handle:
            return Refusal("forward-wrong-ingress")
        if hop > 1 and not ingress.relay:
            return Refusal("forward-through-client")
        if path[hop] != self.handle:
            return Refusal("forward-not-ours")
        if len(set(path)) != len(path):
            return Refusal("forward-repeated-hop")
        if len(path) - 1 > self._engine.max_hops:
            return Refusal("forward-too-long")
        if any(self._revoked(handle) for handle in path):
            return Refusal("forward-revoked")
        if hop < len(path) - 1:
            if not self._relays():
                return Refusal("forward-no-relay")
            if not self._may_transit(path[0]):
                return Refusal("forward-transit-denied")
            if path[-1] not in self.links and not self._engine.store.fragments(path[-1]):
                return UNKNOWN_DESTINATION
        return None

    def passes(self, path: tuple[bytes, ...], kind: int, size: int) -> None:
        """Others' frames begin to pass through us: path -> (kind, size) of the first, for people."""
        self.transits.pop(path, None)
        if len(self.transits) >= MAX_TRANSITS:
            del self.transits[next(iter(self.transits))]
        self.transits[path] = (kind, size)

    # -- arrived

    def deliver(self, kind: int, header: PathHeader, payload: memoryview, link: ILink) -> None:
        """A frame whose destination we are. Whatever this raises costs that frame alone: L{failed}."""
        if kind in E2E:
            if self.local is not None:
                self.local(kind, header, payload, link)
        elif kind in NOTICES:
            try:
                self._notice(kind, header, payload, link.peer.handle)
            except FrameRefused:
                self.counters.count("notice-malformed")

    def failed(self, kind: int) -> None:
        """Called where an exception of L{deliver} ends: a far end wrote the frame, not the neighbour."""
        self.counters.count("deliver-failed")
        self._lines.write(
            self._log.failure,
            self._clock.seconds(),
            "deliver-failed",
            None,
            "a frame of kind {kind} for this node could not be dealt with",
            kind=int(kind),
        )

    def _notice(self, kind: int, header: PathHeader, payload: memoryview, ingress: bytes) -> None:
        """It costs something only if it names a frame of ours, and as often as an honest relay says so."""
        if kind == Kind.DROPPED:
            dropped = Dropped.decode(payload)
            self.counters.count("dropped-heard")
            if self._concerns_us(b"d", header, dropped.destination, ingress):
                self._report(header, dropped.destination, "dropped")
            return
        unreach = Unreach.decode(payload)
        if not self._concerns_us(b"u", header, unreach.destination, ingress):
            return
        if self._proven(header.source, unreach):
            self.counters.count("unreach-heard")
            self._report(header, unreach.destination, "unreachable")
        else:
            self.counters.count("unreach-unproven")

    def _concerns_us(self, kind: bytes, header: PathHeader, destination: bytes, ingress: bytes) -> bool:
        if self._sent is None or not self._sent(header, destination):
            self.counters.count("notice-stray")
            return False
        flow = destination if kind == b"d" else b""
        if not self._heard[kind].admits(ingress, header.source + flow, self._clock.seconds()):
            self.counters.count("notice-rate")
            return False
        return True

    def _proven(self, relay: bytes, unreach: Unreach) -> bool:
        """
        A record speaks for its own node's links only, so no node can deny another's links.

        The relay's record that we hold after this must lack the link; otherwise this is ignored.
        """
        offer = self._flooding.prove(unreach.record)
        if offer.key[0] != relay or offer.outcome not in (
            OfferOutcome.ACCEPTED,
            OfferOutcome.DUPLICATE,
            OfferOutcome.OLD,
        ):
            return False
        fragments = self._engine.store.fragments(relay).values()
        listed = any(handle == unreach.next_hop for entry in fragments for handle, _ in entry.record.links)
        return bool(fragments) and not listed

    def _report(self, header: PathHeader, destination: bytes, reason: str) -> None:
        if self._undeliverable is not None:
            self._undeliverable(header, destination, reason)

    # -- the next link is gone

    def reroute(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """Splice another tail behind what was visited, or drop the frame and report it; drop notices."""
        if kind not in E2E:
            self.counters.count("notice-unreachable")
            return
        header, _ = read_path(record, start, end)
        tail = self._tail_around(header)
        if tail is not None and tail[1] in self.links:
            self.counters.count("spliced")
            path = header.path[: header.hop] + tail
            frame = splice(record, start, end, path, header.hop + 1, header.splices + 1)
            flow = header.path[header.hop - 1] + header.source + header.destination
            if not self.links[tail[1]].send_data(frame, flow):
                self._say_dropped(kind, header)
            return
        self.counters.count("unreachable")
        self._say_unreachable(header, header.path[header.hop + 1])

    def say_unknown(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """Tell the source of a frame, but not of a notice, that we know no such destination."""
        if kind in E2E:
            header, _ = read_path(record, start, end)
            self._say_unreachable(header, header.destination)

    def _tail_around(self, header: PathHeader) -> tuple[bytes, ...] | None:
        if header.splices >= MAX_SPLICES:
            return None
        limit = self._engine.max_hops - header.hop
        avoid = frozenset(header.path[: header.hop])
        return self._engine.path(header.destination, self._clock.seconds(), avoid, limit)

    def _say_unreachable(self, header: PathHeader, gone: bytes) -> None:
        record = self._engine.evidence(gone)
        if record is None or not self._may_notify(header, b"u" + header.source):
            return
        body = Unreach(header.destination, gone, record).encode()
        self._send_back(Kind.UNREACH, header, body)

    # -- the queue was full

    def dropped(self, flow: bytes, frame: bytes) -> None:
        """A queue dropped a frame that it had taken; the hop index is already that of the next node."""
        try:
            header, _ = read_path(frame, 0, len(frame))
        except FrameRefused:
            return
        if header.source == self.handle:
            self._report(header, header.destination, "dropped")
        elif header.hop > 1:
            here = PathHeader(
                header.path,
                header.receiver_index,
                header.counter,
                header.hop - 1,
                header.traffic_class,
                header.splices,
            )
            self._say_dropped(frame[2], here)

    def refused(self, frame: bytes) -> None:
        """A queue did not take a frame; the hop index is already that of the next node."""
        self.dropped(b"", frame)

    def _say_dropped(self, kind: int, header: PathHeader) -> None:
        if kind not in E2E:
            return
        flow = header.source + header.destination
        if len(self._lost) < MAX_NOTICE_FLOWS or flow in self._lost:
            self._lost[flow] = self._lost.get(flow, 0) + 1
        if self._may_notify(header, b"d" + flow):
            body = Dropped(header.destination, self._lost.pop(flow, 1)).encode()
            self._send_back(Kind.DROPPED, header, body)

    def _send_back(self, kind: Kind, header: PathHeader, body: bytes) -> None:
        """Over the visited prefix reversed; if that fails too, the timers of the ends do the work."""
        back = reply_path(header)
        link = self.links.get(back.path[1])
        if link is not None and not any(self._revoked(handle) for handle in back.path):
            self.counters.count(kind.name.lower() + "-sent")
            link.send_data(pack_path_frame(kind, back, body), back.source + back.destination)

    def _may_notify(self, header: PathHeader, key: bytes) -> bool:
        """Who sends what comes to nothing takes none of what we tell those behind other neighbours."""
        return self._notices.admits(header.path[header.hop - 1], key, self._clock.seconds())

    def housekeeping(self) -> None:
        """Forget sources and flows that have been quiet."""
        now = self._clock.seconds()
        self._notices.forget(now)
        for heard in self._heard.values():
            heard.forget(now)
        self._lost.clear()


class _NoticeGates:
    """How many UNREACH and DROPPED the frames of each neighbour may come to."""

    __slots__ = ("_every", "_gates")

    def __init__(self, every: Rate) -> None:
        self._every = every
        self._gates: dict[bytes, ClaimGate] = {}

    def __len__(self) -> int:
        return sum(map(len, self._gates.values()))

    def admits(self, ingress: bytes, name: bytes, now: float) -> bool:
        """May there be one more, about this source or flow of this neighbour?"""
        gate = self._gates.get(ingress)
        if gate is None:
            gate = self._gates[ingress] = ClaimGate(self._every, NOTICES_EACH, now)
        return gate.admits(name, now)

    def forget(self, now: float) -> None:
        """Forget neighbours that have been quiet."""
        self._gates = {ingress: gate for ingress, gate in self._gates.items() if not gate.full(now)}
