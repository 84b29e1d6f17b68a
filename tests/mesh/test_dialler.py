# SPDX-License-Identifier: MIT
"""Targets are dialled until they lead to a link, patiently, and again when it is lost."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address as IPv6
from itertools import pairwise
from pathlib import Path

import pytest
from mesh.linkworld import World
from trust.hostile_addresses import HOSTILE
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from zope.interface import implementer

from gmesh.errors import ConfigurationError
from gmesh.mesh.carriers import client_endpoint
from gmesh.mesh.dials import TargetState
from gmesh.mesh.limits import DIAL_BACKOFF_CAP, DIAL_DEADLINE, DIALS_AT_ONCE, TARGET_DEGREE
from gmesh.node.configuration import check_address
from gmesh.wire.messages import CloseReason


@pytest.fixture
def world():
    world = World()
    yield world
    world.finish()


def dialling(node, *others):
    node.dialler.set_targets([other if isinstance(other, str) else other.address for other in others])
    node.dialler.start()
    return node


def states(node):
    return [target.state for target in node.dialler.targets]


def attempts(world, source, seconds):
    """The times at which C{source} connects somewhere, while time passes."""
    times = []
    original = world.network.client

    def client(address, host):
        if host == source.host:
            times.append(world.clock.seconds())
        return original(address, host)

    world.network.client = client
    world.run(seconds)
    world.network.client = original
    return times


def test_a_target_becomes_a_link(world):
    """One dial is enough when somebody listens."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    world.run(1)
    assert one.link(two) is not None and states(one) == [TargetState.LINKED]
    assert attempts(world, one, 600) == []


def test_back_off_grows_to_a_minute_with_full_jitter(world):
    """The waits are below 1, 2, 4 ... 60 seconds, spread over the whole range, and never end."""
    one, two = world.node("one"), world.node("two")
    dialling(one, two)
    times = attempts(world, one, 7200)
    waits = [after - time for time, after in pairwise(times)]
    for number, wait in enumerate(waits):
        assert wait <= min(60, 2**number) + 0.01
    late = waits[8:]
    assert 20 < sum(late) / len(late) < 40
    assert min(late) < 15 and max(late) > 45


def test_a_lost_link_is_dialled_again_at_once(world):
    """After a link that was stable the next dial comes within a second."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    world.run(100)
    world.network.open_connections()[0].cut()
    assert one.link(two) is None
    world.run(1.1)
    assert one.link(two) is not None


def test_who_loses_its_link_again_and_again_is_back_as_soon_each_time(world):
    """As a host that is carried about: a link that was there for a while is no failure to wait longer for."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    for _ in range(8):
        world.run(15)
        world.network.open_connections()[0].cut()
        assert one.link(two) is None
        world.run(1.1)
        assert one.link(two) is not None


