# SPDX-License-Identifier: MIT
"""
Signing keys at rest: a private file, one sealed with a pass phrase, or a systemd credential.

Each is loaded into an L{gmesh.interfaces.ISigner}; the code that signs does not know where it came from.
"""

from __future__ import annotations

import getpass
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import KEY_MODE, read_key_file, write_atomic
from gmesh.trust.keys import SigningKey
from gmesh.trust.published_keys import refuse_published
from gmesh.trust.sealed import is_sealed, open_sealed, seal, sealed_public

__all__ = [
    "PASSPHRASE_CREDENTIAL",
    "Passphrases",
    "key_text",
    "load_key",
    "public_of",
    "save_key",
    "write_key",
]

PASSPHRASE_CREDENTIAL = "passphrase"


def _ask_terminal(prompt: str) -> str:
    return getpass.getpass(prompt)


class Passphrases:
    """
    Where pass phrases come from: a file, else the systemd credential C{passphrase}, else the terminal.

    @param path: the file, its mode as private as a key's; C{/dev/fd/N} is the open descriptor N.
        It is read once, for a pipe gives its content only once.
    @param ask: asks at the terminal; only used when there is one.
    """

    def __init__(self, path: Path | None = None, ask: Callable[[str], str] = _ask_terminal) -> None:
        self._path = path
        self._ask = ask
        self._asks = True
        self._read: bytes | None = None
        self._typed: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return "<Passphrases>"

    def ask_no_more(self) -> None:
        """From now on nobody is asked at the terminal: who serves others cannot wait for an answer."""
        self._asks = False

    def existing(self, what: str) -> bytes:
        """
        The pass phrase that opens C{what}; typed once, it serves a reload too.

        @raise ConfigurationError: C{passphrase-needed} when there is nobody to ask.
        """
        stored = self._stored()
        if stored is not None:
            return stored
        if what not in self._typed:
            self._typed[what] = self._from_terminal(f"Pass phrase of {what}: ", what)
        return self._typed[what]

    def new(self, what: str) -> bytes:
        """
        The pass phrase to seal C{what} with; at a terminal it is asked for twice.

        @raise ConfigurationError: C{passphrase-needed}; C{passphrase-differs}.
        """
        stored = self._stored()
        if stored is not None:
            return stored
        first = self._from_terminal(f"New pass phrase of {what}: ", what)
        if self._from_terminal("Again: ", what) != first:
            raise ConfigurationError("passphrase-differs", "the two pass phrases differ")
        return first

    def _stored(self) -> bytes | None:
        if self._read is None:
            path = self._path
            credentials = os.environ.get("CREDENTIALS_DIRECTORY")
            if path is None and credentials and (Path(credentials) / PASSPHRASE_CREDENTIAL).exists():
                path = Path(credentials) / PASSPHRASE_CREDENTIAL
            if path is None:
                return None
            try:
                text = read_key_file(path).decode("utf-8")
            except UnicodeDecodeError as error:
                raise ConfigurationError("bad-passphrase", f"{path} is not UTF-8 text") from error
            self._read = _normal(text.removesuffix("\n").removesuffix("\r"), str(path))
        return self._read

    def _from_terminal(self, prompt: str, what: str) -> bytes:
        if not self._asks:
            raise ConfigurationError(
                "passphrase-needed",
                f"{what} is sealed with a pass phrase that was not asked for at the start: start again, or"
                f" give --passphrase-file or the credential {PASSPHRASE_CREDENTIAL}",
            )
        if sys.stdin is None or not sys.stdin.isatty():
            raise ConfigurationError(
                "passphrase-needed",
                f"{what} is sealed with a pass phrase: give --passphrase-file, the credential"
                f" {PASSPHRASE_CREDENTIAL}, or a terminal",
            )
        return _normal(self._ask(prompt), what)


def _normal(text: str, where: str) -> bytes:
    if not text or "\n" in text:
        raise ConfigurationError("bad-passphrase", f"{where} holds no pass phrase: one line is expected")
    return unicodedata.normalize("NFC", text).encode("utf-8")


def load_key(path: Path, passphrases: Passphrases) -> SigningKey:
    """
    The signing key in a file.

    @raise ConfigurationError: if it is missing, can be read by others, is no key, does not open, or
        is one that everybody has; the message names the file and what to do.
    """
    data = read_key_file(path)
    try:
        if is_sealed(data):
            return refuse_published(open_sealed(data, passphrases.existing(str(path))))
        return refuse_published(SigningKey.from_pem(data))
    except DocumentRefused as error:
        detail = "it is no Ed25519 private key in PEM form" if error.reason == "bad-key" else error.detail
        raise ConfigurationError(error.reason, f"{path}: {detail}") from error


def public_of(path: Path, passphrases: Passphrases) -> bytes:
    """The public key of a key file; a sealed one is not opened. @raise ConfigurationError: as L{load_key}."""
    data = read_key_file(path)
    if not is_sealed(data):
        return load_key(path, passphrases).public
    try:
        return sealed_public(data)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def save_key(path: Path, key: SigningKey, passphrase: bytes | None = None) -> None:
    """
    Write a key for its owner alone; sealed, if there is a pass phrase.

    @raise DocumentRefused: C{weak-passphrase}.
    """
    write_key(path, key_text(key, passphrase))


def key_text(key: SigningKey, passphrase: bytes | None = None) -> bytes:
    """What L{write_key} writes. @raise DocumentRefused: as L{save_key}."""
    return key.to_pem() if passphrase is None else seal(key, passphrase, os.urandom)


def write_key(path: Path, text: bytes) -> None:
    """Write a key for its owner alone."""
    write_atomic(path, text, KEY_MODE)
