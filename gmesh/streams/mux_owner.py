# SPDX-License-Identifier: MIT
"""
What the streams with all peers of a node share, and what those with one peer ask of the node.

A node without streams has one too, so this loads nothing of what carries them.
Tests: C{tests/streams/test_mux.py}, C{tests/node/test_streams.py}.
"""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.stream_errors import StreamCode
from gmesh.streams.budget import CreditBudget, SendBudget

if TYPE_CHECKING:
    from gmesh.streams.frame_reader import FrameReader
    from gmesh.streams.stream import Stream

__all__ = ["MuxOwner"]


class MuxOwner:
    """
    Whom a L{StreamMux<gmesh.streams.mux.StreamMux>} asks.

    @ivar counters: how often what happened, by slug.
    @ivar credit: what all may be granted.
    @ivar sends: what all may have under way.
    @ivar numbers: of streams, unique on this node.
    @ivar lines: spaces what peers can cause in the log.
    @ivar runs: of muxes: no two of them use a number of a segment or stream twice.
    """

    def __init__(self, clock: IReactorTime, random: Random) -> None:
        self.clock = clock
        self.random = random
        self.counters: Counter[str] = Counter()
        self.credit = CreditBudget()
        self.sends = SendBudget()
        self.lines = SpacedLog()
        self.numbers = itertools.count(1)
        self.runs = itertools.count(1)

    def own(self) -> Peer:
        """This node, as its certificate now says."""
        raise NotImplementedError

    def refusal(self, peer: Peer, service: str) -> tuple[StreamCode, str] | None:
        """Why C{peer} may not open a stream to C{service} of this node; None if it may."""
        raise NotImplementedError

    def begun(self, stream: Stream) -> None:
        """There is a stream more, opened by either end."""
        raise NotImplementedError

    def offer(self, stream: Stream) -> None:
        """A peer has opened it, and may."""
        raise NotImplementedError

    def ended(self, stream: Stream, reason: str, detail: str) -> None:
        """It is over. @param reason: as of L{StreamHome.ended<gmesh.streams.state.StreamHome.ended>}."""
        raise NotImplementedError

    def judge(self, mux: FrameReader) -> None:
        """Ask again whether each stream with this peer may go on, and end those that may not."""
        raise NotImplementedError

    def forget(self, mux: FrameReader) -> None:
        """Nothing is open or under way with this peer, and there is no way out."""
        raise NotImplementedError

    def associate(self, peer: Peer) -> None:
        """Find another way out for streams that lost theirs."""
        raise NotImplementedError

    def unable(self, peer: Peer) -> str:
        """A sentence about a peer that has no streams."""
        raise NotImplementedError
