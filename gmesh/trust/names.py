# SPDX-License-Identifier: MIT
"""
How names, keys, digests, times and selectors are spelled in documents.

Each spelling is a pattern, a type with that pattern for the structs of L{gmesh.trust.documents},
what it is in words and, where others need it, a predicate.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from msgspec import Meta
from msgspec.inspect import Metadata, NoneType, type_info

from gmesh.trust.limits import (
    EPOCH,
    LAST_EPOCH,
    MAX_CERTIFICATE_LIFE,
    MAX_GRACE,
    MAX_NUMBER,
    MAX_ROOT_KEYS,
    MAX_TEXT,
    MAX_TIME,
)
from gmesh.trust.validator_words import in_words

__all__ = [
    "ALL",
    "BootId",
    "Fault",
    "NETWORK_ROLES",
    "is_name",
    "is_role",
    "is_service",
    "human_error",
    "Count",
    "Digest",
    "Endpoint",
    "Epoch",
    "Grace",
    "Identifier",
    "Key",
    "Life",
    "Name",
    "NetworkName",
    "Nonce",
    "Number",
    "Role",
    "Selector",
    "ServiceSelector",
    "Signature",
    "Slug",
    "Suite",
    "Text",
    "Threshold",
    "Time",
    "Url",
    "Version",
]

ALL: Final = "*"
NETWORK_ROLES: Final = ("anchor", "relay", "client")

# A label of a host name in lower case (RFC 1035, section 2.3.1); a host has at most 253 characters (2.3.4).
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SERVICE: Final = rf"_?{_LABEL}"
_ROLE: Final = rf"(anchor|relay|client|service:{_LABEL})"
_PORT: Final = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_HOST: Final = r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"

_is_name = re.compile(_LABEL).fullmatch
_is_service = re.compile(_SERVICE).fullmatch
_is_role = re.compile(_ROLE).fullmatch


def is_name(text: str) -> bool:
    """True if C{text} can name a node."""
    return _is_name(text) is not None


def is_service(text: str) -> bool:
    """True if C{text} can name a service; those that gmesh itself serves start with C{_}."""
    return _is_service(text) is not None


def is_role(text: str) -> bool:
    """True if C{text} is a role: C{anchor}, C{relay}, C{client} or C{service:NAME}."""
    return _is_role(text) is not None


# No number of a document reaches the end of what JSON keeps exactly: something has to come after it.
Count = Annotated[int, Meta(ge=0, le=EPOCH)]
Epoch = Annotated[int, Meta(ge=0, le=LAST_EPOCH)]
Grace = Annotated[int, Meta(ge=0, le=MAX_GRACE)]
Life = Annotated[int, Meta(ge=1, le=MAX_CERTIFICATE_LIFE)]
Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Threshold = Annotated[int, Meta(ge=1, le=MAX_ROOT_KEYS)]
Time = Annotated[int, Meta(ge=0, le=MAX_TIME)]
Version = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]

Name = Annotated[str, Meta(pattern=rf"\A{_LABEL}\Z")]
NetworkName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")]
Role = Annotated[str, Meta(pattern=rf"\A{_ROLE}\Z")]
Selector = Annotated[str, Meta(pattern=rf"\A(\*|role:{_ROLE}|node:{_LABEL})\Z")]
ServiceSelector = Annotated[str, Meta(pattern=rf"\A(\*|{_SERVICE})\Z")]
Slug = Annotated[str, Meta(pattern=r"\A[a-z]([a-z0-9-]{0,38}[a-z0-9])?\Z")]

Fault = Annotated[str, Meta(pattern=rf"\A[a-z][a-z0-9-]{{0,38}}[a-z0-9](:{_LABEL})?\Z")]
"""What a node finds wrong, C{WORD} or C{WORD:NODE}."""
BootId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]

Identifier = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""A key_id, node_id, network_id or command id: 16 bytes in hex."""
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Key = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
Signature = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{86}\Z")]
Nonce = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{22}\Z")]

