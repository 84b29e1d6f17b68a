# SPDX-License-Identifier: MIT
"""
Whether the cryptography under us works, asked before a root key signs: vectors printed elsewhere.

A broken build or a wrong library must not be found out by a network that nobody can join.
Tests: C{tests/trust/test_ceremony.py}.
"""

from __future__ import annotations

from hashlib import sha256

from gmesh.errors import DocumentRefused
from gmesh.trust.canonical import canonical
from gmesh.trust.keys import SigningKey, check_public, verify

__all__ = ["CHECKS", "self_check"]

# RFC 8032 section 7.1, test 3.
_SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
_PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
_MESSAGE = bytes.fromhex("af82")
_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
# FIPS 180-4, the example "abc".
_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
# RFC 8785 section 3.2.3, its keys that a document may have.
_UNSORTED = {"script": "<script>", "b": 1, "a": "\u20ac$\u000f\nA'B\"\\", "1": "one"}
_SORTED = rb"""{"1":"one","a":""" + '"\u20ac$'.encode() + rb"""\u000f\nA'B\"\\","b":1,"script":"<script>"}"""

CHECKS = (
    "Ed25519 key and signature (RFC 8032)",
    "altered signature, altered message and small-order key refused",
    "SHA-256 (FIPS 180-4)",
    "canonical JSON (RFC 8785)",
)


def self_check() -> tuple[str, ...]:
    """
    Run every check.

    @return: what was checked.
    @raise DocumentRefused: C{self-check}, naming the first that failed.
    """
    key = SigningKey.from_seed(_SEED)
    results = (
        key.public == _PUBLIC and key.sign(_MESSAGE) == _SIGNATURE and verify(_PUBLIC, _SIGNATURE, _MESSAGE),
        _refuses(),
        sha256(b"abc").hexdigest() == _ABC,
        canonical(_UNSORTED) == _SORTED,
    )
    for name, good in zip(CHECKS, results, strict=True):
        if not good:
            raise DocumentRefused("self-check", f"this installation must not sign: {name} went wrong")
    return CHECKS


def _refuses() -> bool:
    altered = bytes([_SIGNATURE[0] ^ 1]) + _SIGNATURE[1:]
    small_order = bytes([1]) + bytes(31)
    try:
        check_public(small_order)
    except DocumentRefused:
        return not verify(_PUBLIC, altered, _MESSAGE) and not verify(_PUBLIC, _SIGNATURE, _MESSAGE + b"\0")
    return False
