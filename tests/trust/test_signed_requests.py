# SPDX-License-Identifier: MIT
"""Signed requests: RFC 9421 by its own vector, by another implementation, and by every change."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from trust.network import key

from gmesh.errors import RequestRefused
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey, verify
from gmesh.trust.signed_requests import (
    ADMIN_TAG,
    JOIN_TAG,
    JSON_TYPE,
    NODE_TAG,
    SignedRequest,
    content_digest,
    read_request,
    sign_request,
)

NOW = int(datetime.datetime.now().timestamp())
SIGNER = key("node")
AUDIENCE = key("authority").key_id
TARGET = "/renew?a=1&b=%2f"
BODY = b'{"certificate":{}}'
NONCE = bytes(range(16))
COMPONENTS = ("@method", "@path", "@query", "content-digest", "content-type", "gmesh-audience")


def signed(**changes: Any) -> dict[str, str]:
    """The headers of a good request."""
    fields: dict[str, Any] = {"audience": AUDIENCE, "created": NOW, "nonce": NONCE, "tag": NODE_TAG}
    return sign_request(SIGNER, "POST", TARGET, BODY, **(fields | changes))


def read(
    headers: dict[str, str], method: str = "POST", target: str = TARGET, body: bytes = BODY
) -> SignedRequest:
    """Read a request from a dictionary of headers."""
    values: dict[str, list[str]] = {}
    for name, value in headers.items():
        values.setdefault(name.lower(), []).append(value)
    return read_request(method, target, lambda name: values.get(name, []), body)


def refused(headers: dict[str, str], **changes: Any) -> None:
    """Assert that a request is refused, when read or when verified."""
    with pytest.raises(RequestRefused) as caught:
        read(headers, **changes).verify(SIGNER.public)
    assert caught.value.reason == "bad-signature"


class Message:
    """A request as the other implementation wants it."""

    method = "POST"
    url = "http://authority.example:8400" + TARGET

    def __init__(self, library: Any) -> None:
        self.headers = library.structures.CaseInsensitiveDict()


class Resolver:
    """Keys by key_id for the other implementation."""

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        """The test's own key."""
        return Ed25519PrivateKey.from_private_bytes(SIGNER.seed)

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        """The test's own key."""
        return Ed25519PublicKey.from_public_bytes(SIGNER.public)


def test_rfc_9421_b_2_6() -> None:
    """The Ed25519 example of RFC 9421 comes out of our keys."""
    private = b"MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"
    signer = SigningKey.from_pem(
        b"-----BEGIN PRIVATE KEY-----\n" + private + b"\n-----END PRIVATE KEY-----\n"
    )
    public = base64.b64decode("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")[-32:]
    assert signer.public == public
    base = b"""\
"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")\
;created=1618884473;keyid="test-key-ed25519"\
"""
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert base64.b64encode(signer.sign(base)).decode() == signature
    assert verify(public, base64.b64decode(signature), base)


def test_rfc_9530_digest() -> None:
    """Content-Digest of the examples in RFC 9530."""
    assert content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_round_trip() -> None:
    """What was signed is read, and verifies by the signer's key alone."""
    for tag in (NODE_TAG, JOIN_TAG, ADMIN_TAG):
        request = read(signed(tag=tag))
        request.verify(SIGNER.public)
        assert (request.keyid, request.created, request.tag) == (SIGNER.key_id, NOW, tag)
        assert (request.audience, request.nonce) == (AUDIENCE, b64url_encode(NONCE))
        with pytest.raises(RequestRefused):
            request.verify(key("other").public)


def test_base_line_by_line() -> None:
    """The signature base is that of RFC 9421 section 2.5 for the six components."""
    headers = signed()
    parameters = headers["Signature-Input"].removeprefix("gmesh=")
    assert read(headers).base.decode().split("\n") == [
        '"@method": POST',
        '"@path": /renew',
        '"@query": ?a=1&b=%2f',
        f'"content-digest": {content_digest(BODY)}',
        '"content-type": application/json',
        f'"gmesh-audience": {AUDIENCE}',
        f'"@signature-params": {parameters}',
    ]


def test_empty_query_is_a_question_mark() -> None:
    """RFC 9421 section 2.2.7: without a query the component is a lone question mark."""
    headers = sign_request(
        SIGNER, "GET", "/crl", b"", audience=AUDIENCE, created=NOW, nonce=NONCE, tag=NODE_TAG
    )
    assert b'\n"@query": ?\n' in read(headers, "GET", "/crl", b"").base


@pytest.fixture
def library() -> Any:
    """http-message-signatures, which Debian does not have."""
    return pytest.importorskip("http_message_signatures", reason="http-message-signatures is on PyPI only")


def test_the_other_implementation_verifies_ours(library: Any) -> None:
    """http-message-signatures accepts what we sign, and reads the same parameters."""
    message = Message(library)
    message.headers.update(signed())
    verifier = library.HTTPMessageVerifier(
        signature_algorithm=library.algorithms.ED25519, key_resolver=Resolver()
    )
    (result,) = verifier.verify(message, require_components=COMPONENTS, expect_tag=NODE_TAG)
    assert dict(result.parameters)["nonce"] == b64url_encode(NONCE)
    assert list(result.covered_components)[:-1] == [f'"{name}"' for name in COMPONENTS]


