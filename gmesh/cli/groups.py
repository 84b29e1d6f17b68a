# SPDX-License-Identifier: MIT
"""
Groups of commands, which suggest what a mistyped name may have meant.

Tests: C{tests/cli/test_main.py}.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click

__all__ = ["Group", "LazyGroup"]


class Group(click.Group):
    """A group, and all groups below it, that answer an unknown command with the nearest one there is."""

    group_class = type

    def nearby(self, ctx: click.Context) -> Mapping[str, str]:
        """What people may have meant: a name as it is typed, and the words that call it from here."""
        return {name: name for name in self.list_commands(ctx)}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As C{click} does, whose own suggestions leave out what is imported when it is called."""
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        meant, typed = self.nearby(ctx), name.lower()
        found = [
            repr(meant[each]) for each in ([typed] if typed in meant else get_close_matches(typed, meant))
        ]
        raise click.UsageError(
            f"No such command {name!r}." + (f" Did you mean {' or '.join(found)}?" if found else ""), ctx
        )


class LazyGroup(Group):
    """
    A group whose commands are imported when they are called, so that each starts at once.

    @param table: sub-command -> (module, attribute, what it is for), in the order of C{--help}.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, without importing anything."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._table:
            return None
        module, attribute, _ = self._table[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in C{--help}, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self._table.items()])
