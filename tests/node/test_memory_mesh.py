# SPDX-License-Identifier: MIT
"""Three whole nodes in a line: what arrives, what the relay can read, and what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs

from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import Rule
from gmesh.wire.frames import Kind
from gmesh.wire.paths import AT_PATH, PathHeader, pack_path_frame

CANARY = b"canary-7c1f: the pump runs at 4.2 bar"
Send = Callable[..., Any]


@pytest.fixture
def inbox(mesh: MemoryMesh) -> list[Message]:
    """What c received on the service log."""
    received: list[Message] = []
    mesh["c"].runtime.datagrams.register("log", received.append)
    return received


@pytest.fixture
def send(mesh: MemoryMesh) -> Send:
    """Send from a to c and let time pass until that is decided."""

    def send(data: bytes = CANARY, timeout: float = 10.0) -> Any:
        return mesh.result(mesh["a"].runtime.datagrams.send("c", "log", data, timeout=timeout))

    return send


class Relay:
    """What b sends to c, in the hands of an attacker who owns b."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.link = mesh["b"].link("c")
        self.pass_on = self.link.send_data
        self.seen: list[tuple[bytes, bytes]] = []
        self.alter: Callable[[bytes], bytes] = lambda frame: frame
        self.link.send_data = self.send_data
        mesh["b"].runtime.forwarding.forget_verdicts()

    def send_data(self, frame: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        whole = b"".join((frame, rest))
        if whole[2] == Kind.E2E_DATA:
            self.seen.append((whole, flow))
            whole = self.alter(whole)
        return bool(self.pass_on(whole, flow))


def count(mesh: MemoryMesh, name: str, cause: str) -> int:
    return mesh[name].runtime.counters().get(cause, 0)


def test_links_records_and_a_path(mesh: MemoryMesh) -> None:
    """a meets b, b meets c, and each knows the way to all others."""
    assert [node.link_names for node in mesh] == [["b"], ["a", "c"], ["b"]]
    assert mesh["a"].path("c") == ["a", "b", "c"]
    assert mesh["c"].path("a") == ["c", "b", "a"]
    digests = {node.runtime.engine.store.digest() for node in mesh}
    assert len(digests) == 1


def test_a_sealed_message_arrives_once_and_is_acknowledged(inbox: list[Message], send: Send) -> None:
    """Two hops there, two back; the receiver learns who sealed it from the session."""
    delivered = send()
    assert delivered.rtt == pytest.approx(0.004, abs=0.001)
    assert [(message.source_name, message.data) for message in inbox] == [("a", CANARY)]


def test_a_relay_whose_queue_drops_what_it_took_reports_that_to_the_source(mesh: MemoryMesh) -> None:
    """Frames of a wait for long in the queue of the slow link from b to c: a hears of one that had to go."""
    a, b, c = (node.handle for node in mesh)
    frame = pack_path_frame(Kind.E2E_DATA, PathHeader((a, b, c), 1, 1, 2), bytes(4_000))
    mesh.slow("b", "c", 20_000)
    for _ in range(150):
        mesh["b"].link("c").send_data(frame, a + c)
        mesh.run(0.1)
    assert count(mesh, "b", "data-waited-long") > 0
    assert count(mesh, "a", "dropped-heard") > 0


def test_field_t1_no_byte_of_the_payload_is_readable_at_the_relay(
    mesh: MemoryMesh, inbox: list[Message], send: Send
) -> None:
    """b decrypted every hop record that carried the message, and the payload is in none of them."""
    before = len(mesh["b"].opened)
    send()
    send(CANARY * 1000)
    read_by_b = b"".join(mesh["b"].opened[before:])
    assert len(read_by_b) > len(CANARY) * 1000
    assert CANARY not in read_by_b
    assert CANARY[7:15] not in read_by_b
    assert len(inbox) == 2


def test_an_altered_frame_is_not_delivered_and_counted(
    mesh: MemoryMesh, inbox: list[Message], send: Send
) -> None:
    """Every bit of the ciphertext and of the sealed header counts; the sender is told that nothing came."""
    send(b"first")
    relay = Relay(mesh)
    relay.alter = lambda frame: frame[:-1] + bytes([frame[-1] ^ 1])
    with pytest.raises(SendRefused, match="c"):
        send(timeout=2)
    assert [message.data for message in inbox] == [b"first"]
    assert count(mesh, "c", "not-authentic") >= 1
    relay.alter = lambda frame: frame
    send(b"last")
    assert [message.data for message in inbox] == [b"first", b"last"]


def test_field_t3_a_replayed_frame_is_delivered_once_and_counted(
    mesh: MemoryMesh, inbox: list[Message], send: Send
) -> None:
    """The same frame three times: one delivery, two counted replays."""
    relay = Relay(mesh)
    send()
    replayed = count(mesh, "c", "replayed")
    for frame, flow in relay.seen[-1:] * 2:
        relay.pass_on(frame, flow)
    mesh.run(1)
    assert [message.data for message in inbox] == [CANARY]
    assert count(mesh, "c", "replayed") == replayed + 2


def test_an_injected_frame_is_not_delivered_and_counted(
    mesh: MemoryMesh, inbox: list[Message], send: Send
) -> None:
    """A frame b makes up in the name of a, with a counter from the future, moves nothing."""
    relay = Relay(mesh)
    send(b"first")
    frame, flow = relay.seen[-1]
    forged = bytearray(frame)
    counter_at = AT_PATH + 8 * len(["a", "b", "c"]) + 4
    forged[counter_at : counter_at + 8] = (1000).to_bytes(8, "big")
    relay.pass_on(bytes(forged), flow)
    mesh.run(1)
    assert count(mesh, "c", "not-authentic") == 1
    send(b"second")
    assert [message.data for message in inbox] == [b"first", b"second"]


def test_revocation_cuts_in_the_same_turn(mesh: MemoryMesh, inbox: list[Message], send: Send) -> None:
    """When b applies the CRL, the link, routes, records and certificate of c are gone before it returns."""
    send()
    mesh.issuer.revoke(mesh["c"].enrolled)
    b = mesh["b"]
    before = mesh.clock.seconds()
    b.runtime.member.trust.offer(mesh.issuer.crl, mesh.wall())
    assert mesh.clock.seconds() == before
    assert b.link_names == ["a"]
    assert b.path("c") is None
    assert mesh["c"].handle not in b.runtime.engine.store.handles()
    assert b.runtime.directory.find_name("c") is None
    mesh.run(1)
    assert mesh["a"].runtime.member.trust.crl == mesh.issuer.crl
    assert mesh["c"].link_names == []
    with pytest.raises(SendRefused):
        send()
    mesh.run(300)
    assert mesh["c"].link_names == []
    assert len(inbox) == 1


def test_a_revoked_end_is_cut_off_by_the_other_end_too(
    mesh: MemoryMesh, inbox: list[Message], send: Send
) -> None:
    """With b keeping the news to itself, a that knows refuses c by itself."""
    send()
    mesh.issuer.revoke(mesh["c"].enrolled)
    mesh["b"].tampers = lambda kind, frame, to: None if kind in (Kind.CRL, Kind.STATUS) else frame
    mesh.publish("a")
    with pytest.raises(SendRefused):
        send()


def test_the_policy_bites_at_both_ends(mesh: MemoryMesh, inbox: list[Message], send: Send) -> None:
    """A new policy is in force without a restart: refused at the source, then at the destination."""
    send()
    deny = Rule(effect="deny", sources=("node:a",), to=("node:c",), services=("log",))
    mesh.issuer.publish_policy(deny)
    mesh.publish("b")
    mesh.run(1)
    with pytest.raises(SendRefused) as refused:
        send()
    assert refused.value.reason == "denied"
    assert len(inbox) == 1


def test_a_service_without_receiver(mesh: MemoryMesh) -> None:
    """An acknowledgement means handed to a receiver: without one it is refused by name."""
    with pytest.raises(SendRefused) as refused:
        mesh.result(mesh["a"].runtime.datagrams.send("c", "nobody", b""))
    assert refused.value.reason == "no-such-service"


def test_ping_and_trace(mesh: MemoryMesh) -> None:
    """Sealed round trips to the end and to each hop."""
    echo = mesh["a"].runtime.echo
    mesh.result(echo.ping("c"))
    assert mesh.result(echo.ping("c")) == pytest.approx(0.004, abs=0.001)
    hops = mesh.result(echo.trace("c"))
    assert [hop.name for hop in hops] == ["b", "c"]


def test_a_restarted_relay_heals(mesh: MemoryMesh, inbox: list[Message], send: Send) -> None:
    """b comes back with its stored numbers: traffic flows again within ten seconds."""
    send()
    sequence = mesh["b"].runtime.engine.sequence
    mesh["b"].restart()
    took = mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))
    assert took < 10
    assert mesh["b"].runtime.engine.sequence > sequence
    send(b"again")
    assert [message.data for message in inbox] == [CANARY, b"again"]


