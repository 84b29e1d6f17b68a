# SPDX-License-Identifier: MIT
"""A liar's hand between a whole node and its links: it sees every frame that the node sends, and decides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gmesh.mesh.neighbour import Neighbour
from gmesh.wire.frames import pack_frame
from gmesh.wire.limits import FRAME_HEADER

__all__ = ["Hand", "Tampering"]

Hand = Callable[[int, bytes, str], bytes | None]
"""(kind, frame, name of the neighbour) -> the frame to send instead, or None for none."""


class Tampering:
    """
    Stands between a node and each link that comes up; follows L{gmesh.mesh.neighbours.Neighbours}.

    @param hand: gives the hand in force, or None while the node is honest.
    """

    def __init__(self, hand: Callable[[], Hand | None]) -> None:
        self._hand = hand

    def follow(self, neighbour: Neighbour, up: bool) -> None:
        """From now on frames to this neighbour pass the hand."""
        if up:
            link: Any = neighbour.link
            link.send_data = partial(self._data, link.send_data, link.peer.name)
            link.send_control = partial(self._control, link.send_control, link.peer.name)

    def _data(
        self,
        send: Callable[[bytes, bytes], bool],
        name: str,
        frame: bytes,
        flow: bytes,
        rest: bytes | memoryview = b"",
    ) -> bool:
        hand = self._hand()
        frame = b"".join((frame, rest))
        if hand is None:
            return send(frame, flow)
        altered = hand(frame[2], frame, name)
        return True if altered is None else send(altered, flow)

    def _control(self, send: Callable[[int, bytes], None], name: str, kind: int, body: bytes) -> None:
        hand = self._hand()
        if hand is None:
            send(kind, body)
            return
        altered = hand(kind, pack_frame(kind, body), name)
        if altered is not None:
            send(altered[2], altered[FRAME_HEADER:])
