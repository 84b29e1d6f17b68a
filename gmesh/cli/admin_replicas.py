# SPDX-License-Identifier: MIT
"""
The daemons of an authority.

Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from typing import Any

import click

from gmesh.cli.operator import operator_of
from gmesh.cli.options import json_option
from gmesh.cli.output import Column, listing, short_id, time_column, wide_option, words

__all__ = ["replicas"]


def _keys(held: Any) -> str:
    return " ".join(short_id(name) for name in held) if isinstance(held, list) else words(held)


def _numbers(shown: Any) -> str:
    if not isinstance(shown, dict):
        return words(shown)
    return ", ".join(f"{name} {words(shown[name])}" for name in sorted(shown))


@click.command()
@json_option
@wide_option
@click.pass_context
def replicas(context: click.Context, as_json: bool) -> None:
    """The daemons of the database: since when, with which keys, what each shows, ready or not."""
    rows = operator_of(context).pages("/admin/replicas", "replicas")
    columns = [
        Column("host", "name"),
        Column("ready", "ready"),
        Column("version", "version"),
        time_column("since", "since"),
        time_column("seen", "seen"),
        Column("keys", "keys", _keys),
        Column("shows", "numbers", _numbers, spare=True),
    ]
    listing(columns, rows, "no daemon", as_json)
