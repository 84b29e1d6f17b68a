# SPDX-License-Identifier: MIT
"""
Options and spellings that several commands share.

Tests: C{tests/cli/test_admin.py}.
"""

from __future__ import annotations

import re
from math import isnan
from pathlib import Path
from typing import Any

import click

from gmesh.cli.output import printable
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.trust.names import is_name

__all__ = [
    "KeyCommand",
    "NumberRange",
    "identifier",
    "json_option",
    "key_name",
    "key_text",
    "node_name",
    "passphrase_option",
    "patience_option",
    "public_key",
    "seconds",
    "wait_options",
]

PUBLIC_CHARACTERS = 43
_HYPHENED = re.compile(r"-[A-Za-z0-9_-]{42}")
_SHIELD = " "
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 36_525 * 86_400

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    envvar="GMESH_PASSPHRASE_FILE",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Holds the pass phrase of a sealed key; /dev/fd/N is an open descriptor.  Without it the systemd"
    " credential passphrase is used, or the terminal asks.",
)

patience_option = click.option(
    "--timeout",
    default="2m",
    show_default=True,
    metavar="SPAN",
    help="How long to wait at most where the authority says that it is busy.",
)


class NumberRange(click.FloatRange):
    """A number between two others, which C{nan} is not although no comparison says so."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        number = super().convert(value, parameter, context)
        if isnan(number):
            self.fail(f"{value!r} is not a number.", parameter, context)
        return number


class KeyCommand(click.Command):
    """
    A command with arguments of type L{key_text}.

    Of 64 public keys in base64url one begins with a hyphen, and is not an option for that.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click take no key for options."""
        shielded = [_SHIELD + each if _HYPHENED.fullmatch(each) else each for each in args]
        return super().parse_args(ctx, shielded)


def key_text(value: str) -> str:
    """The type of such an argument; whether it is a key, or the id of one, is judged elsewhere."""
    return value.removeprefix(_SHIELD)


def node_name(value: str) -> str:
    """
    The type of a node's name: one in capitals, or with a dot at its end, is folded, and that is said.

    What cannot be folded to a name stays as it is, and is judged elsewhere.
    """
    folded = value.strip().rstrip(".").lower()
    if value == folded or not is_name(folded):
        return value
    click.echo(f"gmesh: {printable(value)} is taken for {folded}: names are in small letters", err=True)
    return folded


def wait_options(command: Any) -> Any:
    """Decorate with C{--wait} and C{--timeout}."""
    timeout = click.option(
        "--timeout", default="2m", show_default=True, metavar="SPAN", help="How long to wait at most."
    )
    wait = click.option(
        "--wait", is_flag=True, help="Wait for the nodes; report those that have not done it."
    )
    return wait(timeout(command))


def identifier(text: str) -> str:
    """
    C{text}, if it is an id: it goes into a path, where nothing else may stand.

    @raise ConfigurationError: if it is none.
    """
    if len(text) not in (32, 64) or not set(text) <= set("0123456789abcdef"):  # a key's, or a digest
        raise ConfigurationError("bad-id", f"{text!r} is not an id: the lists show them, with --wide whole")
    return text


def key_name(text: str) -> str:
    """
    The key_id of a key, given by that or as its public half.

    @raise ConfigurationError: if it is neither.
    """
    from gmesh.trust.keys import key_id

    return key_id(public_key(text)) if len(text) == PUBLIC_CHARACTERS else identifier(text)


def public_key(text: str) -> bytes:
    """
    The key of which C{text} is the public half, as C{gmesh key show} prints it.

    @raise ConfigurationError: if it is none.
    """
    from gmesh.trust.keys import decode_public

    try:
        return decode_public(text)
    except DocumentRefused as error:
        raise ConfigurationError(
            error.reason,
            f"{text!r} is not a public key: gmesh key show prints it, {PUBLIC_CHARACTERS} characters",
        ) from error


def seconds(text: str) -> int:
    """
    A span of time such as C{90s}, C{30m}, C{1h} or C{7d}, in seconds.

    @raise ConfigurationError: if it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    span = 0 if match is None else int(match[1]) * _UNITS[match[2] or "s"]
    if not 0 < span <= _LONGEST:
        raise ConfigurationError(
            "bad-duration", f"{text!r} is not a span of time of at most 100 years: 90s, 30m, 1h or 7d"
        )
    return span
