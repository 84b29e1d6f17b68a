# SPDX-License-Identifier: MIT
"""
The authority's signing keys: C{authority.key} and further C{*.key} files of the state directory,
in the clear or sealed with a pass phrase, and the systemd credentials C{authority_*}
(LoadCredential=authority:DIRECTORY, one for each file).

Several may be held at once, so that a key can be replaced; the one that signs is the newest that
the current genesis lists and whose time has come.
Tests: C{tests/authority/test_state.py}.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gmesh.errors import ConfigurationError, StoreError
from gmesh.interfaces import ISigner
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.documents import Genesis
from gmesh.trust.verify import authority_keys

__all__ = ["KeyRing", "from_credentials", "load_keys"]


class KeyRing:
    """
    Every key held.

    @param keys: at least one.
    """

    def __init__(self, keys: Iterable[ISigner]) -> None:
        self._keys = {key.key_id: key for key in keys}
        self._judged: tuple[Genesis, list[tuple[int, int, str]]] | None = None

    def __iter__(self) -> Iterator[ISigner]:
        return iter(self._keys.values())

    @property
    def names(self) -> str:
        """The key_ids, with spaces between."""
        return " ".join(sorted(self._keys))

    def listed(self, genesis: Genesis) -> frozenset[str]:
        """key_ids that are held and that this genesis lists: the audiences requests may name."""
        return frozenset(name for _, _, name in self._held(genesis))

    def _held(self, genesis: Genesis) -> list[tuple[int, int, str]]:
        """(valid_from, valid_to, key_id) of what is held and listed, the newest first; once per genesis."""
        if self._judged is None or self._judged[0] is not genesis:
            entries = zip(authority_keys(genesis), genesis.authority, strict=True)
            found = [
                (entry.valid_from, entry.valid_to, name) for name, entry in entries if name in self._keys
            ]
            self._judged = genesis, sorted(found, reverse=True)
        return self._judged[1]

    def lacking(self, genesis: Genesis, now: int) -> list[str]:
        """key_ids that this genesis lists, now or for later, and whose keys are not held."""
        entries = zip(authority_keys(genesis), genesis.authority, strict=True)
        return [name for name, entry in entries if name not in self._keys and now < entry.valid_to]

    def signer(self, genesis: Genesis, now: int) -> ISigner:
        """
        The key to sign with.

        @raise StoreError: C{unavailable}, if no held key may sign under this genesis now.
        """
        for valid_from, valid_to, name in self._held(genesis):
            if valid_from <= now < valid_to:
                return self._keys[name]
        raise StoreError(
            "unavailable", f"no key held here may sign under genesis version {genesis.version} at this time"
        )


def from_credentials() -> bool:
    """Whether the service manager hands keys to this process: it copies them at the start, and only then."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(credentials) and any(Path(credentials or "").glob("authority_*"))


def load_keys(state: Path, passphrases: Passphrases | None = None) -> KeyRing:
    """
    Read every key file of a state directory, and every key that systemd hands to this process.

    @param passphrases: asked for the keys that are sealed.
    @raise ConfigurationError: on a missing, unreadable, too open, closed or published key.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    paths = sorted(state.glob("*.key")) + (
        sorted(Path(credentials).glob("authority_*")) if credentials else []
    )
    if not paths:
        raise ConfigurationError("missing-key", f"{state} holds no authority.key: is it made by gmesh init?")
    asked = passphrases or Passphrases()
    return KeyRing([load_key(path, asked) for path in paths])
