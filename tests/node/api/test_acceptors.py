# SPDX-License-Identifier: MIT
"""Programs that accept streams: whose a service is, who is served, and when the name is free."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from streams.rigs import MemoryRig, Recorder
from twisted.internet.defer import Deferred

from gmesh.errors import ConfigurationError, GmeshError, RequestRefused
from gmesh.node.api import acceptors as module
from gmesh.node.api.acceptors import Acceptor, Acceptors
from gmesh.node.api.access import AccessControl, Credentials, ServiceGroups

ALICE, BOB = 61001, 61002
WEB, APPS = 62001, 62002


class Nodes(MemoryRig):
    """Node a dials what programs at node b accept."""

    def __init__(self) -> None:
        super().__init__()
        self.dialler, self.server = self.streams
        self.control = AccessControl()
        self.acceptors = Acceptors(self.server, self.control, ServiceGroups(), self.clock)
        self.served: list[str] = []
        self.refused: list[str] = []
        self.failures: list[str] = []

    def wait(
        self, name: str = "", uid: int | None = ALICE, service: str = "web", groups: tuple[int, ...] = ()
    ) -> Callable[[], None]:
        """A program waits; C{served} says its name once it has a stream."""
        credentials = None if uid is None else Credentials(1, uid, frozenset(groups))

        def build(peer: Any) -> Recorder:
            self.served.append(name)
            return Recorder(self)

        begun: list[str] = []
        acceptor = Acceptor(
            credentials, lambda: begun.append(name), build, lambda error: self.refused.append(error.reason)
        )
        left = self.acceptors.wait(service, acceptor)
        assert begun == [name]
        return left

    def reason(self, *args: Any, **kwargs: Any) -> str:
        """Why one may not wait."""
        with pytest.raises(GmeshError) as caught:
            self.wait(*args, **kwargs)
        return caught.value.reason

    def dial(self, service: str = "web") -> None:
        """Somebody dials."""
        dialled = self.dialler.dial("b", service, lambda peer: Recorder(self))
        dialled.addErrback(lambda failure: self.failures.append(failure.value.reason))

    def run(self, seconds: float = 0.1) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def nodes() -> Nodes:
    """Nodes a and b."""
    return Nodes()


def test_a_program_that_waits_gets_a_stream(nodes: Nodes) -> None:
    """One; for the next it waits again."""
    nodes.wait("1")
    nodes.dial()
    nodes.run()
    assert nodes.served == ["1"]
    nodes.dial()
    nodes.run()
    assert nodes.served == ["1"]
    nodes.wait("1 again")
    assert nodes.served == ["1", "1 again"]


def test_programs_of_one_user_take_turns(nodes: Nodes) -> None:
    """Each that was served waits behind the others."""
    nodes.wait("1")
    nodes.wait("2")
    for _ in range(4):
        nodes.dial()
        nodes.run()
        nodes.wait(nodes.served[-1])
    assert nodes.served == ["1", "2", "1", "2"]


def test_a_service_has_one_user(nodes: Nodes) -> None:
    """Another gets C{service-taken}, for one service and not for another."""
    nodes.wait(uid=ALICE)
    assert nodes.reason(uid=BOB) == "service-taken"
    assert nodes.reason(uid=None) == "service-taken"
    nodes.wait(uid=BOB, service="other")


def test_a_name_is_free_two_seconds_after_its_last_program(nodes: Nodes) -> None:
    """Not before, so that a program between two streams loses it to nobody."""
    left = nodes.wait(uid=ALICE)
    other = nodes.wait(uid=ALICE)
    left()
    nodes.run(5)
    assert nodes.reason(uid=BOB) == "service-taken"
    other()
    nodes.run(1.9)
    assert nodes.reason(uid=BOB) == "service-taken"
    nodes.run(0.2)
    nodes.wait("bob", uid=BOB)
    nodes.dial()
    nodes.run()
    assert nodes.served == ["bob"]


def test_a_stream_waits_for_a_program_that_comes_back(nodes: Nodes) -> None:
    """In those two seconds; then it is refused."""
    nodes.wait("1")
    nodes.dial()
    nodes.run()
    nodes.dial()
    nodes.run(1.5)
    nodes.wait("2")
    nodes.run(0.1)
    assert nodes.served == ["1", "2"]
    nodes.dial()
    nodes.run(2.5)
    assert nodes.failures == ["no-such-service"]
    assert nodes.clock.getDelayedCalls() == []


def test_a_dialler_that_gives_up_costs_no_program_its_turn(nodes: Nodes) -> None:
    """The program that comes back gets the next stream."""
    nodes.wait("1")
    nodes.dial()
    nodes.run()
    dialled = nodes.dialler.dial("b", "web", lambda peer: Recorder(nodes), timeout=0.5)
    dialled.addErrback(lambda failure: None)
    nodes.run(1)
    nodes.wait("2")
    nodes.run(1)
    assert nodes.served == ["1"]
    nodes.dial()
    nodes.run()
    assert nodes.served == ["1", "2"]


def test_an_offer_that_is_gone_costs_no_program_its_turn(nodes: Nodes) -> None:
    """Though it is known only when it is to be accepted."""

    class Gone:
        peer = nodes.dialler.address("web")

        def __init__(self) -> None:
            self.gone: Deferred[None] = Deferred()

        def accept(self, protocol: object) -> bool:
            return False

    takers: list[Any] = []
    streams: Any = SimpleNamespace(listen=lambda service, take: takers.append(take))
    nodes.acceptors = Acceptors(streams, nodes.control, ServiceGroups(), nodes.clock)
    left = nodes.wait("1")
    takers[0](Gone())
    offer: Any = Gone()
    offer.accept = lambda protocol: True
    takers[0](offer)
    assert nodes.served == ["1", "1"], "it was built for twice, and had the second"
    left()


def test_what_waits_has_a_bound(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and programs both: the others are refused C{busy}."""
    monkeypatch.setattr(module, "MAX_OFFERS", 2)
    monkeypatch.setattr(module, "MAX_ACCEPTING", 2)
    nodes.wait()
    nodes.dial()
    nodes.run()
    for _ in range(3):
        nodes.dial()
    nodes.run(0.5)
    assert nodes.failures == ["busy"]
    for _ in range(4):
        nodes.wait()
    nodes.run()
    assert nodes.reason() == "busy"


