# SPDX-License-Identifier: MIT
"""
Text for people: tables and facts, with colour on a terminal, plain and stable in a pipe.

What other machines said goes through L{printable}: a name or a message never moves the cursor.
Tests: C{tests/cli/test_path_picture.py}, C{tests/cli/test_node.py}.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

__all__ = [
    "SHORT_ID",
    "VALID",
    "Column",
    "age",
    "ago",
    "chain",
    "cpu_seconds",
    "day",
    "facts",
    "id_column",
    "listing",
    "milliseconds",
    "moment",
    "print_json",
    "printable",
    "short_id",
    "table",
    "time_column",
    "wide_option",
    "words",
]

MINUTE, HOUR, DAY = 60, 3600, 86400
GAP = 2
"""Blanks between two columns."""
SHORT_ID = 8
"""Characters of an id in short: one in 2^32 has the same."""
SHORTEST = 8
"""Characters that a text is cut to at most."""
_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}|[A-Za-z0-9_-]{43}")
_WIDE = "gmesh.cli.output.wide"
VALID = "valid"
"""The standing of a certificate that is not worth mentioning."""


def printable(text: str) -> str:
    """C{text} on one line, safe for a terminal, no matter who wrote it: controls become escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def chain(names: Any) -> str:
    """A path of names."""
    return " > ".join(map(words, names or [])) or "-"


def print_json(value: Any) -> None:
    """One JSON document, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def words(value: Any) -> str:
    """A value as a word or a few: a dash for nothing, commas between several."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(words(item) for item in value)
    return printable(str(value))


def milliseconds(value: Any) -> str:
    """A round trip time."""
    return f"{value:.1f} ms" if isinstance(value, int | float) else "-"


def cpu_seconds(value: Any) -> str:
    """CPU time."""
    return f"{value:.1f} s" if isinstance(value, int | float) else "-"


def age(seconds: Any) -> str:
    """A span of time in its largest sensible unit."""
    if not isinstance(seconds, int | float):
        return "-"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def moment(seconds: Any) -> str:
    """A point of time, in UTC."""
    if not isinstance(seconds, int | float):
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_id(value: Any) -> str:
    """The beginning of an id or key; commands that take an id look up the rest."""
    text = words(value)
    return text[:SHORT_ID] if _ID.fullmatch(text) else text


def short_moment(seconds: Any) -> str:
    """A point of time, in UTC, to the minute."""
    return moment(seconds)[: len("2026-11-22 18:05")]


def day(seconds: Any) -> str:
    """A day, in UTC."""
    return moment(seconds)[: len("2026-11-22")]


def ago(at: Any) -> str:
    """How long ago a point of time was."""
    return age(max(0.0, time.time() - at)) if isinstance(at, int | float) else "-"


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column of a table.

    @ivar key: what it shows of a row.
    @ivar show: how.
    @ivar short: how where a terminal is too narrow; without it the text is cut there, if nothing else helps.
    @ivar spare: it is left out where even that is too wide.
    """

    heading: str
    key: str
    show: Callable[[Any], str] = words
    short: Callable[[Any], str] | None = None
    spare: bool = False


def id_column(heading: str, key: str) -> Column:
    """A column of ids."""
    return Column(heading, key, short=short_id)


def time_column(
    heading: str, key: str, short: Callable[[Any], str] = short_moment, spare: bool = False
) -> Column:
    """A column of points of time."""
    return Column(heading, key, moment, short, spare)


def wide_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with C{--wide}, which L{table} looks up."""
    return click.option(
        "--wide",
        is_flag=True,
        expose_value=False,
        callback=_remember_wide,
        help="Show ids and texts whole on a terminal, however long its lines get.",
    )(command)


def _remember_wide(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_WIDE] = True


def table(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], empty: str) -> None:
    """
    Print C{rows}, or the sentence C{empty} if there are none.

    A row is one line: a terminal that is too narrow gets it in short, unless C{--wide} is given.
    """
    known = list(rows)
    lines = [[column.heading for column in columns]]
    lines += [[column.show(row.get(column.key)) for column in columns] for row in known]
    if not known:
        print(empty)
    elif sys.stdout.isatty():
        context = click.get_current_context(silent=True)
        width = shutil.get_terminal_size().columns
        if _width(lines) > width and not (context and context.meta.get(_WIDE)):
            lines = _shortened(columns, known, width)
        _rich_table(lines[0], lines[1:])
    else:
        _plain_table([[heading.upper() for heading in lines[0]], *lines[1:]])


def listing(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], empty: str, as_json: bool) -> None:
    """Print C{rows} as they came, for programs, or as a L{table}."""
    if as_json:
        print_json(rows)
    else:
        table(columns, rows, empty)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Sequence[str]]) -> int:
    widths = _widths(lines)
    return sum(widths) + GAP * (len(widths) - 1)


def _shortened(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int) -> list[list[str]]:
    """The short form of each cell; then the longest texts cut, and spare columns left out, until all fit."""
    lines = [[column.heading for column in columns]]
    lines += [[(column.short or column.show)(row.get(column.key)) for column in columns] for row in rows]
    limits = _widths(lines)
    texts = [index for index, column in enumerate(columns) if column.short is None]
    excess = _width(lines) - width
    while excess > 0 and texts:
        longest = max(texts, key=lambda index: limits[index])
        if limits[longest] <= SHORTEST:
            fewer = [column for column in columns if not column.spare]
            return _shortened(fewer, rows, width) if len(fewer) < len(columns) else lines
        limits[longest] -= 1
        excess -= 1
    return [[_cut(cell, limit) for cell, limit in zip(line, limits, strict=True)] for line in lines]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]}.."


def _plain_table(lines: Sequence[Sequence[str]]) -> None:
    widths = _widths(lines)
    for line in lines:
        print((" " * GAP).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    output = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for heading in headings:
        output.add_column(heading, no_wrap=True, overflow="crop")
    for line in cells:
        output.add_row(*(Text(cell) for cell in line))
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(output).maximum, _width([headings, *cells]))
    console.print(output, crop=False)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print named values, one per line, aligned."""
    known = list(pairs)
    width = max(len(name) for name, _ in known) + 1
    for name, value in known:
        print(f"{name + ':':{width}} {value}")
