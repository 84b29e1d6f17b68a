# SPDX-License-Identifier: MIT
"""Where the tests of a module are: under its name, or where its docstring says so after "Tests:"."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gmesh

TESTS = Path(__file__).resolve().parent
SOURCE = Path(gmesh.__file__).resolve().parent
MODULES = {
    path.relative_to(SOURCE).as_posix(): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for path in sorted(SOURCE.rglob("*.py"))
    if path.name not in ("__init__.py", "limits.py", "errors.py")
}
"""Docstring by file name. Limits are numbers and errors are names: whose tests use them, tests them."""
FILES = {path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("*.py")}
ROOMS = sorted({name.split("/")[0] for name in MODULES})
POINTER = re.compile(r"tests/[\w/]+\.py")


def named(docstring: str) -> list[str]:
    """The test files that a docstring names."""
    return POINTER.findall(docstring)


def own(name: str) -> set[str]:
    """The test files under the name of a module: that of a subject stands for all its layers."""
    path = Path("tests") / name
    test = f"test_{path.name}"
    return {path.with_name(test).as_posix(), Path("tests", name.split("/")[0], test).as_posix()}


def without_tests(modules: dict[str, str], files: set[str]) -> list[str]:
    """Modules whose tests nobody finds."""
    return [name for name, text in modules.items() if files.isdisjoint(own(name)) and "Tests:" not in text]


@pytest.mark.parametrize("room", ROOMS)
def test_each_module_says_where_its_tests_are(room: str) -> None:
    """There is a test file of its name in the directory of its room, or its docstring names others."""
    inside = {name: text for name, text in MODULES.items() if name.split("/")[0] == room}
    assert inside
    assert without_tests(inside, FILES) == []


def test_what_docstrings_say_of_tests_is_true() -> None:
    """Every test file that a module names exists, in whatever room."""
    pairs = [(name, file) for name, text in MODULES.items() for file in named(text)]
    assert len(pairs) > 150
    assert [pair for pair in pairs if pair[1] not in FILES] == []


def test_a_module_without_tests_is_found() -> None:
    """A rule that finds nothing would keep nothing."""
    modules = {"wire/a.py": "A.", "wire/b.py": "B.", "wire/c.py": "C.  Tests: C{tests/wire/test_a.py}."}
    assert without_tests(modules, {"tests/wire/test_a.py", "tests/mesh/test_b.py"}) == ["wire/b.py"]
    layers = dict.fromkeys(("authority/routes/invites.py", "authority/store/nonces.py"), "Rows.")
    assert without_tests(layers, {"tests/authority/test_invites.py"}) == ["authority/store/nonces.py"]
    assert named(modules["wire/c.py"]) == ["tests/wire/test_a.py"]
