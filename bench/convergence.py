# SPDX-License-Identifier: MIT
"""
How soon routes are right again, and what a change costs, in virtual time, beside what was wanted.

C{python -m bench.convergence} prints the report; C{--plot FILE.png} draws the spread with matplotlib where
that is installed, and as text where it is not.  Virtual seconds repeat with the seed whatever else runs;
only the SPF rows are CPU time of this machine.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import topohub
from rich.console import Console
from rich.table import Table

from bench.harness import arguments, cpu_model, versions
from gmesh.mesh.limits import LAN, WAN, Liveliness
from gmesh.routing.limits import MAX_RECORD_LINKS
from gmesh.routing.spf import shortest_paths
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.mesh import MemoryMesh

TICK = 0.010
"""How often routes are looked at: the resolution of the figures."""
SETTLED = 4.0
TOLERANCE = 1.1
"""The records of the simulation that the bounds of a change come from were 13 of 166 bytes smaller."""


@dataclass
class Figure:
    """One line: what was measured, what was wanted or known, and whether it is kept."""

    what: str
    measured: float
    unit: str
    bound: float | None = None
    spread: str = ""

    @property
    def kept(self) -> bool:
        """True if there is no bound or it holds."""
        return self.bound is None or self.measured <= self.bound


def graph_of(name: str, seed: int) -> Any:
    """A topology by the name it has in the report."""
    kind, _, size = name.partition("-")
    number = int(size or 0)
    if kind == "ring":
        return nx.cycle_graph(number)
    if kind == "grid":
        side = round(number**0.5)
        return nx.grid_2d_graph(side, side)
    if kind == "ba":
        return nx.barabasi_albert_graph(number, 3, seed=seed)
    if kind == "rgg":
        degree = 14.1 if number >= 1000 else 10.6
        graph = nx.random_geometric_graph(number, (degree / (3.14159 * number)) ** 0.5, seed=seed)
        return graph.subgraph(max(nx.connected_components(graph), key=len))
    data = json.loads((files(topohub) / "data/topozoo/TataNld.json").read_text())
    return nx.Graph(nx.node_link_graph(data, edges="edges"))


def world(name: str, seed: int, profile: Liveliness = WAN) -> EngineMesh:
    """A converged mesh of that shape; hubs are anchors."""
    graph = graph_of(name, seed)
    order = {node: f"n{index:05}" for index, node in enumerate(sorted(graph, key=str))}
    edges = [(order[one], order[other]) for one, other in graph.edges if one != other]
    degrees = Counter(end for edge in edges for end in edge)
    mesh = EngineMesh(seed, profile=profile)
    mesh.build(edges, lambda node: ("anchor",) if degrees[node] > MAX_RECORD_LINKS else ("relay",))
    mesh.run(1)
    return mesh


def pairs_back(mesh: EngineMesh, edge: tuple[str, str]) -> float:
    """Seconds from the detection of a failed link until no source's path uses it."""
    one, other = edge
    affected = []
    for node in mesh:
        for near, far in ((one, other), (other, one)):
            path = node.path(far)
            if path is not None and near in path and path[path.index(near) + 1] == far:
                affected.append((node, near, far))
    mesh.cut(one, other)
    start = mesh.now()
    while affected:
        affected = [
            (node, near, far)
            for node, near, far in affected
            if (path := node.path(far)) is not None and near in path and path[path.index(near) + 1] == far
        ]
        if not affected:
            break
        mesh.run(TICK)
        assert mesh.now() - start < 60, "routes never follow"
    return mesh.now() - start


def link_failures(name: str, trials: int, bound: float) -> Figure:
    """The worst of several link failures in one mesh, each from quiet."""
    mesh = world(name, seed=1)
    random = Random(2)
    took = []
    for _ in range(trials):
        edge = random.choice(sorted(mesh.edges))
        took.append(pairs_back(mesh, edge))
        mesh.connect(*edge)
        mesh.run(SETTLED)
    return Figure(
        f"link failure, {name}: all pairs back, worst of {trials}",
        max(took),
        "s",
        bound,
        f"median {statistics.median(took):.2f}",
    )


