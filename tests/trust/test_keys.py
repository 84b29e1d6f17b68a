# SPDX-License-Identifier: MIT
"""Keys: published vectors, and every public key that must be refused."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import CryptoError
from trust import edwards
from zope.interface.verify import verifyObject

from gmesh.errors import DocumentRefused
from gmesh.interfaces import ISigner
from gmesh.trust import keys
from gmesh.trust.keys import NoiseKey, SigningKey

RFC_8032 = [  # section 7.1: seed, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(seed: str, public: str, message: str, signature: str) -> None:
    """Seeds give the published keys and signatures, and these verify."""
    key = SigningKey.from_seed(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert keys.verify(key.public, bytes.fromhex(signature), bytes.fromhex(message))
    assert not keys.verify(key.public, bytes.fromhex(signature), bytes.fromhex(message) + b"!")


def test_rfc_7748_key() -> None:
    """The X25519 private key of RFC 7748 section 6.1 has the published public key."""
    private = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert NoiseKey.from_private(private).public.hex() == public


def test_rfc_7748_shared_secret() -> None:
    """The secret of the two keys of RFC 7748 section 6.1 is the published one; of low order there is none."""
    key = NoiseKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    other = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert key.exchange(other).hex() == shared
    for low in (bytes(32), bytes([1]) + bytes(31)):
        with pytest.raises(DocumentRefused) as caught:
            key.exchange(low)
        assert caught.value.reason == "bad-key"


def test_names_of_a_key() -> None:
    """key_id is 16 bytes of SHA-256 in hex, the handle its first 8 bytes."""
    public = bytes.fromhex(RFC_8032[0][1])
    full = sha256(public).hexdigest()
    assert keys.key_id(public) == full[:32]
    assert keys.handle(public).hex() == full[:16]
    assert keys.handle_of_id(full[:32]) == keys.handle(public)


def test_signing_key_is_a_signer() -> None:
    """SigningKey provides ISigner."""
    assert verifyObject(ISigner, SigningKey.generate())


def test_keys_hide_their_secret() -> None:
    """No repr shows a private key."""
    signing, noise = SigningKey.generate(), NoiseKey.generate()
    assert signing.seed.hex() not in repr(signing) and noise.private.hex() not in repr(noise)
    assert repr(signing.seed) not in repr(signing) and repr(noise.private) not in repr(noise)


def test_pem_round_trip() -> None:
    """A key written as PKCS#8 PEM is read back; several Noise keys share a file."""
    signing = SigningKey.generate()
    assert SigningKey.from_pem(signing.to_pem()).seed == signing.seed
    noise = [NoiseKey.generate(), NoiseKey.generate()]
    read = keys.noise_keys_from_pem(b"".join(key.to_pem() for key in noise))
    assert [key.private for key in read] == [key.private for key in noise]


