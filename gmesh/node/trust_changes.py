# SPDX-License-Identifier: MIT
"""
What happens when trust changes, as one page: revocation cuts in one turn, the turn that hears of it.

L{TrustChanges.document_changed} is all that follows from another CRL, policy, genesis or status, in its
order, and L{TrustChanges.certificate_changed} all that follows from an own renewed certificate.  Nothing
subscribes.
Tests: C{tests/node/test_trust_changes.py}.
"""

from __future__ import annotations

from twisted.logger import Logger

from gmesh.errors import PeerRefused
from gmesh.node.composition import EndToEnd, Links, NodeContext, Routes
from gmesh.node.control import Control
from gmesh.node.dial_policy import DialPolicy
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.minimum_version import MinimumVersion

__all__ = ["TrustChanges"]

_MEMBERS = ("crl", "genesis")
"""Documents that say who is a member."""


class TrustChanges:
    """
    The steps that follow from a change of what this node believes.

    @param versions: closes links to neighbours too old for the policy.
    @ivar heartbeat: tells the authority, once the daemon has made it.
    """

    _log = Logger()

    def __init__(
        self,
        context: NodeContext,
        links: Links,
        routes: Routes,
        ends: EndToEnd,
        control: Control,
        versions: MinimumVersion,
        dial_policy: DialPolicy,
    ) -> None:
        self.heartbeat: Heartbeat | None = None
        self._member = context.member
        self._directory = context.directory
        self._counters = context.counters
        self._neighbours = links.neighbours
        self._dialler = links.dialler
        self._renewals = links.renewals
        self._updates = routes.updates
        self._documents = routes.documents
        self._certificates = routes.control
        self._sessions = ends.sessions
        self._datagrams = ends.datagrams
        self._streams = ends.streams
        self._control = control
        self._versions = versions
        self._dial_policy = dial_policy

    def document_changed(self, kind: str) -> None:
        """
        Another CRL, policy, genesis or status is in force: revocation cuts in one turn, this one.

        Whatever decides knows first, then links and sessions are cut, then others hear of it, and what may
        begin again comes last: so whatever a cut calls back finds the new decisions already.  A step that
        fails is logged and keeps no other from its work.

        @param kind: C{"crl"}, C{"policy"}, C{"genesis"} or C{"status"}, as from L{TrustState}.
        """
        for step in (
            self._member.persist,  # on disk before anybody acts on it: no restart believes less
            self._updates.trust_changed,  # out of directory, paths and queues; its records go nowhere
            self._remember_revoked,  # by name, so that a sender hears why, also after a restart
            self._datagrams.authorization.trust_changed,  # the new rules decide ...
            self._datagrams.ask_again,  # ... and are asked before the next message of anybody
            self._cut_neighbours,  # its links end here
            self._sessions.trust_changed,  # so do sealed sessions, and messages that wait for their keys
            self._streams.trust_changed,  # and open streams that the policy or lost touch forbids now
            self._judge_admissions,  # the same for members whose admission has ended
            self._documents.announce,  # to the neighbours that are left
            self._versions.trust_changed,  # cuts who is too old, after they heard which policy says so
            self._dial,  # what the news allows, and where a dial was refused for lack of it
            self._control.trust_changed,  # commands that waited for a role or a document
            self._tell_authority,  # that it is applied; renewal under a new genesis
        ):
            try:
                step(kind)
            except Exception:
                self._log.failure("a step after a change of the {kind} failed", kind=kind)

    def certificate_changed(self, rekeyed: bool) -> None:
        """
        Our own certificate is a newer one: neighbours, records and sessions go on under it.

        @param rekeyed: whether it names another Noise key.
        """
        self.keep_own_certificate()
        self._streams.judge_all()
        self._certificates.announce_certificate(self._member.certificate)
        self._updates.renewed()
        self._dialler.documents_changed("certificate")
        self._renewals.renewed()
        if rekeyed:
            self._dialler.redial()

    def keep_own_certificate(self) -> None:
        """One that has ended or is early is not kept: the node runs on and renews it."""
        try:
            self._directory.add(self._member.certificate)
        except PeerRefused as error:
            self._counters.count(f"own-certificate-{error.reason}")

    def _remember_revoked(self, kind: str) -> None:
        if kind in _MEMBERS:
            self._member.state.revoked = self._directory.revoked_nodes
            self._member.save_soon()

    def _cut_neighbours(self, kind: str) -> None:
        if kind in _MEMBERS:
            self._neighbours.sweep()
            self._renewals.sweep()

    def _judge_admissions(self, kind: str) -> None:
        """An admission ends, and begins to be asked for, while no document changes but the status."""
        if kind == "status" and self._member.trust.genesis.body.admission is not None:
            for step in (self._updates.trust_changed, self._cut_neighbours, self._sessions.trust_changed):
                step("crl")

    def _dial(self, kind: str) -> None:
        if kind == "genesis":
            self._dial_policy.tell()
        elif kind == "policy":
            self._dial_policy.follow_policy()
        self._dialler.documents_changed(kind)

    def _tell_authority(self, kind: str) -> None:
        if self.heartbeat is not None:
            self.heartbeat.trust_changed(kind)
