# SPDX-License-Identifier: MIT
"""What a whole node tells of others, of the mesh and of itself, and how it tells of changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from gmesh.errors import RequestRefused
from gmesh.node.api.json_lines import TableLines
from gmesh.node.api.views import LocalNode, Settings
from gmesh.testing.mesh import MemoryMesh


class Beat:
    """What the views ask of a heartbeat."""

    reachable = True

    def __init__(self) -> None:
        self.troubles: dict[str, str] = {}

    def age(self) -> float | None:
        return 3.7


class Reader:
    """The request of somebody who reads lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def setHeader(self, name: bytes, value: bytes) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.lines += [json.loads(line) for line in data.splitlines()]

    def taken(self) -> list[tuple[str, str]]:
        """The events since the last time: what happened, to whom."""
        taken, self.lines = self.lines, []
        return [(line["event"], line["name"]) for line in taken]


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """pump-a - relay-b - pump-c, in touch with each other."""
    made = MemoryMesh.line("pump-a", "relay-b", "pump-c")
    made.run_until(lambda: made["pump-a"].reaches("pump-c") and made["pump-c"].reaches("pump-a"))
    yield made
    made.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def views(mesh: MemoryMesh, clock: Clock) -> LocalNode:
    """Those of pump-a."""
    beat: Any = Beat()
    settings = Settings("/state", ("tcp:7443",))
    mesh["pump-a"].runtime.member.own_urls = ("https://authority.example",)
    return LocalNode(mesh["pump-a"].runtime, beat, clock, settings)


def test_whois_of_a_node_behind_another(views: LocalNode, mesh: MemoryMesh) -> None:
    """Certificate, roles, path, links and the time of its record are those of the node itself."""
    told, there = views.whois("pump-c"), mesh["pump-c"].runtime.member
    assert (told["name"], told["node_id"], told["roles"]) == ("pump-c", there.peer.node_id, ["client"])
    assert told["certificate"]["serial"] == there.certificate.body.serial
    assert told["certificate"]["not_after"] == there.certificate.body.not_after
    assert (told["reachable"], told["path"]) == (True, ["pump-a", "relay-b", "pump-c"])
    assert (told["link"], [link["name"] for link in told["links"]]) == (None, ["relay-b"])
    assert told["revoked"] is False
    assert 0 <= views.wall() - told["last_heard"] < 60


def test_whois_of_a_neighbour_and_of_itself(views: LocalNode) -> None:
    """To a neighbour there is a link and its address; to itself a path of one."""
    assert views.whois("relay-b")["link"].keys() == {"address", "rtt_ms", "initiator"}
    own = views.whois("pump-a")
    assert (own["path"], own["link"], own["reachable"]) == (["pump-a"], None, True)


def test_whois_by_node_id_and_by_beginnings(views: LocalNode, mesh: MemoryMesh) -> None:
    """A whole node id, its beginning, or the beginning of a name find the one node they fit."""
    node_id = mesh["pump-c"].runtime.member.peer.node_id
    for text in (node_id, node_id[:12], "pump-c"):
        assert views.whois(text)["name"] == "pump-c"
    assert views.whois("rel")["name"] == "relay-b"
    mesh["pump-a"].runtime.directory.add(mesh.issuer.enrol(f"{node_id}-x", "client").certificate)
    assert views.whois(node_id)["name"] == "pump-c"


@pytest.mark.parametrize(
    ("text", "reason"), [("pump", "ambiguous"), ("x", "unknown-node"), ("", "unknown-node")]
)
def test_whois_of_nobody_or_several(views: LocalNode, text: str, reason: str) -> None:
    """What fits no node or several is refused; of several it tells the names."""
    with pytest.raises(RequestRefused) as refused:
        views.whois(text)
    assert refused.value.reason == reason
    if reason == "ambiguous":
        assert "pump-a, pump-c" in refused.value.detail


