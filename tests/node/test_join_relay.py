# SPDX-License-Identifier: MIT
"""Hosts that join by way of an anchor: what is passed on, and what strangers may cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from node.joiner import ANYWHERE, Joiner, join_request
from node.managed_mesh import ManagedMesh, ManagedNode

from gmesh.authority.rate_limit import RateLimits
from gmesh.mesh.limits import (
    JOIN_LINK_SECONDS,
    JOIN_LINKS,
    JOIN_LINKS_PER_ADDRESS,
    JOIN_QUESTION,
    JOIN_QUESTIONS,
)
from gmesh.node.authority_http import Answer
from gmesh.node.limits import (
    JOIN_IN_FLIGHT,
    JOIN_POST_RATE,
    JOIN_POST_RATE_PER_ADDRESS,
    JOIN_RATE,
    JOIN_RATE_PER_ADDRESS,
    RELAY_ANSWER_LIMIT,
)
from gmesh.trust.documents import Certificate, document_from_dict
from gmesh.trust.relayed_requests import encode_question
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import CloseReason

QUESTION = encode_question("1" * 32, "GET", "/genesis", {}, b"")


@pytest.fixture
def mesh() -> Iterator[ManagedMesh]:
    """The anchor a, by which hosts may join, and its client b, which reaches the authority by it alone."""
    made = ManagedMesh(seed=41)
    made.add("a", "anchor").joins.allow(True)
    made.add("b", "client", peers=["a"]).line.open = False
    made.start()
    made.run_until(lambda: made["b"].reaches("a"))
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []


def joins_of(node: ManagedNode) -> list[str]:
    """The join requests that it passed on."""
    return [each for each in node.line.asked if "/join" in each]


def slow_down(node: ManagedNode, mesh: ManagedMesh) -> None:
    """From now on the authority answers this anchor after the time of a poll."""
    at_once = node.line.forward

    async def later(method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        await mesh.authority.news(mesh.clock)
        return await at_once(method, target, headers, data)

    node.line.forward = later


def test_d5_a_host_joins_by_an_anchor(mesh: ManagedMesh) -> None:
    """It fetches the documents, sends its join request, and is given the certificate, byte for byte."""
    host = Joiner(mesh, mesh["a"])
    assert host.admitted
    for name in ("genesis", "status", "crl", "policy"):
        assert host.ask("GET", f"/{name}") == (200, getattr(mesh.authority, name).encode())
    code, body = host.join(mesh.authority.invite("pump", "client")) or (0, b"")
    certificate = document_from_dict(json.loads(body)["certificate"], Certificate)
    assert (code, certificate.body.name) == (200, "pump")
    mesh["b"].runtime.member.trust.judge_certificate(certificate, mesh.wall())


def test_d5_a_host_that_joins_is_nobodys_neighbour(mesh: ManagedMesh) -> None:
    """It stands in no table, is told nothing but answers, and its address counts as no member's."""
    runtime = mesh["a"].runtime
    before = [node.handle for node in runtime.engine.nodes(runtime.now())]
    host = Joiner(mesh, mesh["a"])
    mesh.run(JOIN_LINK_SECONDS - 2)
    assert host.admitted and [kind for kind, _ in host.frames] == [Kind.RENEWAL]
    assert mesh["a"].link_names == ["b"] and runtime.neighbours.sessions == 1
    assert [node.handle for node in runtime.engine.nodes(runtime.now())] == before
    gate = runtime._factory._noise.gate
    assert ANYWHERE not in gate._members and gate.half_open == 0


def test_d5_nobody_joins_by_a_node_that_is_not_told_to_allow_it(mesh: ManagedMesh) -> None:
    """That is how every node starts; one that stops allowing it ends what is under way."""
    under_way = Joiner(mesh, mesh["a"])
    mesh["a"].joins.allow(False)
    mesh.run(1)
    assert under_way.lost and under_way.refusal is CloseReason.SHUTDOWN
    host = Joiner(mesh, mesh["a"])
    assert host.lost and host.refusal is CloseReason.UNSPECIFIED
    mesh["a"].joins.allow(True)
    assert Joiner(mesh, mesh["a"]).admitted
    mesh["b"].joins.allow(True)  # no anchor by its certificate, whatever its configuration says
    other = Joiner(mesh, mesh["b"])
    assert other.lost and other.refusal is CloseReason.UNSPECIFIED


def test_d5_nothing_but_a_join_is_passed_on(mesh: ManagedMesh) -> None:
    """Any other request ends the connection, and does not reach the authority."""
    before = len(mesh["a"].line.asked)
    requests = [
        "POST /heartbeat",
        "POST /renew",
        "GET /commands?since=0",
        "GET /certificates/1",
        "GET /admin/nodes",
        "GET /status?after=0",
        "GET /join",
        "DELETE /genesis",
        "GET /genesis/../admin/nodes",
    ]
    for number, request in enumerate(requests):
        host = Joiner(mesh, mesh["a"], f"203.0.{number}.1")
        assert host.ask(*request.split(" ")) is None
        assert host.lost and host.refusal is CloseReason.PROTOCOL, request
    own = {"POST /heartbeat", "GET /commands?since=0"}
    assert not {*requests} & {*mesh["a"].line.asked[before:]} - own
    assert joins_of(mesh["a"]) == []


