# SPDX-License-Identifier: MIT
"""
Data frames of one link: the path header is looked up, and what is behind it passed on as a slice.

What a header may do depends on the link and on its bytes up to the end of the path alone, so a
bounded cache makes a frame cost one dictionary access; it holds the header with the next hop index.

What a header says of its source is only that neighbour's word, so that neighbour pays for it, at every hop:
from one budget for frames of its own, and from a larger one for those that a relay passes on.
Tests: C{tests/mesh/test_forwarding.py}, C{tests/mesh/test_interior_hops.py}.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.mesh.forwarding import UNKNOWN_DESTINATION, Forwarding
from gmesh.mesh.limits import (
    HANDSHAKES_EACH,
    HANDSHAKES_EVERY,
    HANDSHAKES_PAIR,
    HEADER_BURST,
    HEADER_RATE,
    MAX_OWN_VERDICTS,
    MAX_VERDICTS,
    SOURCE_BURST,
    SOURCE_RATE,
    TRANSIT_BURST,
    TRANSIT_HEADER_BURST,
    TRANSIT_HEADER_RATE,
    TRANSIT_RATE,
)
from gmesh.mesh.neighbour import Neighbour
from gmesh.token_bucket import Budget, ClaimGate, TokenBucket
from gmesh.wire.frames import Kind
from gmesh.wire.limits import HANDLE, MAX_HANDLES
from gmesh.wire.paths import AT_CLASS, AT_COUNT, AT_FLAGS, AT_HOP, AT_PATH, PathHeader, peek_path

__all__ = ["DataFactory", "DataProtocol"]

SendData = Callable[[bytes, bytes, memoryview], bool]
Verdict = tuple[SendData | None, bytes, bytes, int, Budget, tuple[bytes, ...], tuple[int, int, int]]
"""
Where to (None: here), the header for the next hop from the flags to the end of the path, the flow, by how
many hops we multiply what we are sent and whose budget that spends; the path; hop index, class and flags
as they came.
"""

TAIL: Final = 12
"""Receiver index and counter, behind the path."""
_DATA = int(Kind.E2E_DATA)  # a member of an Enum is looked up by a function in Python 3.11
_INIT = int(Kind.E2E_INIT)
_new = tuple.__new__
_SHORTEST: Final = AT_PATH + TAIL
_unpack_header: Final = [
    struct.Struct(f">{AT_FLAGS}x{AT_PATH - AT_FLAGS + HANDLE * count}sIQ").unpack_from
    for count in range(MAX_HANDLES + 1)
]
"""By the number of handles: what decides about a frame, receiver index, counter."""


@implementer(IFrameReceiver)
class DataProtocol:
    """The data half of one link."""

    def __init__(self, forwarding: Forwarding, link: ILink) -> None:
        self._forwarding = forwarding
        self._link = link
        self._verdicts: dict[bytes, Verdict] = {}
        self._paid: set[bytes] = set()
        self._generation = -1
        now = forwarding.now()
        self._own = (TokenBucket(HEADER_RATE, HEADER_BURST, now), Budget(SOURCE_RATE, SOURCE_BURST, now))
        self._transit = (
            TokenBucket(TRANSIT_HEADER_RATE, TRANSIT_HEADER_BURST, now),
            Budget(TRANSIT_RATE, TRANSIT_BURST, now),
        )
        self._pairs = ClaimGate(HANDSHAKES_EVERY, HANDSHAKES_PAIR, now)
        self._handshakes = ClaimGate(HANDSHAKES_EVERY, HANDSHAKES_EACH, now)

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """One data frame. @raise FrameRefused: if its header is malformed, which the neighbour let pass."""
        forwarding = self._forwarding
        if end - start < _SHORTEST:
            raise FrameRefused("malformed", "a path header ends too early")
        count = record[start + AT_COUNT]
        path_end = start + AT_PATH + HANDLE * count
        if path_end + TAIL > end or count > MAX_HANDLES:
            raise FrameRefused("malformed", "a path is longer than its frame, or than any may be")
        if self._generation != forwarding.generation:
            self._generation = forwarding.generation
            self._verdicts.clear()
        key, index, counter = _unpack_header[count](record, start)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._judge(key, kind, record, start, end)
            if verdict is None:
                return
        send, onward, flow, hops, budget, path, fixed = verdict
        if send is None:
            header = _new(PathHeader, (path, index, counter, *fixed))
            try:
                if kind == _DATA and forwarding.local is not None:
                    forwarding.local(kind, header, record[path_end + TAIL : end], self._link)
                else:
                    forwarding.deliver(kind, header, record[path_end + TAIL : end], self._link)
            except Exception:
                forwarding.failed(kind)
            return
        head, rest = record[start : start + AT_FLAGS].tobytes() + onward, record[path_end:end]
        carried = hops * (end - start)
        budget.left = left = budget.left - carried
        if (
            (left < 0 or kind == _INIT) and not self._allows(kind, budget, carried, path, fixed[0])
        ) or not send(head, flow, rest):
            forwarding.refused(b"".join((head, rest)))

    def _allows(self, kind: int, budget: Budget, carried: int, path: tuple[bytes, ...], hop: int) -> bool:
        """
        May this be passed on?  Asked of every handshake, and when it took the last of a budget.

        A source that begins too many takes nothing of what the others behind this neighbour may; nor does who
        claims its name elsewhere, since an honest neighbour lets nobody claim another way than its own.
        """
        forwarding = self._forwarding
        now = forwarding.now()
        if budget.left < 0 and not budget.more(now):
            budget.left += carried
            forwarding.counters.count("forward-source-rate")
            return False
        if kind == _INIT and not (
            self._pairs.admits(b"".join((*path[:hop], path[-1])), now)
            and self._handshakes.admits(path[-1], now)
        ):
            forwarding.counters.count("forward-handshake-rate")
            return False
        return True

    def _judge(self, key: bytes, kind: int, record: memoryview, start: int, end: int) -> Verdict | None:
        """
        A verdict to remember, or None when the frame is dealt with.

        What was paid for and then forgotten, since links or trust changed, is judged again for nothing.
        """
        flags, hop, path_end = peek_path(record, start, end)
        fixed = (hop, record[start + AT_CLASS], flags)
        forwarding = self._forwarding
        headers, budget = self._own if hop == 1 else self._transit
        if key in self._paid:
            self._paid.remove(key)
        elif not headers.take(forwarding.now()):
            forwarding.counters.count("forward-header-rate")
            return None
        raw = bytes(record[start + AT_PATH : path_end])
        path = tuple(raw[at : at + HANDLE] for at in range(0, len(raw), HANDLE))
        refusal = forwarding.judge(self._link.peer, path, hop)
        if refusal is not None:
            forwarding.counters.count(refusal.cause)
            if refusal is UNKNOWN_DESTINATION:
                forwarding.say_unknown(kind, record, start, end)
            return None
        verdict: Verdict
        hops = len(path) - 1 - hop
        flow = path[hop - 1] + path[0] + path[-1]
        if hops == 0:
            verdict = (None, b"", b"", 0, budget, path, fixed)
        else:
            link = forwarding.links.get(path[hop + 1])
            if link is None:
                budget.left -= hops * (end - start)
                if self._allows(kind, budget, hops * (end - start), path, hop):
                    forwarding.reroute(kind, record, start, end)
                return None
            onward = record[start + AT_FLAGS : start + AT_HOP].tobytes() + bytes((hop + 1,))
            onward += record[start + AT_CLASS : path_end].tobytes()
            verdict = (link.send_data, onward, flow, hops, budget, path, fixed)
            forwarding.passes(path, kind, end - start)
        self._remember(key, verdict)
        return verdict

    def _remember(self, key: bytes, verdict: Verdict) -> None:
        if len(self._paid) >= (MAX_VERDICTS if self._link.peer.relay else MAX_OWN_VERDICTS):
            self._verdicts.clear()
            self._paid.clear()
        self._paid.add(key)
        self._verdicts[key] = verdict


@implementer(IFrameReceiverFactory)
class DataFactory:
    """Builds the data half of each link."""

    kinds = frozenset({Kind.E2E_INIT, Kind.E2E_RESP, Kind.E2E_DATA, Kind.UNREACH, Kind.DROPPED})

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def build_receiver(self, neighbour: Neighbour) -> DataProtocol:
        """A receiver of this neighbour's data frames."""
        return DataProtocol(self._forwarding, neighbour.link)
