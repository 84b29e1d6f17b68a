# SPDX-License-Identifier: MIT
"""
Keeps this node connected to its targets: back-off, deadlines, few dials at once, patience.

A target is an address; which node answers there is known after the first handshake.  From then
on a link to that node, whoever dialled it, satisfies the target.  Spare targets are dialled only
while there are too few links.  A session that grows old is replaced: the new one is made first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.interfaces import ILink
from gmesh.mesh.limits import (
    DIAL_BACKOFF_CAP,
    DIAL_BACKOFF_FIRST,
    DIAL_DEADLINE,
    DIAL_REFUSED_RETRY,
    DIAL_STABLE,
    DIALS_AT_ONCE,
    REDIAL_SPREAD,
    SESSION_JITTER,
    SESSION_LIFE,
    TARGET_ANCHORS,
    TARGET_DEGREE,
)
from gmesh.mesh.noise import Attempt
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.peers import Peers
from gmesh.mesh.targets import CERTIFICATE_REFUSALS, Target, TargetState, client_endpoint

__all__ = ["CERTIFICATE_REFUSALS", "Dialler", "Target", "TargetState", "client_endpoint"]


class _Dial:
    """One attempt, from the first packet to the end of the connection."""

    def __init__(self, dialler: Dialler, target: Target[_Dial]) -> None:
        self._dialler = dialler
        self.target = target
        self.pending: Deferred[IProtocol] | None = None
        self.timer: IDelayedCall | None = None
        self.protocol: IProtocol | None = None
        self.counted = True

    @property
    def suite_turn(self) -> int:
        return self.target.suite_turn

    def linked(self, peer: Peer) -> None:
        self._dialler._linked(self, peer)

    def ended(self, reason: str, peer: Peer | None) -> None:
        self._dialler._ended(self, reason, peer)


class Dialler:
    """
    Dials every target until it leads to a link, and again when the link is lost.

    Register it with L{Peers.add_listener} so that it hears of lost links that others dialled.

    @param connect: the endpoint for a target: L{client_endpoint} with a reactor, or a test's.
    @param factory: what to connect: L{gmesh.mesh.link.MeshFactory.dialling}.
    @param degree: with how many links spare targets stay spare.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        peers: Peers,
        connect: Callable[[str], IStreamClientEndpoint],
        factory: Callable[[Attempt], IProtocolFactory],
        degree: int = TARGET_DEGREE,
    ) -> None:
        self._clock = clock
        self._random = random
        self._peers = peers
        self._connect = connect
        self._factory = factory
        self._degree = degree
        self._targets: dict[str, Target[_Dial]] = {}
        self._queue: deque[Target[_Dial]] = deque()
        self._dialling = 0
        self._running = False

    @property
    def targets(self) -> tuple[Target[_Dial], ...]:
        """What is dialled and how it goes; not to be changed."""
        return tuple(self._targets.values())

    def start(self) -> None:
        """Begin to dial."""
        self._running = True
        for target in self._targets.values():
            self._after(target, 0.0)

    def stop(self) -> None:
        """Give up every dial; links stay until L{Peers.close}."""
        self._running = False
        for target in list(self._targets.values()):
            self._drop(target)

    def set_targets(self, addresses: Iterable[str], spares: Iterable[str] = ()) -> None:
        """
        Dial C{addresses} from now on, and of C{spares}, in random order, as many as there are links too few.

        Links to others stay; they are not dialled again when they end.
        """
        wanted = dict.fromkeys(addresses, False)
        others = [each for each in dict.fromkeys(spares) if each not in wanted]
        self._random.shuffle(others)
        wanted.update(dict.fromkeys(others, True))
        for address in [each for each in self._targets if each not in wanted]:
            self._drop(self._targets.pop(address))
        for address, spare in wanted.items():
            target = self._targets.get(address)
            if target is None:
                target = self._targets[address] = Target(address, spare)
                if self._running:
                    self._after(target, 0.0)
            elif target.spare != spare:
                target.spare = spare
                if target.state is TargetState.SPARE:
                    self._after(target, 0.0)

    def documents_changed(self, kind: str) -> None:
        """
        Ask again where a certificate was refused.

        @param kind: C{"genesis"}, C{"crl"}, C{"policy"}, C{"status"} as from
            L{gmesh.trust.state.TrustState.observers}, or C{"certificate"}: our own was renewed.
        """
        if kind == "status":
            return
        for target in self._targets.values():
            if kind == "genesis":
                target.suite_turn = 0
            if target.state is TargetState.REFUSED:
                if target.reason == "revoked" and kind not in ("crl", "certificate"):
                    continue
                self._after(target, 0.0)

    def redial(self, handle: bytes | None = None) -> None:
        """
        A Noise key is new: make the links that we dialled anew, before the old certificate ends.

        The old link stays until the new one is there; then the tie rules replace it.

        @param handle: whose key it is; all its neighbours dial, so they take their time.  None: ours.
        """
        spread = DIAL_BACKOFF_FIRST if handle is None else REDIAL_SPREAD
        for target in self._targets.values():
            concerned = handle in (None, target.handle)
            if concerned and target.state is TargetState.LINKED and target.dial is not None:
                target.insist = True
                self._after(target, self._random.uniform(0, spread))

    # gmesh.mesh.peers.PeersListener

    def link_up(self, link: ILink) -> None:
        """Nothing: a target that is due finds out by itself."""

    def link_changed(self, link: ILink) -> None:
        """Nothing."""

    def link_down(self, link: ILink, reason: str) -> None:
        """A target that this link satisfied, though another dial made it, is due again."""
        for target in self._targets.values():
            served = target.state is TargetState.LINKED and target.dial is None
            if served and target.handle == link.peer.handle:
                self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))
        self._call_spares()

    def _enough(self) -> bool:
        """Links that lead into the mesh, and anchors among them, made or being made: no spare is needed."""
        peers = [link.peer for link in self._peers.links.values()]
        relays = sum(peer.relay for peer in peers)
        anchors = sum("anchor" in peer.roles for peer in peers)
        return relays + self._dialling >= self._degree and anchors + self._dialling >= TARGET_ANCHORS

    def _call_spares(self) -> None:
        for target in self._targets.values():
            if target.state is TargetState.SPARE:
                self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))

    # one target

    def _after(self, target: Target[_Dial], delay: float, state: TargetState = TargetState.WAITING) -> None:
        target.cancel()
        if self._running:
            target.state = state
            target.timer = self._clock.callLater(delay, self._due, target)

    def _due(self, target: Target[_Dial]) -> None:
        target.timer = None
        insist, target.insist = target.insist, False
        link = self._peers.links.get(target.handle) if target.handle is not None else None
        if not insist and link is not None:
            target.state = TargetState.LINKED
            if link.initiator:
                self._renew_later(target)
            return
        if target.spare and not insist and self._enough():
            target.state = TargetState.SPARE
            return
        target.state = TargetState.QUEUED
        self._queue.append(target)
        self._pump()

    def _pump(self) -> None:
        while self._queue and self._dialling < DIALS_AT_ONCE:
            target = self._queue.popleft()
            if target.state is TargetState.QUEUED:
                self._dial(target)

    def _dial(self, target: Target[_Dial]) -> None:
        dial = target.dial = _Dial(self, target)
        target.state = TargetState.DIALLING
        self._dialling += 1
        try:
            pending = self._connect(target.address).connect(self._factory(dial))
        except (
            Exception
        ) as error:  # a target is text from outside: whatever is wrong with it concerns it alone
            self._not_connected(Failure(error), dial)
            return
        dial.pending = pending
        dial.timer = self._clock.callLater(DIAL_DEADLINE, pending.cancel)
        pending.addCallbacks(self._connected, self._not_connected, callbackArgs=(dial,), errbackArgs=(dial,))

    def _connected(self, protocol: IProtocol, dial: _Dial) -> None:
        self._settle(dial)
        dial.protocol = protocol
        if dial.target.dial is not dial and dial.counted:
            _abort(protocol)

    def _not_connected(self, failure: Failure, dial: _Dial) -> None:
        self._settle(dial)
        self.log.info(
            "Could not connect to {target}: {reason}",
            target=dial.target.address,
            reason=failure.getErrorMessage(),
        )
        self._ended(dial, "connect-failed", None)

    def _settle(self, dial: _Dial) -> None:
        dial.pending = None
        if dial.timer is not None and dial.timer.active():
            dial.timer.cancel()
        dial.timer = None

    def _release(self, dial: _Dial) -> None:
        if dial.counted:
            dial.counted = False
            self._dialling -= 1

    def _linked(self, dial: _Dial, peer: Peer) -> None:
        self._release(dial)
        target = dial.target
        if target.dial is dial:
            target.state = TargetState.LINKED
            target.handle = peer.handle
            target.linked_at = self._clock.seconds()
            target.reason = ""
            self._renew_later(target)
        self._pump()

    def _renew_later(self, target: Target[_Dial]) -> None:
        target.cancel()
        life = SESSION_LIFE * self._random.uniform(1 - SESSION_JITTER, 1 + SESSION_JITTER)
        target.timer = self._clock.callLater(life, self._renew, target)

    def _renew(self, target: Target[_Dial]) -> None:
        target.insist = True
        self._due(target)

    def _ended(self, dial: _Dial, reason: str, peer: Peer | None) -> None:
        self._release(dial)
        target = dial.target
        if target.dial is dial:
            target.dial = None
            target.reason = reason
            if peer is not None:
                target.handle = peer.handle
            self._again(target, reason)
            self._call_spares()
        self._pump()

    def _again(self, target: Target[_Dial], reason: str) -> None:
        now = self._clock.seconds()
        was_linked = target.state is TargetState.LINKED
        if reason == "closed-in-handshake":
            target.suite_turn += 1
        elif was_linked:
            target.suite_turn = 0
        if was_linked and now >= target.linked_at + DIAL_STABLE:
            target.failures = 0
        if reason == "self":
            target.state = TargetState.OURSELVES
        elif reason == "revoked":
            target.state = TargetState.REFUSED
        elif reason in CERTIFICATE_REFUSALS and not was_linked:
            self._after(target, DIAL_REFUSED_RETRY, TargetState.REFUSED)
        elif reason == "duplicate":
            self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))
        else:
            limit = min(DIAL_BACKOFF_CAP, DIAL_BACKOFF_FIRST * 2 ** min(target.failures, 16))
            target.failures += 1
            self._after(target, self._random.uniform(0, limit))

    def _drop(self, target: Target[_Dial]) -> None:
        target.cancel()
        was_linked = target.state is TargetState.LINKED
        target.state = TargetState.STOPPED
        dial, target.dial = target.dial, None
        if dial is None or was_linked:
            return
        if dial.pending is not None:
            dial.pending.cancel()
        elif dial.protocol is not None:
            _abort(dial.protocol)


def _abort(protocol: IProtocol) -> None:
    abort = getattr(protocol, "abort", None)
    if abort is not None:
        abort()
