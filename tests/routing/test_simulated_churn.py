# SPDX-License-Identifier: MIT
"""Small meshes driven at random, by Hypothesis and by thousands of events: right in quiet, always bounded."""

from __future__ import annotations

import gc
from random import Random

import networkx as nx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, data, floats, integers, sampled_from
from routing.oracle import Visits, bounded, check_databases, check_numbers, check_paths, named

from gmesh.routing.limits import MAX_RECORD, MAX_RECORD_LINKS
from gmesh.testing.engine_mesh import EngineMesh

SETTLE = 14.0
"""Seconds after which the longest spacing between records of one node is over."""


class Fleet(RuleBasedStateMachine):
    """Five nodes; links fall and rise, nodes die and return, with or without memory; frames travel."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh = EngineMesh(seed=1)
        self.dead: dict[str, list[str]] = {}
        self.numbers: dict[tuple[str, bytes, int], int] = {}

    @initialize(converged=booleans(), client=integers(0, 4))
    def begin(self, converged: bool, client: int) -> None:
        edges = named(nx.cycle_graph(5))
        self.mesh.build(edges, lambda name: ("client",) if name == f"n000{client}" else ("relay",), converged)
        self.visits = Visits(self.mesh)
        self.names = sorted(self.mesh.nodes)

    @rule(draw=data())
    @precondition(lambda self: self.mesh.edges)
    def cut(self, draw: data) -> None:
        self.mesh.cut(*draw.draw(sampled_from(sorted(self.mesh.edges))))

    @rule(draw=data())
    @precondition(lambda self: self.mesh.edges)
    def silence(self, draw: data) -> None:
        self.mesh.silence(*draw.draw(sampled_from(sorted(self.mesh.edges))), both=draw.draw(booleans()))

    @rule(one=integers(0, 4), other=integers(0, 4))
    def connect(self, one: int, other: int) -> None:
        if one != other and self.names[other] not in self.mesh[self.names[one]].links:
            self.mesh.connect(self.names[one], self.names[other])

    @rule(one=integers(0, 4))
    def kill(self, one: int) -> None:
        name = self.names[one]
        if self.mesh[name].running:
            self.dead[name] = self.mesh.kill(name)

    @rule(draw=data(), keep=booleans(), skew=sampled_from([0.0, -540.0, 540.0]))
    @precondition(lambda self: self.dead)
    def restart(self, draw: data, keep: bool, skew: float) -> None:
        name = draw.draw(sampled_from(sorted(self.dead)))
        self.mesh[name].skew = skew
        if not keep:
            self.numbers = {key: value for key, value in self.numbers.items() if key[0] != name}
        self.mesh.restart(name, self.dead.pop(name), keep)

    @rule(one=integers(0, 4), other=integers(0, 4))
    def send(self, one: int, other: int) -> None:
        if self.mesh[self.names[one]].running:
            self.mesh[self.names[one]].send(self.names[other])

    @rule(seconds=floats(0.001, 1.0))
    def wait(self, seconds: float) -> None:
        self.mesh.run(seconds)

    @rule()
    def quiet(self) -> None:
        self.mesh.run(SETTLE + self.mesh.profile.dead_after)
        check_databases(self.mesh)
        check_paths(self.mesh)

    @invariant()
    def numbers_rise(self) -> None:
        check_numbers(self.mesh, self.numbers)

    def teardown(self) -> None:
        if self.mesh.nodes:
            self.quiet()
            self.mesh.stop()


class TestFleet(Fleet.TestCase):  # type: ignore[misc,name-defined]  # made by Hypothesis
    settings = settings(
        max_examples=20,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )


def churn(events: int, nodes: int, seed: int) -> None:
    """Links and nodes fall and rise; every bound is looked at on the way and at the end."""
    random = Random(seed)
    mesh = EngineMesh(seed)
    mesh.build(named(nx.random_regular_graph(3, nodes, seed=seed)))
    visits = Visits(mesh)
    edges = sorted(mesh.edges)
    names = sorted(mesh.nodes)
    timers: list[int] = []
    for event in range(events):
        if random.random() < 0.9:
            edge = random.choice(edges)
            if edge in mesh.edges:
                mesh.cut(*edge)
            else:
                mesh.connect(*edge)
        else:
            name = random.choice(names)
            mesh.restart(name, mesh.kill(name), keep=random.random() < 0.7)
        mesh[random.choice(names)].send(random.choice(names), b"x")
        mesh.run(random.choice((0.01, 0.1, 0.4)))
        visits.seen.clear()
        if event % 200 == 0:
            timers.append(len(mesh.clock.getDelayedCalls()))
            for node in mesh:
                bounded(node, nodes)
                node.delivered.clear()
                node.undelivered.clear()
    for edge in edges:
        mesh.connect(*edge)
    mesh.run(80)
    check_databases(mesh)
    check_paths(mesh)
    assert max(timers) < 40 * nodes, max(timers)
    mesh.stop()
    gc.collect()


def test_two_thousand_churn_events_stay_bounded() -> None:
    """Memory, timers and tables at their limits; then quiet, and all is right."""
    churn(2_000, nodes=12, seed=11)


@pytest.mark.soak
def test_field_t17_ten_thousand_churn_events_stay_bounded() -> None:
    """The same, five times as long and with more nodes."""
    churn(10_000, nodes=20, seed=12)


def flap(size: int) -> None:
    """One of so many clients of an anchor flaps; everybody hears of it once."""
    mesh = EngineMesh(seed=8, delays=(0.005, 0.006))
    clients = [f"c{index:04}" for index in range(size)]
    mesh.build(
        [("anchor", name) for name in clients],
        lambda name: ("anchor",) if name == "anchor" else ("client",),
    )
    anchor = mesh["anchor"]
    assert len(anchor.engine.store.fragments(anchor.handle)) == -(-size // MAX_RECORD_LINKS)
    before = {key: entry.record.sequence for key, entry in mesh["c0001"].engine.store.entries()}
    mesh.bytes = 0
    mesh.cut("anchor", "c0050")
    mesh.run(0.5)
    mesh.connect("anchor", "c0050")
    mesh.run(4)
    after = {key: entry.record.sequence for key, entry in mesh["c0001"].engine.store.entries()}
    changed = {key for key in after if after[key] != before.get(key)}
    assert {handle for handle, _ in changed} == {anchor.handle, mesh["c0050"].handle}
    assert len(changed) == 2
    check_paths(mesh, ["c0001", "c0050", "anchor"])
    assert mesh.bytes < 5 * size * MAX_RECORD, mesh.bytes
    mesh.stop()


def test_a_client_of_a_star_flaps() -> None:
    """Of 200 clients on one anchor one flaps: its record and one fragment of the anchor's move, no other."""
    flap(200)


@pytest.mark.soak
def test_a_client_of_a_large_star_flaps() -> None:
    """The same with a thousand, in sixteen fragments."""
    flap(1000)
