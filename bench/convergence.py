# SPDX-License-Identifier: MIT
"""
How soon routes are right again, and what a change costs, in virtual time, beside what was wanted.

C{python -m bench.convergence} prints the report; C{--plot FILE.png} draws the spread with matplotlib where
that is installed, and as text where it is not.  Virtual seconds repeat with the seed whatever else runs;
only the SPF rows are CPU time of this machine.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.convergence_losses import losses
from bench.convergence_mesh import change, cold_start, link_failures, revocation, silent_failure, spf
from bench.convergence_report import draw, show
from bench.harness import arguments
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
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the spread into this PNG")
    options = parser.parse_args()
    trials = options.rounds or (2 if options.quick else 5)
    figures = [
        link_failures("ba-200", trials, 0.5),
        link_failures("rgg-200", trials, 0.5),
        silent_failure(WAN, "WAN", 16),
        silent_failure(LAN, "LAN", 4),
    ]
    spread = {}
    large = ("ba-200",) if options.quick else ("ba-1000", "rgg-1000")
    if not options.quick:
        figures.append(link_failures("ba-1000", trials, 1.0))
    for name in large:
        figure, spread[name] = revocation(name, 1.0)
        figures.append(figure)
    for name, what, lost in LOSSES[:2] if options.quick else LOSSES:
        figures.extend(losses(name, what, trials, lost))
    figures.extend(cold_start("tatanld", 2.31, 7.0))
    if not options.quick:
        figures.extend(cold_start("ba-200", 1.41, 60.2))
    for name, what, known in CHANGES[:4] if options.quick else CHANGES:
        figures.extend(change(name, what, trials, known))
    figures += [spf(1_000, 20), spf(10_000, 5)]
    if options.plot is not None and not draw(options.plot, spread):
        Console(stderr=True).print("matplotlib is not installed: no picture, only text")
    show(figures, spread, options.json)


if __name__ == "__main__":
    main()
