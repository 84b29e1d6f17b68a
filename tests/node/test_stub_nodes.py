# SPDX-License-Identifier: MIT
"""A node that keeps no table, in a mesh of nodes that do: it asks for paths, and believes signatures only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from gmesh.errors import SendRefused
from gmesh.interfaces import IRouteEngine
from gmesh.mesh.limits import PATH_PATIENCE
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind, iter_frames


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """A stub C{s} at C{a} and C{b}, which reach C{c} by two ways; C{far} dials C{c}."""
    made = MemoryMesh(7)
    made.add("c", "relay")
    made.add("a", "relay", peers=("c",))
    made.add("b", "relay", peers=("c",))
    made.add("far", "client", peers=("c",))
    made.add("s", "client", peers=("a", "b"))
    made["s"].keep_no_table()
    made.start()
    made.run_until(lambda: made["far"].reaches("s") and made["c"].reaches("a", "b", "far"))
    made.run(5)
    yield made
    made.stop()


def known(mesh: MemoryMesh) -> set[str]:
    """Whose records the stub holds."""
    return {mesh.name_of(handle) for handle in mesh["s"].runtime.engine.store.handles()}


def told(mesh: MemoryMesh, kinds: set[Kind]) -> int:
    """Frames of these kinds that reached the stub."""
    return sum(kind in kinds for record in mesh["s"].opened for kind, _, _ in iter_frames(record))


def test_asks_by_name_and_sends(mesh: MemoryMesh) -> None:
    """The first message to a name never heard of finds its node, and its records are all the stub holds."""
    assert known(mesh) == {"s"}
    taken = []
    mesh["far"].runtime.datagrams.register("log", taken.append)
    mesh.result(mesh["s"].runtime.datagrams.send("far", "log", b"hello", timeout=3))
    assert [(message.source_name, message.data) for message in taken] == [("s", b"hello")]
    assert len(known(mesh)) == 4 and known(mesh) < {"s", "a", "b", "c", "far"}


def test_is_sent_to(mesh: MemoryMesh) -> None:
    """Who keeps a table reaches a stub at once: it asks for the way back."""
    taken = []
    mesh["s"].runtime.datagrams.register("log", taken.append)
    since = mesh.now()
    mesh.result(mesh["far"].runtime.datagrams.send("s", "log", b"hello", timeout=3))
    assert [message.source_name for message in taken] == ["far"]
    assert mesh.now() - since < 1


def test_neighbours_spare_it_the_floods(mesh: MemoryMesh) -> None:
    """What changes elsewhere is not told to a stub."""
    kinds = {Kind.LSA, Kind.IHAVE, Kind.SYNC_LIST, Kind.SYNC_DIGEST}
    before = told(mesh, kinds)
    mesh["far"].runtime.set_advertised(("192.0.2.9:1",))
    mesh.run(400)
    assert told(mesh, kinds) == before and known(mesh) == {"s"}


def test_asks_again_when_a_link_fell(mesh: MemoryMesh) -> None:
    """The relay's proof takes the path away, the next answer brings another; the message arrives."""
    taken = []
    mesh["far"].runtime.datagrams.register("log", lambda message: taken.append(message.data))
    stub = mesh["s"].runtime
    mesh.result(stub.datagrams.send("far", "log", b"one", timeout=3))
    first = mesh["s"].path("far")
    assert first is not None
    other = {"a": "b", "b": "a"}[first[1]]
    mesh.partition({first[1]}, {"c"})
    # The relay could send it round by the stub's other neighbour only through the stub.
    mesh.run(1)
    mesh.result(stub.datagrams.send("far", "log", b"two", timeout=5))
    assert taken == [b"one", b"two"]
    assert mesh["s"].path("far") == ["s", other, "c", "far"]
    assert stub.counters()["unreach-heard"] >= 1


def test_unknown_names(mesh: MemoryMesh) -> None:
    """A name that no neighbour knows is refused when all have said so, at once."""
    since = mesh.now()
    with pytest.raises(SendRefused, match="nobody") as refused:
        mesh.result(mesh["s"].runtime.datagrams.send("nobody", "log", b"", timeout=3))
    assert refused.value.reason == "unknown-node"
    assert mesh.now() - since < 0.5


