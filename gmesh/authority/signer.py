# SPDX-License-Identifier: MIT
"""
The authority's signing keys: C{authority.key} and further C{*.key} files of the state directory,
and the systemd credentials C{authority_*} (LoadCredential=authority:DIRECTORY, one for each file).

Several may be held at once, so that a key can be replaced; the one that signs is the newest that
the current genesis lists and whose time has come.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gmesh.errors import ConfigurationError, GmeshError, StoreError
from gmesh.files import read_key_file
from gmesh.trust.documents import Genesis
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey, decode_public, key_id

__all__ = ["KeyRing", "load_keys"]

# Public keys whose private halves are printed in RFC 8032 section 7.1 and RFC 9421 appendix B.1.4.
_PUBLISHED = frozenset(
    {
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb",
    }
)


class KeyRing:
    """
    Every key held.

    @param keys: at least one.
    """

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys = {key.key_id: key for key in keys}

    def __iter__(self) -> Iterator[SigningKey]:
        return iter(self._keys.values())

    def listed(self, genesis: Genesis) -> frozenset[str]:
        """key_ids that are held and that this genesis lists: the audiences requests may name."""
        return frozenset(key_id(decode_public(entry.key)) for entry in genesis.authority) & self._keys.keys()

    def signer(self, genesis: Genesis, now: int) -> SigningKey:
        """
        The key to sign with.

        @raise StoreError: C{unavailable}, if no held key may sign under this genesis now.
        """
        usable = [
            (entry.valid_from, key_id(decode_public(entry.key)))
            for entry in genesis.authority
            if entry.valid_from <= now < entry.valid_to
        ]
        for _, name in sorted(usable, reverse=True):
            if name in self._keys:
                return self._keys[name]
        raise StoreError(
            "unavailable", f"no key held here may sign under genesis version {genesis.version} at this time"
        )


def load_keys(state: Path) -> KeyRing:
    """
    Read every key file of a state directory, and every key that systemd hands to this process.

    @raise ConfigurationError: on a missing, unreadable, too open or published key.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    paths = sorted(state.glob("*.key")) + (
        sorted(Path(credentials).glob("authority_*")) if credentials else []
    )
    if not paths:
        raise ConfigurationError("missing-key", f"{state} holds no authority.key: is it made by gmesh init?")
    return KeyRing([_load(path) for path in paths])


def _load(path: Path) -> SigningKey:
    pem = read_key_file(path)
    try:
        key = SigningKey.from_pem(pem)
    except GmeshError as error:
        raise ConfigurationError("bad-key", f"{path} is no Ed25519 private key in PEM form") from error
    if key.public.hex() in _PUBLISHED or len(set(key.seed)) == 1 or key.seed == bytes(range(32)):
        raise ConfigurationError(
            "published-key",
            f"{path} holds a key that is printed in test vectors ({b64url_encode(key.public)}):"
            " everybody has it; make a new one",
        )
    return key
