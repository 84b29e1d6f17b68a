# SPDX-License-Identifier: MIT
"""A mesh as a text picture: the nodes of a path in a row, what joins them, and the nodes beside it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["ASCII", "UNICODE", "Glyphs", "Spot", "draw", "glyphs"]

GAP = 7


@dataclass(frozen=True, slots=True)
class Glyphs:
    """
    The characters of a picture.

    @param corners: of a box: top left, top right, bottom left, bottom right.
    @param used: a link the message took, C{GAP} wide; C{idle}: another link; C{cut}: a link that is gone.
    """

    corners: tuple[str, str, str, str]
    across: str
    down: str
    used: str
    idle: str
    cut: str
    arrow: str


UNICODE = Glyphs(("╭", "╮", "╰", "╯"), "─", "│", " ━━━━▶ ", " ───── ", " ──✗── ", "→")
ASCII = Glyphs(("+", "+", "+", "+"), "-", "|", " ====> ", " ----- ", " --X-- ", "->")


def glyphs() -> Glyphs:
    """The characters that standard output can show."""
    try:
        "╭━▶✗→".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


@dataclass(frozen=True, slots=True)
class Spot:
    """A node in the picture: its name, and the lines below the name."""

    name: str
    notes: tuple[str, ...] = ()


def draw(
    row: Sequence[Spot],
    links: Collection[frozenset[str]],
    path: Sequence[str] = (),
    cut: Collection[frozenset[str]] = (),
    style: Glyphs = UNICODE,
) -> list[str]:
    """
    The lines of a picture.

    @param row: the nodes, left to right.
    @param links: pairs of names; one between neighbours of the row is drawn, the others are listed below.
    @param path: the names a message passed, in order.
    @param cut: links that are gone.
    """
    hops = {frozenset(pair) for pair in itertools.pairwise(path)}
    height = 1 + max((len(spot.notes) for spot in row), default=0)
    boxes = [_box(spot, height, style) for spot in row]
    pairs = [frozenset((left.name, right.name)) for left, right in itertools.pairwise(row)]
    lines = []
    for index in range(height + 2):
        line = boxes[0][index] if boxes else ""
        for pair, box in zip(pairs, boxes[1:], strict=True):
            line += (_join(pair, links, hops, cut, style) if index == 1 else " " * GAP) + box[index]
        lines.append(line)
    others = sorted(" ".join(sorted(pair)) for pair in set(links) - set(pairs))
    lines += [pair.replace(" ", style.idle) for pair in others]
    return lines


def _join(
    pair: frozenset[str],
    links: Collection[frozenset[str]],
    hops: Collection[frozenset[str]],
    cut: Collection[frozenset[str]],
    style: Glyphs,
) -> str:
    if pair in cut:
        return style.cut
    if pair in hops:
        return style.used
    return style.idle if pair in links else " " * GAP


def _box(spot: Spot, height: int, style: Glyphs) -> list[str]:
    texts = (spot.name, *spot.notes)
    width = 2 + max(len(text) for text in texts)
    top_left, top_right, bottom_left, bottom_right = style.corners
    inside = [text.center(width) for text in (*texts, *[""] * (height - len(texts)))]
    return [
        top_left + style.across * width + top_right,
        *(style.down + text + style.down for text in inside),
        bottom_left + style.across * width + bottom_right,
    ]
