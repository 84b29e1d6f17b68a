# SPDX-License-Identifier: MIT
"""
Ed25519 keys that sign and X25519 keys for Noise, and the names made from them.

OpenSSL takes Ed25519 public keys of small order, with which anybody can sign anything, so
every public key from outside passes L{check_public}.
"""

from __future__ import annotations

import re
from hashlib import sha256

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.utils import random as random_bytes
from zope.interface import implementer

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust.encoding import b64url_decode

__all__ = [
    "NoiseKey",
    "SigningKey",
    "check_noise_public",
    "check_public",
    "decode_noise_public",
    "decode_public",
    "handle",
    "handle_of_id",
    "key_id",
    "noise_keys_from_pem",
    "verify",
]

KEY_SIZE = 32  # bytes: Ed25519 (RFC 8032, section 5.1.5) and X25519 (RFC 7748, section 5)
SIGNATURE_SIZE = 64  # RFC 8032, section 5.1.6
KEY_ID_BYTES = 16
HANDLE_SIZE = 8
_FIELD_PRIME = 2**255 - 19  # RFC 7748, section 4.1
_LOW_ORDER = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD_PRIME - 1,
    }
)
"""Every u of the curve and its twist that a multiplication by 8 takes to the neutral element."""
# L - 1, RFC 8032, section 5.1.
_GROUP_ORDER_LESS_ONE = (2**252 + 27742317777372353535851937790883648492).to_bytes(KEY_SIZE, "little")
_BASE_POINT_PLUS_ORDER_2 = ((_FIELD_PRIME - 4 * pow(5, -1, _FIELD_PRIME) % _FIELD_PRIME) | 1 << 255).to_bytes(
    KEY_SIZE, "little"
)
_LIBSODIUM_TAKES_ORDER_2L = bindings.crypto_core_ed25519_is_valid_point(_BASE_POINT_PLUS_ORDER_2)
"""True on libsodium releases with CVE-2025-69277, which let points of order 2L pass as prime order."""
_PEM_BLOCK = re.compile(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\r?\n?", re.DOTALL)


def key_id(public: bytes) -> str:
    """The name of a key, and of the node that owns it: 32 hex characters."""
    return sha256(public).digest()[:KEY_ID_BYTES].hex()


def handle(public: bytes) -> bytes:
    """The routing handle of the node with this identity key: 8 bytes."""
    return sha256(public).digest()[:HANDLE_SIZE]


def handle_of_id(node_id: str) -> bytes:
    """The routing handle of the node with this node_id."""
    return bytes.fromhex(node_id)[:HANDLE_SIZE]


def check_public(raw: bytes) -> bytes:
    """
    C{raw}, if it is an Ed25519 public key in canonical form, on the curve and of prime order.

    @raise DocumentRefused: C{bad-key}.
    """
    if len(raw) != KEY_SIZE or not _is_of_prime_order(raw):
        raise DocumentRefused("bad-key", "not an Ed25519 public key of prime order in canonical form")
    return raw


def _is_of_prime_order(raw: bytes) -> bool:
    if not bindings.crypto_core_ed25519_is_valid_point(raw):
        return False
    return not _LIBSODIUM_TAKES_ORDER_2L or _survives_group_order(raw)


def _survives_group_order(raw: bytes) -> bool:
    """True if (L-1)P = -P, which holds for no sum of P and the point of order 2, since L is odd."""
    negated = raw[:-1] + bytes([raw[-1] ^ 0x80])
    try:
        return bindings.crypto_scalarmult_ed25519_noclamp(_GROUP_ORDER_LESS_ONE, raw) == negated
    except CryptoError:
        return False


def check_noise_public(raw: bytes) -> bytes:
    """
    C{raw}, if it is an X25519 public key in canonical form and not of low order.

    @raise DocumentRefused: C{bad-key}.
    """
    number = int.from_bytes(raw, "little")
    if len(raw) != KEY_SIZE or number >= _FIELD_PRIME:
        raise DocumentRefused("bad-key", "not an X25519 public key in canonical form")
    if number in _LOW_ORDER:
        raise DocumentRefused("bad-key", "an X25519 public key of low order")
    return raw


def decode_public(text: str) -> bytes:
    """The Ed25519 public key a document spells as C{text}, checked."""
    return check_public(b64url_decode(text, KEY_SIZE))


def decode_noise_public(text: str) -> bytes:
    """The X25519 public key a document spells as C{text}, checked."""
    return check_noise_public(b64url_decode(text, KEY_SIZE))


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """True if C{signature} over C{data} is by the owner of C{public}."""
    if len(public) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        bindings.crypto_sign_open(signature + data, public)
    except BadSignatureError:
        return False
    return True


@implementer(ISigner)
class SigningKey:
    """An Ed25519 private key held in memory."""

    __slots__ = ("_secret", "key_id", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_SIZE:
            raise DocumentRefused("bad-key", f"an Ed25519 seed has {KEY_SIZE} bytes, not {len(seed)}")
        self.seed = seed
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.key_id = key_id(self.public)

    def __repr__(self) -> str:
        return f"<SigningKey {self.key_id}>"

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        return cls(random_bytes(KEY_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of this 32-byte seed (RFC 8032 private key)."""
        return cls(seed)

    @classmethod
    def from_pem(cls, data: bytes) -> SigningKey:
        """
        The key in an unencrypted PKCS#8 PEM.

        @raise DocumentRefused: C{bad-key}.
        """
        private = _load_pem(data)
        if not isinstance(private, Ed25519PrivateKey):
            raise DocumentRefused("bad-key", "the PEM holds no Ed25519 private key")
        return cls(private.private_bytes_raw())

    def to_pem(self) -> bytes:
        """The key as unencrypted PKCS#8 PEM."""
        return _to_pem(Ed25519PrivateKey.from_private_bytes(self.seed))

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes, over C{data}."""
        return bindings.crypto_sign(data, self._secret)[:SIGNATURE_SIZE]


class NoiseKey:
    """An X25519 private key for Noise handshakes."""

    __slots__ = ("private", "public")

    def __init__(self, private: bytes) -> None:
        if len(private) != KEY_SIZE:
            raise DocumentRefused("bad-key", f"an X25519 key has {KEY_SIZE} bytes, not {len(private)}")
        self.private = private
        self.public = bindings.crypto_scalarmult_base(private)

    def __repr__(self) -> str:
        return f"<NoiseKey {self.public[:4].hex()}>"

    @classmethod
    def generate(cls) -> NoiseKey:
        """A new random key."""
        return cls(random_bytes(KEY_SIZE))

    @classmethod
    def from_private(cls, private: bytes) -> NoiseKey:
        """The key of these 32 private bytes."""
        return cls(private)

    def exchange(self, public: bytes) -> bytes:
        """
        The secret shared with the owner of C{public} (RFC 7748, section 6.1), never to be used as it is.

        @raise DocumentRefused: C{bad-key}, if it is zero, as with a key of low order.
        """
        try:
            return bytes(bindings.crypto_scalarmult(self.private, public))
        except CryptoError:
            raise DocumentRefused("bad-key", "an X25519 public key of low order") from None

    def to_pem(self) -> bytes:
        """The key as unencrypted PKCS#8 PEM."""
        return _to_pem(X25519PrivateKey.from_private_bytes(self.private))


def noise_keys_from_pem(data: bytes) -> list[NoiseKey]:
    """
    Every X25519 key of a file that holds one PEM block per key, in order.

    @raise DocumentRefused: C{bad-key}, if there is none or one of them is something else.
    """
    keys = []
    for block in _PEM_BLOCK.findall(data):
        private = _load_pem(block)
        if not isinstance(private, X25519PrivateKey):
            raise DocumentRefused("bad-key", "the PEM holds a private key that is not X25519")
        keys.append(NoiseKey(private.private_bytes_raw()))
    if not keys:
        raise DocumentRefused("bad-key", "the file holds no PEM block with a private key")
    return keys


def _load_pem(data: bytes) -> object:
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise DocumentRefused("bad-key", "not an unencrypted PKCS#8 PEM") from error
    except Exception as error:  # UnsupportedAlgorithm and OpenSSL's own errors
        raise DocumentRefused("bad-key", "a private key of an unknown kind") from error


def _to_pem(private: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
