# SPDX-License-Identifier: MIT
"""C{tests/attacks.rst} and the tests that are named after its attacks: each knows the other."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS / "attacks.rst").read_text(encoding="utf-8")
_ID = r"[a-d]\d+"


def ids_of(test: str) -> list[str]:
    """The attacks that a test is named after: C{a1} and C{a2} of C{test_a1_a2_the_drill}."""
    named = re.match(rf"test_((?:{_ID}_)+)", test)
    return named[1].strip("_").split("_") if named else []


THERE = {
    name
    for file in TESTS.rglob("test_*.py")
    for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    if ids_of(name)
}
ROWS = {
    row[0].lower(): re.findall(r"``(test_\w+)``", row[1])
    for row in re.findall(r"^([A-D]\d+)\n((?:    .+\n?)+)", PAGE, re.MULTILINE)
}


def test_every_attack_that_a_test_is_named_after_has_its_line() -> None:
    """And no attack stands there that no test holds off."""
    assert {attack for name in THERE for attack in ids_of(name)} == set(ROWS)


def test_the_tests_that_the_page_names_exist() -> None:
    """Each line names at least one, and it is named after that attack."""
    for attack, tests in ROWS.items():
        assert tests, attack
        for test in tests:
            assert test in THERE and attack in ids_of(test)


def test_names_are_read_as_the_page_says() -> None:
    """Codes of the field's lessons, and names without one, are none of these."""
    assert ids_of("test_a1_a2_the_drill") == ["a1", "a2"]
    assert ids_of("test_field_t5_cut") == ids_of("test_a_policy") == ids_of("test_k2_mode") == []