def test_wrong_kind_of_pem() -> None:
    """A key of another kind, a public key and noise are refused."""
    signing, noise = SigningKey.generate().to_pem(), NoiseKey.generate().to_pem()
    for data in (noise, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(DocumentRefused, match="PEM"):
            SigningKey.from_pem(data)
    for data in (signing, noise + signing, b""):
        with pytest.raises(DocumentRefused, match="PEM"):
            keys.noise_keys_from_pem(data)


@given(st.binary(max_size=200))
def test_pem_decoder_refuses_anything_else(data: bytes) -> None:
    """Only DocumentRefused comes out of the PEM readers."""
    framed = b"-----BEGIN PRIVATE KEY-----\n" + data + b"\n-----END PRIVATE KEY-----\n"
    for text in (data, framed):
        with pytest.raises(DocumentRefused):
            SigningKey.from_pem(text)
        with pytest.raises(DocumentRefused):
            keys.noise_keys_from_pem(text)


def test_small_order() -> None:
    """All 14 spellings of small-order points, canonical or not, are refused."""
    encodings = edwards.small_order_encodings()
    assert len(encodings) == 14
    for encoding in encodings:
        with pytest.raises(DocumentRefused, match="prime order"):
            keys.check_public(encoding)


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 7))
def test_mixed_order(seed: bytes, torsion: int) -> None:
    """A good key is taken; shifted by a small-order point it is refused."""
    public = SigningKey.from_seed(seed).public
    assert keys.check_public(public) == public
    point = edwards.decode(public)
    assert point is not None
    shifted = edwards.add(point, edwards.small_order_points()[torsion])
    with pytest.raises(DocumentRefused, match="prime order"):
        keys.check_public(edwards.encode(shifted))


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_agrees_with_arithmetic(raw: bytes) -> None:
    """On any 32 bytes, the verdict is that of plain curve arithmetic."""
    point = edwards.decode(raw)
    good = point is not None and point != edwards.NEUTRAL
    good = good and edwards.multiply(edwards.L, point) == edwards.NEUTRAL  # type: ignore[arg-type]  # not None
    try:
        keys.check_public(raw)
    except DocumentRefused as error:
        assert error.reason == "bad-key" and not good
    else:
        assert good


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32))
def test_without_the_library(seed: bytes) -> None:
    """The check used on libsodium releases with CVE-2025-69277 tells order L from order 2L by itself."""
    public = SigningKey.from_seed(seed).public
    point = edwards.decode(public)
    assert point is not None
    shifted = edwards.encode(edwards.add(point, (0, edwards.P - 1)))
    assert keys._survives_group_order(public)
    assert not keys._survives_group_order(shifted)


def test_wrong_size() -> None:
    """A key that is not 32 bytes is refused, not passed to C."""
    for raw in (b"", bytes(31), bytes(33)):
        with pytest.raises(DocumentRefused):
            keys.check_public(raw)
        with pytest.raises(DocumentRefused):
            keys.check_noise_public(raw)


E3_LOW_ORDER = [  # u coordinates whose order divides 8, on the curve and on its twist
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    2**255 - 20,
    2**255 - 19,
    2**255 - 18,
]


def near(u: int) -> st.SearchStrategy[int]:
    """The numbers beside one."""
    return st.integers(max(0, u - 2), u + 2)


@pytest.mark.parametrize("u", E3_LOW_ORDER)
def test_low_order(u: int) -> None:
    """X25519 keys of low order, in any spelling, are refused."""
    for raw in (u, u | 1 << 255):
        with pytest.raises(DocumentRefused) as caught:
            keys.check_noise_public(raw.to_bytes(32, "little"))
        assert caught.value.reason == "bad-key"


@given(
    st.integers(0, 2**255 - 20) | st.sampled_from(E3_LOW_ORDER).flatmap(near) | st.sampled_from(E3_LOW_ORDER)
)
def test_agrees_with_the_library(u: int) -> None:
    """Of canonical encodings those are refused with which libsodium's X25519 gives zero, and no others."""
    raw = u.to_bytes(32, "little")
    try:
        bindings.crypto_scalarmult(bytes(range(32)), raw)
        good = u < 2**255 - 19
    except CryptoError:
        good = False
    try:
        assert keys.check_noise_public(raw) == raw and good
    except DocumentRefused:
        assert not good


def test_second_spelling() -> None:
    """A good X25519 key has no second spelling with the high bit set."""
    public = NoiseKey.generate().public
    assert keys.check_noise_public(public) == public
    with pytest.raises(DocumentRefused, match="canonical"):
        keys.check_noise_public(public[:31] + bytes([public[31] | 0x80]))


def test_signature_plus_group_order() -> None:
    """S + L, a second signature that lenient verifiers take, does not verify."""
    key = SigningKey.generate()
    signature = key.sign(b"message")
    doubled = int.from_bytes(signature[32:], "little") + edwards.L
    assert not keys.verify(key.public, signature[:32] + doubled.to_bytes(32, "little"), b"message")


def test_verify_refuses_wrong_sizes() -> None:
    """A short key or signature is a failed verification, not an exception."""
    key = SigningKey.generate()
    assert not keys.verify(key.public[:31], key.sign(b""), b"")
    assert not keys.verify(key.public, key.sign(b"")[:63], b"")
    assert not keys.verify(key.public, b"", b"")
