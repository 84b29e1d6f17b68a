# SPDX-License-Identifier: MIT
"""
Keeps this node connected to its targets: what is dialled when, back-off, patience, spares.

A target is an address; which node answers there is known after the first handshake.  From then
on a link to that node, whichever end dialled it, satisfies the target.  Spare targets are dialled only
while there are too few links.  A session that grows old is replaced: the new one is made first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from random import Random
from types import MappingProxyType

from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint

from gmesh.mesh.dials import CERTIFICATE_REFUSALS, Dial, DialOwner, Dials, DialTarget, TargetState, may_help
from gmesh.mesh.limits import (
    DIAL_BACKOFF_CAP,
    DIAL_BACKOFF_FIRST,
    DIAL_REFUSED_RETRY,
    DIAL_STABLE,
    DIAL_TWIN_RETRY,
    REDIAL_SPREAD,
    SESSION_JITTER,
    SESSION_LIFE,
    TARGET_ANCHORS,
    TARGET_DEGREE,
)
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.noise import DialObserver
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.address_scope import Scope
from gmesh.wire.messages import CloseReason

__all__ = ["Dialler"]


class Dialler(NeighbourObserver, DialOwner):
    """
    Dials every target until it leads to a link, and again when the link is lost.

    As an observer of L{Neighbours} it hears of lost links that others dialled.

    @param connect: the endpoint for a target, without some addresses of its host: L{Carriers.endpoint}, or
        a test's.
    @param factory: what to connect: L{gmesh.mesh.link.MeshFactory.dialling}.
    @ivar degree: with how many links to relays no spare target is dialled; L{set_degree} changes it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        neighbours: Neighbours,
        connect: Callable[[str, Collection[str]], IStreamClientEndpoint],
        factory: Callable[[DialObserver], IProtocolFactory],
        degree: int = TARGET_DEGREE,
    ) -> None:
        self._clock = clock
        self._random = random
        self._neighbours = neighbours
        self._dials = Dials(clock, connect, factory, self)
        self.degree = degree
        self._targets: dict[str, DialTarget] = {}
        self._running = False

    @property
    def targets(self) -> tuple[DialTarget, ...]:
        """What is dialled and how it goes; not to be changed."""
        return tuple(self._targets.values())

    def start(self) -> None:
        """Begin to dial."""
        self._running = True
        for target in self._targets.values():
            self._after(target, 0.0)

    def stop(self) -> None:
        """Give up every dial; links stay until L{Neighbours.close}."""
        self._running = False
        for target in list(self._targets.values()):
            self._drop(target)

    def set_targets(
        self,
        addresses: Iterable[str],
        spares: Iterable[str] = (),
        behind: Iterable[str] = (),
        bounds: Mapping[str, Scope] = MappingProxyType({}),
    ) -> None:
        """
        Dial C{addresses} from now on, and of C{spares}, in random order, as many as there are links too few.

        Links to others stay; they are not dialled again when they end.

        @param behind: spares whose turn comes after that of the others.
        @param bounds: the nearest that some of them may lead to.
        """
        wanted = dict.fromkeys(addresses, False)
        for more in (spares, behind):
            others = [each for each in dict.fromkeys(more) if each not in wanted]
            self._random.shuffle(others)
            wanted.update(dict.fromkeys(others, True))
        for address in [each for each in self._targets if each not in wanted]:
            self._drop(self._targets.pop(address))
        for address, spare in wanted.items():
            target, bound = self._targets.get(address), bounds.get(address, Scope.ANY)
            if target is not None:
                target.bound = bound
            if target is None:
                target = self._targets[address] = DialTarget(address, spare, bound)
                if self._running:
                    self._after(target, 0.0)
            elif target.spare != spare:
                target.spare = spare
                if target.state is TargetState.SPARE:
                    self._after(target, 0.0)

    def documents_changed(self, kind: str) -> None:
        """
        Ask again where a certificate was refused, or is about to be: a dial under way began without the news.

        @param kind: C{"genesis"}, C{"crl"}, C{"policy"}, C{"status"} as from
            L{gmesh.trust.state.TrustState}, or C{"certificate"}: our own was renewed.
        """
        if kind == "status":
            return
        for target in self._targets.values():
            if kind == "genesis":
                target.suite_turn = 0
            if target.state is TargetState.DIALLING:
                target.news.add(kind)
            elif target.state is TargetState.REFUSED and may_help(kind, target.reason):
                self._after(target, 0.0)

    def set_degree(self, degree: int | None) -> None:
        """Dial spare targets while links to relays are fewer; more stay.  None: as without a policy."""
        before, self.degree = self.degree, TARGET_DEGREE if degree is None else degree
        if self.degree > before:
            self._call_spares()

    def redial(self, handle: bytes | None = None) -> None:
        """
        A Noise key is new: dial the links that we dialled again, before the old certificate ends.

        The old link stays until the new one is there; then the tie rules replace it.

        @param handle: whose key is new; all its neighbours dial, each within C{REDIAL_SPREAD}. None: ours.
        """
        spread = DIAL_BACKOFF_FIRST if handle is None else REDIAL_SPREAD
        for target in self._targets.values():
            concerned = handle in (None, target.handle)
            if concerned and target.state is TargetState.LINKED and target.dial is not None:
                target.insist = True
                self._after(target, self._random.uniform(0, spread))

    # NeighbourObserver

    def link_down(self, neighbour: Neighbour, reason: str) -> None:
        """A target that this link satisfied, though another dial made it, is due again."""
        for target in self._targets.values():
            served = target.state is TargetState.LINKED and target.dial is None
            if served and target.handle == neighbour.handle:
                self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))
        self._call_spares()

    def _enough(self) -> bool:
        """Links that lead into the mesh, and anchors among them, made or being made: no spare is needed."""
        peers = [link.peer for link in self._neighbours.links.values()]
        relays = sum(peer.relay for peer in peers)
        anchors = sum("anchor" in peer.roles for peer in peers)
        return relays + self._dials.busy >= self.degree and anchors + self._dials.busy >= TARGET_ANCHORS

    def _call_spares(self) -> None:
        for target in self._targets.values():
            if target.state is TargetState.SPARE:
                self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))

    # one target

    def _after(self, target: DialTarget, delay: float, state: TargetState = TargetState.WAITING) -> None:
        target.cancel()
        if self._running:
            target.state = state
            target.timer = self._clock.callLater(delay, self._due, target)

    def _due(self, target: DialTarget) -> None:
        target.timer = None
        insist, target.insist = target.insist, False
        link = self._neighbours.links.get(target.handle) if target.handle is not None else None
        if not insist and link is not None:
            target.state = TargetState.LINKED
            if link.initiator:
                self._renew_later(target)
            return
        if target.spare and not insist and self._enough():
            target.state = TargetState.SPARE
            return
        target.news.clear()
        target.state = TargetState.QUEUED
        self._dials.push(target)

    # DialOwner

    def linked(self, dial: Dial, peer: Peer) -> None:
        """This dial led to a link."""
        target = dial.target
        if target.dial is dial:
            target.state = TargetState.LINKED
            target.handle = peer.handle
            target.linked_at = self._clock.seconds()
            target.reason = ""
            target.news.clear()
            self._renew_later(target)

    def ended(self, dial: Dial, reason: str, peer: Peer | None) -> None:
        """It ended: its target is due again, later."""
        target = dial.target
        if target.dial is dial:
            target.dial = None
            target.reason = reason
            if peer is not None:
                target.handle = peer.handle
            self._again(target, reason)
            self._call_spares()

    def _renew_later(self, target: DialTarget) -> None:
        target.cancel()
        life = SESSION_LIFE * self._random.uniform(1 - SESSION_JITTER, 1 + SESSION_JITTER)
        target.timer = self._clock.callLater(life, self._renew, target)

    def _renew(self, target: DialTarget) -> None:
        target.insist = True
        self._due(target)

    def _again(self, target: DialTarget, reason: str) -> None:
        now = self._clock.seconds()
        was_linked = target.state is TargetState.LINKED
        if reason == "closed-in-handshake":
            target.suite_turn += 1
        elif was_linked:
            target.suite_turn = 0
        target.garbled = target.garbled + 1 if reason == "handshake-failed" else 0
        if was_linked and now >= target.linked_at + DIAL_STABLE:
            target.failures = 0
        if reason != "self":
            target.ourselves.clear()
        if reason == "self":
            self._elsewhere(target)
        elif reason in CERTIFICATE_REFUSALS and any(may_help(kind, reason) for kind in target.news):
            self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))
        elif reason == "revoked":
            target.state = TargetState.REFUSED
        elif reason in CERTIFICATE_REFUSALS and not was_linked and target.garbled != 1:
            self._after(target, DIAL_REFUSED_RETRY, TargetState.REFUSED)
        elif reason == CloseReason.TWIN.slug:
            self._after(
                target, self._random.uniform(DIAL_TWIN_RETRY / 2, DIAL_TWIN_RETRY), TargetState.REFUSED
            )
        elif reason == "duplicate":
            self._after(target, self._random.uniform(0, DIAL_BACKOFF_FIRST))
        else:
            limit = min(DIAL_BACKOFF_CAP, DIAL_BACKOFF_FIRST * 2 ** min(target.failures, 16))
            target.failures += 1
            self._after(target, self._random.uniform(0, limit))

    def _elsewhere(self, target: DialTarget) -> None:
        """
        It led back to us, which is so of one address: others are tried now, and all again later.

        The name may get another address, and who balances a load takes another node the next time.
        """
        new = target.reached not in target.ourselves
        if new and target.reached:
            target.ourselves.add(target.reached)
            self._after(target, 0.0)
        else:
            target.ourselves.clear()
            self._after(target, self._random.uniform(0.5, 1) * DIAL_BACKOFF_CAP, TargetState.OURSELVES)

    def _drop(self, target: DialTarget) -> None:
        target.cancel()
        was_linked = target.state is TargetState.LINKED
        target.state = TargetState.STOPPED
        dial, target.dial = target.dial, None
        if dial is not None and not was_linked:
            self._dials.give_up(dial)
