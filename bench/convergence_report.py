# SPDX-License-Identifier: MIT
"""The report of C{bench.convergence}: a table, JSON, and the spread of a revocation as text or picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.convergence_mesh import Figure
from bench.harness import cpu_model, versions

__all__ = ["draw", "show"]


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


def draw(path: Path, spread: dict[str, list[float]]) -> bool:
    """The same as a picture. @return: False if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return False
    for name, times in spread.items():
        pyplot.step(times, [(index + 1) / len(times) for index in range(len(times))], label=name)
    pyplot.xlabel("virtual seconds since the first node knew")
    pyplot.ylabel("share of the nodes")
    pyplot.legend()
    pyplot.savefig(path)
    return True
