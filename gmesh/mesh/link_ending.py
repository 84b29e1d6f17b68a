# SPDX-License-Identifier: MIT
"""
How a link ends: drained, handed over to a newer session, or cut; each within a deadline.

Tests: C{tests/mesh/test_link.py}, C{tests/mesh/test_link_renewal.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.interfaces import ISecureTransport
from gmesh.mesh.egress import Egress
from gmesh.mesh.limits import DRAIN_DEADLINE, PARTING_DEADLINE
from gmesh.mesh.timers import cancel_calls
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Close, CloseReason

__all__ = ["Ending"]


class Ending:
    """The last seconds of one link."""

    def __init__(self, clock: IReactorTime, transport: ISecureTransport, egress: Egress) -> None:
        self._clock = clock
        self._transport = transport
        self._egress = egress
        self._last_call: IDelayedCall | None = None
        self._said = self._heard = False

    def drain(self, reason: CloseReason) -> None:
        """Send what is queued and CLOSE, then disconnect."""
        self.limit()
        self._egress.finish(_close(reason), self._transport.lose)

    def hand_over(self) -> None:
        """Send what is queued and CLOSE; disconnect when both have said it: nothing is under way then."""
        self.limit()
        self._egress.finish(_close(CloseReason.DUPLICATE), self._close_said)

    def cut(self, farewell: CloseReason | None) -> None:
        """Drop what is queued, send C{farewell} if that needs no waiting, and disconnect."""
        if farewell is None:
            self._egress.stop()
        else:
            self._egress.part(_close(farewell))
        self.limit(PARTING_DEADLINE)
        self._transport.lose()

    def close_heard(self) -> None:
        """The peer's CLOSE came: its last frame."""
        self._heard = True
        self._lose_if_both()

    def limit(self, seconds: float = DRAIN_DEADLINE) -> None:
        """Whatever happens, the connection is closed within C{seconds}."""
        self.ended()
        self._last_call = self._clock.callLater(seconds, self._transport.abort)

    def ended(self) -> None:
        """The connection is gone: nothing is left to do."""
        cancel_calls(self._last_call)
        self._last_call = None

    def _close_said(self) -> None:
        self._said = True
        self._lose_if_both()

    def _lose_if_both(self) -> None:
        if self._said and self._heard:
            self._transport.lose()


def _close(reason: CloseReason) -> bytes:
    return pack_frame(Kind.CLOSE, Close(reason).encode())
