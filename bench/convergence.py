# SPDX-License-Identifier: MIT
"""
How soon routes are right again, and what a change costs, in virtual time, beside what was wanted.

C{python -m bench.convergence} prints the report, with the spread of a revocation as text; C{--plot FILE.svg}
draws that.  Virtual seconds repeat with the seed whatever else runs; only the SPF rows are CPU time of this
machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.convergence_losses import losses
from bench.convergence_mesh import Figure, change, cold_start, link_failures, revocation, silent_failure, spf
from bench.convergence_report import Figures, draw, show
from bench.harness import arguments, progress
from gmesh.mesh.limits import LAN, WAN

CHANGES: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("ring-50", "link", (98, 15)),
    ("grid-49", "link", (236, 40)),
    ("tatanld", "link", (436, 73)),
    ("tatanld", "node", (639, 99)),
    ("grid-196", "link", (1062, 182)),
    ("grid-196", "node", (2104, 360)),
    ("ba-200", "link", (1962, 527)),
    ("rgg-200", "node", (15813, 3740)),
    ("ring-200", "link", (398, 60)),
    ("gabriel-500", "node", (5102, 858)),
    ("caida-594", "link", (4130, 7687)),
    ("rgg-1000", "node", (157143, 43373)),
)
"""Topology, what fails, and (frames, kB) of a simulation of plain link state."""


LARGE = {"gabriel-500", "caida-594", "rgg-1000"}
"""Where a failure takes long to simulate; two of it were looked at in the simulation, too."""

COLD: tuple[tuple[str, float, float], ...] = (("tatanld", 2.31, 7.0), ("ba-200", 1.41, 60.2))
"""Topology, seconds and megabytes of a cold start in the same simulation."""

LOSSES: tuple[tuple[str, str, tuple[float, float]], ...] = (
    ("ring-50", "link", (0.60, 140)),
    ("grid-49", "link", (0.0, 0)),
    ("tatanld", "link", (0.48, 0)),
    ("tatanld", "node", (0.54, 86)),
    ("ba-200", "link", (0.0, 0)),
)
"""Topology, what fails, and (seconds, pair-seconds) of a simulation with splices and no time to detect."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the spread into this SVG")
    options = parser.parse_args()
    quick = options.quick
    trials = options.rounds or (2 if quick else 5)
    few = min(trials, 2)
    figures = Figures()
    spread: dict[str, list[float]] = {}

    def spreads(name: str) -> Figure:
        figure, spread[name] = revocation(name, 1.0)
        return figure

    steps: list[tuple[str, Callable[[], Figure | list[Figure]]]] = [
        ("link failures, ba-200", lambda: link_failures("ba-200", trials, 0.5)),
        ("link failures, rgg-200", lambda: link_failures("rgg-200", trials, 0.5)),
        ("silent failure, WAN", lambda: silent_failure(WAN, "WAN", 16)),
        ("silent failure, LAN", lambda: silent_failure(LAN, "LAN", 4)),
    ]
    if not quick:
        steps.append(("link failures, ba-1000", lambda: link_failures("ba-1000", trials, 1.0)))
    for name in ("ba-200",) if quick else ("ba-1000", "rgg-1000"):
        steps.append((f"revocation, {name}", partial(spreads, name)))
    for name, what, lost in LOSSES[:2] if quick else LOSSES:
        steps.append((f"losses, {what}, {name}", partial(losses, name, what, trials, lost)))
    for name, seconds, megabytes in COLD[:1] if quick else COLD:
        steps.append((f"cold start, {name}", partial(cold_start, name, seconds, megabytes)))
    for name, what, known in CHANGES[:4] if quick else CHANGES:
        times = few if name in LARGE else trials
        steps.append((f"change, {what}, {name}", partial(change, name, what, times, known)))
    for nodes, rounds in ((1_000, 20), (10_000, 5)):
        steps.append((f"shortest paths, {nodes:,} nodes", partial(spf, nodes, rounds)))
    for number, (title, measure) in enumerate(steps, start=1):
        progress(f"{title}, {number} of {len(steps)}")
        found = measure()
        figures.add(*(found if isinstance(found, list) else [found]))
    if options.plot is not None:
        draw(options.plot, spread)
    show(figures, spread, options.json)


if __name__ == "__main__":
    main()
