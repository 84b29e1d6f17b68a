# SPDX-License-Identifier: MIT
"""Byte streams between whole nodes: what ends them, what does not, and what others hear of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from node.logged import measured
from streams.rigs import HalfCloser, Recorder, Rig
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from gmesh.stream_errors import DialRefused, StreamLost
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import Rule
from gmesh.wire.messages import EndParameters

DAY = 86_400
RIG = Rig()
ALLOW = Rule(effect="allow", sources=("*",), to=("*",), services=("*",))
CLIENTS = Rule(effect="allow", sources=("role:client",), to=("*",), services=("web",))


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """a - relay - b."""
    made = MemoryMesh.line("a", "relay", "b")
    made.run_until(lambda: made["a"].reaches("b") and made["b"].reaches("a"))
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


class Opened:
    """A stream from a to b, open at both ends."""

    def __init__(self, mesh: MemoryMesh, service: str = "web", dialler: str = "a", target: str = "b") -> None:
        self.near, self.far = HalfCloser(RIG), HalfCloser(RIG)
        streams = mesh[target].runtime.streams
        if service not in streams.listeners.names:
            streams.listen(service, lambda offer: offer.accept(self.far))
        mesh[dialler].runtime.streams.dial(target, service, lambda peer: self.near)
        mesh.run_until(lambda: self.near.connected and self.far.connected)

    @property
    def alive(self) -> bool:
        """Neither end was told of an end."""
        return self.near.lost is None and self.far.lost is None

    def works(self, mesh: MemoryMesh) -> bool:
        """Bytes go both ways."""
        before = len(self.near.data), len(self.far.data)
        self.near.transport.write(b"there")
        self.far.transport.write(b"back!")
        mesh.run_until(lambda: len(self.near.data) == before[0] + 5 and len(self.far.data) == before[1] + 5)
        return self.alive


def reason(protocol: Recorder) -> str:
    """Why a stream broke; it must not have ended cleanly."""
    assert protocol.lost is not None
    assert isinstance(protocol.lost.value, StreamLost)
    return protocol.lost.value.reason


def refusal(mesh: MemoryMesh, dialled: Deferred[Any]) -> DialRefused:
    """Why a dial failed."""
    with pytest.raises(DialRefused) as caught:
        mesh.result(dialled)
    return caught.value


def dial(mesh: MemoryMesh, service: str = "web", node: str = "b", dialler: str = "a") -> Deferred[Any]:
    """Nobody cares for the protocol."""
    return mesh[dialler].runtime.streams.dial(node, service, lambda peer: Recorder(RIG))


def deny(service: str, to: str = "node:b") -> Rule:
    """To a."""
    return Rule(effect="deny", sources=("node:a",), to=(to,), services=(service,))


def publish(mesh: MemoryMesh, *rules: Rule, names: tuple[str, ...] = (), **changes: Any) -> None:
    """A new policy reaches these nodes; all, if none is named."""
    mesh.issuer.publish_policy(*rules, **changes)
    mesh.publish(*names)


def test_each_end_knows_the_other_as_the_authority_certified_it(mesh: MemoryMesh) -> None:
    """Name, id, roles, serial; the service."""
    opened = Opened(mesh)
    for protocol, own, other in ((opened.near, "a", "b"), (opened.far, "b", "a")):
        peer, host = protocol.transport.getPeer(), protocol.transport.getHost()
        certified = mesh[other].runtime.member.peer
        assert (peer.name, peer.service, host.name) == (other, "web", own)
        assert (peer.node_id, peer.roles, peer.serial) == (
            certified.node_id,
            certified.roles,
            certified.serial,
        )


def test_services_of_streams_are_advertised_with_those_of_messages(mesh: MemoryMesh) -> None:
    """One name space; what stops listening is not named any more, unless it also takes messages."""
    b = mesh["b"].runtime

    def advertised() -> list[str]:
        [node] = [node for node in mesh["a"].runtime.engine.nodes(mesh.now()) if node.member.name == "b"]
        return sorted(node.services)

    b.datagrams.register("log", lambda message: None)
    listeners = [b.streams.listen(name, lambda offer: None) for name in ("log", "web")]
    mesh.run_until(lambda: advertised() == ["log", "web"])
    for listener in listeners:
        listener.stopListening()
    mesh.run_until(lambda: advertised() == ["log"])


def test_streams_outlive_handshakes_renewals_and_changes_of_the_path(mesh: MemoryMesh) -> None:
    """Ten minutes of it, idle and busy by turns."""
    opened = Opened(mesh)
    for minute in range(10):
        mesh.run(60)
        if minute == 3:
            mesh["b"].renew()
            mesh["a"].renew()
        if minute == 6:
            mesh.cut("a", "relay")
            mesh.run(20)
        assert opened.works(mesh)
    counters = mesh["a"].runtime.counters()
    assert counters["established"] >= 3


def test_an_idle_stream_lives_for_hours(mesh: MemoryMesh) -> None:
    """Longer than any association without traffic, and with little of it."""
    opened = Opened(mesh)
    before = mesh["a"].runtime.counters().get("segments-resent", 0)
    mesh.run(2 * 3600)
    assert opened.works(mesh)
    assert mesh["a"].runtime.counters().get("segments-resent", 0) == before


@pytest.mark.parametrize("denier", ["a", "b"])
def test_a_policy_that_denies_it_ends_an_open_stream_at_either_end(mesh: MemoryMesh, denier: str) -> None:
    """Whichever end hears of it first, both are told at once, with the rule."""
    opened, other = Opened(mesh), Opened(mesh, "ssh")
    publish(mesh, deny("web"), ALLOW, names=(denier,))
    mesh.run(1.0)
    assert reason(opened.near) == reason(opened.far) == "denied"
    assert "rule 0" in str(opened.near.lost.value)
    assert "rule 0" in str(opened.far.lost.value)
    assert other.works(mesh)
    assert refusal(mesh, dial(mesh)).reason == "denied"


def test_a_dial_that_the_far_policy_denies_names_the_rule(mesh: MemoryMesh) -> None:
    """The near end has an older policy."""
    Opened(mesh)
    publish(mesh, deny("ssh"), ALLOW, names=("b",))
    error = refusal(mesh, dial(mesh, "ssh"))
    assert error.reason == "denied"
    assert "rule 0" in error.detail


def test_a_role_that_a_renewal_takes_away_is_judged_again(mesh: MemoryMesh) -> None:
    """The policy lets clients in; a is none any more."""
    publish(mesh, CLIENTS)
    mesh.run(2)
    opened = Opened(mesh)
    a = mesh["a"]
    body = a.enrolled.certificate.body
    certificate = mesh.issuer.certify(a.enrolled.node_key, a.enrolled.noise_key, body.name, ("relay",), DAY)
    a.runtime.member.adopt_certificate(certificate)
    mesh.run(2)
    assert reason(opened.near) == reason(opened.far) == "denied"


@pytest.mark.parametrize("revoked", ["a", "b"])
def test_revocation_ends_streams_in_the_turn_that_applies_it(mesh: MemoryMesh, revoked: str) -> None:
    """No byte is handed over after it; a new dial says why."""
    opened = Opened(mesh)
    other = "b" if revoked == "a" else "a"
    mesh.issuer.revoke(mesh[revoked].enrolled)
    mesh[other].runtime.member.trust.offer(mesh.issuer.crl, mesh.wall())
    assert mesh[other].runtime.streams.open_streams() == []
    mesh.run(0)
    told = opened.far if revoked == "a" else opened.near
    assert reason(told) == "revoked"
    if revoked == "b":
        assert refusal(mesh, dial(mesh)).reason == "revoked"
    mesh.run(5)
    assert not opened.alive


def test_a_node_that_lost_touch_with_its_authority_ends_its_streams(mesh: MemoryMesh) -> None:
    """By time alone; they can be opened again once it is back."""
    publish(mesh, ALLOW, stale_grace=600)
    opened = Opened(mesh)
    mesh.run(mesh.issuer.status.body.expires_at + 600 - mesh.wall() - 5)
    assert opened.works(mesh)
    mesh.run(10)
    assert reason(opened.near) == "stale"
    assert not opened.alive
    assert refusal(mesh, dial(mesh)).reason == "stale"
    mesh.issuer.publish_status()
    mesh.publish()
    mesh.run(1)
    assert Opened(mesh, "ssh").works(mesh)


def test_a_far_end_that_restarts_ends_its_streams_when_it_is_back(mesh: MemoryMesh) -> None:
    """Nobody waits for a timeout, and new dials work."""
    opened = Opened(mesh)
    mesh["b"].kill()
    mesh.run(1)
    assert opened.near.lost is None, "the link broke, not the stream"
    mesh["b"].restart()
    mesh.run_until(lambda: mesh["a"].reaches("b"), within=60)
    mesh.run_until(lambda: opened.near.lost, within=6)  # a handshake, and perhaps its repetition
    assert reason(opened.near) == "restarted"
    assert Opened(mesh).works(mesh)


def test_a_node_that_stops_says_so(mesh: MemoryMesh) -> None:
    """Both ends hear of it, and no stream looks finished."""
    opened = Opened(mesh)
    opened.near.transport.write(bytes(1_000_000))
    stopped = mesh["b"].stop()
    mesh.run(3)
    assert stopped.called
    assert reason(opened.far) == reason(opened.near) == "stopped"


def test_a_far_end_that_vanishes_is_waited_for_five_minutes(mesh: MemoryMesh) -> None:
    """While something is unacknowledged; then the stream is lost."""
    opened = Opened(mesh)
    mesh["b"].kill()
    opened.near.transport.write(b"are you there?")
    mesh.run(280)
    assert opened.near.lost is None
    mesh.run(60)
    assert reason(opened.near) == "timed-out"
    assert mesh["a"].runtime.streams.open_streams() == []


def test_a_far_end_that_comes_back_in_time_goes_on(mesh: MemoryMesh) -> None:
    """As a laptop that slept for four minutes: nothing is lost, not a byte twice."""
    opened = Opened(mesh)
    mesh.silence("relay", "b")
    opened.near.transport.write(b"there")
    opened.far.transport.write(b"back!")
    mesh.run(240)
    mesh.heal()
    mesh.run_until(lambda: opened.near.data and opened.far.data, within=60)
    assert (opened.far.data, opened.near.data) == (b"there", b"back!")
    assert opened.works(mesh)


@pytest.mark.parametrize("forgetful", ["a", "b"])
def test_streams_are_opened_again_after_one_end_forgot_the_other(mesh: MemoryMesh, forgetful: str) -> None:
    """It begins with far higher numbers, which the end that remembers can still acknowledge."""
    for service in ("first", "second"):
        opened = Opened(mesh, service)
        assert opened.works(mesh)
        for protocol in (opened.near, opened.far):
            protocol.transport.loseConnection()
        mesh.run(2)
        associations = mesh[forgetful].runtime._sessions.associations
        for association in associations:
            associations.give_up(association, "evicted")
    assert Opened(mesh, "third").works(mesh)


def test_a_node_of_the_release_before_is_refused_at_once(mesh: MemoryMesh) -> None:
    """Its version is named; messages go on."""
    b = mesh["b"].runtime
    b._sessions._sealer.handshaker._parameters = EndParameters()
    b.datagrams.register("log", lambda message: None)
    before = mesh.now()
    error = refusal(mesh, dial(mesh))
    assert mesh.now() - before < 1.0
    assert error.reason == "no-streams"
    assert "b runs gmesh/" in error.detail
    mesh.result(mesh["a"].runtime.datagrams.send("b", "log", b"still here"))


def test_a_node_dials_itself(mesh: MemoryMesh) -> None:
    """By name, under the same policy."""
    opened = Opened(mesh, dialler="a", target="a")
    assert opened.works(mesh)
    assert opened.near.transport.getPeer().name == "a"
    publish(mesh, deny("web", "node:a"), ALLOW)
    mesh.run(1)
    assert reason(opened.near) == reason(opened.far) == "denied"
    assert refusal(mesh, dial(mesh, node="a")).reason == "denied"


def test_a_node_dials_itself_as_its_newest_certificate_says(mesh: MemoryMesh) -> None:
    """An open stream is judged by the role that a renewal took away, and the one before may end."""
    opened = Opened(mesh, dialler="a", target="a")
    a = mesh["a"]
    publish(mesh, CLIENTS)
    mesh.run(2)
    body = a.enrolled.certificate.body
    certificate = mesh.issuer.certify(a.enrolled.node_key, a.enrolled.noise_key, body.name, ("relay",), DAY)
    a.runtime.member.adopt_certificate(certificate)
    mesh.run(1)
    assert reason(opened.near) == reason(opened.far) == "denied"
    publish(mesh, ALLOW)
    again = Opened(mesh, "ssh", dialler="a", target="a")
    assert again.near.transport.getPeer().serial == certificate.body.serial


def test_a_stub_dials_what_it_has_never_heard_of() -> None:
    """It keeps no table, and asks first."""
    mesh = MemoryMesh()
    for name, role, peers in (("b", "relay", ()), ("relay", "relay", ("b",)), ("a", "client", ("relay",))):
        mesh.add(name, role, peers=peers)
    mesh["a"].keep_no_table()
    mesh.start()
    mesh.run_until(lambda: mesh["b"].reaches("a"))
    assert Opened(mesh).works(mesh)
    mesh.stop()


def test_ten_thousand_streams_leave_nothing(mesh: MemoryMesh) -> None:
    """No number is used twice, no timer and no entry is left."""
    b = mesh["b"].runtime.streams
    b.listen("web", lambda offer: offer.accept(Recorder(RIG)))
    numbers = set[int]()
    for _ in range(100):
        ends = [Recorder(RIG) for _ in range(50)]
        for end in ends:
            mesh["a"].runtime.streams.dial("b", "web", lambda peer, end=end: end)
        mesh.run_until(lambda ends=ends: all(end.connected for end in ends))
        for end in ends:
            numbers.add(end.transport.number)
            end.transport.write(b"x")
            end.transport.loseConnection()
        mesh.run_until(lambda ends=ends: all(end.clean for end in ends))
        mesh.run(0.3)
    assert len(numbers) == 5000
    for name in "ab":
        streams = mesh[name].runtime.streams
        mesh.run(1)
        assert streams.open_streams() == []
        [mux] = streams._muxes.values()
        assert not mux.streams
        assert mux.segments.idle
        assert mux.sends.used == mux._credit.used == 0


def test_each_end_of_a_stream_is_one_line_without_what_it_carried(mesh: MemoryMesh) -> None:
    """Who, which service, how long, how much, why; for a clean end and for a break."""
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        text = formatEvent(event)
        if text.startswith("stream "):
            lines.append(text)

    globalLogPublisher.addObserver(observe)
    try:
        opened = Opened(mesh)
        opened.near.transport.write(b"secret!")
        opened.near.transport.loseWriteConnection()
        mesh.run(1)
        opened.far.transport.loseWriteConnection()
        mesh.run(1)
        broken = Opened(mesh, "ssh")
        broken.near.transport.reset("denied", "not today")
        mesh.run(1)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert len(lines) == 4
    clean = re.compile(r"stream \d+ to b:web ended after \d\.\d s, 7 bytes sent, 0 received: done")
    assert any(map(clean.fullmatch, lines))
    assert any("from a:web" in line and line.endswith("0 bytes sent, 7 received: done") for line in lines)
    assert sum(line.endswith(": denied (not today)") for line in lines) == 2
    assert "secret" not in "".join(lines)


class Failing(Recorder):
    """A program with a bug."""

    def connectionMade(self) -> None:
        raise ValueError("a program with a bug")


@pytest.mark.parametrize("program", ["reads", "fails to take it", "fails at once"])
def test_c10_a_peer_that_opens_stream_after_stream_makes_little_log(
    mesh: MemoryMesh, program: str, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """The first few are a line each, then ever fewer, which say how many are not; whatever takes them."""

    def take(offer: Any) -> None:
        if program == "fails to take it":
            raise ValueError("a program with a bug")
        offer.accept(Recorder(RIG) if program == "reads" else Failing(RIG))

    mesh["b"].runtime.streams.listen("web", take)

    def flood() -> None:
        for _ in range(100):
            dial(mesh).addCallbacks(lambda near: near.transport.reset("denied", "x" * 200), lambda _: None)
            mesh.run(0.05)

    with measured() as text:
        flood()
        mesh.run(60)
        flood()
    assert sum(mesh["b"].runtime.streams.tally.outcomes.values()) == 200
    lines = [line for line in text.getvalue().splitlines() if "from a:web ended" in line]
    assert 6 <= len(lines) < 10
    assert sum("more since the last line)" in line for line in lines) >= 1
    assert len(flush_logged_errors(ValueError)) < 10


def test_a_node_without_streams_does_not_load_what_carries_them() -> None:
    """Half a MiB of code."""
    script = "import sys, gmesh.node.runtime; sys.exit('gmesh.streams.mux' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
