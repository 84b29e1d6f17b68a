# SPDX-License-Identifier: MIT
"""
A mesh as a picture: this node, its neighbours around it, theirs around them, and a line for each link.

The place of a node follows from the shortest path to it and from its name, so that a picture
drawn again and again stands still while the mesh does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

__all__ = ["Chart", "Label", "chart"]

#: The most nodes in one picture: more would hide each other.
MAX_PICTURED = 60
MAX_NAME = 16
#: The widest sector, in radians, over which the neighbours of a node that is not the middle spread.
MAX_SECTOR = math.pi * 2 / 3
#: By how much each circle is turned where links close rings, so that none runs behind a name.
TWIST = 0.5


@dataclass(frozen=True, slots=True)
class Label:
    """Where the name of a node stands: C{length} characters from a column of a row."""

    name: str
    row: int
    column: int
    length: int


@dataclass(frozen=True, slots=True)
class Chart:
    """
    A picture.

    @ivar left_out: nodes that can be reached and found no place in it.
    """

    lines: list[str]
    labels: list[Label]
    left_out: list[str]


def chart(middle: str, links: Iterable[Collection[str]], width: int, height: int, fine: bool) -> Chart:
    """
    Draw whatever hangs together with C{middle}.

    @param links: pairs of names.
    @param fine: with braille dots.
    """
    neighbours: dict[str, set[str]] = {middle: set()}
    for one, other in (tuple(pair) for pair in links if len(set(pair)) == 2):
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    children = _tree(middle, neighbours)
    reached = list(children)
    shown = reached[:MAX_PICTURED]
    rings = sum(len(neighbours[name]) for name in children) // 2 >= len(children)
    places = _scale(_places(middle, children, shown, TWIST if rings else 0.0), width, height)
    canvas = Canvas(width, height, fine)
    for name in shown:
        for other in sorted(neighbours[name]):
            if name < other and other in places:
                canvas.line(*places[name], *places[other])
    labels = [label for name in shown if (label := _label(canvas, name, *places[name])) is not None]
    written = {label.name for label in labels}
    lines = canvas.lines()
    used = [row for row, line in enumerate(lines) if line]
    return Chart(
        lines[used[0] : used[-1] + 1],
        [replace(label, row=label.row - used[0]) for label in labels],
        [name for name in reached if name not in written],
    )


def _tree(middle: str, neighbours: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The nodes by distance, each with those that hang on it first."""
    children: dict[str, list[str]] = {middle: []}
    waiting = deque([middle])
    while waiting:
        name = waiting.popleft()
        for other in sorted(neighbours[name]):
            if other not in children:
                children[other] = []
                children[name].append(other)
                waiting.append(other)
    return children


def _places(
    middle: str, children: Mapping[str, list[str]], shown: Collection[str], twist: float
) -> dict[str, tuple[float, float]]:
    """Each node on the circle of its distance, in a sector as wide as what hangs on it is large."""
    kept = set(shown)
    leaves: dict[str, int] = {}
    for name in reversed(list(children)):
        leaves[name] = sum(leaves[child] for child in children[name] if child in kept) or 1
    places: dict[str, tuple[float, float]] = {}

    def place(name: str, distance: int, angle: float, sector: float) -> None:
        """C{angle} is the middle of the sector, but the middle of all puts its first neighbour there."""
        places[name] = (distance * math.cos(angle), distance * math.sin(angle))
        below = [child for child in children[name] if child in kept]
        share = sector / max(1, sum(leaves[child] for child in below))
        start = angle - (sector if distance else share * sum(leaves[child] for child in below[:1])) / 2
        for child in below:
            part = share * leaves[child]
            place(child, distance + 1, start + part / 2 + twist, min(part, MAX_SECTOR))
            start += part

    place(middle, 0, 0.0, 2 * math.pi)
    return places


def _scale(
    places: Mapping[str, tuple[float, float]], width: int, height: int
) -> dict[str, tuple[float, float]]:
    """Fill the grid, leaving room for half a name at either side."""
    margin = min(MAX_NAME / 2 + 1, width / 3)
    across = _fit([x for x, _ in places.values()], margin, width - margin)
    down = _fit([y for _, y in places.values()], 0, height - 1)
    return {name: (x, int(y) + 0.5) for name, x, y in zip(places, across, down, strict=True)}


def _fit(values: list[float], low: float, high: float) -> list[float]:
    least, most = min(values), max(values)
    if most - least < 1e-6:
        return [(low + high) / 2] * len(values)
    return [low + (value - least) / (most - least) * (high - low) for value in values]


def _label(canvas: Canvas, name: str, x: float, y: float) -> Label | None:
    """Write a name around its place, or a row above or below where others stand; None where all is full."""
    text = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 2]}.."
    length = len(text) + 2
    column = min(max(0, round(x - length / 2)), max(0, canvas.width - length))
    for row in (int(y), int(y) + 1, int(y) - 1, int(y) + 2, int(y) - 2):
        if canvas.free(column, row, length):
            canvas.write(column, row, f" {text} ")
            return Label(name, row, column + 1, len(text))
    return None


#: The Unicode block Braille Patterns, and the bit of each dot of one by row and column (Unicode, 21.1).
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Canvas:
    """
    A grid of C{width} times C{height} characters.

    Points are in characters, fractions included: C{(0.5, 0.5)} is the middle of the first one.

    @param fine: draw with braille dots, eight to a character.
    """

    def __init__(self, width: int, height: int, fine: bool) -> None:
        self.width, self.height = width, height
        self._across, self._down = (2, 4) if fine else (1, 1)
        self._fine = fine
        self._dots: dict[tuple[int, int], int] = {}
        self._words: dict[tuple[int, int], str] = {}

    def line(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Draw from one point to another."""
        x, to_x = x * self._across, to_x * self._across
        y, to_y = y * self._down, to_y * self._down
        steps = max(1, round(max(abs(to_x - x), abs(to_y - y))))
        for step in range(steps + 1):
            self._dot(int(x + (to_x - x) * step / steps), int(y + (to_y - y) * step / steps))

    def _dot(self, x: int, y: int) -> None:
        column, row = x // self._across, y // self._down
        bit = _DOTS[y % 4][x % 2] if self._fine else 1
        self._dots[row, column] = self._dots.get((row, column), 0) | bit

    def free(self, column: int, row: int, length: int) -> bool:
        """Whether the place is on the grid and holds no text."""
        inside = 0 <= row < self.height and column >= 0 and column + length <= self.width
        return inside and not any((row, column + index) in self._words for index in range(length))

    def write(self, column: int, row: int, text: str) -> None:
        """Put a word over what is drawn."""
        for index, character in enumerate(text):
            self._words[row, column + index] = character

    def lines(self) -> list[str]:
        """The picture, a string for each row."""
        return [
            "".join(self._at(row, column) for column in range(self.width)).rstrip()
            for row in range(self.height)
        ]

    def _at(self, row: int, column: int) -> str:
        word = self._words.get((row, column))
        if word is not None:
            return word
        dots = self._dots.get((row, column))
        if dots is None:
            return " "
        return chr(_BRAILLE + dots) if self._fine else "."
