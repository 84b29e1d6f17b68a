# SPDX-License-Identifier: MIT
"""
C{watch}: the mesh as the node of this host sees it, again and again, with a picture.

On a terminal it fills the screen and is drawn again; elsewhere each look is printed below the last.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gmesh.cli.http import Endpoint, HttpRefused, Unreachable
from gmesh.cli.local import node_command, read_list, read_object
from gmesh.cli.options import NumberRange
from gmesh.cli.output import VALID, age, milliseconds, moment, printable, words
from gmesh.cli.path_picture import UNICODE, glyphs
from gmesh.cli.topology_chart import Chart, chart

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["watch"]

#: Rows of the screen that are not picture.
OTHER_ROWS = 6
MIN_PICTURE, MAX_PICTURE = 5, 40
#: Neighbours listed below the picture at most.
MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What the node answered at one moment, or why it did not."""

    at: float
    status: dict[str, Any]
    peers: list[dict[str, Any]]
    topology: dict[str, Any]
    trouble: str = ""

    @property
    def name(self) -> str:
        """The node that was asked."""
        return words(self.topology.get("self"))

    @property
    def links(self) -> list[list[str]]:
        """Pairs of names."""
        return [[words(end) for end in link.get("ends", [])] for link in self.topology.get("links", [])]

    def names(self, reachable: bool) -> list[str]:
        """The nodes that can be reached, or those that cannot."""
        rows = self.topology.get("nodes", [])
        return [words(row.get("name")) for row in rows if bool(row.get("reachable")) is reachable]

    def summary(self) -> str:
        """The state of the node and of what it knows, in one line."""
        authority = self.status.get("authority") or {}
        reached = "reachable" if authority.get("reachable") else "NOT reachable"
        here, gone = self.names(True), self.names(False)
        standing = (self.status.get("certificate") or {}).get("standing", VALID)
        return (
            f"{'' if standing == VALID else f'certificate {words(standing)}  '}"
            f"nodes {len(here)} of {len(here) + len(gone)}  links {words(self.status.get('links'))}  "
            f"authority {reached}, {age(authority.get('age'))}  {words(authority.get('freshness'))}  "
            f"crl {words(self.status.get('crl_number'))}  policy {words(self.status.get('policy_version'))}"
        )

    def chart(self, width: int, height: int, fine: bool) -> Chart:
        """The picture; C{fine} is whether braille can be shown."""
        return chart(self.name, self.links, width, height, fine)


def take(where: Endpoint) -> Look:
    """Ask the node. @raise GmeshError: if it does not answer."""
    return Look(
        time.time(),
        read_object(where, "/v1/status"),
        read_list(where, "/v1/peers"),
        read_object(where, "/v1/topology"),
    )


def _again(where: Endpoint, last: Look) -> Look:
    """Ask once more; a node that does not answer is part of the picture."""
    try:
        return take(where)
    except (Unreachable, HttpRefused) as error:
        return Look(last.at, last.status, last.peers, last.topology, error.detail)


@node_command
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=NumberRange(0.2, 3600),
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once and end.")
def watch(interval: float, once: bool, where: Endpoint, as_json: bool) -> None:
    """
    Watch the mesh as this node sees it: a picture of its links, the neighbours, and how fresh all is.

    It fills the terminal until ^C; in a pipe each look is printed below the last.
    """
    look = take(where)
    if not as_json and not once and _fills_terminal():
        return _live(where, look, interval)
    while True:
        if as_json:
            print(json.dumps(_as_json(look)), flush=True)
        else:
            print("\n".join(_plain(look)), flush=True)
        if once:
            return
        time.sleep(interval)
        look = _again(where, look)


def _as_json(look: Look) -> dict[str, Any]:
    report = {"at": round(look.at, 3), "status": look.status, "peers": look.peers, **look.topology}
    return report | ({"trouble": look.trouble} if look.trouble else {})


def _plain(look: Look) -> list[str]:
    size = shutil.get_terminal_size((80, 24))
    lines = [f"{moment(look.at)}  {look.name}  {look.summary()}"]
    if look.trouble:
        return [*lines, f"no answer since: {printable(look.trouble)}", ""]
    height = min(MAX_PICTURE, max(MIN_PICTURE, len(look.links) * 2))
    drawn = look.chart(min(size.columns, 120), height, glyphs() is UNICODE)
    lines += ["", *drawn.lines, ""]
    lines += _others(look, drawn)
    lines += [f"link to {name} at {address}, {rtt}" for name, address, rtt in _neighbours(look)]
    return [*lines, ""]


def _others(look: Look, drawn: Chart) -> list[str]:
    missing = {"not drawn": drawn.left_out, "not reachable": look.names(False)}
    return [f"{what}: {', '.join(names)}" for what, names in missing.items() if names]


def _neighbours(look: Look) -> list[tuple[str, str, str]]:
    return [
        (words(peer.get("name")), words(peer.get("address")), milliseconds(peer.get("rtt_ms")))
        for peer in look.peers
    ]


def _fills_terminal() -> bool:
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    return not Console().is_dumb_terminal


def _live(where: Endpoint, look: Look, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal is put back then, too
    console = Console(highlight=False)
    fine = glyphs() is UNICODE  # asked here: while Live runs, standard output is not the terminal but rich's
    with Live(_screen(look, console, fine), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(look, console, fine), refresh=True)
            time.sleep(interval)
            look = _again(where, look)


def _screen(look: Look, console: Console, fine: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    near = _neighbours(look)
    below = [f"link to {name} at {address}, {rtt}" for name, address, rtt in near[:MAX_LISTED]]
    if len(near) > MAX_LISTED:
        below.append(f'{MAX_LISTED} of {len(near)} links shown: "gmesh peers" lists all')
    height = max(MIN_PICTURE, min(MAX_PICTURE, console.height - OTHER_ROWS - len(below)))
    drawn = look.chart(console.width, height, fine)
    head = Text(f"{look.name}  ", style="bold").append(moment(look.at), style="dim")
    rows = [head, Text(look.summary(), style="red" if look.trouble else "")]
    if look.trouble:
        rows.append(Text(f"no answer since: {printable(look.trouble)}", style="bold red"))
    rows += [Text(""), *_styled(drawn, look), Text("")]
    rows += [Text(line, style="red") for line in _others(look, drawn)]
    rows += [Text(line) for line in below]
    return Group(*rows, Text("^C ends it", style="dim"))


def _styled(drawn: Chart, look: Look) -> list[Any]:
    from rich.text import Text

    near = {name for name, _, _ in _neighbours(look)}
    rows = [Text(line, style="blue", no_wrap=True) for line in drawn.lines]
    for label in drawn.labels:
        style = "bold reverse" if label.name == look.name else "bold green" if label.name in near else "bold"
        rows[label.row].stylize(style, label.column, label.column + label.length)
    return rows
