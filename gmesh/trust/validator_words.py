# SPDX-License-Identifier: MIT
"""What C{msgspec} finds wrong, in the words of people: neither types of Python nor paths of JSON."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["in_words"]

_TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "nothing",
    "bytes": "bytes",
}
_UNITS: Final = {"str": " characters", "array": " items", "object": " fields", "bytes": ""}

_PLACE: Final = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`\Z", re.DOTALL)
_TYPE: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_LENGTH: Final = re.compile(
    r"Expected `(str|array|object|bytes)` of (?:length (<=|>=) |at (most|least) length |length )"
    r"([0-9]+(?: to [0-9]+)?)"
)
_BOUND: Final = re.compile(r"Expected `(int|float)` (<=|>=|<|>) (\S+?)(?=\Z| )")
_BOUND_WORDS: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_FORMS: Final = (
    (re.compile(r"\AObject contains unknown field `(.*)`\Z", re.DOTALL), r"there is an unknown field \1"),
    (re.compile(r"\AObject missing required field `(.*)`\Z", re.DOTALL), r"the field \1 is missing"),
    (re.compile(r"\AInvalid (?:enum )?value (.*)\Z", re.DOTALL), r"\1 is not known"),
    (re.compile(r"\A(?:Integer value|Number) out of range\Z"), "a number is too large"),
)


def in_words(text: str) -> str:
    """A message of C{msgspec.ValidationError}, and where in the value it was: C{rules[0].effect}."""
    place = _PLACE.search(text)
    if place is not None:
        text = text[: place.start()]
    for form, words in _FORMS:
        text = form.sub(words, text)
    text = _LENGTH.sub(_length, text)
    text = _BOUND.sub(lambda found: f"Expected `{found[1]}`, {_BOUND_WORDS[found[2]]} {found[3]}", text)
    text = _TYPE.sub(
        lambda found: " or ".join(_TYPES.get(each, each) for each in found[1].split(" | ")), text
    )
    return f"{text}, in {place[1]}" if place is not None and place[1] else text


def _length(found: re.Match[str]) -> str:
    kind, sign, word, number = found.groups()
    bound = _BOUND_WORDS[sign] + " " if sign else f"at {word} " if word else ""
    return f"Expected `{kind}` of {bound}{number}{_UNITS[kind]}"
