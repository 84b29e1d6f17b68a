# SPDX-License-Identifier: MIT
"""What a failure costs those who talk: frames lost on the paths that it breaks."""

from __future__ import annotations

import statistics
from itertools import pairwise
from random import Random

from bench.convergence_mesh import SETTLED, TOLERANCE, Figure, world
from gmesh.testing.engine_mesh import EngineMesh

__all__ = ["losses"]

PROBED = 20
"""Pairs that talk while something fails: as many as one relay finds detours for at once."""
PROBE_EVERY = 0.020
PROBE_FOR = 1.5


def losses(name: str, what: str, trials: int, known: tuple[float, float]) -> list[Figure]:
    """
    Frames on paths that a failure breaks: the last that is lost, and seconds without, times all such pairs.

    @param known: the same of a simulation, with splices: its worst second, its median of pair-seconds.
    """
    mesh = world(name, seed=7)
    random = Random(8)
    last, pair_seconds = [], []
    for _ in range(trials):
        edge = random.choice(sorted(mesh.edges))
        broken = _over_link(mesh, edge) if what == "link" else _over_node(mesh, edge[0])
        probed = random.sample(broken, min(len(broken), PROBED))
        neighbours = []
        if what == "link":
            mesh.cut(*edge)
        else:
            neighbours = mesh.kill(edge[0])
        sent = _probe(mesh, probed)
        possible = {pair for pair in probed if mesh[pair[0]].path(pair[1]) is not None}
        arrived = {int(payload) for node in mesh for _, _, payload in node.delivered}
        lost = [
            when for number, (when, pair) in enumerate(sent) if number not in arrived and pair in possible
        ]
        last.append(max(lost, default=-PROBE_EVERY) + PROBE_EVERY)
        pair_seconds.append(len(lost) * PROBE_EVERY * len(broken) / max(1, len(probed)))
        for node in mesh:
            node.delivered.clear()
        if what == "link":
            mesh.connect(*edge)
        else:
            mesh.restart(edge[0], neighbours)
        mesh.run(8 * SETTLED)
    head = f"{what} failure, {name}"
    lasts = f"median {statistics.median(last):.2f} s"
    sums = f"worst {max(pair_seconds):.0f}; of a simulation {known[1]:g}"
    return [
        Figure(
            f"{head}: no frame lost after, worst of {trials}", max(last), "s", known[0] * TOLERANCE, lasts
        ),
        Figure(f"{head}: pair-seconds lost, median", statistics.median(pair_seconds), "", None, sums),
    ]


def _over_link(mesh: EngineMesh, edge: tuple[str, str]) -> list[tuple[str, str]]:
    """The pairs whose path goes over a link."""
    both = {edge, edge[::-1]}
    return [
        (node.name, other)
        for node in mesh
        for other in mesh.nodes
        if both.intersection(pairwise(node.path(other) or ()))
    ]


def _over_node(mesh: EngineMesh, name: str) -> list[tuple[str, str]]:
    """The pairs whose path goes through a node."""
    return [
        (node.name, other) for node in mesh for other in mesh.nodes if name in (node.path(other) or ())[1:-1]
    ]


def _probe(mesh: EngineMesh, pairs: list[tuple[str, str]]) -> list[tuple[float, tuple[str, str]]]:
    """A frame for each pair, again and again. @return: when each set out since the failure, and for whom."""
    start, sent = mesh.now(), []
    while mesh.now() - start < PROBE_FOR:
        for source, target in pairs:
            mesh[source].send(target, b"%d" % len(sent))
            sent.append((mesh.now() - start, (source, target)))
        mesh.run(PROBE_EVERY)
    mesh.run(SETTLED)
    return sent