def test_whois_of_a_revoked_node(views: LocalNode, mesh: MemoryMesh) -> None:
    """Which serial, why, by which CRL, since when; what its certificate said; and no way to it."""
    said = views.whois("pump-c")
    mesh.issuer.revoke(mesh["pump-c"].enrolled)
    mesh.publish("pump-a")
    mesh.run(2)
    told = views.whois("pump-c")
    assert (told["revoked"], told["reachable"], told["path"], told["links"]) == (True, False, None, [])
    assert [told[key] for key in ("node_id", "roles", "certificate")] == [
        said[key] for key in ("node_id", "roles", "certificate")
    ]
    known_at = told["revocation"].pop("known_at")
    assert 0 <= views.wall() - known_at <= 3
    assert told["revocation"] == {
        "serial": said["certificate"]["serial"],
        "reason": "unspecified",
        "crl_number": mesh["pump-a"].runtime.member.trust.crl.body.number,
    }
    assert told.keys() == views.whois("relay-b").keys()
    assert views.whois(told["node_id"][:12]) == told | {
        "revocation": told["revocation"] | {"known_at": known_at}
    }


def test_topology(views: LocalNode) -> None:
    """Every node and each link once."""
    told = views.topology()
    assert told["self"] == "pump-a"
    assert [node["name"] for node in told["nodes"]] == ["pump-a", "pump-c", "relay-b"]
    assert {frozenset(link["ends"]) for link in told["links"]} == {
        frozenset({"pump-a", "relay-b"}),
        frozenset({"relay-b", "pump-c"}),
    }
    assert len(told["links"]) == 2


def test_topology_after_a_link_is_lost(views: LocalNode, mesh: MemoryMesh) -> None:
    """A link that one end no longer tells of is none; the node behind it is not reachable."""
    mesh.partition(["pump-a", "relay-b"], ["pump-c"])
    mesh.run_until(lambda: not mesh["pump-a"].reaches("pump-c"))
    told = views.topology()
    assert [sorted(link["ends"]) for link in told["links"]] == [["pump-a", "relay-b"]]
    assert {node["name"]: node["reachable"] for node in told["nodes"]}["pump-c"] is False


def test_doctor(views: LocalNode) -> None:
    """The daemon tells what it was told, what it dials, and what does not work with the authority."""
    told = views.doctor()
    assert (told["state"], told["listen"], told["links"]) == ("/state", ["tcp:7443"], 1)
    assert told["authority"] == {
        "urls": ["https://authority.example"],
        "reachable": True,
        "age": 3,
        "troubles": {},
    }
    assert told["clock_behind"] == 0
    assert all(target.keys() >= {"address", "state", "reason"} for target in told["targets"])


def test_followers_hear_what_is_there_and_what_changes(
    views: LocalNode, mesh: MemoryMesh, clock: Clock
) -> None:
    """First the rows as present; then a link that goes, at once; a route, at the next look."""
    peers, routes = Reader(), Reader()
    stops = []
    for reader, what in ((peers, "peers"), (routes, "routes")):
        request: Any = reader
        follower = TableLines(request, views.table(what), views.wall)
        stops.append(views.on_change(follower.look))
        follower.begin()
    assert peers.taken() == [("present", "relay-b")]
    assert sorted(routes.taken()) == [("present", "pump-c"), ("present", "relay-b")]
    clock.advance(1)
    assert peers.taken() == routes.taken() == []
    mesh.cut("pump-a", "relay-b")
    mesh.run_until(lambda: not mesh["pump-a"].link_names)
    assert peers.taken()[0] == ("gone", "relay-b")
    mesh.run_until(lambda: mesh["pump-a"].reaches("pump-c"))
    assert peers.taken()[-1] == ("added", "relay-b")
    clock.advance(1)
    assert ("added", "pump-c") in routes.taken()
    for stop in stops:
        stop()
    assert clock.getDelayedCalls() == []


def test_a_follower_that_does_not_read(views: LocalNode, mesh: MemoryMesh) -> None:
    """It is told nothing while it is paused, and the sum of the changes afterwards."""
    reader: Any = Reader()
    follower = TableLines(reader, views.table("status"), views.wall)
    follower.begin()
    before = reader.lines.pop()
    follower.pauseProducing()
    mesh.issuer.revoke(mesh["pump-c"].enrolled)
    mesh.publish("pump-a")
    mesh.run(2)
    follower.look()
    assert reader.lines == []
    follower.resumeProducing()
    [line] = reader.lines
    assert (line["event"], line["crl_number"] > before["crl_number"]) == ("changed", True)


def test_only_tables_are_followed(views: LocalNode) -> None:
    """Something else is refused, naming what there is."""
    with pytest.raises(RequestRefused, match="peers\\|routes\\|status"):
        views.table("nodes")
