# SPDX-License-Identifier: MIT
"""
Authorization: who may send what to whom, asked alike at the source and at the destination.

At the source it is every check that can be made before a message leaves; at the destination it is what
the policy allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.endtoend.session import Handshaker
from gmesh.errors import SendRefused
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.policy import Decision, PolicyRules, Subject

if TYPE_CHECKING:
    from gmesh.mesh.stub_node import PathSeeker

__all__ = ["AUTHORITY_SERVICE", "Authorization"]

AUTHORITY_SERVICE = "_authority"
"""Carries nodes' requests to the authority; the one service left when this node has lost touch with it."""


class Authorization:
    """
    The rules of the newest policy, and what else keeps a message from leaving.

    No rule applies to reserved services: a node that a policy cuts off could else never be repaired.

    @param handshaker: this node.
    @param directory: the members that are known here.
    @param seeker: finds nodes, where this node keeps no table of them.
    @ivar open: False while the node is not running.
    @ivar lapsed: True when this node has not heard from the authority for longer than the policy allows.
    """

    def __init__(
        self,
        *,
        handshaker: Handshaker,
        paths: PathSelector,
        directory: MemberDirectory,
        clock: IReactorTime,
        lapsed: Callable[[], bool],
        seeker: PathSeeker | None = None,
    ) -> None:
        self.open = False
        self.lapsed = lapsed
        self._handshaker = handshaker
        self._trust = handshaker.trust
        self._paths = paths
        self._directory = directory
        self._clock = clock
        self._seeker = seeker
        self._rules = self._read()
        self._subjects: dict[bytes, tuple[Peer, Subject]] = {}

    @property
    def own(self) -> Peer:
        """This node, as its current certificate says."""
        return self._handshaker.own

    def start(self) -> None:
        """Messages may leave, by the policy there is now."""
        self.open = True
        self._rules = self._read()

    def trust_changed(self, kind: str) -> None:
        """A document changed by which others are believed: read a new policy."""
        if kind == "policy":
            self._rules = self._read()

    # at the source

    def seek(self, node: str, patience: float | None = None) -> Deferred[None]:
        """
        Fires when all is known about a node that can be; at once, where a table is kept.

        @param patience: seconds after which it fires in any case.
        """
        if self._seeker is None or not self.open or node == self.own.name:
            return succeed(None)
        sought = self._seeker.seek(node)
        if patience is not None and not sought.called:
            sought.addTimeout(patience, self._clock, lambda _, seconds: None)
        return sought

    def admit(self, node: str, service: str, size: int = 0) -> Peer:
        """
        Every check that can be made before a message of C{size} bytes leaves.

        @return: the node called C{node}.
        @raise SendRefused: the first that failed.
        """
        if not self.open:
            raise SendRefused("stopped", "this node is not running")
        if not valid_service(service):
            raise SendRefused("bad-service", f"{service[:64]!r} is not a service name")
        if size > limits.MAX_DATAGRAM:
            raise SendRefused(
                "too-large", f"{size} bytes are more than the {limits.MAX_DATAGRAM} of a datagram"
            )
        peer, own = self._find(node), self.own
        refusal = self.judge(peer, service, True)
        if refusal is not None:
            raise refusal
        if peer.handle != own.handle and self._paths.route(peer.handle, self._clock.seconds()) is None:
            raise self._no_route(peer)
        return peer

    def decide(self, node: str, service: str) -> Decision:
        """
        What the policy held here says about sending to C{service} of C{node}.

        @raise SendRefused: C{unknown-node}, C{revoked} or C{expired}.
        """
        return self._decide(self.own, self._find(node), service)

    def refusal(self, source: Peer, target: Peer, service: str) -> SendRefused | None:
        """Why C{source} may not reach C{service} of C{target}, or None if it may."""
        if self.lapsed() and service != AUTHORITY_SERVICE:
            return SendRefused(
                "stale", "this node has not heard from the authority for longer than the policy allows"
            )
        decision = self._decide(source, target, service)
        if decision.allowed:
            return None
        why = "no rule allows it" if decision.rule is None else f"rule {decision.rule} denies it"
        return SendRefused("denied", f"{source.name} may not reach {service} of {target.name}: {why}")

    def judge(self, peer: Peer, service: str, opened: bool) -> SendRefused | None:
        """
        May a stream that is open with C{peer} go on, by what is believed and allowed now?

        @param peer: as its newest certificate says.
        @param opened: this node opened it, to C{service} of the peer, and not the other way round.
        @return: why it may not, or None.
        """
        if self._trust.revoked(peer.serial, peer.node_id):
            return SendRefused("revoked", f"the node {peer.name} is revoked")
        if self._handshaker.wall() > peer.not_after + CERTIFICATE_LEEWAY:
            return _expired(peer.name)
        source, target = (self.own, peer) if opened else (peer, self.own)
        return self.refusal(source, target, service)

    # at the destination

    def accepts(self, source: Peer, service: str) -> bool:
        """May C{source} reach C{service} of this node?"""
        if self.lapsed() and service != AUTHORITY_SERVICE:
            return False
        return self._decide(source, self.own, service).allowed

    def _decide(self, source: Peer, target: Peer, service: str) -> Decision:
        """What the policy says, with the rule that says it."""
        if is_reserved(service):
            return Decision(True, None)
        return self._rules.decide(self._subject(source), self._subject(target), service)

    def _subject(self, peer: Peer) -> Subject:
        found = self._subjects.get(peer.handle)
        if found is None or found[0] is not peer:
            if len(self._subjects) >= limits.MAX_SUBJECTS:
                self._subjects.clear()
            found = self._subjects[peer.handle] = (peer, Subject(peer.name, frozenset(peer.roles)))
        return found[1]

    def _read(self) -> PolicyRules:
        policy = self._trust.policy
        return PolicyRules(None if policy is None else policy.body)

    def _find(self, node: str) -> Peer:
        own = self.own
        peer = own if node == own.name else self._directory.find_name(node)
        if peer is not None:
            return peer
        if self._directory.was_revoked(node):
            raise SendRefused("revoked", f"the node {node} is revoked")
        if self._directory.former.ended(node, self._handshaker.wall()):
            raise _expired(node)
        self.seek(node)
        raise SendRefused("unknown-node", f"no node called {node[:64]!r} is known here")

    def _no_route(self, peer: Peer) -> SendRefused:
        slug, detail = self._paths.explain(peer.handle, self._clock.seconds())
        return SendRefused(slug if slug == "too-far" else "no-route", detail)


def _expired(node: str) -> SendRefused:
    return SendRefused("expired", f"the certificate of {node} has expired and no newer one arrived")
