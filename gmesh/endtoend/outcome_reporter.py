# SPDX-License-Identifier: MIT
"""
What one peer is told about messages: that they are held, what became of them until it confirms that, and
which outcomes of its own are confirmed to it.

Tests: C{tests/endtoend/test_outcomes.py}, C{tests/endtoend/test_outcome_model.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.batching import BatchSender
from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.path_selector import Path
from gmesh.endtoend.sealing import Sealer
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.limits import MAX_NUMBERS
from gmesh.wire.messages import Inner, MessageNumbers, MessageOutcome, Outcome

__all__ = ["OutcomeReporter", "UnconfirmedOutcomes"]


@dataclass(slots=True)
class _Unconfirmed:
    ending: MessageOutcome
    first: float
    sent: float
    due: float
    tries: int = 1
    path: Path | None = None


class UnconfirmedOutcomes:
    """Outcomes that a peer was told and has not confirmed: which to repeat, which to give up. Pure."""

    __slots__ = ("_bytes", "_told")

    def __init__(self) -> None:
        self._bytes = 0
        self._told: dict[int, _Unconfirmed] = {}

    def __len__(self) -> int:
        return len(self._told)

    def tell(self, ending: MessageOutcome, now: float, path: Path | None = None) -> None:
        """An outcome is told for the first time."""
        self._told[ending.message] = _Unconfirmed(ending, now, now, now + limits.INITIAL_RTO, path=path)
        self._bytes += len(ending.answer)
        while len(self._told) > limits.ACK_WINDOW or self._bytes > limits.MAX_ANSWER_BYTES:
            self._forget(next(iter(self._told)))  # its sender asks

    def _forget(self, message: int) -> None:
        told = self._told.pop(message, None)
        if told is not None:
            self._bytes -= len(told.ending.answer)

    def find(self, message: int) -> MessageOutcome | None:
        """The outcome of a message that is not confirmed."""
        told = self._told.get(message)
        return None if told is None else told.ending

    def confirm(self, messages: Iterable[int]) -> None:
        """The peer knows these."""
        for message in messages:
            self._forget(message)

    def due(self, now: float) -> list[_Unconfirmed]:
        """Outcomes to tell again, now; those that are told for too long are forgotten."""
        late = [told for told in self._told.values() if told.due <= now]
        repeated = []
        for told in late:
            if now - told.first >= limits.OUTCOME_LIFE:
                self._forget(told.ending.message)
                continue
            told.due = now + min(limits.INITIAL_RTO * 2**told.tries, limits.MAX_RTO)
            told.tries += 1
            repeated.append(told)
        return repeated

    def deadline(self) -> float | None:
        """When to ask L{due} again."""
        return min((told.due for told in self._told.values()), default=None)

    def clear(self) -> None:
        """Tell nothing any more."""
        self._told.clear()
        self._bytes = 0


class OutcomeReporter:
    """
    Tells one peer; what concerns many messages leaves in few frames, when all that is read now was read.

    @param batch: the way to the peer.
    """

    __slots__ = (
        "_batch",
        "_call",
        "_clock",
        "_delivered",
        "_holding",
        "_sealer",
        "_settled",
        "_taken",
        "_timer",
        "_told",
        "_turn",
        "_unconfirmed",
    )

    def __init__(self, batch: BatchSender, sealer: Sealer, clock: IReactorTime) -> None:
        self._batch = batch
        self._sealer = sealer
        self._clock = clock
        self._turn = sealer.turn
        self._taken: list[int] = []
        self._settled: list[int] = []
        self._delivered: list[int] = []
        self._told: list[int] = []  # delivered, and the peer was told that they are held
        self._holding: dict[int, None] = {}  # taken, and not told yet
        self._call: IDelayedCall | None = None
        self._unconfirmed = UnconfirmedOutcomes()
        self._timer = DeadlineTimer(clock, self._tick)

    @property
    def idle(self) -> bool:
        """True if the peer has confirmed all outcomes that it was told."""
        return not len(self._unconfirmed)

    def holds(self, message: int) -> None:
        """A message of the peer is held: it is told before long, unless it has ended by then."""
        self._holding[message] = None
        if self._call is None:
            self._call = self._clock.callLater(limits.TAKEN_DELAY, self._tell_holding)

    def ended(self, message: int) -> bool:
        """It is held no more. @return: True if the peer was told that it was."""
        if message in self._holding:
            del self._holding[message]
            return False
        return True

    def taken(self, message: int) -> None:
        """A message that the peer asks about is held."""
        self._holding.pop(message, None)
        self._taken.append(message)

    def settled(self, messages: Iterable[int]) -> None:
        """The outcomes of these messages of ours are known here."""
        self._settled.extend(messages)

    def delivered(self, message: int) -> None:
        """The receiver of a message of the peer has ended well, and gives nothing back."""
        delivered = self._delivered
        delivered.append(message)
        if message in self._holding:
            del self._holding[message]
        else:
            self._told.append(message)
        if not self._turn.held:
            self.flush()
        elif len(delivered) == 1:
            self._turn.then(self.flush)

    def tell(self, ending: MessageOutcome, confirmed: bool = True) -> None:
        """
        A message of the peer has this outcome.

        @param confirmed: repeat it until the peer confirms it.
        """
        path = self._answer(pack_frame(Inner.OUTCOME, ending.encode()))
        if confirmed:
            self._until_confirmed((ending,), path)

    def _until_confirmed(self, endings: Iterable[MessageOutcome], path: Path | None) -> None:
        now = self._clock.seconds()
        for ending in endings:
            self._unconfirmed.tell(ending, now, path)
        self._timer.by(now + limits.INITIAL_RTO, now)

    def told(self, message: int) -> MessageOutcome | None:
        """What the peer was told of a message and has not confirmed."""
        return self._unconfirmed.find(message)

    def confirmed(self, messages: Iterable[int]) -> None:
        """The peer knows the outcomes of these messages."""
        self._unconfirmed.confirm(messages)

    def flush(self) -> None:
        """Tell what was gathered."""
        if self._delivered:
            delivered, self._delivered = self._delivered, []
            told, self._told = self._told, []
            path = self._list(Inner.DELIVERED, delivered)
            if told:
                self._until_confirmed([MessageOutcome(each, Outcome.DELIVERED) for each in told], path)
        if self._taken:
            taken, self._taken = self._taken, []
            self._list(Inner.TAKEN, taken)
        if self._settled:
            settled, self._settled = self._settled, []
            self._list(Inner.SETTLED, settled)

    def close(self) -> None:
        """Tell nothing any more."""
        self._timer.cancel()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._unconfirmed.clear()
        self._holding.clear()
        for gathered in (self._taken, self._settled, self._delivered, self._told):
            gathered.clear()

    def _list(self, kind: Inner, messages: list[int]) -> Path | None:
        """@return: by which path the last of them went."""
        path = None
        for first in range(0, len(messages), MAX_NUMBERS):
            numbers = MessageNumbers(tuple(messages[first : first + MAX_NUMBERS]))
            path = self._answer(pack_frame(kind, numbers.encode()))
        return path

    def _tell_holding(self) -> None:
        self._call = None
        holding, self._holding = list(self._holding), {}
        self._list(Inner.TAKEN, holding)

    def _answer(self, frame: bytes) -> Path | None:
        """@return: by which path."""
        try:
            return self._batch.answer(frame)
        except SendRefused:
            self._sealer.counters["reply-lost"] += 1
            return None

    def _repeat(self, frame: bytes) -> None:
        """By our own path: the way back may be what loses it."""
        try:
            self._batch.put(frame)
        except SendRefused:
            self._sealer.counters["reply-lost"] += 1

    def _tick(self) -> None:
        now, keys = self._clock.seconds(), self._batch.keys
        due = self._unconfirmed.due(now)
        if due and self._sealer.ready(keys):
            vain = {told.path: told.sent for told in due if told.tries > limits.TRIES_BEFORE_BLAME}
            for path, sent in vain.items():
                self._sealer.blame(keys, path, sent)
            for told in due:
                self._sealer.counters["outcome-repeated"] += 1
                self._repeat(pack_frame(Inner.OUTCOME, told.ending.encode()))
                told.sent, told.path = now, keys.sent_by
        deadline = self._unconfirmed.deadline()
        if deadline is not None:
            self._timer.by(deadline, now)
