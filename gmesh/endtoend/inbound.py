# SPDX-License-Identifier: MIT
"""
Datagrams that arrive: judged by the policy, put together, handed over once, and answered.

What a peer may reach is asked once and remembered as a callable for each service; then a whole
message without acknowledgement costs a look into its header, a dictionary access and a slice.
Whatever could change the answer empties what is remembered, even between two messages of a frame; only
that this node has lost touch with its authority, which comes with time, is looked for once a second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.inbox import Inbox, Pool
from gmesh.endtoend.lanes import Lanes
from gmesh.endtoend.permissions import Permissions
from gmesh.endtoend.services import Message, Services, Take
from gmesh.endtoend.sessions import Sessions
from gmesh.errors import FrameRefused, SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import HEADER, pack_frame
from gmesh.wire.messages import DATAGRAM_HEAD, Datagram, Inner, Mark, Outcome, Receipt

__all__ = ["Inbound"]

_DATAGRAM = int(Inner.DATAGRAM)
_HEAD = DATAGRAM_HEAD.size
_unpack_head = DATAGRAM_HEAD.unpack_from


class _Source:
    """One peer as it is heard."""

    __slots__ = ("inbox", "peer", "takes")

    def __init__(self, peer: Peer, pool: Pool) -> None:
        self.peer = peer
        self.inbox = Inbox(pool)
        self.takes: dict[bytes, Take] = {}


class Inbound:
    """
    What every peer sends to this node.

    @param lanes: the way back, for receipts.
    @param receipt: takes what peers say became of messages of ours.
    """

    def __init__(
        self,
        sessions: Sessions,
        services: Services,
        permissions: Permissions,
        lanes: Lanes,
        clock: IReactorTime,
        receipt: Callable[[Peer, Receipt], None],
    ) -> None:
        self._services = services
        self._permissions = permissions
        self._lanes = lanes
        self._clock = clock
        self._receipt = receipt
        self._pool = Pool()
        self._sources: OrderedDict[bytes, _Source] = OrderedDict()
        self._counters = sessions.counters
        self._lapsed = False
        self._look = 0.0
        self._running = True

    def opened(self, peer: Peer, plaintext: bytes) -> None:
        """The inner frames of one sealed frame of C{peer}. A malformed one ends this frame only."""
        source = self._sources.get(peer.handle)
        if source is None or source.peer is not peer or self._clock.seconds() >= self._look:
            source = self._source(peer)
        takes = source.takes
        start, end = 0, len(plaintext)
        while end - start >= _HEAD:
            length, kind, flags, _, name = _unpack_head(plaintext, start)
            data = start + _HEAD + name
            following = start + 3 + length
            if kind == _DATAGRAM and not flags and data <= following <= end:
                take = takes.get(plaintext[start + _HEAD : data])
                if take is not None:
                    take(plaintext[data:following])
                    start = following
                    continue
            if not self._one(source, plaintext, start, following):
                return
            start = following
        if start != end:
            self._rest(source, plaintext, start)

    def ask_again(self) -> None:
        """What is allowed, believed or registered changed."""
        self._look = 0.0
        for source in self._sources.values():
            source.takes.clear()

    def stop(self) -> None:
        """Take no more and answer no more, not even what is left of the frame that is being read."""
        self._running = False
        for source in self._sources.values():
            source.takes.clear()
            source.inbox.clear()
        self._sources.clear()

    def gone(self, handle: bytes, reason: str) -> None:
        """A peer was given up: its incomplete messages go; if it is not believed, those that wait too."""
        source = self._sources.get(handle)
        if source is None:
            return
        source.takes.clear()
        source.inbox.clear()
        if reason not in ("evicted", "timed-out", "stopped", "closed"):
            del self._sources[handle]
            if reason != "idle":
                self._services.purge(source.peer.node_id)

    def _source(self, peer: Peer) -> _Source:
        """What is remembered of C{peer}, as long as this node is in touch with its authority or not."""
        if self._permissions.lapsed() is not self._lapsed:
            self._lapsed = not self._lapsed
            self.ask_again()
        self._look = self._clock.seconds() + limits.ADMISSION_LIFE
        source = self._sources.get(peer.handle)
        if source is None:
            if len(self._sources) >= limits.MAX_SOURCES:
                _, oldest = self._sources.popitem(last=False)
                oldest.takes.clear()
                oldest.inbox.clear()
            source = self._sources[peer.handle] = _Source(peer, self._pool)
        elif source.peer is not peer:
            source.peer = peer
            source.takes.clear()
        return source

    def _rest(self, source: _Source, plaintext: bytes, start: int) -> None:
        """Inner frames shorter than the head of a datagram."""
        end = len(plaintext)
        while end - start >= HEADER.size:
            length, _ = HEADER.unpack_from(plaintext, start)
            following = start + HEADER.size + length
            if not self._one(source, plaintext, start, following):
                return
            start = following
        if start != end:
            self._counters["inner-malformed"] += 1

    def _one(self, source: _Source, plaintext: bytes, start: int, end: int) -> bool:
        """One inner frame by the long way. @return: False if nothing more of this plaintext counts."""
        peer = source.peer
        if self._sources.get(peer.handle) is not source:
            self._counters["inbound-gone"] += 1
            return False
        if end > len(plaintext):
            self._counters["inner-malformed"] += 1
            return False
        kind, body = plaintext[start + 2], plaintext[start + HEADER.size : end]
        try:
            if kind == Inner.DATAGRAM:
                self._datagram(source, Datagram.decode(body))
            elif kind == Inner.RECEIPT:
                self._receipt(peer, Receipt.decode(body))
            elif kind == Inner.ASK:
                Mark.decode(body)
                self._reply(peer, pack_frame(Inner.ACK, body), alone=True)
            elif kind == Inner.ACK:
                self._lanes.reached(peer.handle, Mark.decode(body).mark)
            else:
                self._counters["unknown-inner"] += 1
        except FrameRefused as refusal:
            self._counters[f"inner-{refusal.reason}"] += 1
        return True

    def _datagram(self, source: _Source, datagram: Datagram) -> None:
        """One datagram, or a fragment of one."""
        peer, inbox = source.peer, source.inbox
        if datagram.want_ack and inbox.seen(datagram.message):
            self._counters["repeated"] += 1
            outcome = inbox.outcome(datagram.message)
            if outcome is not None and datagram.index == datagram.count - 1:
                self._answer(peer, datagram.message, outcome)
            return
        outcome = self._refusal(peer, datagram)
        data: bytes | Outcome | None = outcome
        if outcome is None:
            data = datagram.data if datagram.count == 1 else inbox.assemble(datagram, self._clock.seconds())
        if isinstance(data, bytes):
            outcome = self._services.refusal(datagram.service, len(data))
            if outcome is None:
                self._hand(source, datagram, data)
                return
            data = outcome
        if data is not None:
            self._counters[f"inbound-{data.slug}"] += 1
            if datagram.want_ack and datagram.index == datagram.count - 1:
                self._answer(peer, datagram.message, data)

    def _refusal(self, peer: Peer, datagram: Datagram) -> Outcome | None:
        if not self._permissions.accepts(peer, datagram.service):
            return Outcome.DENIED
        return self._services.refusal(datagram.service, len(datagram.data))

    def _hand(self, source: _Source, datagram: Datagram, data: bytes) -> None:
        peer, inbox = source.peer, source.inbox
        if datagram.want_ack:
            inbox.take(datagram.message)
        else:
            source.takes[datagram.service.encode("ascii")] = self._services.taker(
                peer, datagram.service, self._not_taken
            )

        def done(outcome: Outcome) -> None:
            if outcome is not Outcome.DELIVERED:
                self._not_taken(outcome)
            if datagram.want_ack:
                inbox.settle(datagram.message, outcome)
                self._answer(peer, datagram.message, outcome)

        message = Message(peer.name, peer.node_id, peer.roles, datagram.service, data)
        self._services.deliver(message, done)

    def _not_taken(self, outcome: Outcome) -> None:
        self._counters[f"inbound-{outcome.slug}"] += 1

    def _answer(self, peer: Peer, message: int, outcome: Outcome) -> None:
        self._reply(peer, pack_frame(Inner.RECEIPT, Receipt(message, outcome).encode()))

    def _reply(self, peer: Peer, frame: bytes, alone: bool = False) -> None:
        """@param alone: no more answers are to be expected in this turn."""
        lane = self._lanes.lane(peer) if self._running else None
        if lane is not None:
            try:
                (lane.send if alone else lane.put)(frame)
            except SendRefused:
                self._counters["reply-lost"] += 1
