# SPDX-License-Identifier: MIT
"""
HTTP requests signed by nodes and operators: one strict profile of RFC 9421.

The signature base is rebuilt from what was received and compared by verifying; nothing that
is not signed is parsed.  C{Signature-Input} must be spelled exactly as L{sign_request} spells
it, but for the order of its parameters.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import msgspec

from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.interfaces import ISigner
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.keys import SIGNATURE_SIZE, verify
from gmesh.trust.limits import NONCE_SIZE

__all__ = [
    "ADMIN_TAG",
    "JOIN_TAG",
    "JSON_TYPE",
    "NODE_TAG",
    "SignedRequest",
    "content_digest",
    "read_request",
    "sign_request",
]

NODE_TAG: Final = "gmesh-node-v1"
JOIN_TAG: Final = "gmesh-join-v1"
ADMIN_TAG: Final = "gmesh-admin-v1"
JSON_TYPE: Final = "application/json"

LABEL: Final = "gmesh"
# Components that a signature covers (RFC 9421, section 2; content-digest is RFC 9530).
_COMPONENTS = '("@method" "@path" "@query" "content-digest" "content-type" "gmesh-audience")'
_PARAMETER = re.compile(
    r';created=(?P<created>0|[1-9][0-9]{0,11})|;nonce="(?P<nonce>[A-Za-z0-9_-]{22})"'
    r'|;keyid="(?P<keyid>[0-9a-f]{32})"|;alg="(?P<alg>ed25519)"|;tag="(?P<tag>gmesh-(?:node|join|admin)-v1)"'
)
_PARAMETER_COUNT = 5
_SIGNATURE = re.compile(r"gmesh=:([A-Za-z0-9+/]{86}==):")
_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"(?P<path>/[!->@-~]*)(?P<query>\?[!-~]*)?")
_AUDIENCE = re.compile(r"[0-9a-f]{32}")
_CONTENT_TYPE = re.compile(r"[!-~]+(?:[ ][!-~]+)*")


class SignedRequest(msgspec.Struct, frozen=True):
    """
    What the signature headers of a request say, well formed but not verified.

    @ivar keyid: key_id of the signer.
    @ivar created: Unix seconds, by the signer's clock.
    @ivar nonce: 22 characters, 16 bytes in base64url.
    @ivar audience: key_id of the authority it is meant for.
    @ivar base: the signature base, rebuilt from the request as received.
    """

    keyid: str
    created: int
    nonce: str
    tag: str
    audience: str
    base: bytes
    signature: bytes

    def verify(self, public: bytes) -> None:
        """@raise RequestRefused: C{bad-signature}, unless the owner of C{public} signed this request."""
        if not verify(public, self.signature, self.base):
            raise _refused("the signature does not fit the request")


def content_digest(body: bytes) -> str:
    """The Content-Digest header (RFC 9530) of a body."""
    return f"sha-256=:{b64encode(sha256(body).digest()).decode('ascii')}:"


def sign_request(
    signer: ISigner,
    method: str,
    target: str,
    body: bytes,
    *,
    audience: str,
    created: int,
    nonce: bytes,
    tag: str,
    content_type: str = JSON_TYPE,
) -> dict[str, str]:
    """
    The five headers that make a request signed; send them all, unchanged.

    @param target: raw path and query as they go into the request line, C{/crl?since=7}.
    @param audience: key_id of the authority.
    @param nonce: 16 random bytes.
    """
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
    digest = content_digest(body)
    parameters = (
        f'{_COMPONENTS};created={created};nonce="{b64url_encode(nonce)}"'
        f';keyid="{signer.key_id}";alg="ed25519";tag="{tag}"'
    )
    _read_parameters(parameters)
    base = _base(method, target, digest, content_type, audience, parameters)
    signature = b64encode(signer.sign(base)).decode("ascii")
    return {
        "Content-Type": content_type,
        "Content-Digest": digest,
        "Gmesh-Audience": audience,
        "Signature-Input": f"{LABEL}={parameters}",
        "Signature": f"{LABEL}=:{signature}:",
    }


def read_request(
    method: str, target: str, headers: Callable[[str], Sequence[str]], body: bytes
) -> SignedRequest:
    """
    Read the signature headers and rebuild what must have been signed.

    @param target: raw path and query of the request line.
    @param headers: all values of the header of this (lower case) name, as received.
    @raise RequestRefused: C{bad-signature}, for anything but the one profile; nothing else comes out.
    """
    value = _one(headers, "signature-input")
    if not value.startswith(f"{LABEL}="):
        raise _refused(f"Signature-Input must carry the one label {LABEL}")
    parameters = value.removeprefix(f"{LABEL}=")
    found = _read_parameters(parameters)
    digest = content_digest(body)
    if not compare_digest(_one(headers, "content-digest").encode(), digest.encode()):
        raise _refused("Content-Digest does not fit the body")
    audience = _one(headers, "gmesh-audience")
    base = _base(method, target, digest, _one(headers, "content-type"), audience, parameters)
    return SignedRequest(
        keyid=found["keyid"],
        created=int(found["created"]),
        nonce=found["nonce"],
        tag=found["tag"],
        audience=audience,
        base=base,
        signature=_read_signature(_one(headers, "signature")),
    )


def _refused(detail: str) -> RequestRefused:
    return RequestRefused("bad-signature", detail)


def _one(headers: Callable[[str], Sequence[str]], name: str) -> str:
    values = headers(name)
    if len(values) != 1:
        raise _refused(f"the header {name} must stand in a signed request exactly once")
    return values[0]


def _read_parameters(text: str) -> dict[str, str]:
    if not text.startswith(_COMPONENTS):
        raise _refused("Signature-Input must cover exactly " + _COMPONENTS)
    found: dict[str, str] = {}
    position = len(_COMPONENTS)
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match.lastgroup is None or match.lastgroup in found:
            raise _refused("Signature-Input has a parameter that is unknown, malformed or doubled")
        found[match.lastgroup] = match[match.lastgroup]
        position = match.end()
    if len(found) != _PARAMETER_COUNT:
        raise _refused("Signature-Input must have created, nonce, keyid, alg and tag")
    try:
        b64url_decode(found["nonce"], NONCE_SIZE)
    except DocumentRefused as error:
        raise _refused("the nonce is not 16 bytes in base64url") from error
    return found


def _read_signature(text: str) -> bytes:
    match = _SIGNATURE.fullmatch(text)
    signature = b64decode(match[1]) if match else b""
    if match is None or b64encode(signature).decode("ascii") != match[1] or len(signature) != SIGNATURE_SIZE:
        raise _refused(f"Signature must be {LABEL}=:BASE64: of {SIGNATURE_SIZE} bytes")
    return signature


def _base(method: str, target: str, digest: str, content_type: str, audience: str, parameters: str) -> bytes:
    parts = _TARGET.fullmatch(target)
    if parts is None or _METHOD.fullmatch(method) is None:
        raise _refused("the method or target is not one that can be signed")
    if _AUDIENCE.fullmatch(audience) is None or _CONTENT_TYPE.fullmatch(content_type) is None:
        raise _refused("Gmesh-Audience or Content-Type is malformed")
    return "\n".join(
        (
            f'"@method": {method}',
            f'"@path": {parts["path"]}',
            f'"@query": {parts["query"] or "?"}',
            f'"content-digest": {digest}',
            f'"content-type": {content_type}',
            f'"gmesh-audience": {audience}',
            f'"@signature-params": {parameters}',
        )
    ).encode("ascii")
