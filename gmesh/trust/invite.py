# SPDX-License-Identifier: MIT
"""
The invite: one string, handed over once, that lets one host join one network.

It pins the genesis and carries a secret seed; the authority knows only the seed's public key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from gmesh.errors import DocumentRefused
from gmesh.trust.canonical import canonical
from gmesh.trust.documents import Document, Genesis
from gmesh.trust.encoding import b64url_decode, b64url_encode
from gmesh.trust.keys import KEY_SIZE, SigningKey
from gmesh.trust.limits import MAX_INVITE, MAX_URLS
from gmesh.trust.names import Digest, Identifier, Key, Url, Version
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.verify import authority_keys, verify_genesis_chain

__all__ = ["INVITE_PREFIX", "Invite"]

INVITE_PREFIX: Final = "gmesh-invite:"
_QUOTES: Final = frozenset("\"'`<>\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u2039\u203a")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Controls, zero-width characters and blanks (Unicode Standard, section 4.5)."""


Address = Annotated[str, Meta(pattern=r"\A[!-~]{3,250}\Z")]
"""What L{gmesh.trust.transport_address} cannot read is not dialled."""


class _Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Version
    digest: Digest


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: Literal[1]
    urls: Annotated[tuple[Url, ...], Meta(min_length=1, max_length=MAX_URLS)]
    network_id: Identifier
    genesis: _Pin
    authority: Identifier
    seed: Key
    anchors: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=MAX_URLS)] = ()


def _unwrapped(text: str) -> str:
    """C{text} without what was put around or into it on its way; nothing of that occurs in an invite."""
    return "".join(
        character
        for character in unquote(text)
        if character not in _QUOTES and unicodedata.category(character) not in _INVISIBLE
    )


@dataclass(frozen=True)
class Invite:
    """
    What an invite says.

    @ivar urls: where the authority answers.
    @ivar authority: key_id of the authority, the audience of the join request.
    @ivar anchors: by which a host joins that does not reach the authority.
    @ivar seed: the secret, 32 bytes; never shown, logged or sent.
    """

    urls: tuple[str, ...]
    network_id: str
    genesis_version: int
    genesis_digest: str
    authority: str
    seed: bytes = field(repr=False)
    anchors: tuple[str, ...] = ()

    @cached_property
    def key(self) -> SigningKey:
        """The key whose public half the authority knows."""
        return SigningKey.from_seed(self.seed)

    def encode(self) -> str:
        """The string that is handed over."""
        value: dict[str, Any] = {
            "v": 1,
            "urls": list(self.urls),
            "network_id": self.network_id,
            "genesis": {"version": self.genesis_version, "digest": self.genesis_digest},
            "authority": self.authority,
            "seed": b64url_encode(self.seed),
        }
        if self.anchors:
            value["anchors"] = list(self.anchors)
        return INVITE_PREFIX + b64url_encode(canonical(value))

    @classmethod
    def parse(cls, text: str) -> Invite:
        """
        Read what L{encode} wrote, also wrapped, quoted or percent-encoded, as mail, chat and shells make it.

        @raise DocumentRefused: C{bad-invite}, without a word of the invite in it.
        """
        text = _unwrapped(text) if len(text) <= MAX_INVITE else ""
        if not text.startswith(INVITE_PREFIX):
            raise DocumentRefused("bad-invite", f"an invite starts with {INVITE_PREFIX} - copy all of it")
        try:
            data = b64url_decode(text[len(INVITE_PREFIX) :])
            value = parse_json(data, MAX_INVITE)
            read = msgspec.convert(value, _Text, strict=True)
            seed = b64url_decode(read.seed, KEY_SIZE)
            whole = canonical(value) == data
        except (DocumentRefused, msgspec.ValidationError):
            whole = False
        if not whole:
            raise DocumentRefused("bad-invite", "the invite is damaged or incomplete: copy all of it")
        return cls(
            urls=read.urls,
            network_id=read.network_id,
            genesis_version=read.genesis.version,
            genesis_digest=read.genesis.digest,
            authority=read.authority,
            seed=seed,
            anchors=read.anchors,
        )

    def check_chain(self, chain: Sequence[Document[Genesis]], now: float) -> Document[Genesis]:
        """
        The newest genesis of a downloaded chain, if the chain is the one this invite means.

        @raise DocumentRefused: if it does not begin at the network_id, passes by the pinned digest
            or does not list the authority that the invite names.
        """
        newest = verify_genesis_chain(chain, self.network_id, now)
        if all(
            (document.body.version, document.digest) != (self.genesis_version, self.genesis_digest)
            for document in chain
        ):
            raise DocumentRefused(
                "wrong-genesis",
                f"the chain does not pass by genesis {self.genesis_version} of the invite",
            )
        if not any(self.authority in authority_keys(document.body) for document in chain):
            raise DocumentRefused("unknown-key", "no genesis lists the authority that the invite names")
        return newest