def silent_failure(profile: Liveliness, name: str, bound: float) -> Figure:
    """A link of a ring of six whole nodes goes dead without a word: until routes go the other way."""
    mesh = MemoryMesh(seed=1, profile=profile)
    names = [f"n{index}" for index in range(6)]
    for index, each in enumerate(names):
        mesh.add(each, "relay", peers=[names[index - 1]] if index else [])
    mesh.redial("n0", "n5")
    mesh.start()
    mesh.run_until(lambda: all(node.reaches(*names) for node in mesh))
    mesh.run_until(lambda: mesh["n0"].path("n2") == ["n0", "n1", "n2"])
    mesh.run(20)
    mesh.silence("n1", "n2")
    took = mesh.run_until(lambda: mesh["n0"].path("n2") == ["n0", "n5", "n4", "n3", "n2"])
    mesh.heal()
    mesh.stop()
    return Figure(f"silent failure, {name} profile", took, "s", bound)


def revocation(name: str, bound: float) -> tuple[Figure, list[float]]:
    """From the first node that knows until each node has applied it; and all those times, ascending."""
    mesh = world(name, seed=3)
    applied: list[float] = []
    start = mesh.now()
    for node in mesh:
        node.trust.observers.append(
            lambda kind: applied.append(mesh.now() - start) if kind == "crl" else None
        )
    names = sorted(mesh.nodes)
    mesh.revoke(names[-1], names[len(names) // 2])
    mesh.run(SETTLED)
    applied.sort()
    assert len(applied) >= len(names) - 1, "some node never heard of it"
    share = applied[round(0.99 * (len(applied) - 1))]
    middle = applied[len(applied) // 2]
    figure = Figure(f"revocation, {name}: p99 of all nodes", share, "s", bound, f"median {middle:.2f}")
    return figure, applied


def change(name: str, what: str, trials: int, known: tuple[int, int]) -> list[Figure]:
    """Frames and kB that one failure costs the whole mesh, median; C{known}: of a simulation."""
    mesh = world(name, seed=4)
    random = Random(5)
    frames, sizes = [], []
    for _ in range(trials):
        mesh.frames.clear()
        mesh.bytes = 0
        if what == "link":
            one, other = random.choice(sorted(mesh.edges))
            mesh.cut(one, other)
        else:
            one = random.choice(sorted(mesh.nodes))
            neighbours = mesh.kill(one)
        mesh.run(SETTLED)
        frames.append(sum(mesh.frames.values()))
        sizes.append(mesh.bytes / 1000)
        if what == "link":
            mesh.connect(one, other)
        else:
            mesh.restart(one, neighbours)
        mesh.run(2 * SETTLED)
    head = f"{what} failure, {name}"
    return [
        Figure(f"{head}: control frames", statistics.median(frames), "", known[0] * TOLERANCE),
        Figure(f"{head}: kilobytes", statistics.median(sizes), "kB", known[1] * TOLERANCE),
    ]


def spf(nodes: int, rounds: int) -> Figure:
    """One shortest-path tree over three links a node, CPU milliseconds."""
    graph = nx.gnm_random_graph(nodes, 3 * nodes, seed=1)
    random = Random(1)
    rows: dict[bytes, dict[bytes, int]] = {node.to_bytes(8, "big"): {} for node in graph}
    for one, other in graph.edges:
        cost = random.randint(96, 246)
        rows[one.to_bytes(8, "big")][other.to_bytes(8, "big")] = cost
        rows[other.to_bytes(8, "big")][one.to_bytes(8, "big")] = cost
    took = []
    for _ in range(rounds):
        begun = time.process_time()
        shortest_paths(rows, bytes(8), rows.keys())
        took.append((time.process_time() - begun) * 1000)
    return Figure(f"SPF, {nodes:,} nodes", statistics.median(took), "ms", None, f"best {min(took):.1f}")


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
)
"""Topology, what fails, and (frames, kB) of a simulation of plain link state."""


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
    for name, what, known in CHANGES[:4] if options.quick else CHANGES:
        figures.extend(change(name, what, trials, known))
    figures += [spf(1_000, 20), spf(10_000, 5)]
    if options.plot is not None and not draw(options.plot, spread):
        Console(stderr=True).print("matplotlib is not installed: no picture, only text")
    show(figures, spread, options.json)


if __name__ == "__main__":
    main()
