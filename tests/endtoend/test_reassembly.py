# SPDX-License-Identifier: MIT
"""Fragments: what a peer may make us hold."""

from __future__ import annotations

from gmesh.endtoend import limits
from gmesh.endtoend.reassembly import PIECE_COST, Reassembly, ReassemblyPool
from gmesh.wire.messages import Datagram, Outcome


def piece(message: int, index: int, count: int, data: bytes = b"x", service: str = "log") -> Datagram:
    """A fragment of an acknowledged datagram."""
    return Datagram(service, message, data, True, index, count)


def test_incomplete_datagrams_are_bounded_in_number() -> None:
    """The oldest incomplete datagram goes when one peer has too many; the newest can be completed."""
    reassembly = Reassembly(ReassemblyPool())
    for message in range(limits.MAX_REASSEMBLIES + 1):
        assert reassembly.assemble(piece(message, 0, 2), 0.0) is None
    assert reassembly.assemble(piece(limits.MAX_REASSEMBLIES, 1, 2), 0.0) == b"xx"
    assert reassembly.assemble(piece(1, 1, 2), 0.0) == b"xx"
    assert reassembly.assemble(piece(0, 1, 2), 0.0) is None


def test_incomplete_datagrams_are_bounded_in_bytes() -> None:
    """Whatever one peer sends, no more than its share is held, small fragments at what they really cost."""
    reassembly = Reassembly(ReassemblyPool())
    for message in range(100):
        for index in range(7):
            reassembly.assemble(piece(message, index, 8, bytes(limits.FRAGMENT_SIZE)), 0.0)
            assert reassembly.cost <= limits.MAX_REASSEMBLY_BYTES
    tiny = Reassembly(ReassemblyPool())
    for index in range(60):
        tiny.assemble(piece(1, index, 64, b""), 0.0)
    assert tiny.cost == 60 * PIECE_COST


def test_all_peers_together_are_bounded() -> None:
    """Many peers share one bound; what they held is given back when they are forgotten."""
    pool = ReassemblyPool()
    peers = [Reassembly(pool) for _ in range(100)]
    for reassembly in peers:
        for message in range(8):
            for index in range(7):
                reassembly.assemble(piece(message, index, 8, bytes(limits.FRAGMENT_SIZE)), 0.0)
                assert pool.used <= limits.MAX_REASSEMBLY_TOTAL
    for reassembly in peers:
        reassembly.clear()
        assert reassembly.cost == 0
    assert pool.used == 0


def test_incomplete_datagrams_do_not_wait_for_ever() -> None:
    """After its time an incomplete datagram begins again."""
    reassembly = Reassembly(ReassemblyPool())
    reassembly.assemble(piece(1, 0, 2), 0.0)
    assert reassembly.assemble(piece(1, 1, 2), limits.REASSEMBLY_TIME) is None
    assert reassembly.assemble(piece(1, 0, 2), limits.REASSEMBLY_TIME) == b"xx"


def test_fragments_that_contradict_each_other() -> None:
    """Another count or service under the same number costs the datagram, and nothing else."""
    reassembly = Reassembly(ReassemblyPool())
    for other in (piece(1, 1, 3), piece(1, 1, 2, service="other")):
        reassembly.assemble(piece(1, 0, 2), 0.0)
        assert reassembly.assemble(other, 0.0) is None
        assert reassembly.cost == 0
    assert reassembly.assemble(piece(2, 0, 2, bytes(limits.MAX_DATAGRAM)), 0.0) is None
    assert reassembly.assemble(piece(2, 1, 2), 0.0) is Outcome.TOO_LARGE