def test_a_link_that_never_stays_keeps_backing_off(world):
    """A neighbour that accepts and drops at once is not dialled every second."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    times = []
    for _ in range(600):
        times += attempts(world, one, 1)
        if one.link(two) is not None:
            two.link(one).close(CloseReason.SHUTDOWN)
    assert len(times) < 40


def test_field_t9_a_silent_address_delays_nobody(world):
    """Dials have a deadline and run side by side: a black hole costs its own slot only."""
    one, two = world.node("one"), world.node("two").listen()
    holes = [f"192.0.2.{number}:1" for number in range(DIALS_AT_ONCE - 1)]
    world.network.unreachable.update(hole.rpartition(":")[0] for hole in holes)
    dialling(one, *holes, two)
    world.run(0.1)
    assert one.link(two) is not None
    world.run(5)
    assert one.dialler.targets[0].reason == "connect-failed"


def test_only_so_many_dials_at_once(world):
    """The rest waits for its turn, and gets it."""
    one, two = world.node("one"), world.node("two").listen()
    holes = [f"192.0.2.{number}:1" for number in range(3 * DIALS_AT_ONCE)]
    world.network.unreachable.update(hole.rpartition(":")[0] for hole in holes)
    dialling(one, *holes, two)
    world.run(0.1)
    assert states(one).count(TargetState.DIALLING) == DIALS_AT_ONCE
    assert one.link(two) is None
    world.run(15.2)
    assert one.link(two) is not None


def test_a_mute_server_is_given_up(world):
    """One that accepts and says nothing costs the handshake deadline, then back-off."""
    one = world.node("one")

    class Mute:
        noisy = False

        def doStart(self):
            pass

        doStop = doStart

        def buildProtocol(self, address):
            from twisted.internet.protocol import Protocol

            return Protocol()

    world.network.listen("10.9.9.9:1", Mute())
    dialling(one, "10.9.9.9:1")
    world.run(5.5)
    assert one.dialler.targets[0].reason == "handshake-timeout"


def test_a_node_that_is_linked_already_is_not_dialled_twice(world):
    """Two addresses of one node, and its own dial, make one link; the targets know that they are served."""
    one, two = world.node("one").listen(), world.node("two").listen()
    world.network.listen("10.0.5.5:7443", two.mesh.accepting())
    dialling(one, two, "10.0.5.5:7443")
    dialling(two, one)
    world.run(5)
    assert len(world.network.open_connections()) == 1
    assert states(one) == [TargetState.LINKED] * 2 and states(two) == [TargetState.LINKED]
    assert attempts(world, one, 300) == []
    world.network.open_connections()[0].cut()
    world.run(5)
    assert len(world.network.open_connections()) == 1


def test_d7_we_are_dialled_again_at_the_cap_of_the_back_off(world):
    """An address that leads to ourselves may lead to another node later: it balances a load, or moves."""
    one, two = world.node("one").listen(), world.node("two")
    dialling(one, one)
    assert len(attempts(world, one, 20)) == 2, "once more, in case that its host has another address"
    assert states(one) == [TargetState.OURSELVES]
    hour = attempts(world, one, 3600)
    assert all(after - before > 0.4 * DIAL_BACKOFF_CAP for before, after in pairwise(hour[::2]))
    assert 3600 / DIAL_BACKOFF_CAP < len(hour[::2]) < 2.5 * 3600 / DIAL_BACKOFF_CAP
    world.network.unlisten(one.address)
    world.network.listen(one.address, two.mesh.accepting())
    world.run(DIAL_BACKOFF_CAP)
    assert one.link(two) is not None


def test_d7_the_next_address_of_a_name_is_tried_when_one_is_ours(world):
    """Two anchors behind one DNS name: each finds the other, whichever address it meets first."""
    one, two = world.node("one").listen(), world.node("two").listen()
    asked = []

    class Name:
        """An endpoint for a name with the addresses of both, our own first."""

        def __init__(self, avoid):
            self.found = [each for each in (one, two) if each.host not in avoid]

        def connect(self, factory):
            if not self.found:
                return fail(DNSLookupError("no results"))
            return world.network.client(self.found[0].address, one.host).connect(factory)

    def connect(target, avoid):
        asked.append(set(avoid))
        return Name(avoid)

    one.dialler._dials._connect = connect
    dialling(one, "anchors.example:7443")
    world.run(1)
    assert one.link(two) is not None and states(one) == [TargetState.LINKED]
    assert asked == [set(), {one.host}]


def test_d7_addresses_that_are_ours_are_left_out():
    """Of all that the resolver names, in TLS too; a host that has no other is none."""
    reactor = TwoAddresses()
    for target in ("mesh.example:7443", "tls:mesh.example:7443"):
        reactor.tcpClients.clear()
        pending = client_endpoint(reactor, target, {"2001:db8::1"}).connect(Factory.forProtocol(Protocol))
        reactor.advance(1)
        assert [host for host, *_ in reactor.tcpClients] == ["192.0.2.1"]
        pending.addErrback(lambda failure: failure.trap(ConnectingCancelledError))
        pending.cancel()
    pending = client_endpoint(reactor, "mesh.example:1", {"2001:db8::1", "192.0.2.1"}).connect(Factory())
    failures = []
    pending.addErrback(lambda failure: failures.append(failure.trap(DNSLookupError)))
    assert failures == [DNSLookupError]


def link_local():
    """A link-local address of this host with its interface, as the kernel tells, and None."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else []:
        digits, _, _, scope, _, name = line.split()
        if scope == "20":
            return f"{IPv6(int(digits, 16))}%{name}"
    return None


