# SPDX-License-Identifier: MIT
"""
Fragments of datagrams, put together within bounds. Pure.

Tests: C{tests/endtoend/test_reassembly.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from gmesh.endtoend import limits
from gmesh.wire.messages import Datagram, Outcome

__all__ = ["Reassembly", "ReassemblyPool"]

PIECE_COST = 128
"""Bytes charged for holding a fragment, beside its data."""


class ReassemblyPool:
    """Bytes that all incomplete datagrams of a node may hold together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = limits.MAX_REASSEMBLY_TOTAL) -> None:
        self.limit = limit
        self.used = 0


@dataclass(slots=True)
class _Partial:
    service: str
    count: int
    began: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    cost: int = 0


class Reassembly:
    """
    Fragments of one peer's datagrams, put together; all of it bounded. Pure.

    @param pool: shared by all peers of a node.
    @ivar cost: bytes held.
    """

    __slots__ = ("_partial", "_pool", "cost")

    def __init__(self, pool: ReassemblyPool) -> None:
        self._pool = pool
        self._partial: OrderedDict[tuple[bool, int], _Partial] = OrderedDict()
        self.cost = 0

    def assemble(self, datagram: Datagram, now: float) -> bytes | Outcome | None:
        """
        Add a fragment.

        @return: the whole data with the last one; TOO_LARGE; or None while some are missing.
        """
        self._expire(now)
        key = (datagram.want_ack, datagram.message)
        partial = self._partial.get(key)
        if partial is None:
            partial = self._partial[key] = _Partial(datagram.service, datagram.count, now)
        if partial.service != datagram.service or partial.count != datagram.count:
            self._drop(key)
            return None
        if datagram.index in partial.pieces:
            return None
        partial.pieces[datagram.index] = datagram.data
        partial.size += len(datagram.data)
        self._charge(partial, len(datagram.data) + PIECE_COST)
        if partial.size > limits.MAX_DATAGRAM:
            self._drop(key)
            return Outcome.TOO_LARGE
        if len(partial.pieces) == partial.count:
            self._drop(key)
            return b"".join(partial.pieces[index] for index in range(partial.count))
        self._make_room()
        return None

    def clear(self) -> None:
        """Forget incomplete datagrams."""
        while self._partial:
            self._drop(next(iter(self._partial)))

    def _charge(self, partial: _Partial, cost: int) -> None:
        partial.cost += cost
        self.cost += cost
        self._pool.used += cost

    def _drop(self, key: tuple[bool, int]) -> None:
        partial = self._partial.pop(key)
        self._charge(partial, -partial.cost)

    def _expire(self, now: float) -> None:
        while self._partial:
            key, partial = next(iter(self._partial.items()))
            if now - partial.began < limits.REASSEMBLY_TIME:
                return
            self._drop(key)

    def _make_room(self) -> None:
        while self._partial and (
            len(self._partial) > limits.MAX_REASSEMBLIES
            or self.cost > limits.MAX_REASSEMBLY_BYTES
            or self._pool.used > self._pool.limit
        ):
            self._drop(next(iter(self._partial)))
