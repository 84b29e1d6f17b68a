# SPDX-License-Identifier: MIT
"""
Noise sessions, XX between neighbours and IK between ends.

The library does the handshake. Afterwards both keys are taken out of its cipher states and
the AEAD is called directly: that is faster and allows explicit counters and associated data.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from zope.interface import implementer

from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.interfaces import INoiseSession
from gmesh.wire.codec import Buffer
from gmesh.wire.limits import (
    HANDSHAKE_OVERHEAD,
    MAX_HANDSHAKE_MESSAGE,
    MAX_NONCE,
    MAX_RECORD,
    MAX_RECORD_PLAINTEXT,
    TAG,
)
from gmesh.wire.noise_library import LIBRARY_ERRORS, KeyPair, connection, refusal, set_remote_static
from gmesh.wire.suites import Aead, Suite

__all__ = ["NoiseSession", "StaticKey"]

KEY_SIZE = 32
PATTERNS = ("XX", "IK")
"""The Noise Protocol Framework, revision 34, section 7.5."""

_REKEY_INPUT = bytes(KEY_SIZE)
"""What REKEY encrypts: 32 zeros (Noise, section 4.2)."""


class StaticKey:
    """
    An own static X25519 key, made once: reading it again for each handshake costs an exchange.

    @param private: the raw private key, 32 bytes.
    @raise FrameRefused: C{bad-key}, if it has another size.
    """

    __slots__ = ("_pair",)

    def __init__(self, private: bytes) -> None:
        if len(private) != KEY_SIZE:
            raise FrameRefused("bad-key", f"an X25519 private key has {KEY_SIZE} bytes")
        self._pair = KeyPair.from_private_bytes(bytes(private))

    @property
    def public(self) -> bytes:
        """The raw public key."""
        return bytes(self._pair.public_bytes)


@implementer(INoiseSession)
class NoiseSession:
    """
    One handshake and its two transport ciphers.

    L{seal} and L{open} count records in order and die with the first failure. L{seal_at} and
    L{open_at} take explicit counters; a frame L{open_at} refuses harms nothing but itself,
    since any relay could have forged it. Both ways of sealing share one rising counter, so that
    no nonce is ever used twice.

    @param pattern: C{"XX"} or C{"IK"}.
    @param suite: cipher and hash.
    @param initiator: True at the end that writes message 1.
    @param static_private: the own X25519 key, raw or as L{StaticKey}.
    @param prologue: what both ends must agree on.
    @param remote_static: the responder's public key, known beforehand to an IK initiator.
    @param ephemeral: a fixed ephemeral private key; for tests against published vectors only.
    """

    def __init__(
        self,
        pattern: str,
        suite: Suite,
        initiator: bool,
        static_private: bytes | StaticKey,
        prologue: bytes,
        remote_static: bytes | None = None,
        ephemeral: bytes | None = None,
    ) -> None:
        if pattern not in PATTERNS:
            raise FrameRefused("bad-pattern", f"the handshake pattern is not one of {PATTERNS}")
        if (remote_static is not None) != (pattern == "IK" and initiator):
            raise FrameRefused("bad-key", "an IK initiator, and only it, is given the remote static key")
        if remote_static is not None and len(remote_static) != KEY_SIZE:
            raise PeerRefused("bad-key", f"an X25519 public key has {KEY_SIZE} bytes")
        self.finished = False
        self.handshake_hash: bytes | None = None
        self.remote_static: bytes | None = None
        self._suite = suite
        self._nonce = suite.nonce
        self._outbound: Aead | None = None
        self._inbound: Aead | None = None
        self._sent = 0
        self._received = 0
        static = static_private if isinstance(static_private, StaticKey) else StaticKey(static_private)
        handshake = connection(suite.noise_name(pattern), initiator, prologue)
        handshake.noise_protocol.keypairs["s"] = static._pair
        try:
            if remote_static is not None:
                set_remote_static(handshake, bytes(remote_static))
                self.remote_static = bytes(remote_static)
            handshake.start_handshake()
        except LIBRARY_ERRORS as error:
            raise refusal(error) from error
        self._connection = handshake
        # The library deletes its own reference with the last message, before anybody can ask for "rs".
        self._state = handshake.noise_protocol.handshake_state
        if ephemeral is not None:
            self._state.e = StaticKey(ephemeral)._pair

    def write_message(self, payload: Buffer) -> bytes:
        """The next handshake message, carrying C{payload}."""
        if len(payload) > MAX_HANDSHAKE_MESSAGE - HANDSHAKE_OVERHEAD:
            raise self._die(
                FrameRefused("too-large", f"a handshake payload of {len(payload)} bytes is too large")
            )
        return self._step("write_message", bytes(payload))

    def read_message(self, message: Buffer) -> bytes:
        """Read the peer's handshake message; its payload."""
        if len(message) > MAX_HANDSHAKE_MESSAGE:
            raise self._die(
                FrameRefused("too-large", f"a handshake message of {len(message)} bytes is too large")
            )
        return self._step("read_message", bytes(message))

    def seal(self, plaintext: Buffer) -> bytes:
        """Encrypt one record with the next outbound counter."""
        sent = self._sent
        if self._outbound is None or len(plaintext) > MAX_RECORD_PLAINTEXT or sent >= MAX_NONCE:
            raise self._die(self._cannot_seal(plaintext, sent))
        self._sent = sent + 1
        return self._outbound.encrypt(self._nonce(sent), plaintext, None)

    def open(self, ciphertext: Buffer) -> bytes:
        """Decrypt one record with the next inbound counter."""
        received = self._received
        if self._inbound is None or len(ciphertext) > MAX_RECORD or received >= MAX_NONCE:
            raise self._die(self._cannot_open(ciphertext, received))
        try:
            plaintext = self._inbound.decrypt(self._nonce(received), ciphertext, None)
        except InvalidTag:
            raise self._die(_not_authentic()) from None
        self._received = received + 1
        return plaintext

    def seal_at(self, counter: int, associated: Buffer, plaintext: Buffer) -> bytes:
        """
        Encrypt under an explicit counter, which must be above every counter used before.

        A refusal here leaves the session as it was.
        """
        if (
            self._outbound is None
            or len(plaintext) > MAX_RECORD_PLAINTEXT
            or not self._sent <= counter < MAX_NONCE
        ):
            raise self._cannot_seal(plaintext, counter)
        self._sent = counter + 1
        return self._outbound.encrypt(self._nonce(counter), plaintext, associated)

    def open_at(self, counter: int, associated: Buffer, ciphertext: Buffer) -> bytes:
        """
        Decrypt under an explicit counter; the caller checks the counter against its replay window before.

        A refusal here leaves the session as it was.
        """
        if self._inbound is None or len(ciphertext) > MAX_RECORD or not 0 <= counter < MAX_NONCE:
            raise self._cannot_open(ciphertext, counter)
        try:
            return self._inbound.decrypt(self._nonce(counter), ciphertext, associated)
        except InvalidTag:
            raise _not_authentic() from None

    def rekey_outbound(self) -> None:
        """Replace the outbound key (Noise 4.2 REKEY); counters go on."""
        self._outbound = self._rekeyed(self._outbound)

    def rekey_inbound(self) -> None:
        """Replace the inbound key (Noise 4.2 REKEY); counters go on."""
        self._inbound = self._rekeyed(self._inbound)

    def wipe(self) -> None:
        """Forget all keys; everything is refused from now on. May be called twice."""
        self._outbound = self._inbound = self._connection = self._state = None

    @property
    def dead(self) -> bool:
        """True once L{wipe} was called or something failed."""
        return self._connection is None and self._outbound is None

    def _step(self, name: str, data: bytes) -> bytes:
        if self._connection is None:
            raise self._not_ready()
        try:
            result = bytes(getattr(self._connection, name)(data))
            static = getattr(self._state.rs, "public_bytes", None)
            if static is not None:
                self.remote_static = bytes(static)
            if self._connection.handshake_finished:
                self._finish()
        except LIBRARY_ERRORS as error:
            raise self._die(refusal(error)) from error
        return result

    def _finish(self) -> None:
        protocol = self._connection.noise_protocol
        self.handshake_hash = bytes(self._connection.get_handshake_hash())
        self._outbound = self._suite.aead(protocol.cipher_state_encrypt.k)
        self._inbound = self._suite.aead(protocol.cipher_state_decrypt.k)
        self._connection = self._state = None
        self.finished = True

    def _rekeyed(self, aead: Aead | None) -> Aead:
        if aead is None:
            raise self._not_ready()
        return self._suite.aead(aead.encrypt(self._nonce(MAX_NONCE), _REKEY_INPUT, b"")[:KEY_SIZE])

    def _die(self, error: GmeshError) -> GmeshError:
        self.wipe()
        return error

    def _not_ready(self) -> FrameRefused:
        if self._connection is not None:
            return FrameRefused("out-of-turn", "the handshake is not finished")
        if self.finished and self._outbound is not None:
            return FrameRefused("out-of-turn", "the handshake is over")
        return FrameRefused("session-dead", "the session ended with an earlier failure or was wiped")

    def _cannot_seal(self, plaintext: Buffer, counter: int) -> FrameRefused:
        if self._outbound is None:
            return self._not_ready()
        if len(plaintext) > MAX_RECORD_PLAINTEXT:
            return FrameRefused(
                "too-large", f"{len(plaintext)} bytes do not fit a record of {MAX_RECORD_PLAINTEXT}"
            )
        return FrameRefused(
            "counter", f"the outbound counter {counter} was used before or is beyond the last"
        )

    def _cannot_open(self, ciphertext: Buffer, counter: int) -> FrameRefused:
        if self._inbound is None:
            return self._not_ready()
        if len(ciphertext) > MAX_RECORD:
            return FrameRefused("too-large", f"a sealed message of {len(ciphertext)} bytes is too large")
        return FrameRefused("counter", f"the inbound counter {counter} is beyond the last")


def _not_authentic() -> FrameRefused:
    return FrameRefused(
        "not-authentic",
        f"a sealed message is not authentic (shorter than {TAG} bytes, changed, or out of order)",
    )
