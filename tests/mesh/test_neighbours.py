# SPDX-License-Identifier: MIT
"""One link for each node: ties are decided alike at both ends, whatever the order of events."""

from __future__ import annotations

from itertools import combinations
from random import Random
from types import SimpleNamespace

import pytest
from mesh.linkworld import Node, World

from gmesh.errors import PeerRefused
from gmesh.mesh.neighbour import NeighbourObserver
from gmesh.mesh.peer_identity import peer_of
from gmesh.testing.transport import Wire
from gmesh.wire.messages import CloseReason


def settled(world, one, two):
    """Exactly one connection is left, and it is the link at both ends."""
    world.run(8)
    assert len(world.network.open_connections()) == 1
    assert one.link(two).handshake_hash == two.link(one).handshake_hash
    for node in (one, two):
        ups = sum(event[0] == "up" for event in node.recorder.events)
        downs = [event for event in node.recorder.events if event[0] == "down"]
        assert ups == len(downs) + 1
        assert {event[2] for event in downs} <= {"duplicate"}


STEPS = 4


def test_field_t10_simultaneous_dials_end_with_one_link_in_every_interleaving():
    """Two connections, four messages each, delivered in each of the 70 possible orders."""
    orders = list(combinations(range(2 * STEPS), STEPS))
    assert len(orders) == 70
    for order in orders:
        dial_both_ways(order)


def dial_both_ways(order):
    """C{order}: the steps at which the first connection delivers its next message."""
    world = World(wire=Wire(delay=0.0, chunked=False))
    one, two = world.node("one").listen(), world.node("two").listen()
    one.dial(two)
    two.dial(one)
    world.clock.advance(0)
    first, second = world.network.connections
    for connection in (first, second):
        connection.silence()
    progress = {first: 0, second: 0}
    for step in range(2 * STEPS):
        connection = first if step in order else second
        pipe = (connection._forth, connection._back)[progress[connection] % 2]
        progress[connection] += 1
        pipe.stalled = False
        pipe.wake()
        world.clock.advance(0)
        pipe.stalled = True
    for connection in (first, second):
        connection.heal()
    settled(world, one, two)
    smaller = min(one, two, key=lambda node: node.enrolled.node_key.public)
    assert smaller.link(one if smaller is two else two).initiator
    world.finish()


@pytest.mark.parametrize("seed", range(20))
def test_a_storm_of_dials_ends_with_one_link(seed):
    """Five dials from each side over connections of random delay end with one link."""
    random = Random(seed)
    world = World(seed=seed)
    world.network.wire_between = lambda source, target: Wire(delay=random.uniform(0.001, 0.3))
    one, two = world.node("one").listen(), world.node("two").listen()
    for _ in range(5):
        one.dial(two)
        two.dial(one)
        world.run(random.uniform(0, 0.2))
    settled(world, one, two)
    world.finish()


@pytest.mark.parametrize("seed", range(6))
def test_a_restarted_node_replaces_its_old_link(seed):
    """A new boot id wins at once, though the survivor's old link looks alive, whoever dials."""
    world = World(seed=seed)
    one, two = world.pair()
    world.network.connections[0].silence()
    again = Node(world, two.enrolled)
    again.address, again.host = "10.0.0.9:7443", "10.0.0.9"
    again.listen()
    again.dial(one.listen()) if seed % 2 else one.dial(again)
    world.run(1)
    assert again.link(one) is not None
    assert one.link(two).handshake_hash == again.link(one).handshake_hash
    assert [event for event in one.recorder.events if event[0] != "changed"] == [
        ("up", "two"),
        ("down", "two", "duplicate"),
        ("up", "two"),
    ]
    world.run(20)
    assert one.link(two).handshake_hash == again.link(one).handshake_hash
    world.finish()


def test_field_t10_a_kept_link_that_is_dead_is_found_out_by_the_duplicate():
    """The old link stays by the rule, but has one PONG's time to show that it lives; then a dial succeeds."""
    world = World()
    nodes = [world.node("one").listen(), world.node("two").listen()]
    small, large = sorted(nodes, key=lambda node: node.enrolled.node_key.public)
    small.dial(large)
    world.run(6)
    world.network.connections[0].silence()
    large.dial(small)
    world.run(1)
    old = small.link(large)
    assert old is not None and len(world.network.open_connections()) == 1
    world.run(3)
    assert small.recorder.events[-1] == ("down", large.name, "dead")
    large.dial(small)
    world.run(1)
    assert small.link(large) is not None and small.link(large) is not old
    world.finish()


