# SPDX-License-Identifier: MIT
"""
What segments stand between: those that have frames to send, the way out, and the streams with the peer.

Tests: C{tests/streams/test_mux.py}.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer

__all__ = ["Lane", "Outgoing", "Part", "SegmentsOwner"]


class Outgoing(Protocol):
    """Something with frames to send: a stream, or what is left of those that ended."""

    @property
    def sendable(self) -> bool:
        """True if L{fill} has something to give."""

    def fill(self, pieces: Any, room: int, most: int) -> Any:
        """Add the frames that are sent next."""

    def acknowledged(self, flags: int, item: Any) -> int:
        """The peer has them. @return: how many bytes of a stream are under way no more."""

    def lost(self, flags: int, item: Any) -> None:
        """They are lost."""

    def sent_some(self) -> None:
        """Something has left."""


Part = tuple[Outgoing, int, Any]
"""What one of them put into a segment."""


class Lane(Protocol):
    """The way out: L{gmesh.endtoend.batching.BatchSender}, or the memory of a node that talks to itself."""

    segment_limit: int

    @property
    def path_generation(self) -> int:
        """Rises with each change of the path."""

    @property
    def srtt(self) -> float | None:
        """The smoothed round trip."""

    def segment(self, pieces: Any, size: int, probe: bool = False) -> bool:
        """Send a sealed frame of this."""

    def leave(self) -> None:
        """The last of several was given."""

    @property
    def apart(self) -> bool:
        """Whether answers go by another path than all else."""

    def answer(self, frame: bytes) -> Any:
        """Send an inner frame that answers what the peer sent."""

    def gather(self) -> int:
        """Have keys made, if there are none."""

    def add_producer(self, producer: IPushProducer) -> None:
        """Pause and resume it."""

    def remove_producer(self, producer: IPushProducer) -> None:
        """Pause it no more."""

    def lost(self, now: float) -> None:
        """Something was lost."""

    def sample(self, rtt: float) -> None:
        """A round trip was measured."""

    def blame(self, generation: int, sent: float) -> None:
        """What went then by that path is not answered."""


class SegmentsOwner:
    """What segments ask of the streams with their peer."""

    def busy(self) -> bool:
        """True if anything is open, so that silence is to be noticed."""
        raise NotImplementedError

    def reattach(self) -> None:
        """Find another lane, and attach it."""
        raise NotImplementedError

    def silent(self) -> None:
        """The peer has been silent for too long."""
        raise NotImplementedError
