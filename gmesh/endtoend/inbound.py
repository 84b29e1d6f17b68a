# SPDX-License-Identifier: MIT
"""Datagrams that arrive: judged by the policy, put together, handed over once, and answered."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.inbox import Inbox, Pool
from gmesh.endtoend.permissions import Permissions
from gmesh.endtoend.services import Message, Services
from gmesh.endtoend.sessions import Sessions
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Datagram, Inner, Outcome, Receipt

__all__ = ["Inbound"]


class Inbound:
    """What every peer sends to this node."""

    def __init__(
        self, sessions: Sessions, services: Services, permissions: Permissions, clock: IReactorTime
    ) -> None:
        self._sessions = sessions
        self._services = services
        self._permissions = permissions
        self._clock = clock
        self._pool = Pool()
        self._inboxes: OrderedDict[bytes, Inbox] = OrderedDict()
        self._ids: dict[bytes, str] = {}
        self._counters = sessions.counters

    def datagram(self, peer: Peer, datagram: Datagram) -> None:
        """One datagram, or a fragment of one, opened from a session with C{peer}."""
        inbox = self._inbox(peer)
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
                self._hand(peer, inbox, datagram, data)
                return
            data = outcome
        if data is not None:
            self._counters[f"inbound-{data.slug}"] += 1
            if datagram.want_ack and datagram.index == datagram.count - 1:
                self._answer(peer, datagram.message, data)

    def gone(self, handle: bytes, reason: str) -> None:
        """A peer was given up: its incomplete messages go; if it is not believed, those that wait too."""
        inbox = self._inboxes.get(handle)
        if inbox is None:
            return
        inbox.clear()
        if reason not in ("evicted", "timed-out", "stopped"):
            del self._inboxes[handle]
            node_id = self._ids.pop(handle)
            if reason != "idle":
                self._services.purge(node_id)

    def _refusal(self, peer: Peer, datagram: Datagram) -> Outcome | None:
        if not self._permissions.accepts(peer, datagram.service):
            return Outcome.DENIED
        return self._services.refusal(datagram.service, len(datagram.data))

    def _hand(self, peer: Peer, inbox: Inbox, datagram: Datagram, data: bytes) -> None:
        if datagram.want_ack:
            inbox.take(datagram.message)

        def done(outcome: Outcome) -> None:
            if outcome is not Outcome.DELIVERED:
                self._counters[f"inbound-{outcome.slug}"] += 1
            if datagram.want_ack:
                inbox.settle(datagram.message, outcome)
                self._answer(peer, datagram.message, outcome)

        message = Message(peer.name, peer.node_id, peer.roles, datagram.service, data)
        self._services.deliver(message, done)

    def _answer(self, peer: Peer, message: int, outcome: Outcome) -> None:
        self._sessions.send(peer, pack_frame(Inner.RECEIPT, Receipt(message, outcome).encode()))

    def _inbox(self, peer: Peer) -> Inbox:
        inbox = self._inboxes.get(peer.handle)
        if inbox is None:
            if len(self._inboxes) >= limits.MAX_SOURCES:
                handle, oldest = self._inboxes.popitem(last=False)
                oldest.clear()
                del self._ids[handle]
            inbox = self._inboxes[peer.handle] = Inbox(self._pool)
            self._ids[peer.handle] = peer.node_id
        return inbox
