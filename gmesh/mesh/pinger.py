# SPDX-License-Identifier: MIT
"""PING and PONG of one link: what is asked, answered and learnt of the round trip."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.liveness import Liveness
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Ping, Pong

__all__ = ["Pinger"]


class Pinger:
    """@param send: queues a control frame on the link: kind, body."""

    def __init__(
        self, clock: IReactorTime, random: Random, liveness: Liveness, send: Callable[[int, bytes], None]
    ) -> None:
        self._clock = clock
        self._random = random
        self._liveness = liveness
        self._send = send
        self._nonce = -1
        self._sent = 0.0

    def ask(self) -> None:
        """Send a PING."""
        now = self._sent = self._clock.seconds()
        self._nonce = self._random.getrandbits(64)
        self._send(Kind.PING, Ping(self._nonce, int(now * 1_000_000)).encode())
        self._liveness.asked(now)

    def ping_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """Answer."""
        ping = Ping.decode(record[start + FRAME_HEADER : end])
        self._send(Kind.PONG, Pong(ping.nonce, ping.stamp).encode())

    def pong_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """The answer to the newest PING tells the round trip."""
        if Pong.decode(record[start + FRAME_HEADER : end]).nonce == self._nonce:
            self._liveness.answered(self._sent, self._clock.seconds())
