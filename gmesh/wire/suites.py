# SPDX-License-Identifier: MIT
"""
The four cipher suites, their numbers on the wire and their Noise names.

Tests: C{tests/wire/test_noise.py}, C{tests/wire/test_frames.py}.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from gmesh.errors import FrameRefused

__all__ = ["Aead", "Suite"]

Aead = AESGCM | ChaCha20Poly1305


class Suite(IntEnum):
    """A cipher and a hash beside X25519. The value is the suite id of the preamble."""

    CHACHAPOLY_SHA256 = 1
    AESGCM_SHA256 = 2
    CHACHAPOLY_BLAKE2S = 3
    AESGCM_BLAKE2S = 4

    @property
    def aesgcm(self) -> bool:
        """True where the cipher is AES-256-GCM."""
        return self in (Suite.AESGCM_SHA256, Suite.AESGCM_BLAKE2S)

    @property
    def label(self) -> str:
        """As in a genesis: C{25519_AESGCM_SHA256}."""
        cipher = "AESGCM" if self.aesgcm else "ChaChaPoly"
        digest = "SHA256" if self in (Suite.CHACHAPOLY_SHA256, Suite.AESGCM_SHA256) else "BLAKE2s"
        return f"25519_{cipher}_{digest}"

    def noise_name(self, pattern: str) -> str:
        """The Noise protocol name with this handshake pattern: C{Noise_XX_25519_AESGCM_SHA256}."""
        return f"Noise_{pattern}_{self.label}"

    def aead(self, key: bytes) -> Aead:
        """The cipher under C{key}, 32 bytes."""
        return AESGCM(key) if self.aesgcm else ChaCha20Poly1305(key)

    @property
    def nonce(self) -> Callable[[int], bytes]:
        """Counter to nonce: 4 zero bytes, then big-endian for AESGCM, little-endian for ChaChaPoly."""
        return _BIG.pack if self.aesgcm else _LITTLE.pack

    @classmethod
    def parse(cls, name: str) -> Suite:
        """
        The suite with this label or Noise XX name.

        @raise FrameRefused: if there is none.
        """
        label = name.removeprefix("Noise_XX_")
        for suite in cls:
            if suite.label == label:
                return suite
        raise FrameRefused("unknown-suite", f"no cipher suite is called {name[:64]!r}")


# The nonces of AESGCM and of ChaChaPoly (Noise, section 12).
_BIG = struct.Struct(">4xQ")
_LITTLE = struct.Struct("<4xQ")
