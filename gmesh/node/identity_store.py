# SPDX-License-Identifier: MIT
"""
The node's state directory: who it is, what it believes, and the numbers that must never go back.

Keys, certificate and genesis must be there and sound, or the node cannot start and says what to
do.  Policy, CRL and status come back from the authority or a neighbour; the floors beside them
keep an older one out.  Every write is write, fsync, rename, and comes before the use of what was
written.  Tests: C{tests/node/test_identity_store.py}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from twisted.logger import Logger

from gmesh.endtoend.message_keys import KeyLog
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import KEY_MODE, check_owner, read_capped, read_key_file, write_atomic
from gmesh.node.key_log import FileKeyLog
from gmesh.node.limits import STATE_FILE_LIMIT
from gmesh.node.node_state import NodeState
from gmesh.trust.authority_answers import known_urls
from gmesh.trust.documents import Body, Certificate, Crl, Document, Genesis, Policy, Status, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey, noise_keys_from_pem
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.verify import network_id

__all__ = ["Identity", "IdentityStore", "NodeStore"]

_B = TypeVar("_B", bound=Body)

IDENTITY_KEY: Final = "identity.key"
NOISE_KEY: Final = "noise.key"
CERTIFICATE: Final = "certificate.json"
GENESIS: Final = "genesis.json"
FLOORS: Final = "floors.json"
STATE: Final = "state.json"
AUTHORITY: Final = "authority.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Everything a node starts with.

    @ivar noise_key: the one that the certificate names.
    @ivar noise_keys: all of C{noise.key}, oldest first.
    @ivar own_urls: of the authority, beside those that the genesis names: C{authority.json}.
    """

    node_key: SigningKey
    noise_key: NoiseKey
    certificate: Document[Certificate]
    network_id: str
    genesis_chain: tuple[Document[Genesis], ...]
    documents: tuple[Document[Any], ...]
    floors: dict[str, Any]
    state: NodeState
    own_urls: tuple[str, ...] = ()
    noise_keys: tuple[NoiseKey, ...] = ()

    @property
    def authority_urls(self) -> tuple[str, ...]:
        """Where the authority is, in order: L{known_urls}."""
        return known_urls(self.own_urls, self.genesis_chain)


class NodeStore(Protocol):
    """
    Where a node keeps what must outlive it: a directory, or memory in tests.

    @ivar message_keys: what programs on this node acknowledged.
    """

    message_keys: KeyLog

    def save_document(self, document: Document[Any]) -> None:
        """Keep the newest of its type."""

    def save_floors(self, floors: dict[str, Any]) -> None:
        """Keep the numbers below which nothing is believed again."""

    def save_state(self, state: NodeState) -> None:
        """Keep the rising numbers."""

    def save_noise_keys(self, keys: Sequence[NoiseKey]) -> None:
        """Keep exactly these Noise keys."""