@pytest.mark.skipif(link_local() is None, reason="no interface has a link-local address here")
async def test_d9_a_link_local_peer_is_dialled_by_its_interface():
    """What --peer accepts is reached, on a real interface."""
    from twisted.internet import reactor

    connected = []
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface=link_local())
    target = check_address(f"[{link_local()}]:{port.getHost().port}", local=True)
    client = Factory.forProtocol(Protocol)
    client.noisy = False
    protocol = await client_endpoint(reactor, target).connect(client)
    connected.append(protocol.transport.getPeer().port)
    assert connected == [port.getHost().port]
    lost = Deferred()
    protocol.connectionLost = lost.callback
    protocol.transport.abortConnection()
    await lost.addBoth(lambda _: None)
    await port.stopListening()


def test_a_refused_certificate_is_retried_every_minute_and_at_a_change(world):
    """Back-off does not grow for it; a new document means now."""
    one, two = world.node("one"), world.node("two").listen()
    one.certificate = world.issuer.certify(
        one.enrolled.node_key, one.enrolled.noise_key, "one", ["relay"], lifetime=60
    )
    world.clock.advance(400)
    dialling(one, two)
    times = attempts(world, one, 301)
    assert len(times) == 6 and states(one) == [TargetState.REFUSED]
    assert one.dialler.targets[0].reason == "expired"
    one.certificate = world.issuer.renew(one.enrolled).certificate
    one.dialler.documents_changed("status")
    world.run(0.5)
    assert one.link(two) is None
    one.dialler.documents_changed("certificate")
    world.run(0.5)
    assert one.link(two) is not None


@pytest.mark.parametrize(("garbled", "within"), [(1, 2), (2, 63)])
def test_c19_one_changed_byte_is_no_refusal(world, garbled, within):
    """A handshake that does not come out is tried again at once; a second one waits as for a refusal."""
    one, two = world.node("one"), world.node("two").listen()
    left = garbled
    original = world.network.client

    def client(address, host):
        endpoint = original(address, host)
        connect = endpoint.connect

        def connected(factory):
            return connect(factory).addCallback(garble)

        endpoint.connect = connected
        return endpoint

    def garble(protocol):
        nonlocal left
        if left:
            left -= 1
            received = protocol.dataReceived
            protocol.dataReceived = lambda data: received(data[:-1] + bytes([data[-1] ^ 1]))
        return protocol

    world.network.client = client
    dialling(one, two)
    world.run(within)
    assert one.counters["handshake-failed"] == garbled
    assert one.link(two) is not None
    if garbled == 2:
        assert one.link(two).peer.name == "two" and world.clock.seconds() > 60


@pytest.mark.parametrize(("kind", "soon"), [("certificate", True), ("status", False)])
def test_news_during_a_dial_makes_its_refusal_no_reason_to_wait(world, kind, soon):
    """Our certificate is renewed between the peer's look at the old one and its refusal."""
    one, two = world.node("one"), world.node("two").listen()
    one.certificate = world.issuer.certify(
        one.enrolled.node_key, one.enrolled.noise_key, "one", ["relay"], lifetime=60
    )
    world.clock.advance(400)
    verify = two.verifier.verify

    def renewed_meanwhile(payload, remote_static):
        one.certificate = world.issuer.renew(one.enrolled).certificate
        one.dialler.documents_changed(kind)
        return verify(payload, remote_static)

    two.verifier.verify = renewed_meanwhile
    dialling(one, two)
    times = attempts(world, one, 50)
    assert len(times) == (2 if soon else 1)
    assert (one.link(two) is not None) == soon


def test_a_revoked_node_waits_for_a_crl_or_a_certificate(world):
    """Nothing else can help, so nothing else makes it dial."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    world.run(1)
    two.trust.offer(world.issuer.revoke(one.enrolled), world.wall())
    world.run(1)
    assert states(one) == [TargetState.REFUSED] and one.dialler.targets[0].reason == "revoked"
    assert attempts(world, one, 3600) == []
    one.dialler.documents_changed("policy")
    assert attempts(world, one, 100) == []
    one.dialler.documents_changed("crl")
    assert len(attempts(world, one, 100)) == 1


def test_a_new_noise_key_makes_links_anew_before_the_old_ones_end(world):
    """The dialler redials under the new certificate; there is a link at every moment."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    world.run(10)
    key = world.issuer.enrol("spare", "relay").noise_key
    one.certificate = world.issuer.certify(one.enrolled.node_key, key, "one", ["relay"])
    one.enrolled = replace(one.enrolled, noise_key=key, certificate=one.certificate)
    one.dialler.redial()
    for _ in range(200):
        world.run(0.01)
        assert one.link(two) is not None and two.link(one) is not None
    assert two.link(one).peer.noise_key == key.public
    assert two.recorder.events == [("up", "one"), ("down", "one", "duplicate"), ("up", "one")]
    assert len(world.network.open_connections()) == 1 and states(one) == [TargetState.LINKED]


