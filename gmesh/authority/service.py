# SPDX-License-Identifier: MIT
"""
The authority whole: state, use cases and published documents, composed around one store.

C{open_authority} is the only composer; the daemon's tap and the tests both call it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import audit, limits
from gmesh.authority.administration import Administration
from gmesh.authority.admission import Admission
from gmesh.authority.approvals import APPROVALS_FILE, NO_APPROVALS, ApprovalRules, Approvals, read_rules
from gmesh.authority.clock import SteadyClock
from gmesh.authority.control import Control
from gmesh.authority.governance import Governance
from gmesh.authority.issuer import Issuer
from gmesh.authority.membership import Membership
from gmesh.authority.openapi import describe
from gmesh.authority.publisher import Publisher
from gmesh.authority.records import Records
from gmesh.authority.revocation import Revocation
from gmesh.authority.routes import ROUTES
from gmesh.authority.signer import KeyRing
from gmesh.authority.state import LOCK, StateDirectory
from gmesh.authority.store import engine, nonces
from gmesh.authority.store.clean import leave_clean
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.daemon.lock import StateLock
from gmesh.errors import StoreError
from gmesh.keyfiles import Passphrases
from gmesh.trust.keys import verify

__all__ = ["Authority", "open_authority"]

PROBE_SECONDS = 1.0
PROBE = b"gmesh-probe-v1\0"  # no document begins so: what is signed for a probe is good for nothing else


class Authority:
    """
    What routes call.

    @ivar admission: the use cases of hosts with an invite.
    @ivar membership: the use cases of members.
    @ivar administration: the use cases of operators.
    @ivar revocation: theirs that make a CRL.
    @ivar governance: the use cases of administrators.
    @ivar approvals: the votes of operators.
    @ivar control: commands and receipts.
    @ivar records: what operators may look up.
    @ivar publisher: the documents in force.
    @ivar description: the OpenAPI document.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        issuer: Issuer,
        publisher: Publisher,
        steady: SteadyClock,
        clock: IReactorTime,
        entropy: Callable[[int], bytes],
        lock: StateLock,
        rules: ApprovalRules = NO_APPROVALS,
        checked: bool = True,
    ) -> None:
        self.store = store
        self.issuer = issuer
        self.publisher = publisher
        self.clock = steady
        self.admission = Admission(store, issuer, steady)
        self.membership = Membership(store, issuer, steady)
        self.administration = Administration(store, issuer)
        self.revocation = Revocation(store, issuer, publisher.listing, self.membership)
        self.approvals = Approvals(store, rules)
        self.governance = Governance(store, issuer, publisher, self.approvals)
        self.control = Control(store, issuer, publisher, steady)
        self.records = Records(store, issuer, steady, self.membership.presence)
        self._reactor = clock
        self._entropy = entropy
        self._lock = lock
        self._checked = checked
        self._stopping = False
        self._timers: dict[str, IDelayedCall] = {}
        self._probed_at = float("-inf")
        self.description = json.dumps(describe(ROUTES)).encode()

    def new_request_id(self) -> str:
        """Names one request in its answer, the log and the audit."""
        return self._entropy(8).hex()

    def start(self) -> None:
        """Begin to refresh, prune and flush; read the database through, if that was put off."""
        self.publisher.start()
        if not self._checked:
            self._check()
        self._later("prune", limits.PRUNE_SECONDS, self._prune)
        self._later("presence", limits.PRESENCE_FLUSH_SECONDS, self.membership.flush_presence)

    async def stop(self) -> None:
        """Finish what was begun, then close the database."""
        self._stopping = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self.publisher.stop()
        try:
            await self.membership.flush_presence()
        except Exception:
            self.log.failure("could not write down who was heard of")
        await self.store.drained()
        self.store.close()
        if self._checked and self.store.damage is None:
            leave_clean(self.store.path)
        self._lock.release()

    def reload(self, directory: StateDirectory) -> Deferred[None]:
        """
        Take over the keys, the genesis and the approvals of the state directory as it is now.

        @raise GmeshError: if something is wrong with them; then all of it stays as it was.
        """
        rules = read_rules(directory.path, ROUTES)

        def take(tx: Transaction) -> None:
            rules.check(tx, str(directory.path / APPROVALS_FILE))
            tx.after_commit(self._take_over, directory.keys, rules)
            for document in directory.add_genesis(tx):
                version = document.body.version
                audit.record(tx, "authority", "publish-genesis", str(version), digest=document.digest)
                tx.after_commit(self.publisher.genesis_changed, document)

        return self.store.decide(take)

    def _take_over(self, keys: KeyRing, rules: ApprovalRules) -> None:
        self.issuer.keys = keys
        self.approvals.rules = rules

    async def ready(self) -> None:
        """
        Make a real decision: write, sign, check the signature. At most once a second.

        @raise StoreError: C{unavailable}, C{read-only}, C{clock-suspect}.
        """

        def probe(tx: Transaction) -> None:
            signer = self.issuer.keys.signer(self.issuer.genesis.body, tx.now)
            if not verify(signer.public, signer.sign(PROBE), PROBE):
                raise StoreError("unavailable", f"the key {signer.key_id} does not sign")
            tx.execute(
                "INSERT INTO meta (name, value) VALUES ('probe', ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                tx.now,
            )

        self.clock.check()
        if self.store.damage is not None:
            raise self.store.damage
        now = self._reactor.seconds()
        if now - self._probed_at < PROBE_SECONDS and self.store.writable:
            return
        await self.store.decide(probe)
        self._probed_at = now

    def _check(self) -> None:
        """A clean stop left this file whole; whether the disk kept it so is found out beside the work."""
        done = self.store.in_thread(
            lambda: engine.check_integrity(self.store.path, given_up=lambda: self._stopping)
        )
        done.addCallbacks(self._found_good, self._found_damaged)

    def _found_good(self, result: None) -> None:
        self._checked = True

    def _found_damaged(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, StoreError) and error.reason == "corrupt":
            self.store.damage = error
        if not self._stopping:
            self.log.error("the database was read through: {error}", error=failure.getErrorMessage())

    def _prune(self) -> Deferred[int]:
        return self.store.decide(nonces.prune)

    def _later(self, name: str, seconds: float, function: Callable[[], Deferred[Any]]) -> None:
        def run() -> None:
            function().addErrback(self._failed, name)
            self._later(name, seconds, function)

        self._timers[name] = self._reactor.callLater(seconds, run)

    def _failed(self, failure: Failure, name: str) -> None:
        self.log.error("{name} failed: {error}", name=name, error=failure.getErrorMessage())


def open_authority(
    state: Path,
    clock: IReactorTime,
    wall: Callable[[], float],
    entropy: Callable[[int], bytes],
    pools: Callable[[Path], tuple[Any, Any]],
    passphrases: Passphrases | None = None,
) -> Authority:
    """
    Open a state directory.

    @param pools: makes the writer pool and the reader pool of a database file.
    @param passphrases: asked for the signing keys that are sealed.
    @raise ConfigurationError: if the directory cannot be used.
    @raise StoreError: if the database cannot.
    """
    now = int(wall())
    directory = StateDirectory(state, now, passphrases)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        issuer = directory.issuer()
        opened = directory.open(issuer, now)
    except BaseException:
        lock.release()
        raise
    steady = SteadyClock(wall, clock.seconds, opened.high_water)
    writer, reader = pools(directory.database)
    store = Store(directory.database, writer, reader, steady, opened.mirror.append)
    store.claimed = opened.claimed
    publisher = Publisher(store, issuer, clock, wall)
    publisher.load(opened.chain, opened.policy, opened.crl, opened.status)
    return Authority(store, issuer, publisher, steady, clock, entropy, lock, opened.rules, opened.checked)
