# SPDX-License-Identifier: MIT
"""No signed number stands so high that nothing can come after it: field by field, in every document."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from trust.test_documents import SAMPLES

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import DOCUMENT_TYPES, document_from_dict
from gmesh.trust.limits import EPOCH, MAX_NUMBER

TOP = 2**53 - 1


def integers(kind: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every integer that a type can hold, with the path to it."""
    if isinstance(kind, msgspec.inspect.IntType):
        yield path, kind
    for field in getattr(kind, "fields", ()):
        yield from integers(field.type, f"{path}.{field.encode_name}")
    for number, item in enumerate(getattr(kind, "item_types", ())):
        yield from integers(item, f"{path}[{number}]")
    for name in ("item_type", "value_type"):
        if hasattr(kind, name):
            yield from integers(getattr(kind, name), f"{path}[]")
    for each in getattr(kind, "types", ()):
        yield from integers(each, path)
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from integers(kind.type, path)


FIELDS = [
    (path, kind)
    for body in DOCUMENT_TYPES.values()
    for path, kind in integers(msgspec.inspect.type_info(body), body.TYPE)
]


@pytest.mark.parametrize(("path", "kind"), FIELDS, ids=[path for path, _ in FIELDS])
def test_a21_each_number_of_a_document_has_its_bound(path: str, kind: Any) -> None:
    """From both sides, and a whole epoch below what JSON keeps exactly."""
    assert kind.ge is not None and kind.ge >= 0, path
    assert kind.le is not None and kind.le <= TOP - EPOCH, path


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where integers stand in a document."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))
    elif type(value) is int:
        yield path


CASES = [
    (name, path, number)
    for name, sample in SAMPLES.items()
    for path in places(sample.as_dict()["signed"])
    for number in (TOP, TOP - 1, MAX_NUMBER + 1)
]


@pytest.mark.parametrize(("name", "path", "number"), CASES)
def test_a21_numbers_at_the_end_are_refused_in_every_document(
    name: str, path: tuple[Any, ...], number: int
) -> None:
    """Whoever signed them; the last one that has a successor in another epoch is a matter of each field."""
    value = copy.deepcopy(SAMPLES[name].as_dict())
    place = value["signed"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = number
    with pytest.raises(DocumentRefused) as refused:
        document_from_dict(value, DOCUMENT_TYPES[name])
    assert refused.value.reason == "invalid-field"


def test_numbers_of_the_last_epochs_are_still_numbers() -> None:
    """A network that was restored each day for twenty years goes on."""
    value = copy.deepcopy(SAMPLES["status"].as_dict())
    value["signed"]["number"] = MAX_NUMBER
    assert document_from_dict(value, DOCUMENT_TYPES["status"]).body.number == MAX_NUMBER  # type: ignore[attr-defined]  # a status
    assert MAX_NUMBER // EPOCH + 1 == (TOP + 1) // EPOCH - 1
