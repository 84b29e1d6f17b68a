# SPDX-License-Identifier: MIT
"""
What everybody may fetch, as ready bytes: genesis chain, policy, CRL, status; kept fresh and waited for.

A change of policy, CRL or genesis makes a new status, at most one each STATUS_SPACING_SECONDS;
without any the status, the CRL and the policy are re-issued when half of their time has passed, the status
also a minute after rows of the audit that it does not name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import audit, limits
from gmesh.authority.crl_deltas import CrlDeltas
from gmesh.authority.issuer import DocumentIssuer, names_newest, policy_text
from gmesh.authority.long_polls import LongPolls
from gmesh.authority.presence import Numbers
from gmesh.authority.revocations import CrlMaker
from gmesh.authority.store import documents
from gmesh.authority.store.newest import Newest, newest
from gmesh.authority.store.transaction import Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import StoreError
from gmesh.trust.documents import (
    Body,
    Crl,
    CrlDelta,
    Document,
    Genesis,
    Policy,
    Status,
    parse_document,
)

__all__ = ["Published", "Publisher", "Shown"]

CHECK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Published:
    """A document in file form and its digest."""

    body: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Which versions and numbers are served."""

    genesis: int
    policy: int
    crl: int
    status: int


def _published(document: Document[Body]) -> Published:
    return Published(document.encode(), document.digest)


