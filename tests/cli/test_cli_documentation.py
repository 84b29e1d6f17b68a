# SPDX-License-Identifier: MIT
"""What the README and the documentation tell people to type is understood by the command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from gmesh.cli.main import gmesh

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
OPERATORS = {"|", "||", "&&", ">", ">>", "<"}
LINE = re.compile(r"^ {2,}(?:\$ )?gmesh (?P<words>[a-z].*?)(?: {2,}#.*| {2,}\(.*| &)?$", re.MULTILINE)


def _commands() -> Iterator[str]:
    for page in PAGES:
        for match in LINE.finditer(page.read_text(encoding="utf-8")):
            yield match["words"]


def test_there_are_commands() -> None:
    """The pages show commands, or the next test would say nothing."""
    assert len(list(_commands())) >= 10


@pytest.mark.parametrize("line", sorted(set(_commands())))
def test_documented_command_is_understood(line: str) -> None:
    """Each documented command line parses: its command, options and arguments exist."""
    words = list(takewhile(lambda word: word not in OPERATORS, shlex.split(line, comments=True)))
    command: click.Command = gmesh
    while isinstance(command, click.Group):
        context = command.make_context(command.name or "gmesh", words, resilient_parsing=False)
        first = getattr(context, "_protected_args", None)  # click 8.2; without the underscore before
        words = [*(context.protected_args if first is None else first), *context.args]
        if not words and command.invoke_without_command:
            return
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name or "", words)
