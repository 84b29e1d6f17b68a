# SPDX-License-Identifier: MIT
"""The picture of a mesh, and text made safe for terminals."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.cli.output import age, printable
from gmesh.cli.path_picture import ASCII, UNICODE, Spot, draw, glyphs

ROW = [Spot("a", ("client",)), Spot("b", ("anchor", "header only")), Spot("c")]


def pairs(*names: str) -> set[frozenset[str]]:
    """Links written as two letters."""
    return {frozenset(name) for name in names}


def test_path_in_a_row() -> None:
    """Nodes stand in boxes; the links the message took are arrows."""
    assert draw(ROW, pairs("ab", "bc"), "abc", style=ASCII) == [
        "+--------+       +-------------+       +---+",
        "|   a    | ====> |      b      | ====> | c |",
        "| client |       |    anchor   |       |   |",
        "|        |       | header only |       |   |",
        "+--------+       +-------------+       +---+",
    ]


def test_other_links() -> None:
    """Links nobody used, links cut, no link at all, and links that do not fit the row are told apart."""
    lines = draw(ROW, pairs("ab", "ac"), cut=pairs("bc"), style=ASCII)
    assert " ----- " in lines[1]
    assert " --X-- " in lines[1]
    assert lines[-1] == "a ----- c"
    assert draw(ROW, (), style=ASCII)[1].split("|")[2] == "       "


def test_lines_are_of_equal_width() -> None:
    """A box is closed, whatever stands in it."""
    assert len({len(line) for line in draw(ROW, pairs("ab"), style=UNICODE)}) == 1


@pytest.mark.parametrize(("encoding", "style"), [("utf-8", UNICODE), ("latin-1", ASCII), ("ascii", ASCII)])
def test_glyphs_fit_the_output(monkeypatch: pytest.MonkeyPatch, encoding: str, style: object) -> None:
    """Where line drawing cannot be shown, ASCII is."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert glyphs() is style


@given(st.text())
def test_printable_never_moves_the_cursor(text: str) -> None:
    """Whatever comes in, one line of printable characters comes out, the printable ones unchanged."""
    shown = printable(text)
    assert shown == "" or shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d"), (None, "-")],
)
def test_ages(seconds: float | None, text: str) -> None:
    """A span is shown in its largest sensible unit."""
    assert age(seconds) == text
