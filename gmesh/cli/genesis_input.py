# SPDX-License-Identifier: MIT
"""
What a ceremony reads: genesis documents, detached signatures, and the one input file.

The input is TOML that every root holder can read before anything is signed.  Its names are those of
the genesis document, with times as TOML writes them and an anchor's address as people write it.
Tests: C{tests/cli/test_genesis.py}.
"""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

from gmesh.cli.ceremony_log import CeremonyLog
from gmesh.cli.init import anchor_endpoint
from gmesh.errors import ConfigurationError, DocumentRefused, GmeshError
from gmesh.files import read_capped
from gmesh.trust.ceremony import MAX_DETACHED, DetachedSignature
from gmesh.trust.documents import Document, Genesis, parse_document
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.transport_address import FORMS, advice, interface_fault, read_address
from gmesh.trust.verify import root_keys, verify_signatures

__all__ = [
    "check_genesis_out",
    "check_signature_out",
    "read_detached",
    "read_genesis",
    "read_input",
    "read_previous",
]

MAX_INPUT = 64 * 1024
_FIELDS = {
    "network",
    "issued_at",
    "expires_at",
    "root",
    "authority",
    "admission",
    "suites",
    "anchors",
    "authority_urls",
    "policy",
}


def read_input(path: Path) -> tuple[bytes, dict[str, Any]]:
    """
    Read the input file of C{gmesh genesis create}.

    @return: its bytes, for the transcript, and the fields it gives.
    @raise ConfigurationError: if it is not TOML, or names what a genesis does not have.
    """
    data = read_capped(path, MAX_INPUT)
    try:
        fields = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError("bad-input", f"{path} is not TOML: {error}") from error
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        raise ConfigurationError("bad-input", f"{path}: a genesis has no {unknown[0]}")
    plain = _plain(fields)
    if isinstance(plain.get("anchors"), list):
        plain["anchors"] = [_anchor(entry, path) for entry in plain["anchors"]]
    return data, plain


def _anchor(entry: Any, path: Path) -> Any:
    if not isinstance(entry, dict) or "address" not in entry:
        _check_endpoint(entry, path)
        return entry
    if "endpoint" in entry or not isinstance(entry["address"], str):
        raise ConfigurationError("bad-input", f"{path}: an anchor has either address or endpoint, a string")
    rest = {name: value for name, value in entry.items() if name != "address"}
    return rest | {"endpoint": anchor_endpoint(entry["address"])}


def _check_endpoint(entry: Any, path: Path) -> None:
    endpoint = entry.get("endpoint") if isinstance(entry, dict) else None
    if isinstance(endpoint, str) and (fault := interface_fault(endpoint)):
        raise ConfigurationError("bad-anchor", f"{path}: {endpoint!r} cannot be used: {fault}")
    if isinstance(endpoint, str) and read_address(endpoint) is None:
        raise ConfigurationError(
            "bad-anchor", f"{path}: {endpoint!r} is not dialled: {advice(endpoint) or f'write {FORMS}'}"
        )


def _plain(value: Any) -> Any:
    """Times as Unix seconds; one without an offset would mean another moment on another machine."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ConfigurationError("bad-input", f"the time {value} has no offset: end it with Z for UTC")
        return int(value.timestamp())
    if isinstance(value, datetime.date | datetime.time):
        raise ConfigurationError("bad-input", f"{value} is not a time: write 2030-01-01T00:00:00Z")
    return value


def read_genesis(path: Path, transcript: CeremonyLog | None = None) -> Document[Genesis]:
    """A genesis, unverified. @raise ConfigurationError: if it is none."""
    data = read_capped(path, DOCUMENT_LIMITS["genesis"])
    if transcript is not None:
        transcript.read(path, data)
    try:
        return parse_document(data, Genesis)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def read_previous(path: Path | None, transcript: CeremonyLog | None = None) -> Document[Genesis] | None:
    """The version before; its own root must have signed it, or what follows it is worth nothing."""
    if path is None:
        return None
    document = read_genesis(path, transcript)
    try:
        verify_signatures(document, root_keys(document.body), document.body.root.threshold)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error
    return document


def check_previous(document: Document[Genesis], previous: Document[Genesis] | None) -> None:
    """@raise ConfigurationError: C{no-previous}, if the version before was needed and not given."""
    if document.body.version > 1 and previous is None:
        raise ConfigurationError(
            "no-previous",
            f"this is version {document.body.version}: give --previous, the signed version before,"
            " whose root must sign too",
        )


def read_detached(path: Path, transcript: CeremonyLog) -> DetachedSignature:
    """A detached signature, unverified. @raise ConfigurationError: if it is none."""
    data = read_capped(path, MAX_DETACHED)
    transcript.read(path, data)
    try:
        return DetachedSignature.parse(data)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error


def check_signature_out(out: Path) -> None:
    """
    A slip of the hand must not cost a key: only a signature is written over by another.

    @raise ConfigurationError: C{exists}.
    """
    try:
        if out.exists():
            DetachedSignature.parse(read_capped(out, MAX_DETACHED))
    except GmeshError as error:
        raise ConfigurationError("exists", f"{out} is not a signature: it is not overwritten") from error


def check_genesis_out(out: Path, document: Document[Genesis]) -> None:
    """
    A genesis is written over by the same with more signatures alone.

    @raise ConfigurationError: C{exists}.
    """
    try:
        same = not out.exists() or read_genesis(out).digest == document.digest
    except GmeshError:
        same = False
    if not same:
        raise ConfigurationError("exists", f"{out} holds something else: it is not overwritten")