def test_a_session_is_replaced_each_day_new_before_old(world):
    """After a day, give or take a tenth, the dialler makes the link anew; there is one at every moment."""
    one, two = world.node("one"), world.node("two").listen()
    for node in (one, two):
        node.certificate = world.issuer.renew(node.enrolled, lifetime=3 * 86_400).certificate
    dialling(one, two)
    world.run(10)
    due = one.dialler.targets[0].timer.getTime()
    assert 0.89 * 86_400 < due < 1.11 * 86_400
    world.run(due - world.clock.seconds() - 0.01)
    assert one.recorder.events == [("up", "two")]
    first = one.link(two).handshake_hash
    for _ in range(100):
        world.run(0.001)
        assert one.link(two) is not None and two.link(one) is not None
    assert one.link(two).handshake_hash != first
    world.run(10)
    assert one.recorder.events == [("up", "two"), ("down", "two", "duplicate"), ("up", "two")]
    assert len(world.network.open_connections()) == 1


def test_a_refused_suite_is_followed_by_the_next(world):
    """A peer that hangs up on the first proposal is offered the next one the genesis allows."""
    one, two = world.node("one"), world.node("two").listen()
    first, second = one.noise.suites()[:2]
    two.noise.suites = lambda: (second,)
    dialling(one, two)
    world.run(3)
    assert one.link(two) is not None
    assert two.counters["suite-not-allowed"] == 1
    two.noise.suites = lambda: (first, second)
    world.network.open_connections()[0].cut()
    world.run(3)
    assert one.link(two) is not None and two.counters["suite-not-allowed"] == 1
    assert one.dialler.targets[0].suite_turn == 0


def test_spare_targets_are_dialled_while_links_are_missing():
    """Of ten anchors four are dialled; when one goes another takes its place; a named target is no spare."""
    world = World(seed=5)
    anchors = [world.node(f"anchor-{number}", "anchor", "relay").listen() for number in range(10)]
    friend, one = world.node("friend").listen(), world.node("one", "client")
    dead = [f"192.0.2.{number}:1" for number in range(3)]
    one.dialler.set_targets([friend.address], [*dead, *(anchor.address for anchor in anchors)])
    one.dialler.start()
    world.run(30)
    assert one.link(friend) is not None
    assert 4 <= len(one.neighbours.links) <= 6
    world.run(300)
    kept = [anchor for anchor in anchors if one.link(anchor)]
    for anchor in kept:
        anchor.port.stopListening()
        anchor.neighbours.close(CloseReason.SHUTDOWN)
    world.run(10)
    now = [anchor for anchor in anchors if one.link(anchor)]
    assert len(now) >= 3 and not set(now) & set(kept)
    one.dialler.set_targets([friend.address, *(anchor.address for anchor in anchors)])
    world.run(100)
    assert len(one.neighbours.links) == 11 - len(kept)
    world.finish()


def test_targets_may_change_at_any_time(world):
    """A removed target is dropped in whatever it was doing; its link stays; a new one is dialled."""
    one, two, three = world.node("one"), world.node("two").listen(), world.node("three").listen()
    world.network.unreachable.add("192.0.2.1")
    dialling(one, two, "192.0.2.1:1")
    world.run(1)
    one.dialler.set_targets([three.address])
    world.run(1)
    assert one.link(two) is not None and one.link(three) is not None
    world.network.between(one.host, two.host)[0].cut()
    world.run(100)
    assert one.link(two) is None and one.link(three) is not None


@pytest.mark.parametrize("moment", [0.0, 0.0005, 0.0015, 0.0025, 0.0035, 0.0045, 0.0055, 1.0])
def test_stopping_gives_up_every_dial(moment):
    """At whatever step: no socket, no timer and no later dial; only a finished link stays."""
    world = World()
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, two)
    world.run(moment)
    one.dialler.stop()
    world.run(10)
    assert len(world.network.open_connections()) == (moment == 1.0)
    assert attempts(world, one, 100) == []
    world.finish()


