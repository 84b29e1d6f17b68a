# SPDX-License-Identifier: MIT
"""Options and spellings that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

from gmesh.errors import ConfigurationError

__all__ = ["json_option", "passphrase_option", "seconds", "span"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

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


def seconds(text: str) -> int:
    """
    A span of time such as C{90s}, C{30m}, C{1h} or C{7d}, in seconds.

    @raise ConfigurationError: if it is none.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise ConfigurationError("bad-duration", f"{text!r} is no span of time: 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNITS[match[2] or "s"]


def span(seconds: int) -> str:
    """The same span as people write it."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
