# SPDX-License-Identifier: MIT
"""A release can be cut: one version everywhere, news in order, and every fragment of a kind that is known."""

from __future__ import annotations

import re
import runpy
import tomllib
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

import gmesh

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = ROOT / "debian/changelog"


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _newest_news() -> tuple[str, str]:
    """Version and date of the first section of NEWS.rst."""
    found = re.search(r"^gmesh (\S+) \((.+)\)\n-+\n", _text("NEWS.rst"), re.M)
    assert found is not None
    return found[1], found[2]


@pytest.mark.parametrize(
    "name", ["setup.cfg", "setup.py", "pyproject.toml", "docs/conf.py", "towncrier.toml"]
)
def test_version_stands_in_one_place(name: str) -> None:
    """No other settings file names the version: what they need they read from the package."""
    assert gmesh.__version__ not in _text(name)


def test_manual_bears_the_version() -> None:
    """docs/conf.py: the manual's version is the package's."""
    assert runpy.run_path(str(ROOT / "docs/conf.py"))["release"] == gmesh.__version__


def test_news_begin_with_the_version() -> None:
    """The newest section of NEWS.rst is that of the version in the tree."""
    assert _newest_news()[0] == gmesh.__version__


@pytest.mark.skipif(not CHANGELOG.exists(), reason="debian/ is not beside these tests")
def test_debian_changelog_agrees() -> None:
    """The newest entry of debian/changelog is of this version, and of the date of its news."""
    entry = CHANGELOG.read_text(encoding="utf-8")
    upstream = re.match(r"gmesh \((.+)-[^-]+\) ", entry)
    signed = re.search(r"^ -- .+>  (.+)$", entry, re.M)
    assert upstream is not None
    assert signed is not None
    assert upstream[1] == gmesh.__version__
    date = parsedate_to_datetime(signed[1]).date().isoformat()
    assert _newest_news()[1] in (date, "unreleased")


def test_fragments_are_of_known_kinds() -> None:
    """Each file in newsfragments/ has a kind of towncrier.toml and holds one paragraph."""
    settings = tomllib.loads(_text("towncrier.toml"))["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    for path in (ROOT / "newsfragments").iterdir():
        if path.name not in settings["ignore"]:
            assert re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(kinds)})\.rst", path.name), path.name
            assert re.fullmatch(r"\S(?:.|\n(?!\n))*[.)`]\n", path.read_text(encoding="utf-8")), path.name