def test_one_link_too_many_is_told_so():
    """The limit counts nodes; the next one hears C{full}, a duplicate does not."""
    world = World()
    hub = world.node("hub", max_links=2).listen()
    nodes = [world.node(f"n{number}") for number in range(3)]
    ended = []

    class Attempt:
        suite_turn = 0

        def linked(self, peer):
            pass

        def ended(self, reason, peer):
            ended.append(reason)

    for node in nodes:
        node.dial(hub, Attempt())
        world.run(0.5)
    assert len(hub.neighbours.links) == 2 and ended == ["full"]
    assert nodes[2].link(hub) is None and nodes[2].neighbours.sessions == 0
    world.finish()


def test_refresh_judges_first():
    """A renewed certificate by gossip is believed only if the authority signed it."""
    world = World()
    one, two = world.pair()
    kept, world.issuer.authority = world.issuer.authority, world.issuer.new_key()
    forged = world.issuer.renew(two.enrolled).certificate
    world.issuer.authority = kept
    with pytest.raises(PeerRefused) as refused:
        one.neighbours.refresh(forged)
    assert refused.value.reason == "unknown-key"
    assert one.link(two).peer.serial == two.certificate.body.serial
    world.finish()


def test_a_new_noise_key_is_not_taken_in_place():
    """The session was made with the old key: the certificate of another does not extend it."""
    world = World()
    one, two = world.pair()
    other = world.issuer.enrol("other", "relay")
    certificate = world.issuer.certify(two.enrolled.node_key, other.noise_key, "two", ["relay"])
    assert not one.neighbours.refresh(certificate)
    world.finish()


def test_closing_all_links_tells_every_neighbour():
    """A node that stops says so, and everything it had is gone."""
    world = World()
    hub = world.node("hub").listen()
    nodes = [world.node(f"n{number}") for number in range(5)]
    for node in nodes:
        node.dial(hub)
    world.run(1)
    assert len(hub.neighbours.links) == 5 and hub.neighbours.by_name("n3") is hub.link(nodes[3])
    hub.neighbours.close(CloseReason.SHUTDOWN)
    assert hub.neighbours.links == {}
    world.run(1)
    assert [node.recorder.events[-1] for node in nodes] == [("down", "hub", "shutdown")] * 5
    world.finish()


def test_field_t17_connects_and_drops_leave_nothing():
    """A thousand connections that come and go leave no timer, no session, no half-open place."""
    world = World()
    hub = world.node("hub").listen()
    node = world.node("node")
    for number in range(300):
        node.dial(hub)
        world.run(0.0005 * (number % 20))
        world.network.connections[-1].cut() if world.network.connections else None
        world.run(0.2)
        world.network.connections.clear()
    world.run(60)
    world.finish()


class Observer(NeighbourObserver):
    """Writes into a diary what it hears, and may do something about it."""

    def __init__(self, name, diary, up=lambda: None, down=lambda: None):
        self.name, self.diary, self.up, self.down = name, diary, up, down

    def link_up(self, neighbour):
        self.diary.append((self.name, "up"))
        self.up()

    def link_down(self, neighbour, reason):
        self.diary.append((self.name, reason))
        self.down()


def observed(*observers):
    """A registry with these observers, and its one neighbour, whose link is not up yet."""
    node = World().node("one")
    node.neighbours.observe(*observers)
    return node.neighbours, node.neighbours.add(SimpleNamespace(peer=peer_of(node.certificate), rtt=None))


def test_up_in_order_down_in_reverse():
    """Those that came first leave last; the link is told up and down once, and belongs to nobody after."""
    diary = []
    neighbours, neighbour = observed(Observer("a", diary), Observer("b", diary))
    neighbours.follow(lambda each, up: diary.append(("follower", up)))
    neighbours.up(neighbour)
    assert list(neighbours) == [neighbour] and neighbours.links == {neighbour.handle: neighbour.link}
    neighbours.down(neighbour, "gone")
    neighbours.down(neighbour, "again")
    assert diary == [
        ("a", "up"),
        ("b", "up"),
        ("follower", True),
        ("b", "gone"),
        ("a", "gone"),
        ("follower", False),
    ]
    assert list(neighbours) == [] and neighbours.links == {}


def test_one_that_ends_the_link_while_it_comes_up_spares_the_rest():
    """Observers that never heard of the link do not hear of its end."""
    diary = []
    neighbours, neighbour = observed(
        Observer("a", diary, up=lambda: neighbours.down(neighbour, "early")), Observer("b", diary)
    )
    neighbours.up(neighbour)
    assert diary == [("a", "up"), ("a", "early")]


def test_one_that_fails_spares_the_rest(flush_logged_errors):
    """A bug in one observer is logged and keeps no other from hearing that the link is down."""
    diary = []

    def fail():
        raise RuntimeError("a bug in an observer")

    neighbours, neighbour = observed(Observer("a", diary), Observer("b", diary, down=fail))
    neighbours.up(neighbour)
    neighbours.down(neighbour, "gone")
    assert diary[2:] == [("b", "gone"), ("a", "gone")]
    assert len(flush_logged_errors(RuntimeError)) == 1
