# SPDX-License-Identifier: MIT
"""
Decisions that commit together, in the writer's thread: one transaction, and a savepoint for each that
changes something, so that one that refuses is undone alone.

Those of one kind are decided at once where no row contradicts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.authority.store.identity import LacksSeen, check_here, lacks_seen, note_older, take_identity
from gmesh.authority.store.marks import Marks
from gmesh.authority.store.replicas import Replica
from gmesh.authority.store.transaction import (
    AuditRow,
    Transaction,
    check_begun,
    decision_time,
    write_audit,
)
from gmesh.errors import GmeshError, StoreError

__all__ = ["Bulk", "QueuedDecision", "run_group"]

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
_log = Logger()


class Bulk(Protocol, Generic[Item, Result]):
    """
    Decisions of one kind, which are cheaper together.

    @ivar ordered: whether none of them passes a decision that came before it, nor is passed by others.
    """

    ordered: bool

    def one(self, tx: Transaction, item: Item) -> Result:
        """Decide on one."""

    def many(self, tx: Transaction, items: Sequence[Item]) -> Sequence[Result | None]:
        """
        Decide on those that no row contradicts; L{one} decides on each of the others afterwards.

        If it raises, it has decided nothing, and L{one} decides on each.
        @return: the results in order, None for each that is not decided.
        """


class QueuedDecision:
    """
    A queued function, its answer, and who waits for it.

    @ivar bulk: what decides on C{item} together with others, if anything does.
    @ivar transaction: in which it was decided, unless it was refused.
    @ivar since: when it was queued, by the reactor's time.
    @ivar told: whether who waits was answered.
    """

    __slots__ = ("answer", "bulk", "deferred", "failure", "function", "item", "since", "told", "transaction")

    def __init__(
        self, function: Callable[[Transaction], Any], bulk: Bulk[Any, Any] | None = None, item: object = None
    ) -> None:
        self.function = function
        self.bulk = bulk
        self.item = item
        self.deferred: Deferred[Any] = Deferred()
        self.transaction: Transaction | None = None
        self.answer: Any = None
        self.failure: Failure | None = None
        self.since = 0.0
        self.told = False

    @property
    def decided(self) -> bool:
        """Whether it was, be it that it was refused; it counts once the group is committed."""
        return self.transaction is not None or self.failure is not None

    def forget(self) -> None:
        """It was not decided after all."""
        self.transaction = self.answer = self.failure = None

    def tell(self) -> None:
        """Answer who waits, unless that was done."""
        if self.told:
            return
        self.told = True
        if self.failure is not None:
            self.deferred.errback(self.failure)
        else:
            self.deferred.callback(self.answer)

    def fail(self, error: Exception) -> None:
        """Answer that it is not known to be done."""
        self.told = True
        self.deferred.errback(Failure(error))


def rows_of(decisions: Sequence[QueuedDecision]) -> list[AuditRow]:
    """What a group of decisions added to the audit, in order."""
    made = {id(one.transaction): one.transaction for one in decisions if one.transaction is not None}
    return sorted(row for transaction in made.values() for row in transaction.audit_rows)


def run_group(
    connection: Any,
    decisions: list[QueuedDecision],
    now: int,
    mark: int,
    seen: int = 0,
    taken_over: Callable[[Transaction], None] | None = None,
    replica: Replica | None = None,
    begun: Callable[[tuple[int, int] | None], None] = lambda times: None,
) -> list[AuditRow]:
    """
    Decide all and commit.

    @param mark: the newest time seen; counts up to the time that decisions go by.
    @param seen: the newest row of the audit that was seen.
    @param taken_over: decides first, as one more of C{decisions}, when a standby took over.
    @param replica: who decides, where several may.
    @param begun: called when it is the turn of this group, with the database's times, if it has any.
    @return: what was added to the audit.
    @raise StoreError: C{clock-suspect}; C{older-database}, noted there if it lacks what was seen; whatever
        C{taken_over} raises.
    """
    cursor = connection.cursor()
    times = connection.begin(cursor)
    begun(times)
    now = decision_time(times, now)
    before = Marks.read(cursor)
    group = _Group(cursor, connection, now, before.copy())
    group.marks.values["high_water"] = max(min(mark, now), group.marks.values["high_water"])
    check_here(before)
    try:
        takeover = take_identity(group.marks, connection.identity)
        if before.audit_head[0] < seen:
            raise lacks_seen(f"its audit ends before row {seen}, which this daemon has seen")
        if takeover and taken_over is not None:
            decisions.insert(0, group.decide_first(taken_over, takeover))
    except LacksSeen:
        if connection.identity is not None:  # others serve from it
            after = before.copy()
            note_older(after, now)
            after.write(cursor, before)
            connection.commit()
        raise
    tried: dict[Bulk[Any, Any], int] = {}
    for place, decision in enumerate(decisions):
        if decision.bulk is not None and place >= tried.get(decision.bulk, 0):
            alike = _alike(decision.bulk, decisions[place:])
            tried[decision.bulk] = place + len(alike)
            group.decide_at_once(decision.bulk, [one for one in alike if one.bulk is decision.bulk])
        if decision.transaction is None:
            group.decide(decision)
    check_begun(cursor)
    group.marks.write(cursor, before)
    write_audit(cursor, group.rows)
    connection.sign_off(cursor, replica, now)
    cursor.close()
    connection.commit()
    return group.rows


def _alike(bulk: Bulk[Any, Any], coming: Sequence[QueuedDecision]) -> Sequence[QueuedDecision]:
    """How far into what comes those of one kind may be decided at once; others stand between them."""
    for place, decision in enumerate(coming):
        if decision.bulk is not bulk and (
            bulk.ordered or (decision.bulk is not None and decision.bulk.ordered)
        ):
            return coming[:place]
    return coming


class _Group:
    """
    As far as it has got.

    @param errors: the connection, which has the errors of its engine as attributes (PEP 249).
    @ivar marks: what the next decision starts from.
    @ivar rows: of the audit, by all that was decided.
    """

    def __init__(self, cursor: Any, errors: Any, now: int, marks: Marks) -> None:
        self._cursor = cursor
        self._errors = errors
        self._now = now
        self.marks = marks
        self.rows: list[AuditRow] = []

    def _begin(self) -> Transaction:
        return Transaction(self._cursor, self._now, self.marks.copy(), undoable=True)

    def decide_first(self, function: Callable[[Transaction], None], takeover: str) -> QueuedDecision:
        first = QueuedDecision(function)
        transaction = self._begin()
        transaction.takeover = takeover
        function(transaction)
        first.transaction = transaction
        first.told = True  # nobody waits, and a group that is decided again has its own
        self._keep(transaction)
        return first

    def decide(self, decision: QueuedDecision) -> None:
        transaction = self._begin()
        try:
            answer = decision.function(transaction)
            instead = transaction.close()
            if instead is None:
                decision.answer = answer
            else:
                transaction.undo()
                transaction = self._begin()
                decision.failure = Failure(instead(transaction))
        except self._errors.IntegrityError:
            transaction.undo()
            decision.failure = Failure(StoreError("conflict", "somebody else was faster: look and try again"))
        except self._errors.Error:
            raise
        except Exception:
            transaction.undo()
            decision.failure = Failure()
        else:
            decision.transaction = transaction
            self._keep(transaction)

    def decide_at_once(self, bulk: Bulk[Any, Any], alike: Sequence[QueuedDecision]) -> None:
        if len(alike) < 2:
            return
        transaction = self._begin()
        try:
            answers = bulk.many(transaction, [decision.item for decision in alike])
        except (self._errors.IntegrityError, GmeshError):
            transaction.undo()
        except self._errors.Error:
            raise
        except Exception:
            _log.failure("decisions of a kind failed together: each is decided alone")
            transaction.undo()
        else:
            for decision, answer in zip(alike, answers, strict=True):
                if answer is not None:
                    decision.answer, decision.transaction = answer, transaction
            self._keep(transaction)

    def _keep(self, transaction: Transaction) -> None:
        transaction.end()
        self.marks = transaction.marks
        self.rows += transaction.audit_rows
