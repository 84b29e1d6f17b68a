# SPDX-License-Identifier: MIT
"""
Programs and nodes come and go, frames are lost and copied: what is acknowledged was dealt with.

The model keeps a list of what programs were given and what they ended with; nothing else decides.
"""

from __future__ import annotations

import random

from endtoend.rig import DELAY, Fabric
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred

from gmesh.errors import SendRefused

SERVICE = "log"


class Given:
    """A message as a program has it."""

    def __init__(self, message):
        self.message = message
        self.result = Deferred()
        self.over = False


class OutcomeMachine(RuleBasedStateMachine):
    """Two ends, a program behind one of them, and a network that does what it likes."""

    def __init__(self):
        super().__init__()
        self.fabric = Fabric("alice", "bob")
        self.given: list[Given] = []
        self.registration = None
        self.sent: dict[bytes, list[str]] = {}  # data -> outcomes of its calls, one "" for each that is open
        self.keys: dict[bytes, str] = {}
        self.handed: dict[bytes, int] = {}
        self.well: set[bytes] = set()  # a program ended well with it
        self.badly: set[bytes] = set()  # a program ended badly with it, the last time
        self.acknowledged: set[bytes] = set()
        self.wrong: list[str] = []  # told here, since what a receiver raises goes no further
        self.number = 0
        self.loss = 0.0
        rng = random.Random(1)

        def decide(kind, header, frame):
            if rng.random() < self.loss:
                return ()
            return (DELAY, 3 * DELAY) if rng.random() < self.loss else (DELAY,)

        self.fabric.decide = decide
        self.program_comes(3)

    def receive(self, message):
        data = message.data
        if data in self.acknowledged and message.key:
            self.wrong.append(f"{data!r} was acknowledged under its key and came again")
        before = self.handed.get(data, 0)
        if before and data not in self.badly and not message.redelivered:
            self.wrong.append(f"{data!r} was handed over before and is not marked")
        self.handed[data] = before + 1
        self.badly.discard(data)
        given = Given(message)
        self.given.append(given)
        return given.result

    @rule(keyed=st.booleans())
    def send(self, keyed):
        self.number += 1
        data = b"%d" % self.number
        self.keys[data] = f"key-{self.number}" if keyed else ""
        self.call(data)

    @precondition(lambda self: any(self.keys.values()))
    @rule(choice=st.data())
    def send_again_under_its_key(self, choice):
        self.call(choice.draw(st.sampled_from([data for data, key in self.keys.items() if key])))

    def call(self, data):
        calls = self.sent.setdefault(data, [])
        calls.append("")
        index = len(calls) - 1

        def ended(outcome):
            calls[index] = outcome
            if outcome == "delivered":
                self.acknowledged.add(data)
                if data not in self.well:
                    self.wrong.append(f"{data!r} was acknowledged, and no program ended well with it")

        sent = self.fabric.alice.datagrams.send("bob", SERVICE, data, timeout=40, key=self.keys[data])
        sent.addCallbacks(
            lambda _: ended("delivered"),
            lambda failure: failure.trap(SendRefused) and ended(failure.value.reason),
        )
        self.fabric.run(0.2)

    @rule(concurrent=st.sampled_from([1, 3, 64]))
    def program_comes(self, concurrent):
        if self.registration is None:
            self.registration = self.fabric.bob.datagrams.register(
                SERVICE, self.receive, concurrent=concurrent, owner="user", shared=True
            )
            self.fabric.run(0.2)

    @precondition(lambda self: self.registration is not None)
    @rule()
    def program_dies(self):
        self.registration.gone()
        self.registration = None
        self.given = []
        self.fabric.run(0.2)

    @precondition(lambda self: self.given)
    @rule(choice=st.data(), well=st.sampled_from([True, True, True, False]))
    def program_ends_with_one(self, choice, well):
        given = self.given.pop(choice.draw(st.integers(0, len(self.given) - 1)))
        data = given.message.data
        if well:
            self.well.add(data)
            given.result.callback(None)
        else:
            self.badly.add(data)
            given.result.errback(SendRefused("refused", "not this one"))
        self.fabric.run(0.2)

    @rule(back=st.booleans())
    def receiving_node_restarts(self, back):
        self.fabric.bob.restart()
        self.registration = None
        self.given = []
        if back:
            self.program_comes(3)

    @rule()
    def sending_node_restarts(self):
        self.fabric.alice.restart()

    @rule(loss=st.sampled_from([0.0, 0.1, 0.4]))
    def network(self, loss):
        self.loss = loss

    @rule(seconds=st.sampled_from([0.5, 6.0, 15.0]))
    def passes(self, seconds):
        self.fabric.run(seconds, step=0.05)

    @invariant()
    def promises_are_kept(self):
        """What is acknowledged was dealt with; a key comes once; what comes again says so."""
        assert self.wrong == []

    @invariant()
    def keyed_or_not_at_most_once_while_nothing_dies(self):
        """No message is in the hands of a program twice at a time."""
        open_ones = [given.message.data for given in self.given]
        keyed = [data for data in open_ones if self.keys[data]]
        assert len(keyed) == len(set(keyed))

    def teardown(self):
        """In the end every call has an outcome, and nothing is left on the clock."""
        self.loss = 0.0
        self.fabric.run(60, step=0.1)
        assert self.wrong == []
        assert all(outcome for calls in self.sent.values() for outcome in calls)
        association = self.fabric.alice.associations.get(self.fabric.bob.handle)
        assert association is None or not len(association.reliable)
        self.fabric.stop()


TestOutcomeMachine = OutcomeMachine.TestCase
TestOutcomeMachine.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
