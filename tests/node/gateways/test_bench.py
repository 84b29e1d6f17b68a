# SPDX-License-Identifier: MIT
"""What gmesh bench talks to, between whole nodes: one run at a time, no longer than it may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from node.managed_mesh import managed_line
from streams.wires import Program

from gmesh.addresses import MeshAddress
from gmesh.node.gateways.bench import MAX_SECONDS, MAX_STREAMS, BenchService
from gmesh.stream_errors import DialRefused, StreamLost
from gmesh.streams.listeners import BENCH_SERVICE
from gmesh.testing.clock import EventClock
from gmesh.testing.issuer import ALLOW_ALL
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import Rule

RUN, OTHER = b"0123456789abcdef", b"fedcba9876543210"


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """a and c, with b between them; c serves it."""
    made = MemoryMesh.line("a", "b", "c")
    made.run_until(lambda: made["a"].reaches("c") and made["c"].reaches("a"))
    streams = made["c"].runtime.streams
    service = BenchService(made.clock, lambda take: streams.listen(BENCH_SERVICE, take, True))
    service.startService()
    yield made
    service.stopService()
    made.stop()


def dial(mesh: MemoryMesh, said: bytes) -> Program:
    """A stream of a that has said this."""
    program = Program()
    program.lost.addErrback(lambda _: None)
    mesh.result(mesh["a"].runtime.streams.dial("c", BENCH_SERVICE, lambda peer: program))
    program.transport.write(said)
    return program


def test_bytes_up_are_counted(mesh: MemoryMesh) -> None:
    """At the end of them, so that what is said to have arrived has."""
    program = dial(mesh, RUN + b"u" + bytes(300_000))
    program.transport.loseWriteConnection()
    assert mesh.result(program.ended) == (300_000).to_bytes(8)
    program.transport.loseConnection()


def test_bytes_come_down_until_nobody_reads(mesh: MemoryMesh) -> None:
    """And no longer; the end is clean."""
    program = dial(mesh, RUN + b"d")
    mesh.result(program.until(2_000_000))
    program.transport.loseWriteConnection()
    program.transport.stop_reading()
    mesh.run_until(lambda: program.lost.called)
    assert mesh["c"].runtime.streams.open_streams() == []


def test_bytes_come_back(mesh: MemoryMesh) -> None:
    """For round trips; one that does not read what comes back is not read from."""
    program = dial(mesh, RUN + b"e" + b"x")
    assert mesh.result(program.until(1)) == b"x"
    program.transport.pauseProducing()
    program.transport.write(bytes(20_000_000))
    mesh.run(5)
    [stream] = mesh["c"].runtime.streams.open_streams()
    assert stream.received < 15_000_000
    program.transport.abortConnection()


def test_one_run_of_a_peer_at_a_time(mesh: MemoryMesh) -> None:
    """Its streams beside each other, those of another are busy; the next may begin once they have ended."""
    first, second = dial(mesh, RUN + b"d"), dial(mesh, RUN + b"d")
    other = dial(mesh, OTHER + b"d")
    mesh.run_until(lambda: other.lost.called)
    reason = mesh.result(other.lost)
    assert isinstance(reason, StreamLost) and reason.reason == "busy"
    assert not first.lost.called and not second.lost.called
    for program in (first, second):
        program.transport.abortConnection()
    mesh.run(1)
    assert mesh.result(dial(mesh, OTHER + b"e" + b"x").until(1)) == b"x"


def test_more_streams_than_a_run_has_are_refused(mesh: MemoryMesh) -> None:
    """Before they are open."""
    programs = [dial(mesh, RUN + b"u") for _ in range(MAX_STREAMS)]
    with pytest.raises(DialRefused) as refused:
        dial(mesh, RUN + b"u")
    assert refused.value.reason == "busy"
    assert not any(program.lost.called for program in programs)


@pytest.mark.parametrize(("said", "after", "reason"), [(b"", 10, "timed-out"), (RUN, 10, "timed-out")])
def test_what_says_nothing_is_not_waited_for(
    mesh: MemoryMesh, said: bytes, after: float, reason: str
) -> None:
    """Ten seconds to say what to do."""
    program = dial(mesh, said)
    mesh.run(after + 1)
    lost: Any = mesh.result(program.lost)
    assert lost.reason == reason


def test_a_run_has_an_end(mesh: MemoryMesh) -> None:
    """Whatever the peer wants."""
    program = dial(mesh, RUN + b"e")
    mesh.run(MAX_SECONDS + 1)
    lost: Any = mesh.result(program.lost)
    assert lost.reason == "timed-out"


def test_what_cannot_be_measured_is_said(mesh: MemoryMesh) -> None:
    """An act that there is not."""
    program = dial(mesh, RUN + b"?")
    mesh.run(1)
    lost: Any = mesh.result(program.lost)
    assert lost.reason == "protocol"


def test_no_record_names_it(mesh: MemoryMesh) -> None:
    """Every node has it, so it is not worth a byte."""
    mesh.run(5)
    assert BENCH_SERVICE not in str(mesh["c"].runtime.engine.store.__dict__)


def test_the_policy_governs_it() -> None:
    """As any other service, and unlike those whose names begin with an underscore; the refusal says why."""
    with managed_line(seed=11, settle=30) as mesh:
        streams = mesh["c"].runtime.streams
        service = BenchService(mesh.clock, lambda take: streams.listen(BENCH_SERVICE, take, True))
        service.startService()
        deny = Rule(effect="deny", sources=("*",), to=("*",), services=(BENCH_SERVICE,))
        mesh.authority.publish_policy(deny, ALLOW_ALL)
        mesh.run(2)
        with pytest.raises(DialRefused) as refused:
            mesh.result(mesh["a"].runtime.streams.dial("c", BENCH_SERVICE, lambda peer: Program()))
        assert refused.value.reason == "denied"
        assert "rule" in refused.value.detail
        service.stopService()


def test_zeros_leave_the_reactor_to_others() -> None:
    """A transport that never pauses its producer gets so much a turn, and none once the stream has ended."""
    clock = EventClock()
    takers: list[Any] = []

    class Endless:
        """Takes all that is written."""

        written = 0

        def write(self, data: bytes) -> None:
            self.written += len(data)
            assert self.written <= 4 * 2**20, "it never yields"

        def registerProducer(self, producer: object, streaming: bool) -> None:
            pass

    class Offer:
        peer = MeshAddress("a", "aa" * 16, (), 1, BENCH_SERVICE)

        def accept(self, protocol: Any) -> bool:
            self.bench = protocol
            return True

    service, offer, transport = BenchService(clock, takers.append), Offer(), Endless()
    service.startService()
    takers[0](offer)
    end = clock.seconds()
    offer.bench.makeConnection(transport)
    offer.bench.dataReceived(RUN + b"d")
    first = transport.written
    assert 0 < first < 4 * 2**20
    clock.step(end)
    assert transport.written == 2 * first
    offer.bench.pauseProducing()
    clock.step(end)
    assert transport.written == 2 * first
    offer.bench.resumeProducing()
    offer.bench.connectionLost()
    assert not clock.step(end + 1000)
