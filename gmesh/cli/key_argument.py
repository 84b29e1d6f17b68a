# SPDX-License-Identifier: MIT
"""Public keys on the command line: of 64 in base64url one begins with a hyphen, and is no option for that."""

from __future__ import annotations

import re

import click

__all__ = ["KeyCommand", "key_text"]

_HYPHENED = re.compile(r"-[A-Za-z0-9_-]{42}")
_SHIELD = " "


class KeyCommand(click.Command):
    """A command with arguments of type L{key_text}."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click take no key for options."""
        shielded = [_SHIELD + each if _HYPHENED.fullmatch(each) else each for each in args]
        return super().parse_args(ctx, shielded)


def key_text(value: str) -> str:
    """The type of such an argument; whether it is a key, or the id of one, is judged elsewhere."""
    return value.removeprefix(_SHIELD)
