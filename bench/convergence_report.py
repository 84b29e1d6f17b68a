# SPDX-License-Identifier: MIT
"""The report of C{bench.convergence}: a table, JSON, and the spread of a revocation as text or picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.convergence_mesh import Figure
from bench.harness import cpu_model, versions

__all__ = ["Figures", "draw", "show"]

WIDTH, HEIGHT = 640, 360
COLOURS = ("#1b6ca8", "#c1440e", "#3a7d44")


class Figures(list[Figure]):
    """What was measured so far; each is also told on standard error, for the whole takes minutes."""

    def add(self, *figures: Figure) -> None:
        """Measured."""
        for figure in figures:
            self.append(figure)
            print(f"{figure.what}: {figure.measured:.2f} {figure.unit}", file=sys.stderr, flush=True)


def show(figures: Sequence[Figure], spread: dict[str, list[float]], as_json: bool) -> None:
    """The report."""
    if as_json:
        rows = [asdict(figure) | {"kept": figure.kept} for figure in figures]
        print(
            json.dumps(
                {
                    "bench": "convergence",
                    "versions": versions(),
                    "cpu": cpu_model(),
                    "rows": rows,
                    "spread": spread,
                }
            )
        )
        return
    table = Table(title="bench/convergence", title_justify="left")
    for heading in ("what", "measured", "bound", "", "spread"):
        table.add_column(heading, justify="right" if heading in ("measured", "bound") else "left")
    for figure in figures:
        form = ",.0f" if figure.unit in ("", "kB") else ",.2f"
        table.add_row(
            figure.what,
            f"{figure.measured:{form}} {figure.unit}",
            "" if figure.bound is None else f"<= {figure.bound:,g}",
            "" if figure.bound is None else ("kept" if figure.kept else "MISSED"),
            figure.spread,
        )
    console = Console()
    console.print(table)
    for name, times in spread.items():
        console.print(text_plot(name, times))


def text_plot(name: str, times: Sequence[float], width: int = 60) -> str:
    """How many nodes knew after how long, in characters."""
    lines = [f"revocation, {name}: share of the nodes that have applied it"]
    end = times[-1]
    for step in range(11):
        at = end * step / 10
        share = sum(each <= at for each in times) / len(times)
        lines.append(f"{at:6.2f} s |{'#' * round(share * width):<{width}}| {share:4.0%}")
    return "\n".join(lines)


def draw(path: Path, spread: dict[str, list[float]]) -> None:
    """The same as an SVG picture: a step for each node, a line for each mesh."""
    end = max(times[-1] for times in spread.values())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 90} {HEIGHT + 60}">',
        f'<rect x="60" y="10" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
    ]
    for tick in range(5):
        x, y = 60 + WIDTH * tick / 4, 10 + HEIGHT * (4 - tick) / 4
        lines.append(f'<text x="{x}" y="{HEIGHT + 28}" text-anchor="middle">{end * tick / 4:.2f} s</text>')
        lines.append(f'<text x="54" y="{y + 5}" text-anchor="end">{tick * 25} %</text>')
    for number, (name, times) in enumerate(sorted(spread.items())):
        colour = COLOURS[number % len(COLOURS)]
        steps = [f"M60 {10 + HEIGHT}"]
        for index, when in enumerate(times, 1):
            steps.append(f"H{60 + WIDTH * when / end:.1f}V{10 + HEIGHT * (1 - index / len(times)):.1f}")
        lines.append(f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{WIDTH - 60}" y="{HEIGHT - 20 * number}" fill="{colour}">{name}</text>')
    title = "nodes that have applied a revocation, since the first knew"
    lines.append(f'<text x="{60 + WIDTH / 2}" y="{HEIGHT + 52}" text-anchor="middle">{title}</text></svg>')
    path.write_text("\n".join(lines) + "\n")