class IdentityStore:
    """
    One state directory.

    @param directory: its path, as given by the user.
    """

    _log = Logger()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.message_keys: KeyLog = FileKeyLog(directory)

    # Reading

    def load(self) -> Identity:
        """
        Everything in the directory, checked for form but not yet for signatures.

        @raise ConfigurationError: one line that names the file and says what to do; C{other-owner}.
        """
        if not self.directory.is_dir():
            raise ConfigurationError(
                "no-state", f"{self.directory} is not a directory: {self._join_hint('creates it')}"
            )
        if not self._path(CERTIFICATE).exists():
            check_owner(self.directory, "a node")
            raise ConfigurationError(
                "not-enrolled",
                f"{self.directory} holds no certificate: {self._join_hint('enrols this host')}",
            )
        node_key = self._node_key()
        noise_keys = self._noise_keys()
        certificate = self._required(CERTIFICATE, Certificate)
        if certificate.body.node_key != b64url_encode(node_key.public):
            raise self._damaged(CERTIFICATE, f"does not belong to {IDENTITY_KEY}")
        chain = self._genesis_chain()
        network = chain[0].body.network_id or network_id(chain[0])
        if certificate.body.network_id != network:
            raise self._damaged(CERTIFICATE, f"belongs to another network than {GENESIS}")
        return Identity(
            node_key=node_key,
            noise_key=self._named(noise_keys, certificate),
            noise_keys=noise_keys,
            certificate=certificate,
            network_id=network,
            genesis_chain=chain,
            documents=tuple(self._optional()),
            floors=self._json(FLOORS),
            state=self._state(),
            own_urls=self._own_urls(),
        )

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _join_hint(self, effect: str) -> str:
        return f"`gmesh join - --state {self.directory}` {effect}"

    def _damaged(self, name: str, fault: str) -> ConfigurationError:
        return ConfigurationError(
            "damaged-state",
            f"{self._path(name)} {fault}: restore it from a backup, or move {self.directory} away; "
            f"then {self._join_hint('with a new invite enrols this host again')}",
        )

    def _unusable(self, name: str, error: ConfigurationError) -> ConfigurationError:
        """What to do about a file that the system does not give."""
        if error.reason == "missing-file":
            return self._damaged(name, "is missing")
        if isinstance(error.__cause__, PermissionError):
            return ConfigurationError(
                error.reason, f"{error.detail}: `chown` it to the user that the daemon runs as"
            )
        if error.reason in ("unreadable-file", "too-large"):
            return self._damaged(name, f"cannot be used ({error.detail})")
        return error

    def _node_key(self) -> SigningKey:
        try:
            return SigningKey.from_pem(self._key_file(IDENTITY_KEY))
        except DocumentRefused as error:
            raise self._damaged(IDENTITY_KEY, f"is damaged ({error.detail})") from error

    def _noise_keys(self) -> tuple[NoiseKey, ...]:
        try:
            return tuple(noise_keys_from_pem(self._key_file(NOISE_KEY)))
        except DocumentRefused as error:
            raise self._damaged(NOISE_KEY, f"is damaged ({error.detail})") from error

    def _named(self, keys: Sequence[NoiseKey], certificate: Document[Certificate]) -> NoiseKey:
        for key in keys:
            if b64url_encode(key.public) == certificate.body.noise_key:
                return key
        raise self._damaged(NOISE_KEY, f"holds no key that {CERTIFICATE} names")

    def _key_file(self, name: str) -> bytes:
        try:
            return read_key_file(self._path(name))
        except ConfigurationError as error:
            raise self._unusable(name, error) from error

    def _required(self, name: str, body: type[_B]) -> Document[_B]:
        path = self._path(name)
        if not path.exists():
            raise self._damaged(name, "is missing")
        try:
            return parse_document(read_capped(path, DOCUMENT_LIMITS[body.TYPE]), body)
        except ConfigurationError as error:
            raise self._unusable(name, error) from error
        except DocumentRefused as error:
            raise self._damaged(name, f"is damaged ({error.detail})") from error

    def _genesis_chain(self) -> tuple[Document[Genesis], ...]:
        """Newest last, as far back as there are files; the oldest was verified before it was stored."""
        chain = [self._required(GENESIS, Genesis)]
        for version in range(chain[0].body.version - 1, 0, -1):
            if not self._path(_older_genesis(version)).exists():
                break
            chain.insert(0, self._required(_older_genesis(version), Genesis))
        return tuple(chain)

    def _optional(self) -> list[Document[Any]]:
        found: list[Document[Any]] = []
        bodies: tuple[type[Body], ...] = (Crl, Policy, Status)
        for body in bodies:
            name = f"{body.TYPE}.json"
            path = self._path(name)
            if not path.exists():
                continue
            try:
                found.append(parse_document(read_capped(path, DOCUMENT_LIMITS[body.TYPE]), body))
            except (DocumentRefused, ConfigurationError) as error:
                self._log.warn(
                    "{path} cannot be used and is fetched again: {cause}", path=str(path), cause=error.detail
                )
        return found

    def _json(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        if not path.exists():
            return {}
        try:
            value = json.loads(read_capped(path, STATE_FILE_LIMIT))
        except (ValueError, RecursionError, ConfigurationError) as error:
            self._log.warn(
                "{path} cannot be used and starts empty: {cause}",
                path=str(path),
                cause=error.detail if isinstance(error, ConfigurationError) else "it is not JSON",
            )
            return {}
        return value if isinstance(value, dict) else {}

    def _state(self) -> NodeState:
        return NodeState.from_dict(self._json(STATE))

    def _own_urls(self) -> tuple[str, ...]:
        listed = self._json(AUTHORITY).get("urls", [])
        return tuple(url for url in listed if isinstance(url, str)) if isinstance(listed, list) else ()

    # Writing

    def save_document(self, document: Document[Any]) -> None:
        """Write a document of ours under its fixed name; an older genesis stays under its number."""
        if document.type == "genesis":
            write_atomic(self._path(_older_genesis(document.body.version)), document.encode())
        write_atomic(self._path(f"{document.type}.json"), document.encode())

    def save_floors(self, floors: dict[str, Any]) -> None:
        """Write C{floors.json}."""
        write_atomic(self._path(FLOORS), _encode(floors))

    def save_state(self, state: NodeState) -> None:
        """Write C{state.json}, with what another version of gmesh keeps there."""
        write_atomic(self._path(STATE), _encode(state.to_dict()))

    def save_noise_keys(self, keys: Sequence[NoiseKey]) -> None:
        """Write C{noise.key}: a new key before a certificate names it, none that has ended."""
        write_atomic(self._path(NOISE_KEY), b"".join(key.to_pem() for key in keys), KEY_MODE)


def _older_genesis(version: int) -> str:
    return f"genesis.{version}.json"


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode("utf-8") + b"\n"
