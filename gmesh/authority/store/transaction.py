# SPDX-License-Identifier: MIT
"""
What a use case sees of the database: a few verbs on a cursor, its time, and what must follow the commit.

Tests: C{tests/authority/test_store.py}, C{tests/authority/test_group_commit.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gmesh.authority import limits
from gmesh.authority.store.identity import note_identity, take_identity
from gmesh.authority.store.marks import Marks, read_audit_head
from gmesh.errors import StoreError

__all__ = [
    "SERIALS_PER_EPOCH",
    "AuditRow",
    "Notes",
    "Reader",
    "Transaction",
    "check_begun",
    "decision_time",
    "exclusive",
    "transaction",
    "write_audit",
]

SERIALS_PER_EPOCH = 2**40
AUDIT_ROWS_AT_ONCE = 64

Row = tuple[Any, ...]
AuditRow = tuple[int, bytes, bytes]


class Reader:
    """
    Questions to the database. Lives as long as one call, in a database thread.

    @ivar versions: of genesis and policy, as it found them, so that they are asked for once; None again when
        it changes one.
    """

    __slots__ = ("_cursor", "versions")

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.versions: tuple[int, int] | None = None

    def one(self, sql: str, *values: object) -> Row | None:
        """The first row, or None."""
        self._cursor.execute(sql, values)
        row: Row | None = self._cursor.fetchone()
        return row

    def all(self, sql: str, *values: object) -> list[Row]:
        """Every row; the statement carries its own LIMIT."""
        self._cursor.execute(sql, values)
        rows: list[Row] = self._cursor.fetchall()
        return rows

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, *values)
        return None if row is None else row[0]

    def snapshot(self) -> Reader:
        """For more, as it is at one moment, after the one question that it was made for."""
        connection = self._cursor.connection
        cursor = connection.cursor()
        connection.begin_read(cursor)
        return Reader(cursor)

    def mark(self, name: str) -> int | None:
        """A mark of the database: C{epoch}, C{high_water}, C{nodes}, C{restored_at}, C{numbers_from}."""
        value: int | None = self.value("SELECT value FROM meta WHERE name = ?", name)
        return value

    @property
    def audit_head(self) -> tuple[int, bytes]:
        """(sequence number, hash) of the newest audit row; (0, 32 zero bytes) before the first."""
        return read_audit_head(self._cursor)


class Notes(Reader):
    """A small write beside the decisions, of what they leave as it is: committed as a whole."""

    __slots__ = ()

    def execute(self, sql: str, *values: object) -> int:
        """Change something. @return: how many rows."""
        check_begun(self._cursor)
        self._cursor.execute(sql, values)
        count: int = self._cursor.rowcount
        return count


Instead = Callable[["Transaction"], Exception]
"""What is decided in the place of a decision that is undone; committed, and what it returns is raised."""

Closing = Callable[[], Instead | None]
Begin = Callable[[Any], tuple[int, int] | None]


class Transaction(Reader):
    """
    One write decision.

    @param marks: the state the decision starts from, its own to change; read if not given.
    @param undoable: L{undo} may be asked. What is committed or rolled back as a whole does without: a
        savepoint keeps each page that changes, and many statements under one take ever longer.
    @ivar now: whole seconds, the same for the decisions of one group.
    @ivar audit_rows: of the audit chain, that this decision appends.
    @ivar facts: what the decision speaks of, by name, as it found it.
    @ivar takeover: how a standby took over since the last decision: as of L{take_identity}.
    """

    __slots__ = (
        "_closing",
        "_hooks",
        "_last",
        "_saved",
        "_undoable",
        "audit_rows",
        "facts",
        "marks",
        "now",
        "takeover",
    )

    def __init__(self, cursor: Any, now: int, marks: Marks | None = None, undoable: bool = False) -> None:
        super().__init__(cursor)
        self.now = now
        self.marks = Marks.read(cursor) if marks is None else marks
        self.audit_rows: list[AuditRow] = []
        self.facts: dict[str, int | str] = {}
        self._closing: Closing = lambda: None
        self._last: list[Callable[[], object]] = []
        self._hooks: list[Callable[[], None]] = []
        self._undoable = undoable
        self.takeover = ""
        self._saved = False

    def execute(self, sql: str, *values: object) -> int:
        """Change something. @return: how many rows."""
        check_begun(self._cursor)
        if self._undoable and not self._saved:
            self._saved = True
            self._cursor.execute("SAVEPOINT decision")
        self._cursor.execute(sql, values)
        count: int = self._cursor.rowcount
        return count

    def mark(self, name: str) -> int | None:
        """@see: L{Reader.mark}"""
        return self.marks.values.get(name)

    def set_mark(self, name: str, value: int) -> None:
        """Change a mark."""
        self.marks.values[name] = value

    @property
    def audit_head(self) -> tuple[int, bytes]:
        """@see: L{Reader.audit_head}"""
        return self.marks.audit_head

    def append_audit(self, seq: int, entry: bytes, digest: bytes) -> None:
        """The next row of the audit chain; it is mirrored once it is committed."""
        self.audit_rows.append((seq, entry, digest))
        self.marks.audit_head = (seq, digest)

    def next_number(self, name: str) -> int:
        """The next number of a counter in this epoch: epoch * 2^40 + n."""
        number = self.coming_number(name)
        self.marks.counters[name] += 1
        return number

    def coming_number(self, name: str) -> int:
        """What L{next_number} will give, left for it."""
        return self.marks.values["epoch"] * SERIALS_PER_EPOCH + self.marks.counters[name] + 1

    def restart_counters(self, start: int = 0) -> None:
        """Go on after C{start}, in a new epoch."""
        self.marks.counters = dict.fromkeys(self.marks.counters, start)

    def after_commit(self, function: Callable[..., None], *arguments: object) -> None:
        """Have C{function} called in the reactor thread once this is durable, waited for or not."""
        self._hooks.append(lambda: function(*arguments))

    def speaks_of(self, **facts: int | str) -> None:
        """Tell what the decision is about, so that a vote for it is not counted for something else."""
        self.facts |= facts

    def close_with(self, closing: Closing) -> None:
        """Have C{closing} asked, when the decision has been made, whether it stands."""
        self._closing = closing

    def at_last(self, function: Callable[[], object]) -> None:
        """Have C{function} called once the decision stands: for what no rollback takes back."""
        self._last.append(function)

    def close(self) -> Instead | None:
        """The decision has been made. @return: what to decide in its place, once it is undone."""
        instead = self._closing()
        if instead is None:
            for function in self._last:
                function()
        return instead

    def undo(self) -> None:
        """Take back what was changed, before the next decision begins; called by the group alone."""
        if self._saved:
            self._cursor.execute("ROLLBACK TO decision")
            self.end()

    def end(self) -> None:
        """Let the next decision begin; called by the group alone."""
        if self._saved:
            self._cursor.execute("RELEASE decision")

    def committed(self) -> None:
        """Run the hooks, once; called by the writer alone, for each that this decided."""
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()


def check_begun(cursor: Any) -> None:
    """
    Refuse to go on outside a transaction: SQLite ends it by itself when the disk fails or memory is short,
    and what somebody who caught that error wrote afterwards would be committed alone.
    """
    if not cursor.connection.in_transaction:
        raise cursor.connection.OperationalError("the transaction was ended by an earlier error")


def write_audit(cursor: Any, rows: list[AuditRow]) -> None:
    """Insert rows of the audit chain, many per statement."""
    for start in range(0, len(rows), AUDIT_ROWS_AT_ONCE):
        some = rows[start : start + AUDIT_ROWS_AT_ONCE]
        places = ",".join(["(?,?,?)"] * len(some))
        values = [value for row in some for value in row]
        cursor.execute(f"INSERT INTO audit (seq, entry, hash) VALUES {places}", values)


def decision_time(shared: tuple[int, int] | None, now: int) -> int:
    """
    The time of decisions.

    @param shared: the database's, if it has one, when it was asked and when nobody else decided any more;
        daemons whose own time differs decide nothing.
    @param now: this host's.
    @raise StoreError: C{clock-suspect}.
    """
    if shared is None:
        return now
    asked, begun = shared
    if abs(asked - now) > limits.CLOCK_DIFFERENCE_SECONDS:
        raise StoreError(
            "clock-suspect",
            f"the clock of this host and that of the database differ by {abs(asked - now)} s:"
            " nothing is decided here until they agree",
        )
    return begun


@contextmanager
def exclusive(connection: Any, begin: Begin | None = None) -> Iterator[tuple[Any, tuple[int, int] | None]]:
    """
    One write transaction on the caller's own connection: committed, or rolled back by an exception.

    @param begin: what begins it; if not given, what begins decisions.
    @return: the cursor, and what C{begin} returned.
    """
    cursor = connection.cursor()
    try:
        begun = (begin or connection.begin)(cursor)
        yield cursor, begun
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def transaction(
    connection: Any, now: int, begin: Begin | None = None, adopt: bool = False
) -> Iterator[Transaction]:
    """
    One decision alone, on the caller's own connection: committed, or rolled back by an exception.

    @param begin: as of L{exclusive}; returns the database's time, if it has one.
    @param adopt: whatever server the database is on, it is right.
    @raise StoreError: C{clock-suspect}, C{older-database}.
    """
    with exclusive(connection, begin) as (cursor, shared):
        now = decision_time(shared, now)
        before = Marks.read(cursor)
        alone = Transaction(cursor, now, before.copy())
        if not adopt:
            alone.takeover = take_identity(alone.marks, connection.identity)
        elif connection.identity is not None:
            note_identity(alone.marks, connection.identity)
        yield alone
        alone.marks.write(cursor, before)
        write_audit(cursor, alone.audit_rows)
