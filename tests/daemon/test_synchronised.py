# SPDX-License-Identifier: MIT
"""Whether the clock is synchronised, by the kernel's word or timesyncd's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.daemon.synchronised import _adjtimex, clock_synchronised


@pytest.mark.parametrize(
    ("state", "marked", "known"),
    [
        (0, False, True),
        (4, False, True),
        (5, False, False),
        (-1, False, False),
        (-1, True, True),
        (5, True, True),
    ],
)
def test_d2_a_clock_is_right_if_somebody_says_so(
    tmp_path: Path, state: int, marked: bool, known: bool
) -> None:
    if marked:
        (tmp_path / "synchronized").touch()
    assert clock_synchronised(lambda: state, tmp_path / "synchronized") is known


def test_the_kernel_can_be_asked() -> None:
    """An answer, or a refusal: never a crash, and the clock is not touched."""
    assert -1 <= _adjtimex() <= 5
