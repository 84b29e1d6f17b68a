# SPDX-License-Identifier: MIT
"""
Text for people: tables and facts, with colour on a terminal, plain and stable in a pipe.

What other machines said goes through L{printable}: a name or a message never moves the cursor.
Tests: C{tests/cli/test_path_picture.py}, C{tests/cli/test_node.py}.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "VALID",
    "Column",
    "age",
    "chain",
    "facts",
    "milliseconds",
    "moment",
    "print_json",
    "printable",
    "table",
    "words",
]

MINUTE, HOUR, DAY = 60, 3600, 86400
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


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, the key it shows, and how."""

    heading: str
    key: str
    show: Callable[[Any], str] = words


def table(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], empty: str) -> None:
    """Print C{rows}, or the sentence C{empty} if there are none."""
    cells = [[column.show(row.get(column.key)) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    if not cells:
        print(empty)
    elif sys.stdout.isatty():
        _rich_table(headings, cells)
    else:
        _plain_table([[heading.upper() for heading in headings], *cells])


def _plain_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    output = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        output.add_column(heading, overflow="fold")
    for line in cells:
        output.add_row(*(Text(cell) for cell in line))
    Console(highlight=False).print(output)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print named values, one per line, aligned."""
    known = list(pairs)
    width = max(len(name) for name, _ in known) + 1
    for name, value in known:
        print(f"{name + ':':{width}} {value}")