def test_d5_no_other_frame_passes_of_a_host_that_joins(mesh: ManagedMesh) -> None:
    """Of links, routing, documents or sealed sessions: the first one ends the connection."""
    for kind in set(Kind) - {Kind.AUTHORITY, Kind.CLOSE}:
        host = Joiner(mesh, mesh["a"], f"203.0.{kind}.1")
        host.send(kind, b"x" * 64)
        mesh.run(1)
        assert host.lost and host.refusal is CloseReason.PROTOCOL, kind
    assert mesh["a"].link_names == ["b"]


def test_d5_only_join_requests_for_the_own_network_are_passed_on(mesh: ManagedMesh) -> None:
    """None of another network, that another key signed than it is for, of another form, or too large."""
    invite = mesh.authority.invite("pump")
    foreign = replace(invite, network_id="0" * 32)
    for data, headers in (
        join_request(mesh, foreign),
        join_request(mesh, invite, signer=mesh.authority.new_key()),
        join_request(mesh, invite, more="x"),
        join_request(mesh, invite, nonce="x" * 4096),
    ):
        host = Joiner(mesh, mesh["a"])
        assert host.ask("POST", "/join", headers, data) is None
        assert host.lost and host.refusal is CloseReason.PROTOCOL
    assert joins_of(mesh["a"]) == []


def test_d5_a_question_too_large_or_one_too_many_ends_it(mesh: ManagedMesh) -> None:
    """One at a time, of a bounded size; and what is no question at all."""
    long = encode_question("\u00e9" * 100, "GET", "/genesis", {}, b"")
    for body in (b"", b"{}", b"[1", b"{" + b" " * JOIN_QUESTION + b"}", long):
        host = Joiner(mesh, mesh["a"])
        host.send(Kind.AUTHORITY, body)
        mesh.run(1)
        assert host.lost and host.refusal is CloseReason.PROTOCOL
    host = Joiner(mesh, mesh["a"])
    for _ in range(JOIN_QUESTIONS):
        assert not host.lost
        host.send(Kind.AUTHORITY, QUESTION)
        mesh.run(0.1)
    assert [kind for kind, _ in host.frames] == [Kind.RENEWAL, *[Kind.AUTHORITY] * JOIN_QUESTIONS]
    host.send(Kind.AUTHORITY, QUESTION)
    mesh.run(1)
    assert host.lost and host.refusal is CloseReason.PROTOCOL
    slow_down(mesh["a"], mesh)
    host = Joiner(mesh, mesh["a"])
    for _ in range(2):
        assert not host.lost
        host.send(Kind.AUTHORITY, QUESTION)
        mesh.run(1)
    assert host.lost and host.refusal is CloseReason.PROTOCOL


def test_d5_a_slow_stranger_has_half_a_minute(mesh: ManagedMesh) -> None:
    """Byte by byte, or in silence: then its place is free again."""
    dripping, silent = Joiner(mesh, mesh["a"]), Joiner(mesh, mesh["a"])
    sealed = dripping.session.seal(pack_frame(Kind.AUTHORITY, b"x" * 4000))
    dripping.transport.write(len(sealed).to_bytes(2, "big"))
    for at in range(int(JOIN_LINK_SECONDS)):
        dripping.transport.write(sealed[at : at + 1])
        mesh.run(1)
    mesh.run(2)
    assert dripping.lost and silent.lost and len(mesh["a"].runtime.joins) == 0


def test_d5_places_for_strangers_are_few(mesh: ManagedMesh) -> None:
    """So many of one address and so many in all; one too many hears that it is full."""
    crowd = [Joiner(mesh, mesh["a"]) for _ in range(JOIN_LINKS_PER_ADDRESS)]
    assert all(host.admitted for host in crowd)
    assert Joiner(mesh, mesh["a"]).refusal is CloseReason.FULL
    others = [
        Joiner(mesh, mesh["a"], f"198.51.{number}.9", settle=0.1)
        for number in range(JOIN_LINKS - JOIN_LINKS_PER_ADDRESS)
    ]
    assert all(host.admitted for host in (*crowd, *others))
    assert Joiner(mesh, mesh["a"], "203.0.113.9").refusal is CloseReason.FULL