def test_we_verify_the_other_implementation(library: Any) -> None:
    """What http-message-signatures signs in our profile is accepted, in its order of parameters."""
    message = Message(library)
    message.headers.update(
        {"Content-Digest": content_digest(BODY), "Content-Type": JSON_TYPE, "Gmesh-Audience": AUDIENCE}
    )
    signer = library.HTTPMessageSigner(
        signature_algorithm=library.algorithms.ED25519, key_resolver=Resolver()
    )
    signer.sign(
        message,
        key_id=SIGNER.key_id,
        created=datetime.datetime.fromtimestamp(NOW),
        nonce=b64url_encode(NONCE),
        label="gmesh",
        tag=ADMIN_TAG,
        covered_component_ids=COMPONENTS,
        use_existing_digest=True,
    )
    request = read(dict(message.headers.items()))
    request.verify(SIGNER.public)
    assert (request.tag, request.created) == (ADMIN_TAG, NOW)


def test_every_part_is_signed() -> None:
    """Another method, path, query, body, type, audience, key or tag: the signature no longer fits."""
    headers = signed()
    refused(headers, method="PUT")
    refused(headers, target="/join?a=1&b=%2f")
    refused(headers, target="/renew?a=1&b=%2F")
    refused(headers, target="/renew")
    refused(headers, body=BODY + b" ")
    refused(headers | {"Content-Digest": content_digest(b"other")}, body=b"other")
    refused(headers | {"Content-Type": "text/plain"})
    refused(headers | {"Gmesh-Audience": key("other").key_id})
    for old, new in (
        (f"created={NOW}", f"created={NOW + 1}"),
        (b64url_encode(NONCE), b64url_encode(bytes(16))),
        (SIGNER.key_id, "0" * 32),
        (NODE_TAG, ADMIN_TAG),
    ):
        assert old in headers["Signature-Input"]
        refused(headers | {"Signature-Input": headers["Signature-Input"].replace(old, new)})


def spoiled_inputs() -> dict[str, str]:
    """Signature-Input fields that are not of the profile."""
    good = signed()["Signature-Input"]
    return {
        "empty": "",
        "other label": good.replace("gmesh=", "sig1="),
        "two labels": good + ", " + good.replace("gmesh=", "sig1="),
        "covers nothing": good.replace(good[good.index("(") : good.index(")") + 1], "()"),
        "covers less": good.replace(' "content-type"', ""),
        "covers more": good.replace('"@query"', '"@query" "@authority"'),
        "other order": good.replace('"@method" "@path"', '"@path" "@method"'),
        "component parameter": good.replace('"content-digest"', '"content-digest";req'),
        "no created": good.replace(f";created={NOW}", ""),
        "no tag": good.replace(f';tag="{NODE_TAG}"', ""),
        "created twice": good.replace(f";created={NOW}", f";created={NOW};created={NOW}"),
        "unknown parameter": good + ";expires=1",
        "other algorithm": good.replace("ed25519", "hmac-sha256"),
        "other tag": good.replace(NODE_TAG, "gmesh-node-v2"),
        "padded created": good.replace(f"created={NOW}", f"created=0{NOW}"),
        "negative created": good.replace(f"created={NOW}", "created=-1"),
        "decimal created": good.replace(f"created={NOW}", f"created={NOW}.0"),
        "long keyid": good.replace(SIGNER.key_id, SIGNER.key_id + "0"),
        "capital keyid": good.replace(SIGNER.key_id, SIGNER.key_id.upper()),
        "spare bits in nonce": good.replace(b64url_encode(NONCE), "A" * 21 + "B"),
        "white space": good.replace(";created", "; created"),
        "trailing space": good + " ",
        "escape": good.replace(NODE_TAG, "gmesh-node\\-v1"),
    }


@pytest.mark.parametrize("name", spoiled_inputs())
def test_only_one_profile(name: str) -> None:
    """Any other Signature-Input is refused before a signature is looked at."""
    value = spoiled_inputs()[name]
    assert value != signed()["Signature-Input"]
    with pytest.raises(RequestRefused):
        read(signed() | {"Signature-Input": value})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "gmesh=::",
        "gmesh=:AAAA:",
        "gmesh=:" + "A" * 88 + ":",
        "gmesh=:" + "A" * 85 + "B==:",
        "gmesh=:" + "_" * 86 + "==:",
    ],
)
def test_signature_field(value: str) -> None:
    """The Signature field holds 64 bytes in padded base64 under our label, in one spelling."""
    with pytest.raises(RequestRefused):
        read(signed() | {"Signature": value})


@pytest.mark.parametrize(
    "name", ["Signature", "Signature-Input", "Content-Digest", "Content-Type", "Gmesh-Audience"]
)
def test_each_header_exactly_once(name: str) -> None:
    """A missing or repeated header is refused."""
    headers = signed()
    value = headers.pop(name)
    refused(headers)
    headers[name] = value
    headers[name.lower()] = value
    refused(headers)


@pytest.mark.parametrize("target", ["", "renew", "http://a/renew", "/re new", "/ré", "/renew\n", "*"])
def test_targets(target: str) -> None:
    """Only an origin-form target in printable ASCII can be signed."""
    refused(signed(), target=target)


TEXTS = st.text(max_size=30) | st.sampled_from([*signed().values(), ""])
NAMES = st.sampled_from([*signed(), "x"])


@given(st.dictionaries(NAMES, TEXTS), st.text(max_size=8), st.text(max_size=20), st.binary(max_size=10))
def test_any_request(headers: dict[str, str], method: str, target: str, body: bytes) -> None:
    """Only RequestRefused comes out of any request."""
    with pytest.raises(RequestRefused):
        read(signed() | headers, method, target, body).verify(SIGNER.public)


@given(st.sampled_from(list(signed())), st.integers(0, 200), st.text(max_size=3))
def test_any_changed_header(name: str, at: int, text: str) -> None:
    """A header changed anywhere is refused."""
    headers = signed()
    value = headers[name]
    headers[name] = value[:at] + text + value[at + len(text) :]
    if headers[name] == value:
        read(headers).verify(SIGNER.public)
    else:
        refused(headers)
