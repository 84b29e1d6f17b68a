# SPDX-License-Identifier: MIT
"""
A signing key under a pass phrase: Scrypt, then AES-256-GCM, in one small container.

PKCS#8's own encryption does not help here: OpenSSL writes it with 2,048 rounds of PBKDF2, which a
pass phrase does not survive.  The container shows the public key, so that a sealed key can be
named without its pass phrase; everything shown is authenticated with the secret.
Tests: C{tests/test_keyfiles.py}.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gmesh.errors import DocumentRefused
from gmesh.trust.keys import KEY_SIZE, SigningKey, check_public

__all__ = ["MIN_PASSPHRASE", "is_sealed", "open_sealed", "seal", "sealed_public"]

MIN_PASSPHRASE = 8
"""Bytes a new pass phrase must have."""

_LABEL = "GMESH SEALED KEY"
_ARMOUR = re.compile(
    rb"-----BEGIN GMESH SEALED KEY-----\r?\n([A-Za-z0-9+/=\r\n]{1,400})-----END GMESH SEALED KEY-----\s*"
)
_VERSION = 1
# scrypt (RFC 7914), at the first of the settings that OWASP recommends for it: 128 MiB.
_LOG2_N, _R, _P = 17, 8, 1
_SALT_SIZE, _NONCE_SIZE, _TAG_SIZE = 16, 12, 16
_HEAD = struct.Struct(">BBBB32s16s12s")
_SIZE = _HEAD.size + KEY_SIZE + _TAG_SIZE
_LINE = 64  # characters, RFC 7468, section 2


class _Container(NamedTuple):
    """The head as bytes, which is authenticated, its parts, and the ciphertext."""

    head: bytes
    public: bytes
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def is_sealed(data: bytes) -> bool:
    """True if C{data} claims to be such a container."""
    return data.lstrip().startswith(b"-----BEGIN " + _LABEL.encode() + b"-----")


def seal(key: SigningKey, passphrase: bytes, entropy: Callable[[int], bytes]) -> bytes:
    """
    The container of C{key} under C{passphrase}.  Takes about half a second and 128 MiB.

    @raise DocumentRefused: C{weak-passphrase}, if it is shorter than L{MIN_PASSPHRASE}.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise DocumentRefused(
            "weak-passphrase", f"a pass phrase has at least {MIN_PASSPHRASE} characters, better six words"
        )
    salt, nonce = entropy(_SALT_SIZE), entropy(_NONCE_SIZE)
    head = _HEAD.pack(_VERSION, _LOG2_N, _R, _P, key.public, salt, nonce)
    sealed = head + AESGCM(_derive(passphrase, salt)).encrypt(nonce, key.seed, head)
    text = base64.b64encode(sealed)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    armour = (b"-----BEGIN " + _LABEL.encode() + b"-----", *lines, b"-----END " + _LABEL.encode() + b"-----")
    return b"\n".join(armour) + b"\n"


def sealed_public(data: bytes) -> bytes:
    """
    The public key a container shows; nothing proves it before the container is opened.

    @raise DocumentRefused: C{bad-key}.
    """
    return check_public(_parse(data).public)


def open_sealed(data: bytes, passphrase: bytes) -> SigningKey:
    """
    The key in a container.

    @raise DocumentRefused: C{bad-key} if it is not a container or damaged, C{wrong-passphrase} if it
        does not open; a container changed by somebody cannot be distinguished from a wrong pass phrase.
    """
    container = _parse(data)
    try:
        seed = AESGCM(_derive(passphrase, container.salt)).decrypt(
            container.nonce, container.ciphertext, container.head
        )
    except InvalidTag as error:
        raise DocumentRefused("wrong-passphrase", "the pass phrase does not open this key") from error
    key = SigningKey(seed)
    if key.public != container.public:
        raise DocumentRefused("bad-key", "the sealed key is not the one it says it is")
    return key


def _parse(data: bytes) -> _Container:
    match = _ARMOUR.fullmatch(data)
    if match is None:
        raise DocumentRefused("bad-key", "not a sealed key")
    try:
        raw = base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error as error:
        raise DocumentRefused("bad-key", "a sealed key with broken base64") from error
    if len(raw) != _SIZE:
        raise DocumentRefused("bad-key", f"a sealed key has {_SIZE} bytes, not {len(raw)}")
    version, log2_n, r, p, public, salt, nonce = _HEAD.unpack_from(raw)
    if (version, log2_n, r, p) != (_VERSION, _LOG2_N, _R, _P):
        raise DocumentRefused("bad-key", "a sealed key of a form this version does not know")
    return _Container(raw[: _HEAD.size], public, salt, nonce, raw[_HEAD.size :])


def _derive(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << _LOG2_N, r=_R, p=_P).derive(passphrase)
