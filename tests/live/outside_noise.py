# SPDX-License-Identifier: MIT
"""Noise as its specification (revision 34) says, the initiator alone: no Noise library, nothing of gmesh."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Order = Literal["little", "big"]
CIPHERS: dict[str, tuple[Any, Order]] = {
    "ChaChaPoly": (ChaCha20Poly1305, "little"),
    "AESGCM": (AESGCM, "big"),
}
HASHES: dict[str, Any] = {"SHA256": hashlib.sha256, "BLAKE2s": hashlib.blake2s}


class Cipher:
    """One direction: a key, and the counter of the next message where none is given (section 5.1)."""

    def __init__(self, name: str, key: bytes) -> None:
        self._aead, self._order = CIPHERS[name]
        self._key = key
        self._next = 0

    def _nonce(self, counter: int | None) -> bytes:
        if counter is None:
            counter = self._next
            self._next += 1
        return bytes(4) + counter.to_bytes(8, self._order)

    def seal(self, text: bytes, associated: bytes = b"", counter: int | None = None) -> bytes:
        sealed: bytes = self._aead(self._key).encrypt(self._nonce(counter), text, associated)
        return sealed

    def open(self, sealed: bytes, associated: bytes = b"", counter: int | None = None) -> bytes:
        text: bytes = self._aead(self._key).decrypt(self._nonce(counter), sealed, associated)
        return text

    def rekey(self) -> None:
        """Section 4.2."""
        self._key = self.seal(bytes(32), counter=2**64 - 1)[:32]


class Handshake:
    """
    One handshake of the initiator (sections 5.2 and 5.3).

    @param name: the whole name, such as C{Noise_XX_25519_AESGCM_SHA256}.
    @param remote: static key of the responder, for IK.
    @ivar remote: that key, known after the message that carries it.
    """

    def __init__(
        self, name: str, prologue: bytes, static: X25519PrivateKey, remote: bytes | None = None
    ) -> None:
        _, _, _, self._cipher_name, hash_name = name.split("_")
        self._hash = HASHES[hash_name]
        encoded = name.encode()
        self._h = encoded.ljust(32, b"\0") if len(encoded) <= 32 else self._hash(encoded).digest()
        self._chain = self._h
        self._cipher: Cipher | None = None
        self._mine = {"e": X25519PrivateKey.generate(), "s": static}
        self._theirs: dict[str, bytes] = {}
        self._mix(prologue)
        if remote is not None:
            self._theirs["s"] = remote
            self._mix(remote)

    @property
    def remote(self) -> bytes:
        return self._theirs["s"]

    def _mix(self, data: bytes) -> bytes:
        self._h = self._hash(self._h + data).digest()
        return data

    def _derive(self, data: bytes) -> tuple[bytes, bytes]:
        secret = hmac.digest(self._chain, data, self._hash)
        first = hmac.digest(secret, b"\x01", self._hash)
        return first, hmac.digest(secret, first + b"\x02", self._hash)

    def _agree(self, token: str) -> None:
        """C{es} is the initiator's ephemeral key, ours, with the responder's static one."""
        public = X25519PublicKey.from_public_bytes(self._theirs[token[1]])
        self._chain, key = self._derive(self._mine[token[0]].exchange(public))
        self._cipher = Cipher(self._cipher_name, key)

    def _cover(self, text: bytes) -> bytes:
        return self._mix(text if self._cipher is None else self._cipher.seal(text, self._h))

    def _uncover(self, data: bytes) -> bytes:
        text = data if self._cipher is None else self._cipher.open(data, self._h)
        self._mix(data)
        return text

    def write(self, tokens: str, payload: bytes) -> bytes:
        """Our next message; its tokens as the pattern lists them, C{"s se"}."""
        message = b""
        for token in tokens.split():
            if len(token) == 1:
                public = self._mine[token].public_key().public_bytes_raw()
                message += self._mix(public) if token == "e" else self._cover(public)
            else:
                self._agree(token)
        return message + self._cover(payload)

    def read(self, tokens: str, message: bytes) -> bytes:
        """@return: the payload of their next message."""
        for token in tokens.split():
            if token == "e":
                self._theirs["e"], message = self._mix(message[:32]), message[32:]
            elif token == "s":
                self._theirs["s"], message = self._uncover(message[:48]), message[48:]
            else:
                self._agree(token)
        return self._uncover(message)

    def split(self) -> tuple[Cipher, Cipher]:
        """@return: what seals to the responder, and what opens what it sends."""
        first, second = self._derive(b"")
        return Cipher(self._cipher_name, first), Cipher(self._cipher_name, second)
