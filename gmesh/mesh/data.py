# SPDX-License-Identifier: MIT
"""
Data frames of one link: the path header is looked up, and what is behind it passed on as a slice.

What a header may do depends on the link and on its bytes up to the end of the path alone, so a
bounded cache makes a frame cost one dictionary access; it holds the header with the next hop index.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.network_limits import HEADER_BURST, HEADER_RATE, MAX_VERDICTS, SOURCE_BURST, SOURCE_RATE
from gmesh.token_bucket import Budget, TokenBucket
from gmesh.wire.frames import Kind
from gmesh.wire.limits import HANDLE, MAX_HANDLES
from gmesh.wire.paths import AT_CLASS, AT_COUNT, AT_FLAGS, AT_HOP, AT_PATH, PathHeader, peek_path

__all__ = ["DataFactory", "DataProtocol"]

SendData = Callable[[bytes, bytes, memoryview], bool]
Verdict = tuple[SendData | None, bytes, bytes, int, tuple[bytes, ...], tuple[int, int, int]]
"""
Where to (None: here), the header for the next hop from the flags to the end of the path, the flow, by how
many hops we multiply what the source sends (0 behind its first relay, which is the one that counts); the
path; hop index, class and flags as they came.
"""

TAIL: Final = 12
"""Receiver index and counter, behind the path."""
_DATA = int(Kind.E2E_DATA)  # a member of an Enum is looked up by a function in Python 3.11
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
        self._ingress: bytes = link.peer.handle
        self._verdicts: dict[bytes, Verdict] = {}
        self._generation = -1
        # A source that makes up paths pays at its first relay: those behind see only what passed here.
        self._headers = TokenBucket(HEADER_RATE, HEADER_BURST, forwarding.now())
        self._carried = Budget(SOURCE_RATE, SOURCE_BURST, forwarding.now())

    def link_up(self) -> None:
        """Frames may come and go."""
        self._forwarding.link_up(self._link)

    def link_down(self, reason: str) -> None:
        """Or not any more."""
        self._forwarding.link_down(self._link)
        self._verdicts.clear()

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
            verdict = self._judge(kind, record, start, end)
            if verdict is None:
                return
        send, onward, flow, hops, path, fixed = verdict
        if send is None:
            header = _new(PathHeader, (path, index, counter, *fixed))
            if kind == _DATA and forwarding.local is not None:
                forwarding.local(kind, header, record[path_end + TAIL : end], self._link)
            else:
                forwarding.deliver(kind, header, record[path_end + TAIL : end], self._link)
            return
        head, rest = record[start : start + AT_FLAGS].tobytes() + onward, record[path_end:end]
        if (hops and not self._allows(hops * (end - start))) or not send(head, flow, rest):
            forwarding.refused(b"".join((head, rest)))

    def _allows(self, carried: int) -> bool:
        """May the source have so many bytes carried now?"""
        budget = self._carried
        budget.left -= carried
        if budget.left >= 0 or budget.more(self._forwarding.now()):
            return True
        budget.left += carried
        self._forwarding.counters.count("forward-source-rate")
        return False

    def _judge(self, kind: int, record: memoryview, start: int, end: int) -> Verdict | None:
        """A verdict to remember, or None when the frame is dealt with."""
        flags, hop, path_end = peek_path(record, start, end)
        fixed = (hop, record[start + AT_CLASS], flags)
        if hop == 1 and not self._headers.take(self._forwarding.now()):
            self._forwarding.counters.count("forward-header-rate")
            return None
        raw = bytes(record[start + AT_PATH : path_end])
        path = tuple(raw[at : at + HANDLE] for at in range(0, len(raw), HANDLE))
        forwarding = self._forwarding
        refusal = forwarding.judge(self._ingress, path, hop)
        if refusal is not None:
            forwarding.counters.count(refusal.cause)
            return None
        verdict: Verdict
        if hop == len(path) - 1:
            verdict = (None, b"", b"", 0, path, fixed)
        else:
            link = forwarding.links.get(path[hop + 1])
            if link is None:
                forwarding.reroute(kind, record, start, end)
                return None
            hops = len(path) - 1 - hop if hop == 1 else 0
            onward = record[start + AT_FLAGS : start + AT_HOP].tobytes() + bytes((hop + 1,))
            onward += record[start + AT_CLASS : path_end].tobytes()
            verdict = (link.send_data, onward, path[0] + path[-1], hops, path, fixed)
            forwarding.passes(path, kind, end - start)
        if len(self._verdicts) >= MAX_VERDICTS:
            self._verdicts.clear()
        self._verdicts[bytes(record[start + AT_FLAGS : path_end])] = verdict
        return verdict


@implementer(IFrameReceiverFactory)
class DataFactory:
    """Builds the data half of each link."""

    kinds = frozenset({Kind.E2E_INIT, Kind.E2E_RESP, Kind.E2E_DATA, Kind.UNREACH, Kind.DROPPED})

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def build_receiver(self, link: ILink) -> DataProtocol:
        """A receiver for this link."""
        return DataProtocol(self._forwarding, link)
