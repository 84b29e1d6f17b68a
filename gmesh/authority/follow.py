# SPDX-License-Identifier: MIT
"""
What other daemons of the same database did: looked for all the time, and taken over whole.

A look is one question, and more only where its answer is another than before.  Nobody is told something
older than they may have heard elsewhere: who asks for a document waits for a look that began after they
asked, all who wait for the same one; where the database does not answer in time, what is held is served.
Tests: C{tests/authority/test_follow.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.audit import AuditMirror, verify_chain
from gmesh.authority.published import Publisher, Shown
from gmesh.authority.state import StateDirectory
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import documents
from gmesh.authority.store.identity import OLDER_MARK, LacksSeen, lacks_seen, seen_elsewhere
from gmesh.authority.store.marks import write_mark
from gmesh.authority.store.newest import Newest, newest
from gmesh.authority.store.transaction import Reader
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, StoreError
from gmesh.trust.documents import Crl, Document, Genesis, Policy, Status, parse_document
from gmesh.trust.json_rows import collector_paused
from gmesh.trust.verify import verify_genesis_chain

__all__ = ["AuditFollower", "Followed", "Follower"]

Body = TypeVar("Body", Policy, Crl, Status)

_TOO_LATE = "it does not answer in time"


class AuditFollower:
    """
    Appends to C{audit.jsonl} what any daemon has added to the audit, each row checked against the one before.

    Called in a database thread, once at a time.
    """

    def __init__(self, mirror: AuditMirror) -> None:
        self._mirror = mirror
        self._end: tuple[int, bytes] | None = None

    def glance(self, reader: Reader) -> Newest:
        """What the database holds, asked with one question."""
        return newest(reader, 0 if self._end is None else self._end[0])

    def look(self, reader: Reader) -> tuple[Newest, StoreError | None]:
        """
        What the database holds, and what is wrong with its audit, or with the file: C{older-database},
        C{audit-broken}; C{unwritable}, which is tried again with the next look.
        """
        try:
            seq, head = self._read_end()
        except StoreError as error:
            return newest(reader, 0), error
        found = newest(reader, seq)
        try:
            self._follow(reader, found, seq, head)
        except StoreError as error:
            return found, error
        return found, None

    def _read_end(self) -> tuple[int, bytes]:
        """Number and hash of the last row that the file holds."""
        if self._end is None:
            seq = self._mirror.last()
            self._end = seq, bytes.fromhex(self._mirror.last_hash) if seq else bytes(32)
        return self._end

    def _follow(self, reader: Reader, found: Newest, seq: int, head: bytes) -> None:
        if seq and found.known != head:
            raise lacks_seen(f"it lacks row {seq} of the audit, or has another one, which was seen here")
        if found.audit == seq:
            return
        rows = audit_rows.page(reader, seq, limits.FOLLOW_ROWS)
        end = verify_chain(rows, seq, head)
        try:
            self._mirror.write(rows)
        except OSError as error:
            self._end = None  # the next look reads what is there
            raise StoreError("unwritable", f"audit.jsonl cannot be written: {error.strerror}") from error
        self._end = end


@dataclass(frozen=True, slots=True)
class Followed:
    """
    What a look found.

    @ivar genesis: the whole chain, if it is longer than what is held; the others likewise if newer.
    @ivar trouble: with the files of this host, or with the audit; None if there is none.
    @ivar unread: C{unreadable}, one for each of these that cannot be read; the others are taken over.
    """

    newest: Newest
    genesis: Sequence[Document[Genesis]] = ()
    policy: Document[Policy] | None = None
    crl: Document[Crl] | None = None
    status: Document[Status] | None = None
    trouble: StoreError | None = None
    unread: Sequence[StoreError] = ()

    @property
    def nothing(self) -> bool:
        """Whether all is as it was."""
        return self == Followed(self.newest)


@contextmanager
def _reading(name: str, unread: list[StoreError]) -> Iterator[None]:
    """Go on without a document that is refused, noted in C{unread}."""
    try:
        yield
    except DocumentRefused as error:
        detail = f"the {name} in the database, of another daemon, cannot be read: {error.detail}"
        unread.append(StoreError("unreadable", detail))


def _read(name: str, body: bytes | None, kind: type[Body], unread: list[StoreError]) -> Document[Body] | None:
    """None, if there is nothing to read, or it cannot be read."""
    if body is not None:
        with _reading(name, unread):
            return parse_document(body, kind)
    return None


class Follower:
    """
    Looks, and has what is newer taken over.

    @param directory: where genesis files are kept.
    @param wall: Unix time.
    @param random: from 0 to 1: no two daemons are to step in at the same moment.
    @param changed: called with each look, before its documents are shown.
    @ivar up: whether the last look was answered.
    @ivar looked_at: when the last one was that was answered and taken over whole, by C{clock}.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        directory: StateDirectory,
        mirror: AuditMirror,
        clock: IReactorTime,
        wall: Callable[[], float],
        random: Callable[[], float],
        changed: Callable[[Followed], None],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._directory = directory
        self._audit = AuditFollower(mirror)
        self._clock = clock
        self._wall = wall
        self._random = random
        self._changed = changed
        self.up = True
        self.looked_at = clock.seconds()
        self._timer: IDelayedCall | None = None
        self._patience: IDelayedCall | None = None
        self._busy = False
        self._late = False
        self._waiting: list[Deferred[None]] = []
        self._at_rest: Newest | None = None
        self._step_in_at: float | None = None
        self._told = ""
        self._stopping_all = False
        self._silent_since: float | None = None
        self._said_away = False

    @property
    def age(self) -> float:
        """Seconds since the last look that was taken over whole: how old what is shown may be at most."""
        return self._clock.seconds() - self.looked_at

    def check(self) -> None:
        """@raise StoreError: C{unavailable}, if what is shown may be too old for clients to be sent here."""
        if self.age > limits.FOLLOW_STALE_SECONDS:
            raise StoreError("unavailable", "what other daemons of the database publish is not followed")

    def start(self) -> None:
        """Begin to follow."""
        self._tick()

    async def stop(self) -> None:
        """Take one last look, so that the audit file of this host is whole, then none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.look()
        self._late = True

    def _tick(self) -> None:
        self._timer = self._clock.callLater(limits.FOLLOW_SECONDS, self._tick)
        if self._late and self._store.outage.trouble is None:
            self._away(_TOO_LATE)
        if not self._busy and not self._in_vain:
            self._look()

    @property
    def _in_vain(self) -> bool:
        """Whether a look that begins now would not be answered in time."""
        return self._late or self._store.outage.trouble is not None

    def look(self) -> Deferred[None]:
        """Fires when a look that began after this call is taken over, or is not answered in time."""
        if self._in_vain:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if not self._busy:
            self._look()
        return waiter

    def _look(self) -> None:
        self._busy = True
        waiting, self._waiting = self._waiting, []
        self._patience = self._clock.callLater(limits.LOOK_SECONDS, self._let_go, waiting)
        held, at_rest = self._publisher.shown, self._at_rest
        looked = self._store.read(lambda reader: self._fetch(reader, held, at_rest), patient=False, once=True)
        looked.addCallback(self._take).addErrback(self._failed)
        looked.addBoth(lambda _: self._over(waiting))

    def _let_go(self, waiting: list[Deferred[None]]) -> None:
        """It takes too long, and so would all that begin before it is answered."""
        self._late = True
        self._away(_TOO_LATE)
        more, self._waiting = self._waiting, []
        _fire(waiting + more)

    def _over(self, waiting: list[Deferred[None]]) -> None:
        self._busy = self._late = False
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
            _fire(waiting)
        if self._waiting and not self._busy:
            if self._in_vain:
                more, self._waiting = self._waiting, []
                _fire(more)
            else:
                self._look()

    # In a database thread.

    def _fetch(self, reader: Reader, held: Shown, at_rest: Newest | None) -> Followed:
        found = self._audit.glance(reader)
        if found == at_rest:
            return Followed(found)
        reader = reader.snapshot()
        found, trouble = self._audit.look(reader)
        chain: list[Document[Genesis]] = []
        unread: list[StoreError] = []
        if found.genesis > held.genesis:
            with _reading("genesis", unread):
                chain = self._read_chain(reader)
                self._directory.take_genesis(chain)
        unkept = self._keep_genesis()
        policy = documents.newest_policy(reader) if found.policy > held.policy else None
        crl = documents.newest_crl(reader) if found.crl > held.crl else None
        status = documents.newest_status(reader) if found.status > held.status else None
        with collector_paused():
            return Followed(
                found,
                tuple(chain),
                _read("policy", policy, Policy, unread),
                _read("CRL", crl, Crl, unread),
                _read("status", status, Status, unread),
                trouble or unkept,
                tuple(unread),
            )

    def _read_chain(self, reader: Reader) -> list[Document[Genesis]]:
        chain = [parse_document(body, Genesis) for body in documents.genesis_chain(reader)]
        verify_genesis_chain(chain, self._directory.network_id, int(self._wall()))
        return chain

    def _keep_genesis(self) -> StoreError | None:
        """What could not be written is told, and tried again with the next look."""
        try:
            self._directory.keep_genesis()
        except StoreError as error:
            return error
        return None

    # In the reactor's.

    def _take(self, found: Followed) -> None:
        if self._said_away:
            self._said_away = False
            self.log.info("the database answers again")
        self.up, self._silent_since = True, None
        if not found.unread:
            self.looked_at = self._clock.seconds()
        self._at_rest = found.newest if found.nothing else None
        elsewhere = seen_elsewhere() if found.newest.older else None
        self._tell(found.trouble or elsewhere or next(iter(found.unread), None))
        if isinstance(found.trouble, LacksSeen) and not found.newest.older and not self._stopping_all:
            self._stop_all()
        self._changed(found)
        self._publisher.follow(found.genesis, found.policy, found.crl, found.status)
        self._store.audit_size = max(self._store.audit_size, found.newest.audit)
        self._step_in(found.newest)

    def _step_in(self, found: Newest) -> None:
        """Make what its maker, who is gone perhaps, has not made: a CRL, or a status that names it."""
        now = self._clock.seconds()
        if not found.owed and self._publisher.names(found):
            self._step_in_at = None
        elif self._step_in_at is None:
            self._step_in_at = now + limits.STEP_IN_SECONDS + limits.STEP_IN_SPREAD * self._random()
        elif now >= self._step_in_at:
            self._step_in_at = None
            self._publisher.make_up(found.owed)

    def _tell(self, trouble: StoreError | None) -> None:
        """Once, however often it is met."""
        if trouble is None:
            self._told = ""
        elif trouble.reason != self._told:
            self._told = trouble.reason
            self.log.error("{reason}: {detail}", reason=trouble.reason, detail=trouble.detail)
            if trouble.reason not in ("unwritable", "unreadable"):
                self._store.damage = self._store.damage or trouble

    def _stop_all(self) -> None:
        """It is for people to decide what counts: until then no daemon decides anything."""

        def over(result: object) -> object:
            self._stopping_all = False
            return result

        self._stopping_all = True
        now = self._store.time
        noted = self._store.note(lambda notes: write_mark(notes, OLDER_MARK, now), regardless=True)
        noted.addBoth(over)
        noted.addErrback(lambda failure: failure.trap(StoreError))  # tried again with the next look

    def _failed(self, failure: Failure) -> None:
        if self._store.told(failure.value):
            self.up, self._silent_since, self._said_away = False, None, False  # its lines say enough
        else:
            self._away(failure.getErrorMessage())

    def _away(self, cause: str) -> None:
        """Told once it lasts: a look that lacked room or time once says nothing of the next."""
        now = self._clock.seconds()
        self.up = False
        if self._silent_since is None:
            self._silent_since = now
        elif not self._said_away and now - self._silent_since >= limits.FOLLOW_STALE_SECONDS:
            self._said_away = True
            self.log.error("the database is away, documents are served as they are: {cause}", cause=cause)


def _fire(waiting: list[Deferred[None]]) -> None:
    for waiter in waiting:
        waiter.callback(None)
