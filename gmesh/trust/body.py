# SPDX-License-Identifier: MIT
"""
What every signed part has in common: frozen, exactly its fields, and a C{check()}.

Optional fields are C{None} in the struct and left out of the document; a C{null} is refused.
C{check()} holds what goes beyond one field, such as order, uniqueness and the prime order of keys.
Tests: C{tests/trust/test_documents.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Meta

from gmesh.errors import DocumentRefused
from gmesh.trust.limits import MAX_SIGNATURES
from gmesh.trust.names import Identifier, Signature

__all__ = [
    "Body",
    "DocumentFile",
    "Part",
    "SignatureEntry",
    "check_ascending",
    "check_distinct",
    "check_ordered",
    "invalid_field",
]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A piece of a document: an object with exactly its fields."""


class Body(Part, frozen=True, kw_only=True):
    """The signed part of a document; each subclass says its C{type}."""

    TYPE: ClassVar[str]

    def check(self) -> None:
        """
        Apply the rules that go beyond one field.

        @raise DocumentRefused: C{invalid-field} or C{bad-key}.
        """


class SignatureEntry(Part, frozen=True):
    """Who signed, and the signature."""

    key_id: Identifier
    signature: Signature


Signed = TypeVar("Signed", bound=Body)


class DocumentFile(Part, Generic[Signed], frozen=True):
    """The file form of a document, to be told from what is none before it is parsed."""

    signed: Signed
    signatures: Annotated[tuple[SignatureEntry, ...], Meta(max_length=MAX_SIGNATURES)]


def invalid_field(detail: str) -> DocumentRefused:
    """The error for a field, or a pair of them, that breaks a rule."""
    return DocumentRefused("invalid-field", detail)


def check_ordered(first: int, second: int, first_name: str, second_name: str) -> None:
    """@raise DocumentRefused: C{invalid-field}, unless C{first} lies before C{second}."""
    if first >= second:
        raise invalid_field(f"{second_name} must lie after {first_name}")


def check_distinct(values: Iterable[str], what: str) -> None:
    """@raise DocumentRefused: C{invalid-field}, if a value stands there twice."""
    values = list(values)
    if len(set(values)) != len(values):
        raise invalid_field(f"the {what} must be distinct")


def check_ascending(values: list[Any], what: str) -> None:
    """@raise DocumentRefused: C{invalid-field}, unless each value is above the one before."""
    if values != sorted(set(values)):
        raise invalid_field(f"the entries of {what} must ascend, each once")
