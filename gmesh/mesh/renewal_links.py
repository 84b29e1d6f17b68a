# SPDX-License-Identifier: MIT
"""
Links that carry requests to the authority and nothing else, for a node whose certificate has ended.

Such a node dials as ever.  An anchor that finds its certificate unrevoked, and ended for no longer than the
policy's renew_grace, says RENEWAL where HELLO would be: from then on both ends take AUTHORITY frames and
CLOSE, for a minute.  Nothing here is a neighbour: no record, document, path or sealed frame comes near it,
so the node has no routes and is in nobody's.  With its new certificate it dials again.
Tests: C{tests/node/test_sleep.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.interfaces import ISecureTransport
from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import RENEWAL_LINK_SECONDS, RENEWAL_LINKS, RENEWAL_QUESTIONS
from gmesh.mesh.noise import RecordProtocol
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.trust.documents import Certificate, Document
from gmesh.wire.frames import Kind, iter_frames, pack_frame
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Close, CloseReason

__all__ = ["AuthorityLink", "RenewalLink", "Renewals"]


class AuthorityLink(RecordProtocol):
    """
    A connection for requests to the authority, from RENEWAL to its end.

    @param seconds: how long it lasts at most.
    @param received: is given the body of each AUTHORITY frame.
    @param gone: called once, when it has ended.
    @param greeted: whether the other end sends no HELLO any more.
    @ivar waiting: questions of the other end that are being answered.
    """

    def __init__(
        self,
        clock: IReactorTime,
        transport: ISecureTransport,
        seconds: float,
        received: Callable[[bytes], None],
        gone: Callable[[], object],
        greeted: bool,
    ) -> None:
        self.waiting: set[Deferred[bytes]] = set()
        self._transport = transport
        self._received = received
        self._gone = gone
        self._greeted = greeted
        self._timer: IDelayedCall | None = clock.callLater(seconds, self.end, None)

    def secure_connection_made(self) -> None:
        """Tell the dialler what this link is for."""
        self._transport.send_record(pack_frame(Kind.RENEWAL))

    def send(self, body: bytes) -> None:
        """Ask, or answer; nothing once it has ended."""
        if self._timer is not None:
            self._transport.send_record(pack_frame(Kind.AUTHORITY, body))

    def answer(self, answer: Coroutine[Any, Any, bytes]) -> None:
        """Send what comes of a question; one that is refused ends the connection."""
        question = Deferred.fromCoroutine(answer)
        self.waiting.add(question)
        question.addBoth(self._answered, question)

    def _answered(self, answer: bytes | Failure, question: Deferred[bytes]) -> None:
        self.waiting.discard(question)
        if isinstance(answer, Failure):
            answer.trap(GmeshError, CancelledError)
            self.end(CloseReason.PROTOCOL)
        else:
            self.send(answer)

    def record_received(self, record: bytes) -> None:
        """Take what belongs here; anything else ends it."""
        try:
            for kind, start, end in iter_frames(record):
                if self._timer is None:
                    return
                self._frame(kind, record[start + FRAME_HEADER : end])
        except GmeshError:
            self.end(CloseReason.PROTOCOL)

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == Kind.HELLO and not self._greeted:
            self._greeted = True  # it was under way before the dialler heard RENEWAL; nobody reads it
        elif kind == Kind.AUTHORITY:
            self._received(body)
        elif kind == Kind.CLOSE:
            self.end(None)
        else:
            raise FrameRefused("unknown-kind", "only requests to the authority pass here")

    def end(self, reason: CloseReason | None) -> None:
        """Close it; the dialler may dial again."""
        if self._timer is None:
            return
        if reason is not None:
            self._transport.send_record(pack_frame(Kind.CLOSE, Close(reason).encode()))
        self._forget()
        self._transport.lose()

    def secure_connection_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._forget()

    def _forget(self) -> None:
        timer, self._timer = self._timer, None
        if timer is None:
            return
        if timer.active():
            timer.cancel()
        for question in list(self.waiting):
            question.cancel()
        self._gone()


class RenewalLink(AuthorityLink):
    """
    One with a member: it asks here, or we ask there.

    @ivar peer: the other end.
    """

    def __init__(
        self,
        clock: IReactorTime,
        transport: ISecureTransport,
        received: Callable[[RenewalLink, bytes], None],
        gone: Callable[[RenewalLink], object],
    ) -> None:
        self.peer: Peer = transport.peer
        super().__init__(
            clock,
            transport,
            RENEWAL_LINK_SECONDS,
            lambda body: received(self, body),
            lambda: gone(self),
            transport.initiator,
        )


class Renewals:
    """
    All such links of one node.

    @param judge: L{PeerVerifier.judge_ended<gmesh.mesh.peer_identity.PeerVerifier.judge_ended>}.
    @ivar serve: passes a question of a node on and returns the answer; without it nobody is let in.
    @ivar answered: is given each answer to us, with the name of the anchor.
    @ivar opened: called when an anchor lets us ask.
    @ivar lost: called with the name of an anchor that brings no more answers here.
    @ivar asking: the links by which we may ask.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, judge: Callable[[Document[Certificate]], Peer], counters: Counters
    ) -> None:
        self.serve: Callable[[Peer, bytes], Coroutine[Any, Any, bytes]] | None = None
        self.answered: Callable[[str, bytes], None] = lambda anchor, data: None
        self.opened: Callable[[], object] = lambda: None
        self.lost: Callable[[str], object] = lambda anchor: None
        self.asking: list[RenewalLink] = []
        self._lines = SpacedLog()
        self._serving: dict[bytes, RenewalLink] = {}
        self._clock = clock
        self._judge = judge
        self._counters = counters

    # the anchor's end

    def accept(self, transport: ISecureTransport) -> RenewalLink | None:
        """@return: the link for a judged node whose certificate has ended; None where it gets none."""
        key = transport.peer.node_key
        if self.serve is None or (len(self._serving) >= RENEWAL_LINKS and key not in self._serving):
            return None
        if key in self._serving:
            self._serving[key].end(CloseReason.DUPLICATE)
        text = "{name} may renew here: its certificate has ended"
        self._lines.write(
            self.log.info, self._clock.seconds(), "renewal-link", key, text, name=transport.peer.name
        )
        self._counters.count("renewal-link")
        link = self._serving[key] = RenewalLink(self._clock, transport, self._asked, self._served)
        return link

    def _asked(self, link: RenewalLink, data: bytes) -> None:
        if self.serve is None or len(link.waiting) >= RENEWAL_QUESTIONS:
            raise FrameRefused("too-many-questions")
        link.answer(self.serve(link.peer, data))

    def _served(self, link: RenewalLink) -> None:
        del self._serving[link.peer.node_key]

    # the end of the node that slept

    def dialled(self, transport: ISecureTransport) -> RenewalLink:
        """An anchor says that our certificate has ended, and that we may ask."""
        link = RenewalLink(self._clock, transport, self._told, self._left)
        self.asking.append(link)
        self.opened()
        return link

    def _told(self, link: RenewalLink, data: bytes) -> None:
        self.answered(link.peer.name, data)

    def _left(self, link: RenewalLink) -> None:
        self.asking.remove(link)
        self.lost(link.peer.name)

    def renewed(self) -> None:
        """We have another certificate: these links have done their work, and are dialled anew as others."""
        for link in list(self.asking):
            link.end(CloseReason.RENEWED)

    # both

    def sweep(self) -> None:
        """Judge every node that asks here again; cut in this turn those that may no longer."""
        for link in list(self._serving.values()):
            try:
                self._judge(link.peer.certificate)
            except PeerRefused as error:
                revoked = error.reason == "revoked"
                link.end(CloseReason.REVOKED if revoked else CloseReason.EXPIRED)

    def close(self) -> None:
        """This node stops."""
        for link in [*self._serving.values(), *self.asking]:
            link.end(CloseReason.SHUTDOWN)