@pytest.fixture
def short() -> Iterator[MemoryMesh]:
    """A line whose certificates live for twenty minutes."""
    made = MemoryMesh.line("a", "b", "c", lifetime=1200)
    made.run_until(lambda: made["a"].reaches("c") and made["c"].reaches("a"))
    yield made
    made.stop()


def test_a_renewed_certificate_keeps_the_links(short: MemoryMesh) -> None:
    """Neighbours and far ends go on under the new certificate, past the end of the old one."""
    received: list[Message] = []
    short["c"].runtime.datagrams.register("log", received.append)
    links = [short["b"].link("a"), short["b"].link("c")]
    short.run(600)
    for node in short:
        node.renew(1200)
    short.run(1000)
    assert [short["b"].link("a"), short["b"].link("c")] == links
    short.result(short["a"].runtime.datagrams.send("c", "log", b"later"))
    assert [message.data for message in received] == [b"later"]


def test_an_expired_certificate_is_cut(short: MemoryMesh) -> None:
    """Without renewal each link ends when the certificate at its other end does, plus the leeway."""
    short.run(1200 + 299 - short.clock.seconds())
    assert short["b"].link_names == ["a", "c"]
    short.run(2)
    assert [node.link_names for node in short] == [[], [], []]


def test_a_node_that_slept_past_its_certificate_comes_back() -> None:
    """It boots, is refused by name, renews, and is linked at once, with nobody restarting anything."""
    mesh = MemoryMesh()
    mesh.add("a", "anchor")
    mesh.add("b", "client", peers=["a"], lifetime=600)
    mesh.run(1800)
    mesh.start()
    with capturedLogs() as lines:
        mesh.run(90)
    assert mesh["b"].link_names == []
    assert {event["reason"] for event in lines if "Refused peer" in event["log_format"]} == {"expired"}
    mesh["b"].renew()
    assert mesh.run_until(lambda: mesh["b"].link_names == ["a"]) < 1
    mesh.stop()


def test_a_run_repeats() -> None:
    """The same seed gives the same bytes on every wire."""
    traces = []
    for _ in range(2):
        again = MemoryMesh.line("a", "b", "c", seed=5)
        again.run(20)
        traces.append([node.opened for node in again])
        again.stop()
    assert traces[0] == traces[1]