@pytest.mark.parametrize("service", ["_echo", "gmesh-bench", "W", "", "a_b", "x" * 40])
def test_names_that_no_program_may_serve(nodes: Nodes, service: str) -> None:
    """Those of gmesh itself, and what is no name."""
    assert nodes.reason(service=service) == "bad-service"


def test_a_service_that_the_node_serves_is_taken(nodes: Nodes) -> None:
    """One that the file exposes, for instance; and nothing of the attempt stays."""
    port = nodes.server.listen("web", lambda offer: offer.refuse("busy"))
    with pytest.raises(ConfigurationError) as caught:
        nodes.wait()
    assert caught.value.reason == "service-taken"
    port.stopListening()
    nodes.wait()


def groups(**names: str) -> ServiceGroups:
    """As C{[bind]} has it."""
    return ServiceGroups({name.replace("all", "*"): group for name, group in names.items()})


def test_bind_says_which_group_may_accept_a_service(nodes: Nodes) -> None:
    """C{*} for those not named; root and the daemon's own user always."""
    nodes.acceptors.regroup(groups(web=str(WEB), all=str(APPS)))
    assert nodes.reason(uid=BOB, groups=(APPS,)) == "forbidden"
    assert nodes.reason(uid=BOB, service="other", groups=(WEB,)) == "forbidden"
    assert nodes.reason(uid=None) == "forbidden"
    nodes.wait(uid=BOB, service="other", groups=(APPS,))
    nodes.wait(uid=BOB, groups=(WEB,))
    nodes.wait(uid=0, service="third")
    nodes.wait(uid=os.geteuid(), service="fourth")
    with pytest.raises(RequestRefused, match="may not accept web: that takes the group 62001"):
        nodes.acceptors.admit("web", Credentials(1, BOB, frozenset({APPS})))


def test_without_bind_every_group_may(nodes: Nodes) -> None:
    """Who may write at all."""
    nodes.wait(uid=BOB)
    nodes.acceptors.regroup(groups(web=str(WEB)))
    nodes.wait(uid=BOB, service="other")


def test_who_waits_is_judged_again_when_bind_changes(nodes: Nodes) -> None:
    """The one that may no longer is refused, and gets no stream; the name becomes free."""
    nodes.wait("alice", uid=ALICE)
    nodes.wait("other", uid=ALICE, service="other")
    nodes.acceptors.regroup(groups(web=str(WEB)))
    assert nodes.refused == ["forbidden"]
    nodes.run(2.1)
    nodes.wait("bob", uid=BOB, groups=(WEB,))
    nodes.dial()
    nodes.dial("other")
    nodes.run()
    assert sorted(nodes.served) == ["bob", "other"]


def test_who_waits_is_judged_again_when_writers_change(nodes: Nodes) -> None:
    """Who may no longer write gets no stream."""
    nodes.wait("alice", uid=ALICE)
    nodes.wait("bob", uid=BOB, service="other", groups=(APPS,))
    nodes.control.become(AccessControl(write=str(APPS)))
    nodes.acceptors.judge()
    assert nodes.refused == ["forbidden"]
    assert nodes.reason(uid=ALICE, service="third") == "forbidden"
    nodes.dial("other")
    nodes.run()
    assert nodes.served == ["bob"]


def test_a_group_that_is_none_is_said() -> None:
    """When the configuration is read."""
    with pytest.raises(ConfigurationError, match="no group"):
        ServiceGroups({"web": "no-such-group-here"})


def test_nothing_is_left_when_the_node_stops(nodes: Nodes) -> None:
    """No timer, and no taker."""
    nodes.wait()
    nodes.wait(service="other")()
    nodes.acceptors.stop()
    assert nodes.clock.getDelayedCalls() == []
    nodes.server.listen("web", lambda offer: None)