def test_d5_a_flood_of_strangers_leaves_members_alone(mesh: ManagedMesh) -> None:
    """Members of that anchor keep their link and are heard by the authority, whatever strangers ask."""
    a = mesh["a"]
    invite = mesh.authority.invite("pump")
    mesh.authority.invites.clear()
    began = mesh.clock.seconds()
    for number in range(20):
        host = Joiner(mesh, a, f"203.0.{number}.1")
        for _ in range(3):
            assert (host.join(invite) or (0,))[0] in (403, 429)
        host.transport.loseConnection()
    took = mesh.clock.seconds() - began
    assert len(joins_of(a)) <= JOIN_POST_RATE.burst + took * JOIN_POST_RATE.rate
    heard = a.line.asked.count("POST /heartbeat")
    mesh.run(120)
    assert a.line.asked.count("POST /heartbeat") >= heard + 3, "its own, and those of b"
    assert a.link_names == ["b"] and mesh["b"].heartbeat.reachable


def test_d5_one_address_does_not_use_up_what_others_may_ask(mesh: ManagedMesh) -> None:
    """Beyond its rate it is told when to ask again; a host at another address joins meanwhile."""
    codes = []
    for _ in range(int(JOIN_POST_RATE_PER_ADDRESS.burst) // 4 + 2):
        host = Joiner(mesh, mesh["a"])
        for _ in range(8):
            data, headers = join_request(mesh, mesh.authority.invite("pump"))
            host.send(Kind.AUTHORITY, encode_question("0" * 32, "POST", "/join", headers, data))
            mesh.run(0.1)
            codes.append(json.loads(host.frames[-1][1])["code"])
        host.transport.loseConnection()
    assert codes[0] == 200 and codes[-1] == 429
    code, body = Joiner(mesh, mesh["a"]).join(mesh.authority.invite("pump")) or (0, b"{}")
    problem = json.loads(body)
    assert code == 429 and problem["type"] == "urn:gmesh:problem:rate-limited" and problem["retry_after"] > 0
    other = Joiner(mesh, mesh["a"], "198.51.100.7")
    assert (other.join(mesh.authority.invite("fan")) or (0,))[0] == 200


def test_d5_documents_for_strangers_are_counted(mesh: ManagedMesh) -> None:
    """What the authority takes from the anchor's address leaves room for the anchor's own."""
    hosts = [Joiner(mesh, mesh["a"]) for _ in range(JOIN_LINKS_PER_ADDRESS)]
    began, before = mesh.clock.seconds(), len(mesh["a"].line.asked)
    for _ in range(JOIN_QUESTIONS):
        for host in hosts:
            host.send(Kind.AUTHORITY, QUESTION)
        mesh.run(0.1)
    took = mesh.clock.seconds() - began
    passed = mesh["a"].line.asked[before:].count("GET /genesis")
    assert passed <= JOIN_RATE_PER_ADDRESS.burst + took * JOIN_RATE_PER_ADDRESS.rate
    taken = RateLimits().address
    assert JOIN_RATE.rate <= taken.per_minute / 60 / 4 and JOIN_RATE.burst <= taken.burst / 4


def test_d5_few_questions_of_strangers_are_under_way(mesh: ManagedMesh) -> None:
    """While the authority is slow, so many wait for it; others are told to ask again."""
    slow_down(mesh["a"], mesh)
    hosts = [Joiner(mesh, mesh["a"], f"203.0.{number}.1") for number in range(JOIN_IN_FLIGHT + 2)]
    for host in hosts:
        host.send(Kind.AUTHORITY, QUESTION)
    mesh.run(1)
    answers = [json.loads(host.frames[-1][1])["code"] for host in hosts if host.frames[-1][1]]
    assert answers == [503, 503]


def test_d5_an_answer_too_large_for_a_stranger(mesh: ManagedMesh) -> None:
    """It is told so: it starts without a long CRL, and its daemon has it of its neighbours."""

    async def long(method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        return Answer(200, b"x" * (RELAY_ANSWER_LIMIT + 1))

    mesh["a"].line.forward = long
    answer = Joiner(mesh, mesh["a"]).ask("GET", "/crl")
    assert answer is not None and answer[0] == 413


def test_d5_a_join_where_the_anchor_does_not_reach_the_authority_either(mesh: ManagedMesh) -> None:
    """The host is told, and may ask again in the same connection."""
    mesh.authority.up = False
    host = Joiner(mesh, mesh["a"])
    assert host.ask("GET", "/genesis") is None and not host.lost
    assert json.loads(host.frames[-1][1]) == {"answer": "0" * 32}
    mesh.authority.up = True
    assert (host.ask("GET", "/genesis") or (0,))[0] == 200


def test_d5_a_stranger_that_hangs_up_leaves_nothing(mesh: ManagedMesh) -> None:
    """Its question is given up, and its place is free."""
    slow_down(mesh["a"], mesh)
    hosts = [Joiner(mesh, mesh["a"]) for _ in range(JOIN_LINKS_PER_ADDRESS)]
    for host in hosts:
        host.send(Kind.AUTHORITY, QUESTION)
    mesh.run(1)
    assert mesh["a"].joins._passing == JOIN_LINKS_PER_ADDRESS
    for host in hosts:
        host.transport.loseConnection()
    mesh.run(1)
    assert len(mesh["a"].runtime.joins) == 0 and mesh["a"].joins._passing == 0
