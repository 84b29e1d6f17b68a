# SPDX-License-Identifier: MIT
"""
The authority whole: the use cases, one per subject, around one store, and the work between requests.

Tests: C{tests/authority/test_state.py}, C{tests/authority/test_reload.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import audit, limits
from gmesh.authority.admissions import Admissions
from gmesh.authority.approval_rules import (
    APPROVALS_FILE,
    ApprovalRules,
    held_rules,
    refuse_weaker,
    take_rules,
)
from gmesh.authority.approvals import Approvals
from gmesh.authority.audit import AuditTrail
from gmesh.authority.backups import Backups
from gmesh.authority.clock import SteadyClock
from gmesh.authority.commands import Commands
from gmesh.authority.enrolment import Enrolment
from gmesh.authority.follow import Followed, Follower
from gmesh.authority.history import History
from gmesh.authority.invites import Invites
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.members import Members
from gmesh.authority.operators import Operators
from gmesh.authority.policies import Policies
from gmesh.authority.promotion import begin_epoch
from gmesh.authority.published import Publisher
from gmesh.authority.replicas import Replicas
from gmesh.authority.revocations import Revocations
from gmesh.authority.shown_files import ShownFiles
from gmesh.authority.signer import KeyRing
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, nonces, read_nonces
from gmesh.authority.store import replicas as replica_rows
from gmesh.authority.store.history import another_history
from gmesh.authority.store.identity import lacks_seen
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.daemon.lock import StateLock
from gmesh.errors import RequestRefused, StoreError
from gmesh.trust.keys import verify

__all__ = ["Authority"]

TAKEN_OVER = {
    "synchronous": "a standby took over, which every commit had waited for: nothing was lost",
    "asynchronous": "a standby took over, which commits had not waited for: a new epoch begins, and open"
    " invites are withdrawn",
}
PROBE_SECONDS = 1.0
PROBE = b"gmesh-probe-v1\0"  # no document begins so: what is signed for a probe is good for nothing else


class Authority:
    """
    What routes call.

    @ivar invites: who may join.
    @ivar enrolment: how hosts with an invite do.
    @ivar admissions: what a second key says of members, where the genesis names one.
    @ivar history: whether it is the only one.
    @ivar members: renewals, heartbeats and what is known of members.
    @ivar revocations: the members that operators cut off.
    @ivar policies: the rules, and the genesis.
    @ivar operators: whose keys may act.
    @ivar approvals: the votes of operators.
    @ivar commands: commands and receipts.
    @ivar audit: what was done.
    @ivar backups: copies of the database.
    @ivar replicas: the daemons that serve from the same database.
    @ivar publisher: the documents in force.
    @ivar description: the OpenAPI document.
    @ivar follower: looks for what other daemons of the database do; None where there are none.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        issuer: DocumentIssuer,
        publisher: Publisher,
        approvals: Approvals,
        clock: SteadyClock,
        reactor: IReactorTime,
        lock: StateLock,
        description: bytes,
    ) -> None:
        self.store = store
        self.issuer = issuer
        self.publisher = publisher
        self.approvals = approvals
        self.clock = clock
        self.description = description
        self.invites = Invites(store, issuer, clock)
        self.enrolment = Enrolment(store, issuer, clock)
        self.admissions = Admissions(store, issuer)
        self.history = History(store, issuer)
        self.members = Members(store, issuer, clock, self.history)
        self.revocations = Revocations(store, issuer, publisher.crl_maker, self.members)
        self.policies = Policies(store, issuer, publisher)
        self.operators = Operators(store, self.policies, approvals)
        self.commands = Commands(store, issuer, publisher, clock)
        self.audit = AuditTrail(store, clock)
        self.backups = Backups(store)
        self.replicas = Replicas(store, publisher, self.seems_ready)
        self._reactor = reactor
        self._lock = lock
        self._timers: dict[str, IDelayedCall] = {}
        self._probed_at = float("-inf")
        self._asking: list[Deferred[Any]] = []
        self._pruned = 0
        self._draining = False
        self._shown = ShownFiles(store.state, lambda: (publisher.crl, publisher.policy, publisher.status))
        self.follower: Follower | None = None
        self._crl_followed = 0

    def start(self) -> None:
        """Begin to refresh, prune and flush; read the database through, if that was put off."""
        self.publisher.start()
        self.store.file.begin()
        self._later("prune", limits.PRUNE_SECONDS, self._prune)
        self._later("log check", limits.LOG_CHECK_SECONDS, self.store.check_log)
        self._later("refusals", limits.PRUNE_SECONDS, self.audit.flush)
        if self.store.shared:
            self._later("shown", limits.SHOWN_KEPT_SECONDS, self._keep_shown)
        self._later("news", limits.PRESENCE_NEWS_SECONDS, self.members.flush_news)
        self._later("old presence", limits.PRESENCE_FORGET_SECONDS, self.members.forget_presence)
        if self.follower is not None:
            self.follower.start()
            self.replicas.report().addErrback(self._failed, "report")
            self._later("report", limits.REPLICA_REPORT_SECONDS, self.replicas.report)
        self._later("presence", limits.PRESENCE_FLUSH_SECONDS, self.members.flush_presence)

    async def stop(self) -> None:
        """Finish what was begun, then close the database."""
        self.store.stopping = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self.publisher.stop()
        await self.members.flush_presence().addErrback(self._failed, "presence")
        await self.audit.flush(all_of_them=True).addErrback(self._failed, "refusals")
        await self.store.drained()
        if self.follower is not None:
            await self.follower.stop()
            await self.replicas.leave().addErrback(self._failed, "report")
        self.store.close()
        self._lock.release()

    def _keep_shown(self) -> Deferred[None]:
        if self.store.outage.trouble is not None:  # nothing is new then, and no thread has a connection
            return succeed(None)
        news = self._shown.news()
        return self.store.in_thread(lambda: self._shown.write(news)) if news else succeed(None)

    def taken_over(self, tx: Transaction) -> None:
        """
        A standby took over from the server of the database.

        @raise StoreError: C{older-database}, if it lacks what this daemon wrote.
        """
        if not tx.takeover:
            return  # once more, after a commit that came to nothing
        head = self.store.audit_head
        if head and not audit_rows.has_hash(tx, head):
            raise lacks_seen("its audit lacks a row that this daemon wrote")
        if tx.takeover == "asynchronous":
            policy, crl = begin_epoch(tx, self.issuer)
            tx.after_commit(self.publisher.policy_changed, policy)
            tx.after_commit(self.publisher.crl_changed, crl)
        tx.after_commit(self.log.warn, TAKEN_OVER[tx.takeover])

    def drain(self) -> None:
        """From now on clients go elsewhere: not ready, and nobody waits for news here; all else goes on."""
        self._draining = True
        self.publisher.polls.end()

    def look(self) -> Deferred[None]:
        """Fires when what is served is what the database held when this was called."""
        return succeed(None) if self.follower is None else self.follower.look()

    def followed(self, found: Followed) -> None:
        """Other daemons may have revoked, changed the rules of approval, or met another history."""
        if found.newest.owed or found.newest.crl != self._crl_followed:
            self._crl_followed = found.newest.crl  # one made here too may name what others revoked
            self.members.forget()
        self.approvals.follow(found.newest.rules)
        if found.newest.another:
            self.history.found(another_history("what nodes hold"))

    def reload(self, directory: StateDirectory) -> Deferred[None]:
        """
        Take over the keys, the genesis and the approvals of the state directory as it is now.

        Where daemons share a database and this host has no file of approvals, those of the database go on.

        @raise GmeshError: if something is wrong with them; then all of it stays as it was.
        """
        rules = self.approvals.read_rules(directory.path)
        file = directory.path / APPROVALS_FILE
        where, follows = str(file), self.store.shared and not file.exists()

        def take(tx: Transaction) -> str:
            taken = held_rules(tx) if follows else rules
            weaker = take_rules(tx, taken)
            if weaker:
                return weaker
            taken.check(tx, where)
            tx.after_commit(self._take_over, directory.keys, taken)
            for document in directory.add_genesis(tx, self.store.replica):
                version = document.body.version
                audit.record(tx, "authority", "publish-genesis", str(version), digest=document.digest)
                tx.after_commit(self.publisher.genesis_changed, document)
            return ""

        return self.store.decide(take).addCallback(refuse_weaker, where)

    def _take_over(self, keys: KeyRing, rules: ApprovalRules) -> None:
        self.issuer.keys = keys
        self.approvals.rules = rules
        held = self.store.replica
        if held is not None:
            self.store.replica = replace(held, keys=keys.names, rules=rules.required)
        self.replicas.report().addErrback(self._failed, "report")

    async def ready(self) -> None:
        """
        Make a real decision: write, sign, check the signature. Who asks while one is made, or within a second
        of it, shares it.

        @raise StoreError: C{unavailable}, C{read-only}, C{clock-suspect}, C{another-history}.
        @raise RequestRefused: C{unavailable}, once L{drain} was called.
        """
        if self._draining:
            raise RequestRefused("unavailable", "this authority is about to stop")
        self._check()
        now = self._reactor.seconds()
        if now - self._probed_at < PROBE_SECONDS and self.store.writable:
            return
        waiting: Deferred[None] = Deferred()  # of who asks: who gives up takes nothing from the others
        self._asking.append(waiting)
        if len(self._asking) == 1:
            self.store.decide(self._probe).addBoth(self._probed, now)
        await waiting

    def _probe(self, tx: Transaction) -> None:
        signer = self.issuer.keys.signer(self.issuer.newest_genesis(tx).body, tx.now)
        if not verify(signer.public, signer.sign(PROBE), PROBE):
            raise StoreError("unavailable", f"the key {signer.key_id} does not sign")
        tx.execute(
            "INSERT INTO meta (name, value) VALUES ('probe', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            tx.now,
        )

    def _probed(self, result: Failure | None, asked_at: float) -> None:
        if result is None:
            self._probed_at = asked_at
        asking, self._asking = self._asking, []
        for waiting in asking:
            waiting.callback(result)  # a Failure too

    def _check(self) -> None:
        """@raise StoreError: as L{ready}, as far as it is known."""
        self.clock.check()
        for trouble in (self.store.damage, self.store.others.trouble, self.store.outage.trouble):
            if trouble is not None:
                raise trouble

    def seems_ready(self) -> bool:
        """As L{ready}, as far as it is known without a decision."""
        try:
            self._check()
        except StoreError:
            return False
        return self.store.writable and not self._draining

    def _prune(self) -> Deferred[None]:
        def prune(tx: Transaction) -> None:
            nonces.prune(tx)
            self._pruned = certificates.prune(tx, self._pruned, tx.now - self.issuer.grace(tx))
            if self.store.shared:
                replica_rows.forget(tx, tx.now - limits.REPLICA_KEPT_SECONDS)
                read_nonces.prune(tx)

        return self.store.decide(prune)

    def _later(self, name: str, seconds: float, function: Callable[[], Deferred[Any]]) -> None:
        def run() -> None:
            function().addErrback(self._failed, name)
            self._later(name, seconds, function)

        self._timers[name] = self._reactor.callLater(seconds, run)

    def _failed(self, failure: Failure, name: str) -> None:
        if not self.store.told(failure.value):
            self.log.error("{name} failed: {error}", name=name, error=failure.getErrorMessage())
