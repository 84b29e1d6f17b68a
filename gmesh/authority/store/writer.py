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
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.authority import limits
from gmesh.authority.clock import SteadyClock
from gmesh.authority.interfaces import IAuthorityStore
from gmesh.authority.store.file_check import FileCheck
from gmesh.authority.store.group_commit import Bulk, QueuedDecision, rows_of, run_group
from gmesh.authority.store.order import OrderTimes
from gmesh.authority.store.other_programs import OtherPrograms
from gmesh.authority.store.outage import Outage
from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.transaction import AuditRow, Notes, Reader, Transaction
from gmesh.errors import StoreError

__all__ = ["Mirror", "Store"]

T = TypeVar("T")
Item = TypeVar("Item")
Mirror = Callable[[list[AuditRow]], None]


@implementer(IAuthorityStore)
class Store:
    """
    The authority's database.

    @param engine: L{gmesh.authority.interfaces.IEngine}, which the pools are of.
    @param writer: a pool of one connection.
    @param reader: a pool of connections that cannot write.
    @param clock: the time of decisions, and the mark below which no request is believed.
    @param mirror: called in the writer's thread with the audit entries of each commit.
    @param checked: whether the whole file was read and found good.
    @param reactor: C{IReactorTime}, where the database may be away for a while.
    @ivar claimed: nonces that were used up before this start, of requests signed later than it.
    @ivar writable: whether the last group was written, and nothing else says since then that none will be.
    @ivar decided: how many decisions were.
    @ivar groups: how many groups were tried.
    @ivar retried: how many had to be decided again, since their connection was lost.
    @ivar resolved: how many commits were not answered, and were found to be done or not.
    @ivar order: how long they waited for their turn, and took.
    @ivar audit_size: the newest row of the audit that was written since the start; 0 before the first.
    @ivar damage: what was found wrong with the file since the start; nothing is written any more.
    @ivar stopping: true once long work must end.
    @ivar file: whether all of it was read and found good.
    @ivar others: what other programs do to the file.
    @ivar shared: whether other daemons serve from it, which do not know what this one remembers.
    @ivar state: the directory of this daemon's own files.
    @ivar replica: this daemon among them.
    @ivar outage: whether the database is away.
    @ivar taken_over: decides before all others when a standby took over.
    @ivar audit_head: the hash of the newest row of the audit that was written since the start.
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
        reactor: Any = None,
    ) -> None:
        self.engine = engine
        self.path = engine.path
        self.writable = True
        self.decided = 0
        self.groups = self.retried = self.resolved = 0
        self.order = OrderTimes(clock.seconds)
        self.audit_size = 0
        self.damage: StoreError | None = None
        self.claimed = claimed
        self.stopping = False
        self.file = FileCheck(self, checked)
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._mirror = mirror
        self._queue: deque[QueuedDecision] = deque()
        self._busy = False
        self._idle: list[Deferred[None]] = []
        self._long_work = 0
        self._reactor = reactor
        self._expiry: Any = None
        self._doubtful: tuple[list[QueuedDecision], int] | None = None
        self.others = OtherPrograms(engine.path)
        self.outage = Outage(reactor, self._pump)

    def decide(self, function: Callable[[Transaction], T]) -> Deferred[T]:
        """Run C{function} in the next group. @return: its result, after the commit."""
        return self._enqueue(QueuedDecision(function))

    def decide_in_bulk(self, bulk: Bulk[Item, T], item: Item) -> Deferred[T]:
        """Decide on C{item} in the next group, with others of its kind. @return: as L{decide}."""
        return self._enqueue(QueuedDecision(lambda tx: bulk.one(tx, item), bulk, item))

    def _refusal(self, damaged: bool = True) -> StoreError | None:
        """Why nothing may be written. @param damaged: whether damage counts."""
        if damaged and self.damage is not None:
            return self.damage
        if self.stopping and self.outage.trouble is not None:
            return self.outage.trouble
        return self.others.trouble if self.others.full else None

    def _enqueue(self, decision: QueuedDecision) -> Deferred[Any]:
        refused = self._refusal()
        if refused is not None:
            return fail(refused)
        if len(self._queue) >= limits.WRITE_QUEUE_REQUESTS:
            return fail(
                StoreError("unavailable", "too many requests are waiting for the disk: try again soon")
            )
        if self._reactor is not None:
            decision.since = self._reactor.seconds()
        self._queue.append(decision)
        self._pump()
        self._watch()
        return decision.deferred

    def note(
        self, function: Callable[[Notes], T], regardless: bool = False, lasting: bool = True
    ) -> Deferred[T]:
        """
        Run C{function} in a transaction outside the order.

        @param regardless: it is done although the database was found damaged.
        @param lasting: a crash of the database's server must not lose it.
        @return: its result, after the commit.
        """
        refused = self._refusal(damaged=not regardless)
        if refused is not None:
            return fail(refused)
        sent: list[bool] = []

        def run(connection: Any) -> T:
            cursor = connection.cursor()
            try:
                connection.begin_note(cursor, lasting)
                result = function(Notes(cursor))
                sent.append(True)
                connection.commit()
                return result
            finally:
                cursor.close()

        def failed(failure: Failure) -> Failure:
            if self.engine.is_error(failure.value) and not self.engine.is_busy(failure.value):
                self.writable = False
            return failure

        return self._ask(self._writer, run, lambda: not sent).addErrback(failed).addErrback(self._told)

    def read(self, function: Callable[[Reader], T], patient: bool = True, once: bool = False) -> Deferred[T]:
        """
        Run C{function} on a read-only connection, in one snapshot.

        @param patient: wait a while for a database that is away.
        @param once: it asks one question, a snapshot by itself; more after L{Reader.snapshot}.
        """

        def run(connection: Any) -> T:
            cursor = connection.one_question() if once else connection.cursor()
            try:
                if not once:
                    connection.begin_read(cursor)
                return function(Reader(cursor))
            finally:
                cursor.close()

        return self._ask(self._reader, run, lambda: True, patient).addErrback(self._told)

    def _ask(
        self, pool: Any, run: Callable[[Any], T], may_again: Callable[[], bool], patient: bool = True
    ) -> Deferred[T]:
        """
        Run something on a connection; again when there is another, if that one was lost.

        @param may_again: whether it may have had no effect.
        @return: of the caller's own: who cancels it cancels nothing of the pool's.
        """

        def failed(failure: Failure) -> Any:
            if self._is_away(failure.value) and may_again():
                if not patient:
                    return pool.runWithConnection(run)
                return Deferred.fromCoroutine(self._ask_again(pool, run, may_again))
            return failure

        if self.outage.trouble is not None and not patient:
            return fail(self.outage.trouble)
        answer: Deferred[T] = Deferred()
        asked: Deferred[T]
        if self.outage.trouble is None:
            asked = pool.runWithConnection(run).addErrback(failed)
        else:
            asked = Deferred.fromCoroutine(self._ask_again(pool, run, may_again))
        asked.addCallbacks(answer.callback, answer.errback)
        return answer

    async def _ask_again(self, pool: Any, run: Callable[[Any], T], may_again: Callable[[], bool]) -> T:
        until = self._reactor.seconds() + limits.DATABASE_WAIT_SECONDS
        while True:
            if self.outage.trouble is not None:
                await self.outage.over(0.0 if self.stopping else until)
            try:
                answer: T = await pool.runWithConnection(run)
                return answer
            except Exception as error:
                if not self._is_away(error) or not may_again():
                    raise
                self.outage.gone(self._explained(error))

    def _told(self, failure: Failure) -> Failure:
        """What an error of the engine means to who asked."""
        error = failure.value
        if not self.engine.is_error(error):
            return failure
        explained = self._explained(error)
        if self._is_away(error):
            explained = self.outage.gone(explained)
        raise explained from error

    def _is_away(self, error: BaseException | None) -> bool:
        """Whether others would fare as who met this, beside the decisions."""
        return self.engine.is_passing(error) and not self.engine.is_busy(error)

    def in_thread(self, function: Callable[[], T], ended: Callable[[], object] | None = None) -> Deferred[T]:
        """
        Run something long that needs no connection of ours beside the readers, such as a backup.

        @param ended: called when the work is over, also where nobody waits for it any more.
        @return: of the caller's own: the work goes on when it is cancelled.
        """

        def over(result: Any) -> Any:
            self._long_work -= 1
            if ended is not None:
                ended()
            return result

        self._long_work += 1
        answer: Deferred[T] = Deferred()
        done: Deferred[T] = self._reader.runWithConnection(lambda connection: function())
        done.addBoth(over).addErrback(self._told).addCallbacks(answer.callback, answer.errback)
        return answer

    def check_log(self) -> Deferred[None]:
        """See whether another program keeps the log from being taken up; our own long work may."""
        if self.engine.log_size() < limits.LOG_BYTES_TOLD and self.others.trouble is None:
            return succeed(None)
        if self._long_work:
            return succeed(None)
        held: Deferred[int] = self._writer.runWithConnection(self.engine.log_held)
        return held.addCallback(self.others.log_held)

    def told(self, error: object) -> bool:
        """Whether the log has said this once, and need not for each who hears it."""
        return error is not None and error in (self.damage, self.others.trouble, self.outage.trouble)

    @property
    def time(self) -> int:
        """Unix seconds as the database counts them, by the last group; this host's where it counts none."""
        told = self.order.time
        return self._clock.now() if told is None else told

    @property
    def waiting(self) -> int:
        """How many decisions wait for a group."""
        return len(self._queue)

    def drained(self) -> Deferred[None]:
        """Fires when no decision is queued or running; those that wait for a database that is away fail."""
        if self._at_rest():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        return waiting

    def _at_rest(self) -> bool:
        away = self.outage.trouble is not None
        if away:
            self._expire()
        return not self._busy and (away or not (self._queue or self._doubtful))

    def close(self) -> None:
        """Close both pools, and note that the file is whole; nothing may be running."""
        self.stopping = True
        self.outage.end()
        self._watch()
        self._writer.close()
        self._reader.close()
        if self.file.good and self.damage is None:
            self.engine.closed()

    def _pump(self) -> None:
        if self._busy or self.outage.waits:
            return
        if self._doubtful is not None:
            self._resolve(*self._doubtful)
        elif self._queue or self.outage.trouble is not None:
            self._begin([self._queue.popleft() for _ in range(min(len(self._queue), limits.GROUP_REQUESTS))])

    def _begin(self, group: list[QueuedDecision]) -> None:
        self._busy = True
        self._clock.now()
        mark = self._clock.high_water
        done = maybeDeferred(self._writer.runWithConnection, self._run_group, group, mark)
        done.addCallbacks(lambda _: self._written(group), self._group_failed, errbackArgs=(group,))

    def _resolve(self, group: list[QueuedDecision], turn: int) -> None:
        """Find out whether a group whose commit was never answered was committed."""
        replica = self.replica
        assert replica is not None  # whose turn it is
        self._busy = True

        def ask(connection: Any) -> bool:
            committed: bool = connection.outcome(replica.boot, turn)
            if committed:
                self._mirror_rows(rows_of(group))
            return committed

        def found(committed: bool) -> None:
            self._doubtful = None
            self.resolved += 1
            self.outage.back()
            self.log.info("a commit that was not answered was {what}", what="done" if committed else "not")
            if committed:
                return self._written(group)
            self._queue_again(group)
            self._rest()

        done = maybeDeferred(self._writer.runWithConnection, ask)
        done.addCallbacks(found, lambda failure: self._away(failure.value))

    def _away(self, error: BaseException | None) -> None:
        """The database did not answer: what waits goes on waiting, but not for ever."""
        self.writable = False
        self.outage.gone(self._explained(error))
        if self.stopping:
            self._expire()
        self._rest()

    def _queue_again(self, group: list[QueuedDecision]) -> None:
        waiting = [decision for decision in group if not decision.told]
        self.retried += any(decision.decided for decision in waiting)
        for decision in waiting:
            decision.forget()
        self._queue.extendleft(reversed(waiting))

    def _watch(self) -> None:
        """See to it that nobody waits longer than they may, where the database may be away."""
        if self._reactor is None:
            return
        oldest = self._oldest()
        if self._expiry is None and oldest is not None:
            left = oldest.since + limits.DATABASE_WAIT_SECONDS - self._reactor.seconds()
            self._expiry = self._reactor.callLater(max(0.0, left), self._expired)
        elif self._expiry is not None and oldest is None:
            self._expiry.cancel()
            self._expiry = None

    def _oldest(self) -> QueuedDecision | None:
        doubtful = () if self._doubtful is None else self._doubtful[0]
        return next((decision for decision in chain(doubtful, self._queue) if not decision.told), None)

    def _expired(self) -> None:
        self._expiry = None
        self._expire()
        self._watch()

    def _expire(self) -> None:
        """Answer those who waited as long as they may; everybody, if the daemon stops."""
        late = self._reactor.seconds() - limits.DATABASE_WAIT_SECONDS
        error = self.outage.trouble or StoreError("unavailable", "the database did not answer in time")
        while (oldest := self._oldest()) is not None and (self.stopping or oldest.since <= late):
            if self._doubtful is None or oldest not in self._doubtful[0]:
                self._queue.remove(oldest)
            oldest.fail(error)

    def _explained(self, error: BaseException | None) -> StoreError:
        """What it means; damage that a question met is damage from then on."""
        if isinstance(error, StoreError):
            return error
        if not self.engine.is_error(error):
            self.log.failure("the database failed", Failure(error))
            return StoreError("unavailable", "the database failed")
        explained: StoreError = self.engine.explain(error)
        if explained.reason == "corrupt" and self.damage is None:
            self.damage = explained
        return explained

    def _group_failed(self, failure: Failure, group: list[QueuedDecision]) -> None:
        error = failure.value
        turn = self.engine.unknown_turn(error)
        if turn is not None:
            self._doubtful = group, turn
            return self._away(error)
        if self.engine.is_passing(error):
            self._queue_again(group)
            return self._away(error)
        if self.engine.is_locked(error):
            error = self.others.locked()
            group += self._queue  # each of them would wait as long, for nothing
            self._queue.clear()
        else:
            self.outage.back()  # it did answer, if only to refuse
            error = self._explained(error)
            self.log.error(
                "nothing was written: {reason}: {detail}", reason=error.reason, detail=error.detail
            )
        self.writable = False
        for decision in group:
            decision.transaction = None
            decision.failure = Failure(error)
        self._settle(group)

    def _written(self, group: list[QueuedDecision]) -> None:
        self.writable = True
        decided = next((one.transaction for one in group if one.transaction is not None), None)
        if decided is not None:
            self._clock.follow(decided.mark("high_water") or 0)
        self.outage.back()
        self._settle(group)

    def _settle(self, group: list[QueuedDecision]) -> None:
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
            decision.tell()
        self._rest()

    def _rest(self) -> None:
        """Let the next group begin."""
        self._busy = False
        self._pump()
        self._watch()
        if self._idle and self._at_rest():
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _run_group(self, connection: Any, group: list[QueuedDecision], mark: int) -> None:
        """In the writer's thread, which may have waited long for a connection."""
        now = self._clock.milliseconds() // 1000
        try:
            with self.order.turn() as begun:
                rows = run_group(
                    connection, group, now, mark, self.audit_size, self.taken_over, self.replica, begun
                )
        except StoreError as error:
            if error.reason == "older-database":
                self.damage = self.damage or error
            raise
        self._mirror_rows(rows)

    def _mirror_rows(self, rows: list[AuditRow]) -> None:
        """In the writer's thread."""
        if rows:
            self.audit_size, _, self.audit_head = rows[-1]
            self._mirror(rows)
