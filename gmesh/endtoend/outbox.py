# SPDX-License-Identifier: MIT
"""Acknowledged messages to one peer: how many fly at once, when to send one again, when to give up. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gmesh.endtoend import limits
from gmesh.endtoend.pace import Pace
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Datagram, Inner

__all__ = ["Outbox", "Outgoing", "encode_datagram"]


def encode_datagram(service: str, message: int, data: bytes, want_ack: bool) -> list[bytes]:
    """The inner frames of one datagram: one, or fragments."""
    size = limits.FRAGMENT_SIZE
    if len(data) <= size:
        return [pack_frame(Inner.DATAGRAM, Datagram(service, message, data, want_ack).encode())]
    count = -(-len(data) // size)
    return [
        pack_frame(
            Inner.DATAGRAM,
            Datagram(
                service, message, data[index * size : (index + 1) * size], want_ack, index, count
            ).encode(),
        )
        for index in range(count)
    ]


@dataclass(slots=True, eq=False)
class Outgoing:
    """
    One acknowledged message.

    @ivar result: whatever its owner wants to find with it again.
    @ivar deadline: when to give up.
    @ivar number: given when it is first sent.
    @ivar frames: its inner frames, from then on.
    @ivar due: when to send it again.
    @ivar reason: why it would be given up now.
    """

    service: str
    data: bytes
    deadline: float
    result: Any
    number: int = -1
    frames: list[bytes] = field(default_factory=list)
    counters: list[int] = field(default_factory=list)
    first_sent: float = 0.0
    due: float = 0.0
    tries: int = 0
    hurried: int = 0
    reason: str = "timed-out"

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.data) + limits.MESSAGE_COST


class Outbox:
    """
    The acknowledged messages to one peer.

    @param start: upper half of their numbers, drawn when this node started.
    """

    __slots__ = ("_bytes", "_flying", "_flying_bytes", "_next", "_waiting", "pace")

    def __init__(self, start: int) -> None:
        self.pace = Pace()
        self._next = start << 32
        self._waiting: deque[Outgoing] = deque()
        self._flying: dict[int, Outgoing] = {}
        self._bytes = 0
        self._flying_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    def __iter__(self) -> Iterator[Outgoing]:
        yield from list(self._flying.values())
        yield from list(self._waiting)

    def add(self, message: Outgoing) -> None:
        """
        Let C{message} wait for its turn.

        @raise SendRefused: C{busy}, if too much waits.
        """
        if len(self) >= limits.MAX_OUTBOX_MESSAGES or self._bytes + message.size > limits.MAX_OUTBOX_BYTES:
            raise SendRefused("busy", f"{len(self)} messages to this node wait already; slow down")
        self._waiting.append(message)
        self._bytes += message.size

    def next(self) -> Outgoing | None:
        """
        The next message to send for the first time, if the windows allow one: of bytes, and of numbers,
        for the peer remembers only so many.
        """
        if not self._waiting:
            return None
        message = self._waiting[0]
        if self._flying:
            oldest = next(iter(self._flying))
            if (
                self._flying_bytes + message.size > self.pace.window
                or self._next - oldest >= limits.ACK_WINDOW
            ):
                return None
        self._waiting.popleft()
        message.number = self._next
        self._next += 1
        self._flying[message.number] = message
        self._flying_bytes += message.size
        message.frames = encode_datagram(message.service, message.number, message.data, True)
        return message

    def sent(self, message: Outgoing, counters: list[int], now: float) -> None:
        """C{message} was sent, or an attempt made to."""
        if message.tries == 0:
            message.first_sent = now
        message.due = now + min(self.pace.rto * 2**message.tries, limits.MAX_RTO)
        message.tries += 1
        message.counters = counters

    def flying(self, number: int) -> Outgoing | None:
        """The message with this number, if it was sent and not answered."""
        return self._flying.get(number)

    def answered(self, message: Outgoing, now: float) -> float:
        """C{message} was answered. @return: since when it was first sent, seconds."""
        elapsed = now - message.first_sent
        self.pace.answered(message.size, elapsed if message.tries == 1 else None)
        self.remove(message)
        return elapsed

    def remove(self, message: Outgoing) -> None:
        """Forget C{message}."""
        if self._flying.pop(message.number, None) is not None:
            self._flying_bytes -= message.size
        elif message in self._waiting:
            self._waiting.remove(message)
        else:
            return
        self._bytes -= message.size

    def bounced(self, counter: int, now: float) -> Outgoing | None:
        """The message whose frame had this counter, due again soon, some times."""
        for message in self._flying.values():
            if counter in message.counters:
                if message.hurried >= limits.MAX_HURRIES:
                    return None
                message.hurried += 1
                message.due = min(message.due, now + limits.HURRY)
                return message
        return None

    def due(self, now: float) -> list[Outgoing]:
        """Messages to send again."""
        return [message for message in self._flying.values() if message.due <= now]

    def overdue(self, now: float) -> list[Outgoing]:
        """Messages to give up."""
        return [message for message in self if message.deadline <= now]

    def deadline(self) -> float | None:
        """When to ask L{due} and L{overdue} again."""
        times = [message.deadline for message in self]
        times += [message.due for message in self._flying.values()]
        return min(times, default=None)