def test_nobody_to_ask(mesh: MemoryMesh) -> None:
    """Without a neighbour everything is refused at once, again and again."""
    mesh.partition({"s"}, {"a", "b"})
    mesh.run(30)
    stub = mesh["s"].runtime
    assert not stub.links()
    since = mesh.now()
    for ask in (lambda: stub.datagrams.send("far", "log", b"", timeout=3), lambda: stub.echo.ping("far")):
        with pytest.raises(SendRefused, match="no node called 'far'"):
            mesh.result(ask())
    assert mesh.now() - since < 0.5


def test_ping_and_trace(mesh: MemoryMesh) -> None:
    """Ping and trace of a name never heard of ask for it first."""
    assert mesh.result(mesh["s"].runtime.echo.ping("far")) < 1
    hops = mesh.result(mesh["s"].runtime.echo.trace("far"))
    assert [hop.name for hop in hops][1:] == ["c", "far"] and all(hop.rtt for hop in hops)


def test_never_relays(mesh: MemoryMesh) -> None:
    """A stub is no interior hop, whatever its certificate allows."""
    mesh.partition({"a"}, {"c"})
    mesh.run(5)
    assert mesh["a"].path("far") is None


def test_seam(mesh: MemoryMesh) -> None:
    """Who asks for paths stands where the engine stands."""
    assert verifyObject(IRouteEngine, mesh["s"].runtime._seeker)


def test_neighbours_cannot_invent_links(mesh: MemoryMesh) -> None:
    """Records with another word than their node's own are refused, and no path is made of them."""
    for name in ("a", "b"):
        control: Any = mesh[name].runtime._control
        honest = control.proof
        control.proof = lambda one, other, honest=honest: [
            data[:-70] + bytes([data[-70] ^ 1]) + data[-69:] for data in honest(one, other)
        ]
    with pytest.raises(SendRefused) as refused:
        mesh.result(mesh["s"].runtime.datagrams.send("far", "log", b"", timeout=5))
    assert refused.value.reason in ("unknown-node", "no-route")
    assert mesh["s"].runtime.counters()["record-bad-signature"] > 0
    assert known(mesh) == {"s"}


def test_what_it_holds_is_bounded(mesh: MemoryMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it holds too much it forgets all, and asks again for what it uses."""
    monkeypatch.setattr("gmesh.mesh.stub_node.MAX_STUB_ORIGINS", 2)
    stub = mesh["s"].runtime
    sizes = []
    for name in ("far", "c", "a", "b", "far", "c"):
        assert mesh.result(stub.echo.ping(name)) < 1
        sizes.append(len(known(mesh)))
        mesh.run(2)
    assert known(mesh) > {"s"} and sizes[3] == len({"s", "b"}) < sizes[2]


def test_a_neighbour_that_knows_no_way(mesh: MemoryMesh) -> None:
    """The next one is asked."""
    ignorant: Any = mesh["a"].runtime._control
    ignorant.path = lambda request: None
    assert mesh.result(mesh["s"].runtime.echo.ping("far")) < 1
    assert mesh["s"].path("far") == ["s", "b", "c", "far"]


@pytest.mark.parametrize("what", ["ping", "trace", "send"])
def test_no_neighbour_answers(mesh: MemoryMesh, what: str) -> None:
    """What is asked for ends in its time, however many neighbours are waited for."""
    for name in ("a", "b"):
        silent: Any = mesh[name].runtime
        for neighbour in silent.neighbours:
            neighbour.may_ask = lambda: False
    stub, since = mesh["s"].runtime, mesh.now()
    asks: dict[str, Any] = {
        "ping": lambda: stub.echo.ping("far", timeout=0.5),
        "trace": lambda: stub.echo.trace("far", timeout=0.5),
        "send": lambda: stub.datagrams.send("far", "log", b"", timeout=0.5),
    }
    with pytest.raises(SendRefused, match="far"):
        mesh.result(asks[what]())
    assert mesh.now() - since < 0.6 < PATH_PATIENCE


def test_a_neighbour_that_does_not_answer(mesh: MemoryMesh) -> None:
    """The next one is asked after a second."""
    silent: Any = mesh["a"].runtime
    for neighbour in silent.neighbours:
        neighbour.may_ask = lambda: False
    since = mesh.now()
    mesh.result(mesh["s"].runtime.echo.ping("far"))
    assert mesh["s"].path("far") == ["s", "b", "c", "far"] and mesh.now() - since < PATH_PATIENCE + 0.5
