# SPDX-License-Identifier: MIT
"""
Begins the Noise sessions of this node's links, under its own key.

Tests: C{tests/mesh/test_noise.py}, C{tests/node/test_renewed_links.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.interfaces import INoiseSession
from gmesh.wire.noise import NoiseSession, StaticKey
from gmesh.wire.preamble import hop_prologue
from gmesh.wire.suites import Suite

__all__ = ["HopSessions", "SessionMaker", "xx_session"]

SessionMaker = Callable[[Suite, bool, bytes | StaticKey, bytes], INoiseSession]
"""Suite, initiator, own key, prologue."""


def xx_session(suite: Suite, initiator: bool, static: bytes | StaticKey, prologue: bytes) -> INoiseSession:
    """A session of the pattern XX (Noise, section 7.5)."""
    session: INoiseSession = NoiseSession("XX", suite, initiator, static, prologue)
    return session


class HopSessions:
    """
    The own end of each handshake between neighbours.

    @param static_private: the X25519 key that the current own certificate names, 32 bytes or a L{StaticKey}.
    @param maker: makes a session; tests record with it.
    """

    def __init__(
        self,
        network_id: str,
        static_private: Callable[[], bytes | StaticKey],
        maker: SessionMaker = xx_session,
    ) -> None:
        self._network_id = network_id
        self._static_private = static_private
        self._maker = maker
        self._static: tuple[bytes, StaticKey] | None = None

    @property
    def key(self) -> StaticKey:
        """What a session is begun under now; the object is made once for a key: that costs an exchange."""
        private = self._static_private()
        if isinstance(private, StaticKey):
            return private
        if self._static is None or self._static[0] != private:
            self._static = (private, StaticKey(private))
        return self._static[1]

    def begin(self, suite: Suite, initiator: bool) -> INoiseSession:
        """A session for one connection."""
        return self._maker(suite, initiator, self.key, hop_prologue(suite, self._network_id))
