# SPDX-License-Identifier: MIT
"""Straight lines and words on a grid of characters: braille dots where they can be shown, else full stops."""

from __future__ import annotations

__all__ = ["Canvas"]

_BRAILLE = 0x2800
#: The bit of each dot of a braille character, by row and column.
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
        """Whether no word stands there, and the place is on the grid."""
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
