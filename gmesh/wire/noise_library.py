# SPDX-License-Identifier: MIT
"""
The Noise library as gmesh uses it: imported here and nowhere else, its errors made ours.

It is given C{hashlib} in place of C{cryptography} for hashing, by the backend it offers for that:
a handshake hashes some forty times a few dozen bytes, where making the object is what costs.
Tests: C{tests/wire/test_noise.py}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag

from gmesh.errors import FrameRefused, GmeshError, PeerRefused

try:  # Debian's name of the module comes first: there, "noise" is another library
    from noiseprotocol import exceptions as _exceptions
    from noiseprotocol.backends.default.backend import DefaultNoiseBackend
    from noiseprotocol.backends.default.hashes import BLAKE2sHash, SHA256Hash
    from noiseprotocol.connection import Keypair, NoiseConnection
except ImportError:
    from noise import exceptions as _exceptions
    from noise.backends.default.backend import DefaultNoiseBackend
    from noise.backends.default.hashes import BLAKE2sHash, SHA256Hash
    from noise.connection import Keypair, NoiseConnection

__all__ = ["LIBRARY_ERRORS", "KeyPair", "connection", "hmac", "refusal", "set_remote_static"]

LIBRARY_ERRORS = (
    _exceptions.NoiseHandshakeError,
    _exceptions.NoiseInvalidMessage,
    _exceptions.NoiseMaxNonceError,
    _exceptions.NoisePSKError,
    _exceptions.NoiseProtocolNameError,
    _exceptions.NoiseValidationError,
    _exceptions.NoiseValueError,
    InvalidTag,
    ValueError,
)
"""All that the library was seen to raise on what a peer sends."""

# HMAC, RFC 2104, section 2: the block of SHA-256 and the two paddings.
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def hmac(key: bytes, data: bytes, algorithm: Callable[[bytes], Any]) -> bytes:
    """HMAC (RFC 2104) over a hash with blocks of 64 bytes, for keys no longer than that."""
    padded = key.ljust(_BLOCK, b"\0")
    inner = algorithm(padded.translate(_INNER) + data).digest()
    outer: bytes = algorithm(padded.translate(_OUTER) + inner).digest()
    return outer


class _Sha256(SHA256Hash):  # type: ignore[misc]  # untyped library
    fn = staticmethod(hashlib.sha256)

    def hash(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()


class _Blake2s(BLAKE2sHash):  # type: ignore[misc]  # untyped library
    fn = staticmethod(hashlib.blake2s)

    def hash(self, data: bytes) -> bytes:
        return hashlib.blake2s(data).digest()


def _backend() -> Any:
    backend = DefaultNoiseBackend()
    backend.hashes = {"SHA256": _Sha256, "BLAKE2s": _Blake2s}
    backend.hmac = hmac
    return backend


_BACKEND = _backend()
KeyPair: Any = _BACKEND.keypairs["25519"]
"""The library's X25519 key pair."""


def connection(name: str, initiator: bool, prologue: bytes) -> Any:
    """A handshake of the library that has not started."""
    handshake = NoiseConnection.from_name(name.encode("ascii"), _BACKEND)
    handshake.set_as_initiator() if initiator else handshake.set_as_responder()
    handshake.set_prologue(prologue)
    return handshake


def set_remote_static(handshake: Any, public: bytes) -> None:
    """What an IK initiator knows beforehand."""
    handshake.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public)


def refusal(error: Exception) -> GmeshError:
    """Our error for one of the library or of C{cryptography}: the one place that knows them."""
    if isinstance(error, InvalidTag):
        return PeerRefused(
            "handshake-failed",
            "the peer's handshake message is not authentic: it holds another key, network or suite, "
            "or something between us changed it",
        )
    if isinstance(error, _exceptions.NoiseHandshakeError):
        return FrameRefused("out-of-turn", "a handshake message came, or was asked for, out of turn")
    if isinstance(error, ValueError):
        return PeerRefused("bad-key", "the peer's X25519 key has no use: every exchange with it yields zero")
    return FrameRefused("bad-handshake", "the handshake message is malformed")
