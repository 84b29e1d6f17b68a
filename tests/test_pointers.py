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
    if path.name not in ("__init__.py", "limits.py")
}
"""Docstring by file name. Limits are numbers, which the tests of those who keep to them hold."""
FILES = {path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("*.py")}
ROOMS = ("daemon", "node", "routing", "testing")
"""Those whose every module is easy to find tests for; elsewhere only what is said must be true."""
POINTER = re.compile(r"tests/[\w/]+\.py")


def told(docstring: str) -> list[str]:
    """The test files that a docstring names."""
    return POINTER.findall(docstring)


def own(name: str) -> str:
    """The test file under the name of a module."""
    path = Path("tests") / name
    return path.with_name(f"test_{path.name}").as_posix()


def without_tests(modules: dict[str, str], files: set[str]) -> list[str]:
    """Modules whose tests nobody finds."""
    return [name for name, text in modules.items() if own(name) not in files and "Tests:" not in text]


@pytest.mark.parametrize("room", ROOMS)
def test_each_module_says_where_its_tests_are(room: str) -> None:
    """There is a test file of its name in the directory of its room, or its docstring names others."""
    inside = {name: text for name, text in MODULES.items() if name.startswith(f"{room}/")}
    assert inside
    assert without_tests(inside, FILES) == []


def test_what_docstrings_say_of_tests_is_true() -> None:
    """Every test file that a module names exists, in whatever room."""
    named = [(name, file) for name, text in MODULES.items() for file in told(text)]
    assert len(named) > 40
    assert [pair for pair in named if pair[1] not in FILES] == []


def test_a_module_without_tests_is_found() -> None:
    """A rule that finds nothing would keep nothing."""
    modules = {"wire/a.py": "A.", "wire/b.py": "B.", "wire/c.py": "C.  Tests: C{tests/wire/test_a.py}."}
    assert without_tests(modules, {"tests/wire/test_a.py", "tests/mesh/test_b.py"}) == ["wire/b.py"]
    assert told(modules["wire/c.py"]) == ["tests/wire/test_a.py"]
