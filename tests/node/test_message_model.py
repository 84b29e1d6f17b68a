# SPDX-License-Identifier: MIT
"""
Programs, daemons and relays come and go, under whole nodes in memory and the object that programs use.

The model keeps what handlers were given and what they ended with; nothing else decides.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred

from gmesh.client import GivenMessage, Mesh
from gmesh.errors import SendRefused
from gmesh.testing.memory_store import MemoryKeyLog
from gmesh.testing.mesh import MemoryMesh

SERVICE = "log"
TIMEOUT = 40.0


class Program:
    """One that serves, and ends with what it is given when it is told to."""

    def __init__(self, machine: MessageMachine, concurrency: int) -> None:
        self.machine = machine
        self.given: list[tuple[bytes, Deferred[None]]] = []
        self.mesh: Mesh = machine.mesh["c"].client()
        self.mesh.serve(SERVICE, self.receive, concurrency=concurrency)

    def receive(self, message: GivenMessage) -> Deferred[None]:
        self.machine.handed_out(message)
        self.given.append((message.data, Deferred()))
        return self.given[-1][1]


class MessageMachine(RuleBasedStateMachine):
    """A sender on a, programs on c, two relays between them."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh = MemoryMesh()
        for name in ("one", "two"):
            self.mesh.add(name, "relay")
        for name in ("a", "c"):
            self.mesh.add(name, "client", peers=["one", "two"])
        self.mesh.start()
        self.mesh.run_until(lambda: self.mesh["a"].reaches("c") and self.mesh["c"].reaches("a"))
        self.dead: set[str] = set()
        self.sender = self.mesh["a"].client()
        self.programs: list[Program] = []
        self.outcomes: dict[bytes, list[str]] = {}
        self.keys: dict[bytes, str] = {}
        self.handed: dict[bytes, int] = {}
        self.well: set[bytes] = set()
        self.badly: set[bytes] = set()
        self.acknowledged: set[bytes] = set()
        self.wrong: list[str] = []
        self.program_comes(3)

    def handed_out(self, message: GivenMessage) -> None:
        data = message.data
        if data in self.acknowledged:
            self.wrong.append(f"{data!r} was acknowledged and came again")
        if self.handed.get(data) and data not in self.badly and not message.redelivered:
            self.wrong.append(f"{data!r} was handed out before and is not marked")
        self.handed[data] = self.handed.get(data, 0) + 1
        self.badly.discard(data)

    # what programs do

    @rule(keyed=st.booleans())
    def send(self, keyed: bool) -> None:
        data = b"%d" % len(self.keys)
        self.keys[data] = f"key-{len(self.keys)}" if keyed else ""
        self.call(data)

    @precondition(lambda self: any(self.keys.values()))
    @rule(choice=st.data())
    def send_again_under_its_key(self, choice: Any) -> None:
        self.call(choice.draw(st.sampled_from([data for data, key in self.keys.items() if key])))

    def call(self, data: bytes) -> None:
        calls = self.outcomes.setdefault(data, [])
        calls.append("")
        index = len(calls) - 1

        def delivered(answer: bytes) -> None:
            calls[index] = "delivered"
            self.acknowledged.add(data)
            if data not in self.well:
                self.wrong.append(f"{data!r} was acknowledged, and no program ended well with it")

        def failed(failure: Any) -> None:
            failure.trap(SendRefused)
            calls[index] = failure.value.reason

        self.sender.send("c", SERVICE, data, TIMEOUT, self.keys[data]).addCallbacks(delivered, failed)
        self.mesh.run(0.2)

    @precondition(lambda self: len(self.programs) < 2)
    @rule(concurrency=st.sampled_from([1, 3, 64]))
    def program_comes(self, concurrency: int) -> None:
        self.programs.append(Program(self, concurrency))
        self.mesh.run(0.2)

    @precondition(lambda self: self.programs)
    @rule(first=st.booleans())
    def program_dies(self, first: bool) -> None:
        self.programs.pop(0 if first else -1).mesh.close()
        self.mesh.run(0.2)

    @precondition(lambda self: any(program.given for program in self.programs))
    @rule(choice=st.data(), well=st.sampled_from([True, True, True, False]))
    def program_ends_with_one(self, choice: Any, well: bool) -> None:
        program = choice.draw(st.sampled_from([each for each in self.programs if each.given]))
        data, given = program.given.pop(choice.draw(st.integers(0, len(program.given) - 1)))
        if well:
            self.well.add(data)
            given.callback(None)
        else:
            self.badly.add(data)
            given.errback(SendRefused("refused", "not this one"))
        self.mesh.run(0.2)

    # what befalls nodes

    @rule(name=st.sampled_from(["a", "c", "one", "two"]), silently=st.booleans())
    def node_dies(self, name: str, silently: bool) -> None:
        if name not in self.dead:
            self.mesh[name].kill(silently=silently)
            keys = self.mesh[name].store.message_keys
            assert isinstance(keys, MemoryKeyLog)
            keys.cut_power()
            self.dead.add(name)
            self.mesh.run(0.2)

    @precondition(lambda self: self.dead)
    @rule()
    def nodes_come_back(self) -> None:
        for name in sorted(self.dead):
            self.mesh[name].restart()
        self.dead.clear()
        self.mesh.run(3)

    @rule(end=st.sampled_from(["a", "c"]), relay=st.sampled_from(["one", "two"]))
    def connection_breaks(self, end: str, relay: str) -> None:
        if not {end, relay} & self.dead:
            self.mesh.cut(end, relay)

    @rule(seconds=st.sampled_from([0.5, 6.0, 15.0]))
    def passes(self, seconds: float) -> None:
        self.mesh.run(seconds)

    @invariant()
    def promises_are_kept(self) -> None:
        """What is acknowledged was handled, and comes no more; what comes again says so."""
        assert self.wrong == []

    def teardown(self) -> None:
        """In the end every call has an outcome, and nothing is left on the clock."""
        self.nodes_come_back()
        self.mesh.run(2 * TIMEOUT)
        assert self.wrong == []
        assert all(outcome for calls in self.outcomes.values() for outcome in calls)
        self.mesh.stop()
        assert self.mesh.clock.getDelayedCalls() == []


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        MessageMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_comes_and_goes_what_is_acknowledged_was_handled() -> None:
    """A few lives of a mesh."""
    _run(10, 25)


@pytest.mark.soak
def test_many_lives_of_a_mesh() -> None:
    """Other ones each time."""
    _run(400, 60)
