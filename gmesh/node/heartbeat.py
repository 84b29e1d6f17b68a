# SPDX-License-Identifier: MIT
"""
Contact with the authority while the node lives: the newest documents, and a certificate renewed in time.

A heartbeat each minute brings the status and with it CRL, policy and genesis; an anchor also holds
a long poll, so that a revocation enters the mesh within a second; the certificate is renewed at half
its life.  None of this is needed to boot, route or serve.  Tests: C{tests/node/test_heartbeat.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import DocumentRefused, GmeshError, RequestRefused
from gmesh.node.authority_client import AuthorityClient
from gmesh.node.authority_http import AskLater, AuthorityUnreachable
from gmesh.node.control import Control
from gmesh.node.limits import (
    HEARTBEAT_JITTER,
    HEARTBEAT_PERIOD,
    LONG_POLL_CUT,
    LONG_POLL_RETRY,
    LONG_POLL_SPACING,
    RECEIPT_SPREAD,
    RENEWAL_AFTER_CONTACT,
    RENEWAL_CHECK,
    RENEWAL_JITTER,
    RENEWAL_LATE,
    RENEWAL_RETRY_CEILING,
    RENEWAL_RETRY_FLOOR,
)
from gmesh.node.local_member import LocalMember
from gmesh.node.periodic import PeriodicTask
from gmesh.trust.documents import Document, Status
from gmesh.trust.limits import EPOCH
from gmesh.trust.verify import authority_keys

__all__ = ["Heartbeat"]


_NOT_RENEWED_YET = "the certificate was not renewed and is tried again: {cause}"
_NOT_RENEWED = {
    "not-newer": "the authority answers with no newer certificate, late in this one's life: {cause}",
    "cert-expired": "the certificate ended too long ago to be renewed ({cause}): get a new invite and run "
    "`gmesh join -` on this host",
    "cert-revoked": "this node is revoked ({cause}): if by mistake, a new invite and `gmesh join -` "
    "on this host bring it back",
    "enrolment-pending": "the authority was restored and asks its operators first ({cause}): `gmesh admin "
    "enrolments` shows this node, and there is nothing to do on this host",
}


class Heartbeat(Service):
    """
    The three recurring exchanges with the authority.

    @param report: what a heartbeat says beside what is applied, and of receipts.
    @ivar last_contact: wall clock of the last verified answer, or None.
    @ivar reachable: whether the newest attempt succeeded.
    """

    _log = Logger()

    def __init__(
        self,
        node: LocalMember,
        client: AuthorityClient,
        clock: IReactorTime,
        wall: Callable[[], float],
        random: Random,
        control: Control | None = None,
        report: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.last_contact: float | None = None
        self.reachable = False
        self._node = node
        self._control = control
        self._client = client
        self._clock = clock
        self._wall = wall
        self._random = random
        self._report_more = report
        self._evidence: Document[Status] | None = None
        self._trouble: dict[str, str] = {}
        self._failures = 0
        self._renew_point = self._draw_renew_point()
        self._beats = PeriodicTask(clock, self._beat, HEARTBEAT_PERIOD)
        self._renewals = PeriodicTask(clock, self._renew, RENEWAL_RETRY_CEILING)
        self._polls = PeriodicTask(clock, self._poll, HEARTBEAT_PERIOD)

    def startService(self) -> None:
        """Begin at once; an anchor polls too."""
        super().startService()
        self._beats.start()
        self._renewals.start()
        if "anchor" in self._node.certificate.body.roles:
            self._polls.start(LONG_POLL_SPACING)

    def stopService(self) -> Deferred[Any]:
        """Cancel what is under way."""
        super().stopService()
        self._client.close()
        return DeferredList([self._beats.stop(), self._renewals.stop(), self._polls.stop()])

    def soon(self) -> None:
        """Ask for news now."""
        self._beats.soon()
        self._renewals.soon()

    def trust_changed(self, kind: str) -> None:
        """Renew under a new genesis; say soon what is applied."""
        if kind == "genesis":
            self._renewals.soon()
        elif kind != "status":
            self.receipts_wait()  # an operator may be waiting to hear who has applied it

    def age(self) -> float | None:
        """Seconds since the authority was last heard, by us or by the node that gossiped its status."""
        times = [time for time in (self.last_contact, self._status_time()) if time is not None]
        return max(0.0, self._wall() - max(times)) if times else None

    @property
    def troubles(self) -> dict[str, str]:
        """What does not work with the authority now (C{contact}, C{renewal}...), and why, a slug."""
        return dict(self._trouble)

    def _status_time(self) -> float | None:
        status = self._node.trust.status
        return None if status is None else status.body.issued_at

    @property
    def fell_back(self) -> bool:
        """Whether the authority answers less than it once signed, or otherwise."""
        return "history" in self._trouble

    # Heartbeat

    async def _beat(self) -> float:
        held = self._node.trust.status
        try:
            try:
                status = await self._report()
                self._well("heartbeat")
            except RequestRefused as error:
                self._ill("heartbeat", "the authority refuses the heartbeat: {cause}", error)
                status = await self._client.status()
            await self._apply(status, held)
            self._found()
        except GmeshError as error:
            self._lost(error)
        return self._jittered(HEARTBEAT_PERIOD)

    async def _report(self) -> Document[Status]:
        short = self._trouble.get("heartbeat") == "unknown-key"  # whose long bodies are not read
        receipts = self._control.receipts() if self._control is not None and not short else []
        certificate, numbers, crl = self._node.certificate, self._node.numbers(), self._node.trust.crl
        digest = {} if crl is None else {"crl_digest": crl.digest}
        more = dict(self._report_more())
        if self._evidence is not None and not short:
            more["status"] = self._evidence.as_dict()
        status = await self._client.heartbeat(certificate, {**numbers, **digest}, receipts, more)
        self._node.time_agreed()
        if self._control is not None:
            self._control.delivered(receipts)
            if self._control.receipts():
                self._beats.soon()
        return status

    async def _apply(self, status: Document[Status], held: Document[Status] | None) -> None:
        """
        Take over a status and pull what it says is newer than ours.

        @param held: the status held when the authority was asked: it must answer that or a later one.
        """
        trust, body = self._node.trust, status.body
        if body.genesis.version > trust.genesis.body.version:
            await self._client.fetch_successors()
        try:
            await self._client.offer(status)
        except DocumentRefused as error:
            if held is None or error.reason not in ("rollback", "digest-mismatch"):
                raise
            if error.reason == "rollback" and body.number >= held.body.number:
                return  # a newer one came another way meanwhile
            self._contradicted(held, error)
            raise
        self._agreed(status, held)
        late = self._wall() - body.expires_at
        if late <= 0:
            self.last_contact = self._wall()
            self.reachable = True
        if trust.crl is None or trust.crl.body.number < body.crl.number:
            await self._client.offer(await self._client.crl())
        if trust.policy is None or trust.policy.body.version < body.policy.version:
            await self._client.offer(await self._client.policy())
        await self._fetch_commands(body.commands.number)
        if late > 0:
            raise DocumentRefused(
                "frozen",
                f"its status expired {int(late)} s ago: someone holds newer ones back, or a clock is wrong",
            )

    def _agreed(self, status: Document[Status], held: Document[Status] | None) -> None:
        """It goes on from what was shown last, or from a restore; or from another database's past."""
        shown = self._evidence or held
        if shown is None:
            return
        new, old = status.body, shown.body
        if old.instance not in (None, new.instance) and new.number // EPOCH == old.number // EPOCH:
            self._contradicted(shown, DocumentRefused("instance-fork", f"status {new.number} is another's"))
        elif new.number >= old.number:
            self._evidence = None
            self._well("history")

    def _contradicted(self, held: Document[Status], error: DocumentRefused) -> None:
        """Show the authority, soon, what it signed: it may have forgotten that, or be two."""
        first, self._evidence = self._evidence is None, held
        if not self.fell_back:
            text = "the authority contradicts what it once signed: it is shown status {number}"
            self._log.warn(text, number=held.body.number)
        self._trouble["history"] = error.reason
        if first:
            self._beats.soon()

    async def _fetch_commands(self, number: int) -> None:
        control = self._control
        if control is None or number == control.fetched():
            return
        since = control.fetched() if control.fetched() < number else 0  # a status of a key that was dropped
        try:
            control.take(await self._client.commands(since), number)
        except RequestRefused as error:
            self._ill("commands", "the authority does not give out the operators' commands: {cause}", error)
        else:
            self._well("commands")

    def receipts_wait(self) -> None:
        """There is something to report: do so soon, but not at once with every other node."""
        self._beats.within(self._random.uniform(0, RECEIPT_SPREAD))

    async def _poll(self) -> float:
        held, began = self._node.trust.status, self._clock.seconds()
        try:
            await self._apply(await self._client.status(held.digest if held is not None else None), held)
            self._found()
        except AuthorityUnreachable:
            if self._clock.seconds() - began >= LONG_POLL_CUT:
                return LONG_POLL_SPACING  # somebody between us cuts what is idle: that is no outage
            if self.reachable:
                self._beats.soon()  # waits for nothing, and so tells whether the authority is away
            return self._jittered(LONG_POLL_RETRY)
        except GmeshError as error:
            self._lost(error)
            return self._jittered(HEARTBEAT_PERIOD if self.fell_back else LONG_POLL_RETRY)
        return LONG_POLL_SPACING

    # Renewal

    def _draw_renew_point(self) -> float:
        return 0.5 + self._random.uniform(-RENEWAL_JITTER, RENEWAL_JITTER)

    async def _renew(self) -> float:
        wait = self._at(self._renew_point) - self._wall()
        if wait > 0 and self._signer_listed():
            return min(wait, RENEWAL_CHECK)
        held = self._node.certificate
        try:
            renewed = await self._client.renew(held, self._node.noise_to_certify())
            if renewed.body.serial > held.body.serial:
                self._node.adopt_certificate(renewed)
            elif self._wall() > self._at(RENEWAL_LATE):
                raise DocumentRefused("not-newer", "compare the clocks, or somebody replays its answers")
        except GmeshError as error:
            self._ill("renewal", _NOT_RENEWED.get(error.reason, _NOT_RENEWED_YET), error)
            return self._renewal_retry(error)
        self._failures = 0
        self._well("renewal")
        if renewed.body.serial <= held.body.serial:
            return RENEWAL_CHECK  # the authority finds it fresh: our clock is ahead
        self._renew_point = self._draw_renew_point()
        self._log.info(
            "certificate {serial} until {not_after}",
            serial=renewed.body.serial,
            not_after=renewed.body.not_after,
        )
        return RENEWAL_RETRY_FLOOR

    def _renewal_retry(self, error: GmeshError) -> float:
        """Seconds; not before the authority wants to be asked again, but no answer puts us off endlessly."""
        ceiling = min(RENEWAL_RETRY_CEILING, RENEWAL_RETRY_FLOOR * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        wait = self._random.uniform(RENEWAL_RETRY_FLOOR, max(RENEWAL_RETRY_FLOOR, ceiling))
        asked = error.seconds if isinstance(error, AskLater) else 0
        return min(asked, RENEWAL_CHECK) + wait

    def _at(self, share: float) -> float:
        """When so much of the certificate's life has passed."""
        body = self._node.certificate.body
        return body.issued_at + share * (body.not_after - body.issued_at)

    def _signer_listed(self) -> bool:
        listed = authority_keys(self._node.trust.genesis.body)
        return any(signer in listed for signer, _ in self._node.certificate.signatures)

    # Success and failure are logged when it changes, not each minute

    def _jittered(self, period: float) -> float:
        return period * self._random.uniform(1 - HEARTBEAT_JITTER, 1 + HEARTBEAT_JITTER)

    def _found(self) -> None:
        """The authority is back: a renewal that waited for it waits no longer, but not all nodes at once."""
        if self._well("contact"):
            self._renewals.within(self._random.uniform(0, RENEWAL_AFTER_CONTACT))

    def _lost(self, error: GmeshError) -> None:
        self.reachable = False
        self._ill("contact", "no news from the authority: {cause}", error)

    def _ill(self, what: str, text: str, error: GmeshError) -> None:
        if self._trouble.get(what) != error.reason:
            self._trouble[what] = error.reason
            self._log.warn(text, cause=error.detail)

    def _well(self, what: str) -> bool:
        again = self._trouble.pop(what, None) is not None
        if again:
            self._log.info("{what} with the authority works again", what=what)
        return again
