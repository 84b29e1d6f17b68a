# SPDX-License-Identifier: MIT
"""
The store: decisions queue, and a group of them commits together.

While one group commits the next gathers, so nobody waits for a timer and a busy disk costs one
fsync for many decisions.  A decision that refuses is undone alone; if the commit itself
fails, all of its group fail.  Callers may cancel what they were given: the decision stands.
Tests: C{tests/authority/test_store.py}, C{tests/authority/test_group_commit.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.authority import limits
from gmesh.authority.clock import SteadyClock
from gmesh.authority.store.group_commit import Bulk, QueuedDecision, run_group
from gmesh.authority.store.other_programs import OtherPrograms
from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.transaction import AuditRow, Notes, Reader, Transaction
from gmesh.errors import StoreError
from gmesh.interfaces import IAuthorityStore

__all__ = ["Mirror", "Store"]

T = TypeVar("T")
Item = TypeVar("Item")
Mirror = Callable[[list[AuditRow]], None]


@implementer(IAuthorityStore)
class Store:
    """
    The authority's database.

    @param engine: L{gmesh.interfaces.IEngine}, which the pools are of.
    @param writer: a pool of one connection.
    @param reader: a pool of connections that cannot write.
    @param clock: the time of decisions, and the mark below which no request is believed.
    @param mirror: called in the writer's thread with the audit entries of each commit.
    @param checked: whether the whole file was read and found good.
    @ivar claimed: nonces that were used up before this start, of requests signed later than it.
    @ivar writable: whether the last group was written.
    @ivar decided: how many decisions were.
    @ivar groups: how many groups were tried.
    @ivar audit_size: the newest row of the audit that was written since the start; 0 before the first.
    @ivar damage: what was found wrong with the file since the start; nothing is written any more.
    @ivar stopping: true once long work must end.
    @ivar others: what other programs do to the file.
    @ivar shared: whether other daemons serve from it, which do not know what this one remembers.
    @ivar state: the directory of this daemon's own files.
    @ivar taken_over: decides before all others when a standby took over.
    @ivar audit_head: the hash of the newest row of the audit that was written since the start.
    @ivar replica: this daemon among them.
    """

    log = Logger()
    shared = False
    state = Path()
    taken_over: Callable[[Transaction], None] | None = None
    audit_head = b""
    replica: Replica | None = None

    def __init__(
        self,
        engine: Any,
        writer: Any,
        reader: Any,
        clock: SteadyClock,
        mirror: Mirror,
        claimed: frozenset[tuple[str, str]] = frozenset(),
        checked: bool = True,
    ) -> None:
        self.engine = engine
        self.path = engine.path
        self.writable = True
        self.decided = 0
        self.groups = 0
        self.audit_size = 0
        self.damage: StoreError | None = None
        self.claimed = claimed
        self.stopping = False
        self._checked = checked
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._mirror = mirror
        self._queue: deque[QueuedDecision] = deque()
        self._busy = False
        self._idle: list[Deferred[None]] = []
        self._long_work = 0
        self.others = OtherPrograms(engine.path)

    def decide(self, function: Callable[[Transaction], T]) -> Deferred[T]:
        """Run C{function} in the next group. @return: its result, after the commit."""
        return self._enqueue(QueuedDecision(function))

    def decide_in_bulk(self, bulk: Bulk[Item, T], item: Item) -> Deferred[T]:
        """Decide on C{item} in the next group, with others of its kind. @return: as L{decide}."""
        return self._enqueue(QueuedDecision(lambda tx: bulk.one(tx, item), bulk, item))

    def _refusal(self) -> StoreError | None:
        """Why nothing may be written."""
        if self.damage is not None:
            return self.damage
        return self.others.trouble if self.others.full else None

    def _enqueue(self, decision: QueuedDecision) -> Deferred[Any]:
        refused = self._refusal()
        if refused is not None:
            return fail(refused)
        if len(self._queue) >= limits.WRITE_QUEUE_REQUESTS:
            return fail(
                StoreError("unavailable", "too many requests are waiting for the disk: try again soon")
            )
        self._queue.append(decision)
        self._pump()
        return decision.deferred

    def note(self, function: Callable[[Notes], T]) -> Deferred[T]:
        """Run C{function} in a transaction outside the order. @return: its result, after the commit."""
        refused = self._refusal()
        if refused is not None:
            return fail(refused)

        def run(connection: Any) -> T:
            cursor = connection.cursor()
            try:
                connection.begin_note(cursor)
                result = function(Notes(cursor))
                connection.commit()
                return result
            except connection.Error as error:
                self.writable = False
                raise self._explained(error) from error
            finally:
                cursor.close()

        asked: Deferred[T] = self._writer.runWithConnection(run)
        answer: Deferred[T] = Deferred()
        asked.addCallbacks(answer.callback, answer.errback)
        return answer

    def read(self, function: Callable[[Reader], T]) -> Deferred[T]:
        """Run C{function} on a read-only connection, in one snapshot."""

        def run(connection: Any) -> T:
            cursor = connection.cursor()
            try:
                connection.begin_read(cursor)
                return function(Reader(cursor))
            except connection.Error as error:
                raise self._explained(error) from error
            finally:
                cursor.close()

        asked: Deferred[T] = self._reader.runWithConnection(run)
        answer: Deferred[T] = Deferred()
        asked.addCallbacks(answer.callback, answer.errback)
        return answer

    def in_thread(self, function: Callable[[], T]) -> Deferred[T]:
        """Run something long that needs no connection of ours beside the readers, such as a backup."""

        def over(result: Any) -> Any:
            self._long_work -= 1
            return result

        self._long_work += 1
        done: Deferred[T] = self._reader.runWithConnection(lambda connection: function())
        return done.addBoth(over)

    def check_log(self) -> Deferred[None]:
        """See whether another program keeps the log from being taken up; our own long work may."""
        if self.engine.log_size() < limits.LOG_BYTES_TOLD and self.others.trouble is None:
            return succeed(None)
        if self._long_work:
            return succeed(None)
        held: Deferred[int] = self._writer.runWithConnection(self.engine.log_held)
        return held.addCallback(self.others.log_held)

    @property
    def waiting(self) -> int:
        """How many decisions wait for a group."""
        return len(self._queue)

    def drained(self) -> Deferred[None]:
        """Fires when no decision is queued or running."""
        if not self._busy:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        return waiting

    def close(self) -> None:
        """Close both pools, and note that the file is whole; nothing may be running."""
        self.stopping = True
        self._writer.close()
        self._reader.close()
        if self._checked and self.damage is None:
            self.engine.closed()

    def check_file(self) -> None:
        """A clean stop left this file whole; whether the disk kept it so is checked beside the work."""
        if not self._checked:
            done = self.in_thread(lambda: self.engine.check(given_up=lambda: self.stopping))
            done.addCallbacks(self._found_good, self._found_damaged)

    def _found_good(self, result: None) -> None:
        self._checked = True

    def _found_damaged(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, StoreError) and error.reason == "corrupt":
            self.damage = error
        if not self.stopping:
            self.log.error("the database was read through: {error}", error=failure.getErrorMessage())

    def _pump(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        group = [self._queue.popleft() for _ in range(min(len(self._queue), limits.GROUP_REQUESTS))]
        now, mark = self._clock.now(), self._clock.high_water
        done = maybeDeferred(self._writer.runWithConnection, self._run_group, group, now, mark)
        done.addErrback(self._group_failed, group)
        done.addCallback(lambda _: self._settle(group))

    def _explained(self, error: BaseException | None) -> StoreError:
        """What it means; damage that a question met is damage from then on."""
        explained: StoreError = self.engine.explain(error)
        if explained.reason == "corrupt" and self.damage is None:
            self.damage = explained
        return explained

    def _group_failed(self, failure: Failure, group: list[QueuedDecision]) -> None:
        error = failure.value
        if self.engine.is_locked(error):
            error = self.others.locked()
            group += self._queue  # each of them would wait as long, for nothing
            self._queue.clear()
        else:
            if self.engine.is_error(error):
                error = self._explained(error)
            elif not isinstance(error, StoreError):
                self.log.failure("a group of decisions failed", failure)
                error = StoreError("unavailable", "the database failed")
            self.log.error(
                "nothing was written: {reason}: {detail}", reason=error.reason, detail=error.detail
            )
        self.writable = False
        for decision in group:
            decision.transaction = None
            decision.failure = Failure(error)

    def _settle(self, group: list[QueuedDecision]) -> None:
        self._busy = False
        self.groups += 1
        if self.writable:
            self.others.written()
        for decision in group:
            if decision.transaction is not None:
                self.decided += 1
                try:
                    decision.transaction.committed()
                except Exception:
                    self.log.failure("what follows a commit failed")
        for decision in group:
            if decision.failure is not None:
                decision.deferred.errback(decision.failure)
            else:
                decision.deferred.callback(decision.answer)
        self._pump()
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _run_group(self, connection: Any, group: list[QueuedDecision], now: int, mark: int) -> None:
        """In the writer's thread."""
        try:
            rows = run_group(connection, group, now, mark, self.audit_size, self.taken_over)
        except StoreError as error:
            if error.reason == "older-database":
                self.damage = self.damage or error
            raise
        self.writable = True
        if rows:
            self.audit_size, _, self.audit_head = rows[-1]
            self._mirror(rows)