Endpoint = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9+-]{0,31}:[!-~]{1,250}\Z")]
"""Where to connect, C{tcp:HOST:PORT}.  What L{gmesh.trust.transport_address} cannot read is not dialled."""
Url = Annotated[str, Meta(pattern=rf"\Ahttps?://{_HOST}(:{_PORT})?(/[A-Za-z0-9._~/-]{{0,200}})?\Z")]
Suite = Annotated[str, Meta(pattern=r"\ANoise_XX_25519_(ChaChaPoly|AESGCM)_(SHA256|BLAKE2s)\Z")]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
SoftwareVersion = Annotated[str, Meta(pattern=r"\A[0-9]{1,6}(\.[0-9]{1,6}){0,3}\Z")]
"""As C{gmesh.__version__}, without suffix: C{1.4.2}."""

_LABEL_WORDS: Final = "a-z, 0-9 and dashes within, at most 63"
_ROLE_WORDS: Final = "anchor, relay, client or service:NAME"
_WORDS: Final[dict[Any, str]] = {
    Name: f"a node's name ({_LABEL_WORDS})",
    NetworkName: "a network's name (letters, digits, and . _ - within, at most 63)",
    Role: f"a role ({_ROLE_WORDS})",
    Selector: f"a selector (*, node:NAME, or role: and one of {_ROLE_WORDS})",
    ServiceSelector: f"* or a service's name ({_LABEL_WORDS})",
    Slug: "a word (a-z, 0-9 and dashes within, at most 40)",
    Fault: "a fault (a word, or a word, a colon and a node's name)",
    BootId: "a boot id (16 characters of 0-9, a-f)",
    Identifier: "an id (32 characters of 0-9, a-f)",
    Digest: "a digest (64 characters of 0-9, a-f)",
    Key: "a key in base64url (43 characters)",
    Signature: "a signature in base64url (86 characters)",
    Nonce: "a nonce in base64url (22 characters)",
    Endpoint: "an endpoint (tcp:HOST:PORT)",
    Url: "a URL (http:// or https://, a host, perhaps a port and a path)",
    Suite: "a suite (Noise_XX_25519_, ChaChaPoly or AESGCM, _, SHA256 or BLAKE2s)",
    SoftwareVersion: "a version (numbers with dots between, at most four)",
}
_SPOKEN: Final = {
    f"Expected `str` matching regex {kind.__metadata__[0].pattern!r}": f"Expected {words}"
    for kind, words in _WORDS.items()
}


_STEP = re.compile(r"\.(\w+)|\[(?:\d+|\.\.\.)\]")


def human_error(error: Exception, kind: Any = None) -> str:
    """
    What C{msgspec} found wrong, for people, without its types and paths; for a pattern what it stands for.

    @param kind: what was read; a word that is none of a few is reported with those there are.
    """
    said = str(error)
    text = said
    for pattern, words in _SPOKEN.items():
        text = text.replace(pattern, words)
    found = _ENUM.match(said)
    choices = () if found is None or kind is None else _choices(kind, found[1])
    text = in_words(text)
    if len(choices) == 1:
        return f"{text}; it must be {choices[0]}"
    return f"{text}; there are {', '.join(choices)}" if choices else text


_ENUM = re.compile(r"Invalid enum value .* - at `\$(.*)`\Z")


def _choices(kind: Any, path: str) -> tuple[str, ...]:
    """The words that may stand at this place of a value of this kind."""
    here: Any = type_info(kind)
    for step in _STEP.finditer(path):
        here = _plainly(here)
        if step[1] is None:
            here = getattr(here, "item_type", None) or getattr(here, "value_type", None)
        else:
            fields = {field.encode_name: field.type for field in getattr(here, "fields", ())}
            here = fields.get(step[1])
    return tuple(str(value) for value in getattr(_plainly(here), "values", ()))


def _plainly(kind: Any) -> Any:
    """A type without its bounds, and without the None that may stand for it."""
    while True:
        if hasattr(kind, "types"):
            kind = next((each for each in kind.types if not isinstance(each, NoneType)), None)
        elif isinstance(kind, Metadata):
            kind = kind.type
        else:
            return kind
