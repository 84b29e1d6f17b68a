# SPDX-License-Identifier: MIT
"""Large documents of neighbours: read beside the reactor, one of a type at a time, at their sender's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec import structs
from twisted.internet.defer import Deferred

from gmesh.mesh.document_reader import at_once
from gmesh.mesh.limits import DOCUMENT_ASIDE, FAILURE_BURST
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import Crl, Document, sign_document
from gmesh.trust.keys import SigningKey
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CertAnswer, DocumentPush


class Aside:
    """What stands for the threads of the reactor: work waits until it is let run."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self.waiting.append((work, result))
        return result

    def run(self) -> None:
        """Let all of it run, and hand back what it found."""
        waiting, self.waiting = self.waiting, []
        for work, result in waiting:
            at_once(work).chainDeferred(result)


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The relay r and the client m, whose link is up."""
    made = MemoryMesh(6)
    made.aside = Aside()
    made.add("r", "relay")
    made.add("m", "client", peers=("r",))
    made.start()
    made.run_until(lambda: made["m"].link_names == ["r"])
    made.run(5)
    yield made
    made.stop()


def made_up(mesh: MemoryMesh, number: int, nodes: int) -> Document[Crl]:
    """A CRL of this network with so many nodes in it, signed by a key that nobody knows."""
    revoked = [(f"{each:032x}", 1, 2_000_000_000, 0) for each in range(nodes)]
    body = structs.replace(mesh.issuer.crl.body, number=number, revoked_nodes=tuple(revoked))
    return sign_document(body, [SigningKey.from_seed(bytes(32))])


def offer(mesh: MemoryMesh, document: Document[Crl]) -> None:
    """Have m believe in it, and tell its neighbours."""
    runtime = mesh["m"].runtime
    runtime.member.trust.crl = document
    runtime._control.documents.announce("crl")


def test_c11_a_large_made_up_document_costs_its_sender(mesh: MemoryMesh) -> None:
    """It is read beside the reactor; that time, and that its key is unknown, count against the sender."""
    aside, relay = mesh.aside, mesh["r"].runtime
    assert isinstance(aside, Aside)
    offer(mesh, made_up(mesh, 100, 2000))
    mesh.run(3)
    assert len(aside.waiting) == 1 and "crl-unknown-key" not in relay.counters()
    offer(mesh, made_up(mesh, 101, 2000))
    mesh.run(3)
    assert len(aside.waiting) == 1
    ticks, before = count(), relay.budgets.spent(mesh["m"].handle)
    mesh.cpu = lambda: 0.9 * next(ticks)
    aside.run()
    mesh.cpu = lambda: 0.0
    assert relay.budgets.spent(mesh["m"].handle) - before >= 0.9
    assert relay.counters()["crl-unknown-key"] == 1
    assert relay.member.trust.crl is not None and relay.member.trust.crl.body.number < 100
    mesh.run(15)
    assert len(aside.waiting) == 1
    aside.run()
    assert relay.counters()["crl-unknown-key"] == 2


def test_c11_a_large_document_is_believed_once_it_is_read(mesh: MemoryMesh) -> None:
    """A genuine one is in force in the turn in which its reading ends."""
    aside, relay = mesh.aside, mesh["r"].runtime
    assert isinstance(aside, Aside)
    body = made_up(mesh, 50, 2000).body
    genuine = sign_document(body, [mesh.issuer.authority])
    assert len(genuine.encode()) > DOCUMENT_ASIDE
    offer(mesh, genuine)
    mesh.run(3)
    assert relay.member.trust.crl != genuine
    aside.run()
    assert relay.member.trust.crl == genuine and relay.counters()["crl-applied"] >= 1


@pytest.mark.parametrize("where", ["read", "judged"])
def test_a_document_that_could_not_be_judged_is_pulled_again(
    mesh: MemoryMesh, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As when the disk is full for a while: nothing stands in the way of the next attempt."""
    aside, relay = mesh.aside, mesh["r"].runtime
    assert isinstance(aside, Aside)
    genuine = sign_document(made_up(mesh, 50, 2000).body, [mesh.issuer.authority])
    offer(mesh, genuine)
    mesh.run(3)
    raised: list[object] = []
    if where == "read":
        ((_, result),) = aside.waiting
        aside.waiting.clear()
        result.addErrback(lambda failure: raised.append(failure.type))
        result.errback(MemoryError())
    else:

        def full(*arguments: object) -> bool:
            raise OSError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(relay.member.trust, "offer", full)
            ((work, result),) = aside.waiting
            aside.waiting.clear()
            result.callback(work())
            result.addErrback(lambda failure: raised.append(failure.type))
    assert raised == [MemoryError if where == "read" else OSError]
    mesh.run(30)
    aside.run()
    assert relay.member.trust.crl == genuine


def test_c11_what_unknown_keys_signed_ends_the_link(mesh: MemoryMesh) -> None:
    """Each made-up document is a failure of the neighbour that sent it, each frame of certificates too."""
    seen: list[bool] = []
    mesh["r"].runtime.neighbours.follow(lambda neighbour, up: seen.append(up))
    crl = DocumentPush.first(100, made_up(mesh, 100, 10).encode()).encode()
    other = MemoryMesh(99).issuer.enrol("x", "client").certificate
    body = structs.replace(other.body, network_id=mesh.issuer.network_id)
    certificate = CertAnswer((sign_document(body, [SigningKey.from_seed(bytes(32))]).encode(),)).encode()
    link = mesh["m"].link("r")
    for _ in range(FAILURE_BURST // 2):
        link.send_control(Kind.CRL, crl)
        link.send_control(Kind.CERT, certificate)
    mesh.run(1)
    assert seen == []
    link.send_control(Kind.CRL, crl)
    link.send_control(Kind.CERT, certificate)
    mesh.run(0.1)
    counters = mesh["r"].runtime.counters()
    assert seen[:1] == [False] and counters["too-many-failures"] == 1
    assert counters["crl-unknown-key"] > FAILURE_BURST // 2 <= counters["certificate-unknown-key"]
