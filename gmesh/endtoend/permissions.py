# SPDX-License-Identifier: MIT
"""What the policy allows between two nodes, asked alike at the source and at the destination."""

from __future__ import annotations

from collections.abc import Callable

from gmesh.endtoend.limits import MAX_SUBJECTS
from gmesh.endtoend.services import is_reserved
from gmesh.errors import SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.policy import Decision, PolicyRules, Subject
from gmesh.trust.state import TrustState

__all__ = ["AUTHORITY_SERVICE", "Permissions"]

AUTHORITY_SERVICE = "_authority"
"""Carries nodes' requests to the authority; the one service left when this node has lost touch with it."""


class Permissions:
    """
    The rules of the newest policy.

    Reserved services are not its business: a node that a policy cuts off could else never be repaired.

    @ivar lapsed: True when the grace after the last status is over.
    """

    def __init__(self, trust: TrustState, own: Callable[[], Peer], lapsed: Callable[[], bool]) -> None:
        self._trust = trust
        self._own = own
        self.lapsed = lapsed
        self._rules = self._read()
        self._subjects: dict[bytes, tuple[Peer, Subject]] = {}

    def decide(self, source: Peer, target: Peer, service: str) -> Decision:
        """What the policy says, with the rule that says it."""
        if is_reserved(service):
            return Decision(True, None)
        return self._rules.decide(self._subject(source), self._subject(target), service)

    def refusal(self, source: Peer, target: Peer, service: str) -> SendRefused | None:
        """Why C{source} may not reach C{service} of C{target}, or None if it may."""
        if self.lapsed() and service != AUTHORITY_SERVICE:
            return SendRefused(
                "stale", "this node has not heard from the authority for longer than the policy allows"
            )
        decision = self.decide(source, target, service)
        if decision.allowed:
            return None
        why = "no rule allows it" if decision.rule is None else f"rule {decision.rule} denies it"
        return SendRefused("denied", f"{source.name} may not reach {service} of {target.name}: {why}")

    def accepts(self, source: Peer, service: str) -> bool:
        """May C{source} reach C{service} of this node?"""
        if self.lapsed() and service != AUTHORITY_SERVICE:
            return False
        return self.decide(source, self._own(), service).allowed

    def _subject(self, peer: Peer) -> Subject:
        found = self._subjects.get(peer.handle)
        if found is None or found[0] is not peer:
            if len(self._subjects) >= MAX_SUBJECTS:
                self._subjects.clear()
            found = self._subjects[peer.handle] = (peer, Subject(peer.name, frozenset(peer.roles)))
        return found[1]

    def trust_changed(self, kind: str) -> None:
        """From now on the rules of the new policy decide."""
        if kind == "policy":
            self._rules = self._read()

    def _read(self) -> PolicyRules:
        policy = self._trust.policy
        return PolicyRules(None if policy is None else policy.body)
