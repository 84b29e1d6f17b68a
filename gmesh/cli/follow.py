# SPDX-License-Identifier: MIT
"""
C{--follow}: a table as events, one per line, until interrupted.

Tests: C{tests/cli/test_watch.py}.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import click

from gmesh.cli.http import Endpoint, Unreachable
from gmesh.cli.output import chain, words
from gmesh.cli.pipe_watch import end_with_the_reader

__all__ = ["follow", "follow_option"]

_Command = TypeVar("_Command")

_WORDS = {"present": " ", "added": "+", "changed": "~", "gone": "-"}


def follow_option(function: _Command) -> _Command:
    """Decorate with C{--follow}, as the argument C{follow_it}."""
    option = click.option(
        "--follow",
        "-f",
        "follow_it",
        is_flag=True,
        help="Print what is there, then each change as a line, until interrupted.",
    )
    return option(function)  # type: ignore[type-var]  # click's decorator is for functions alone


def follow(where: Endpoint, what: str, as_json: bool) -> None:
    """
    Print the events of one table: C{peers}, C{routes}, C{streams} or C{status}.

    @raise Unreachable: when the node stops.
    @raise click.ClickException: when this user may not read it any more.
    """
    end_with_the_reader()
    before: dict[str, Any] = {}
    with where.stream(f"/v1/follow?what={what}") as events:
        for event in events:
            if "ended_by" in event:
                raise click.ClickException(event["ended_by"])
            if as_json:
                print(json.dumps(event), flush=True)
                continue
            text = _status(event, before) if what == "status" else _row(event)
            print(f"{_clock(event.get('at'))} {_WORDS.get(str(event.get('event')), '?')} {text}", flush=True)
            before = event
    raise Unreachable("closed", "the node stopped")


def _clock(at: Any) -> str:
    if not isinstance(at, int | float):
        return "-"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(event: Mapping[str, Any]) -> str:
    name = words(event.get("name"))
    if "direction" in event:
        way = "to" if event["direction"] == "out" else "from"
        service, state = words(event.get("service")), words(event.get("state"))
        return f"{words(event.get('id'))} {way} {words(event.get('peer'))}:{service} {state}"
    if "path" in event:
        return f"{name} by {chain(event['path'])}"
    return f"{name} at {words(event.get('address'))}"


def _status(event: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """All of it the first time, then what differs."""
    report = {key: value for key, value in event.items() if key not in ("at", "event", "name")}
    if not before:
        return ", ".join(f"{_name(key)} {words(value)}" for key, value in report.items())
    return ", ".join(
        f"{_name(key)} {words(before.get(key))} -> {words(value)}"
        for key, value in report.items()
        if value != before.get(key)
    )


def _name(key: str) -> str:
    return key.replace("_", " ")