def test_a_broken_target_concerns_itself_alone(world):
    """Text that is no address fails, with the reason, and the others are dialled."""
    one, two = world.node("one"), world.node("two").listen()
    dialling(one, "nonsense", two)
    world.run(1)
    assert one.link(two) is not None
    assert one.dialler.targets[0].reason == "connect-failed"


def test_c1_targets_that_fail_at_once_use_no_stack(world):
    """However many wait behind dials that hang: each fails, and the good one after them is linked."""
    one, two = world.node("one"), world.node("two").listen()
    holes = [f"192.0.2.{number}:1" for number in range(DIALS_AT_ONCE)]
    world.network.unreachable.update(hole.rpartition(":")[0] for hole in holes)
    broken = [f"nonsense {number}" for number in range(1000)]
    dialling(one, *holes, *broken, two)
    world.run(DIAL_DEADLINE + 1)
    assert {target.reason for target in one.dialler.targets[:-1]} == {"connect-failed"}
    assert one.link(two) is not None


@implementer(IReactorPluggableNameResolver)
class TwoAddresses(MemoryReactorClock):
    """A reactor to which every host has an address of each kind."""

    def __init__(self):
        super().__init__()
        self.nameResolver = self

    def installNameResolver(self, resolver):
        raise NotImplementedError

    def resolveHostName(self, receiver, host, port=0, *others, **named):
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv6Address("TCP", "2001:db8::1", port))
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", port))
        receiver.resolutionComplete()


def test_a_dead_address_of_a_host_holds_up_no_other():
    """Of a host with a silent address of each kind the other is tried within a third of a second."""
    reactor = TwoAddresses()
    pending = client_endpoint(reactor, "mesh.example:7443").connect(Factory.forProtocol(Protocol))
    tried = []
    for _ in range(8):
        tried.append(len(reactor.tcpClients))
        reactor.advance(0.1)
    assert tried[0] == 1 and tried[4] == 2
    assert [host for host, *_ in reactor.tcpClients] == ["2001:db8::1", "192.0.2.1"]
    pending.addErrback(lambda failure: failure.trap(ConnectingCancelledError))
    pending.cancel()


def test_target_strings():
    """HOST:PORT and tcp:HOST:PORT try all addresses; anything else is refused."""
    from twisted.internet import reactor

    for text in (
        "mesh.example:7443",
        "tcp:mesh.example:7443",
        "10.0.0.1:7443",
        "[2001:db8::1]:7443",
        "tcp:[::1]:1",
    ):
        assert isinstance(client_endpoint(reactor, text), HostnameEndpoint)
    for text in ("", "mesh.example", "nonsense:1:2:3", "tcp:", ":7443", "unix:/run/x.sock", *HOSTILE):
        with pytest.raises(ConfigurationError):
            client_endpoint(reactor, text)


def test_tls_to_the_host_that_is_named():
    """tls:HOST:PORT begins with a TLS greeting to that host."""
    reactor = TwoAddresses()
    pending = client_endpoint(reactor, "tls:mesh.example:443").connect(Factory.forProtocol(Protocol))
    assert reactor.tcpClients[0][0] == "2001:db8::1"
    wire = StringTransport()
    reactor.tcpClients[0][2].buildProtocol(None).makeConnection(wire)
    assert wire.value()[:2] == b"\x16\x03" and b"mesh.example" in wire.value()
    pending.addErrback(lambda failure: failure.trap(ConnectingCancelledError))
    pending.cancel()


def test_spares_behind_others_wait_for_them():
    """While the first spares are being tried none behind them is; when they fail it has its turn."""
    world = World(seed=6)
    one, last = world.node("one", "client"), world.node("last", "anchor").listen()
    dead = [f"192.0.2.{number}:1" for number in range(TARGET_DEGREE)]
    world.network.unreachable.update(address.partition(":")[0] for address in dead)
    one.dialler.set_targets([], dead, [last.address])
    one.dialler.start()
    world.run(DIAL_DEADLINE - 0.1)
    assert one.link(last) is None and one.dialler.targets[-1].state is TargetState.SPARE
    world.run(3)
    assert one.link(last) is not None
    world.finish()