class Publisher:
    """
    Holds and refreshes the documents in force.

    @param wall: Unix time.
    @ivar crl_maker: makes the CRL of what is revoked.
    @ivar polls: who waits for news.
    """

    log = Logger()

    def __init__(
        self, store: Store, issuer: DocumentIssuer, clock: IReactorTime, wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._wall = wall
        self.polls = LongPolls(clock)
        self._contents: OrderedDict[str, str] = OrderedDict()
        self._timer: IDelayedCall | None = None
        self._status_timer: IDelayedCall | None = None
        self._status_busy = False
        self._status_stale = False
        self._status_failures = 0
        self._status_at = float("-inf")
        self._refreshing: set[str] = set()
        self.crl_maker = CrlMaker(store, issuer, clock, self.crl_changed)
        self._deltas = CrlDeltas(self._make_delta)
        self.genesis: dict[int, Published] = {}
        self.url_paths: frozenset[str] = frozenset()

    def load(
        self,
        chain: Sequence[Document[Genesis]],
        policy: Document[Policy],
        crl: Document[Crl],
        status: Document[Status],
    ) -> None:
        """Take what the database holds, before anything is served."""
        for document in chain:
            self._add_genesis(document)
        self._set_policy(policy)
        self._set_crl(crl)
        self._set_status(status)

    def start(self) -> None:
        """Begin to refresh."""
        self._check()

    def stop(self) -> None:
        """Let every waiter go and cancel every timer."""
        for timer in (self._timer, self._status_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._status_timer = None
        self.polls.stop()

    @property
    def status_document(self) -> Document[Status]:
        """The status in force."""
        return self._status_document

    @property
    def crl_document(self) -> Document[Crl]:
        """The CRL in force."""
        return self._crl_document

    @property
    def shown(self) -> Shown:
        """What is served now."""
        return Shown(
            max(self.genesis),
            self._issuer.policy.body.version,
            self._crl_document.body.number,
            self._status_document.body.number,
        )

    @property
    def newest_genesis(self) -> Published:
        """The genesis in force."""
        return self.genesis[max(self.genesis)]

    # What hooks of committed decisions call.

    def crl_changed(self, document: Document[Crl]) -> None:
        """A new CRL is durable."""
        if document.body.number > self._crl_document.body.number:
            self._set_crl(document)
            self._status_due()

    def policy_changed(self, document: Document[Policy]) -> None:
        """A new policy is durable."""
        if document.body.version > self._issuer.policy.body.version:
            self._set_policy(document)
            self._status_due()

    def genesis_changed(self, document: Document[Genesis]) -> None:
        """A new genesis is durable; what an old key signed is issued again at once."""
        self._add_genesis(document)
        self._issuer.genesis = document
        self._status_due()
        if self._timer is not None:
            self._timer.reset(0)

    # What other daemons did.

    def follow(
        self,
        genesis: Sequence[Document[Genesis]],
        policy: Document[Policy] | None,
        crl: Document[Crl] | None,
        status: Document[Status] | None,
    ) -> None:
        """Show what another daemon published, all at once; what is no newer is left out."""
        fresh = [document for document in genesis if document.body.version > max(self.genesis)]
        for document in fresh:
            self._add_genesis(document)
            self._issuer.genesis = document
        if policy is not None and policy.body.version > self._issuer.policy.body.version:
            self._set_policy(policy)
        if crl is not None and crl.body.number > self._crl_document.body.number:
            self._set_crl(crl)
        if status is not None:
            self._status_changed(status)
        if fresh and self._timer is not None:
            self._timer.reset(0)  # what an old key signed is issued again

    def names(self, found: Newest) -> bool:
        """Whether the status names what the database holds."""
        return names_newest(self._status_document.body, found)

    def make_up(self, crl: bool) -> None:
        """Make what is missing, the CRL too or the status alone, which waits for no other: it is late."""
        self._status_at = float("-inf")
        if self._status_timer is not None:
            self._status_timer.cancel()
            self._status_timer = None
        if not crl:
            self._status_due()
        elif not self.crl_maker.owed:
            self.crl_maker.owe()
            self.crl_maker.again()

    def _add_genesis(self, document: Document[Genesis]) -> None:
        self.genesis[document.body.version] = _published(document)
        paths = {urlsplit(url).path.rstrip("/") for url in document.body.authority_urls}
        self.url_paths |= paths - {""}

    def commands_changed(self) -> None:
        """A new command is durable."""
        self._status_due()

    def _set_policy(self, document: Document[Policy]) -> None:
        self._issuer.policy = document
        self.policy = _published(document)

    def _set_crl(self, document: Document[Crl]) -> None:
        self._crl_document = document
        self.crl = _published(document)
        self._deltas.follow(document)

    def _set_status(self, document: Document[Status]) -> None:
        self._status_document = document
        self.status = _published(document)
        self._contents[document.digest] = _content(document.body)
        while len(self._contents) > limits.STATUSES_REMEMBERED:
            self._contents.popitem(last=False)

    async def crl_delta(self, since: int) -> Published | None:
        """What turns CRL C{since} into the one in force; None if only the whole one will do."""
        delta = await self._deltas.delta(since)
        return None if delta is None else Published(*delta)

    def _make_delta(self, crl: Document[Crl], since: int) -> Deferred[Document[CrlDelta] | None]:
        return self._store.read(lambda reader: self._issuer.crl_delta(reader, crl, since))

    # Long poll.

    def knows(self, digest: str) -> bool:
        """Whether the status of this digest was shown here."""
        return digest in self._contents

    def behind(self, numbers: Numbers) -> bool:
        """Whether a node has applied something newer than what is shown here."""
        shown = self.shown
        return (
            numbers.status > shown.status
            or numbers.crl > shown.crl
            or numbers.policy > shown.policy
            or numbers.genesis > shown.genesis
        )

    def changed_since(self, digest: str) -> bool:
        """Whether genesis, policy, CRL or commands differ from what the status of this digest named."""
        return self._contents.get(digest) != self._contents[self.status.digest]

    def wait(self, digest: str, key_id: str, address: str) -> Deferred[None]:
        """
        Fires when what the status of this digest named has changed, or it took too long.

        Cancelling it forgets the waiter.
        @param key_id: of the member or operator who waits, or nothing for a stranger.
        @raise RequestRefused: C{unavailable}, when too many wait.
        """
        if self.changed_since(digest):
            return succeed(None)
        return self.polls.of_member(key_id) if key_id else self.polls.of_stranger(address)

    # Status and refreshing.

    def _status_due(self) -> None:
        self._status_stale = True
        if self._status_busy or self._status_timer is not None:
            return
        wait = self._status_at + limits.STATUS_SPACING_SECONDS - self._clock.seconds()
        if wait > 0:
            self._status_timer = self._clock.callLater(wait, self._status_now)
        else:
            self._status_now()

    def _status_now(self) -> None:
        self._status_timer = None
        self._status_busy = True
        self._status_stale = False
        self._status_at = self._clock.seconds()
        held = self._status_document.body.number

        def sign(tx: Transaction) -> None:
            tx.after_commit(self._status_changed, self._signed_since(tx, held) or self._issuer.status(tx))

        done = self._store.decide(sign)
        done.addCallbacks(self._status_made, self._status_failed)

    def _signed_since(self, tx: Transaction, held: int) -> Document[Status] | None:
        """A newer status than the one C{held}, which another daemon signed and which names what is there."""
        if not self._store.shared:
            return None
        found = newest(tx, 0)
        signed = documents.newest_status(tx) if found.status > held else None
        document = None if signed is None else parse_document(signed, Status)
        return document if document is not None and names_newest(document.body, found) else None

    def _status_changed(self, document: Document[Status]) -> None:
        if document.body.number <= self._status_document.body.number:
            return
        changed = _content(document.body) != self._contents[self.status.digest]
        self._set_status(document)
        if changed:
            self.polls.wake()

    def _status_made(self, result: None) -> None:
        self._status_failures = 0
        self._status_over()

    def _status_failed(self, failure: Failure) -> None:
        """Try again, once soon and then with each look."""
        self._not_refreshed(failure, "status")
        self._status_failures += 1
        self._status_stale = True
        self._status_over()

    def _status_over(self) -> None:
        self._status_busy = False
        if self._status_stale and self._status_failures < 2 and self._timer is not None:
            self._status_due()

    def _check(self) -> None:
        self._timer = self._clock.callLater(CHECK_SECONDS, self._check)
        now = self._wall()
        status, crl, policy = self._status_document.body, self._crl_document.body, self._issuer.policy.body
        unnamed = self._store.audit_size > status.audit.size
        if (
            self._status_stale
            or self._outsigned(self._status_document)
            or _half_over(now, status.issued_at, status.expires_at)
            or (unnamed and now - status.issued_at >= limits.STATUS_AUDIT_SECONDS)
        ):
            self._status_due()
        crl_due = self._outsigned(self._crl_document) or _half_over(now, crl.issued_at, crl.next_update)
        policy_due = self._outsigned(self._issuer.policy) or _half_over(
            now, policy.issued_at, policy.expires_at
        )
        if crl_due:
            self._refresh("CRL", partial(self._next_crl, held=crl.number))
        if policy_due:
            self._refresh("policy", partial(self._next_policy, held=policy.version))
        self.crl_maker.again()

    def _outsigned(self, document: Document[Body]) -> bool:
        """Whether another key signs by now: a rotation reached its time, or dropped the old key."""
        try:
            signer = self._issuer.keys.signer(self._issuer.genesis.body, int(self._wall()))
        except StoreError:
            return False
        return signer.key_id not in {name for name, _ in document.signatures}

    def _refresh(self, what: str, decide: Callable[[Transaction], None]) -> None:
        if what in self._refreshing:
            return
        self._refreshing.add(what)
        done = self._store.decide(decide)
        done.addErrback(self._not_refreshed, what)
        done.addBoth(lambda _: self._refreshing.discard(what))

    def _next_crl(self, tx: Transaction, held: int) -> None:
        """The next one, unless it is there by now, whoever made it."""
        mark = documents.newest_crl_mark(tx)
        if mark is not None and mark[0] > held:
            return
        tx.after_commit(self.crl_changed, self._issuer.crl_again(tx))

    def _next_policy(self, tx: Transaction, held: int) -> None:
        """As L{_next_crl}."""
        policy = self._issuer.in_force(tx)
        if policy.body.version > held:
            return
        document = self._issuer.next_policy(tx, policy_text(policy), "authority")
        audit.record(tx, "authority", "policy-reissue", str(document.body.version))
        tx.after_commit(self.policy_changed, document)

    def _not_refreshed(self, failure: Failure, what: str) -> None:
        if not self._store.told(failure.value):
            self.log.error(
                "could not re-issue the {what}: {error}", what=what, error=failure.getErrorMessage()
            )


def _half_over(now: float, start: int, end: int) -> bool:
    return now >= start + (end - start) / 2 or now < start - limits.CLOCK_BACKSTEP_SECONDS


def _content(status: Status) -> str:
    return " ".join((status.genesis.digest, status.policy.digest, status.crl.digest, status.commands.digest))
